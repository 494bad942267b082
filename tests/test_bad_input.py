"""Bad input: the right exception, naming the layer or argument, the rule and what was received; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import vivace
from vivace import callbacks, initializers, layers, losses, optimizers
from vivace.layers import Conv2D, Dense, Dropout, Flatten, Input, MaxPooling2D
from vivace.models import Model, Sequential, clone_model

X = np.zeros((6, 8, 8, 1), "float32")
Y = np.array([0, 1, 2, 0, 1, 2])


def model(loss: Any = "sparse_categorical_crossentropy") -> Sequential:
    m = Sequential([Input((8, 8, 1)), Conv2D(4, 3, name="first"), MaxPooling2D(), Flatten(), Dense(3, "softmax")])
    m.compile("sgd", loss)
    return m


def fit(x: Any, y: Any, loss: Any = "sparse_categorical_crossentropy", **arguments: Any) -> Any:
    return model(loss).fit(x, y, verbose=0, **arguments)


def labels(bad: Any) -> np.ndarray:
    y = Y.astype(type(bad))
    y[3] = bad
    return y


TABLE: list[tuple[Callable[[], Any], type[Exception], str]] = [
    # inputs
    *(
        (partial(layer, [np.zeros((3, 5, 6)), np.zeros((1, 5, 6))]), ValueError, r"must be one batch, received shapes")
        for layer in (layers.MultiHeadAttention(2, 2), layers.Attention(), layers.AdditiveAttention())
    ),
    (
        lambda: fit(X[:, :7, :, 0], Y),
        ValueError,
        r"expected input of shape \('batch', 8, 8, 1\), received \(6, 7, 8\)",
    ),
    (lambda: model().predict(X[0]), ValueError, r"a batch axis is missing: x\[None, \.\.\.\]"),
    (lambda: fit(np.zeros((6, 8, 8, 3)), Y), ValueError, r"expected input of shape .* received \(6, 8, 8, 3\)"),
    (lambda: fit(X.transpose(0, 3, 1, 2), Y), ValueError, "channels come last here"),
    (lambda: fit(X[:0], Y[:0]), ValueError, r"at least one sample, received shape \(0, 8, 8, 1\)"),
    (lambda: fit(X.astype("complex64"), Y), TypeError, "must hold real numbers, received dtype complex64"),
    (lambda: fit(np.full(X.shape, "a"), Y), TypeError, "must hold real numbers, received dtype <U1"),
    (lambda: fit([[1], [1, 2]], Y), ValueError, "not a rectangular array"),
    (lambda: fit(X, Y[:5]), ValueError, "x has 6 samples, y has 5"),
    (lambda: fit(X, None), ValueError, "the targets y are missing"),
    # targets
    (lambda: fit(X, labels(float("nan"))), ValueError, "targets must be finite, received nan at position 3"),
    (lambda: fit(X, labels(3)), ValueError, r"labels must lie in \[0, 3\).*received label 3"),
    (lambda: fit(X, labels(-1)), ValueError, "received label -1"),
    (lambda: fit(X, labels(0.5)), ValueError, "labels must be integers, received 0.5"),
    (lambda: fit(X, np.eye(3)[Y]), ValueError, "one-hot targets go with loss='categorical_crossentropy'"),
    (lambda: fit(X, Y, "categorical_crossentropy"), ValueError, "use loss='sparse_categorical_crossentropy'"),
    (lambda: fit(X, np.full(6, "a")), TypeError, "targets must be numbers, received dtype <U1"),
    (
        lambda: fit(X, np.zeros((6, 2)), "mse"),
        ValueError,
        r"must have the output's shape \(None, 3\), received shape \(6, 2",
    ),
    (lambda: losses.get("mse")(np.zeros((2, 1)), np.zeros((3, 1))), ValueError, "2 targets for 3 predictions"),
    # arguments of fit
    (lambda: fit(X, Y, batch_size=0), ValueError, "batch_size must be an integer >= 1, received 0"),
    (lambda: fit(X, Y, validation_split=1.5), ValueError, r"validation_split must lie in \(0, 1\), received 1.5"),
    (lambda: fit(X, Y, validation_split=0.999), ValueError, "leaves no samples on one side of 6"),
    (lambda: fit(X, Y, validation_data=(X,)), ValueError, r"fit\(validation_data\): the targets y are missing"),
    (lambda: fit(X, Y, sample_weight=[1, 2]), ValueError, r"one entry per sample \(6\), received 2"),
    (lambda: fit(X, Y, callbacks=[print]), TypeError, "callbacks must be vivace.callbacks.Callback"),
    (lambda: callbacks.LambdaCallback(on_epoch=print), ValueError, "unknown hook 'on_epoch'"),
    # not ready
    (lambda: Sequential([Input((2,)), Dense(1)]).fit(X, Y), ValueError, r"You must call `compile\(\)` before `fit`"),
    (lambda: Sequential([Dense(1)]).set_weights([1]), ValueError, "not built yet.*input_shape"),
    (lambda: Sequential([Dense(1)]).count_params(), ValueError, "not built yet"),
    (lambda: Sequential().build((None, 3)), ValueError, "the model has no layers"),
    (lambda: Sequential().pop(), ValueError, "the model has no layers"),
    (lambda: model().compile("sgd", "mse", ["mae"]), ValueError, r"loss_weights must be numbers.*metrics=\["),
    (lambda: fit(X, Y, loss=None), ValueError, "no loss to train with; give compile one"),
    # names
    (lambda: model("categorical_crosentropy"), ValueError, "did you mean 'categorical_crossentropy'"),
    (lambda: optimizers.get("adm"), ValueError, "unknown optimizer 'adm'; did you mean 'adam'"),
    (lambda: Dense(1, "rellu"), ValueError, "unknown activation 'rellu'; did you mean 'relu'"),
    (lambda: initializers.get("glorot"), ValueError, "unknown initializer 'glorot'"),
    (lambda: model().get_layer("second"), ValueError, "no layer 'second'; there are"),
    (lambda: model().get_layer(index=99), ValueError, "get_layer: index must be less than 4, received 99"),
    (lambda: clone_model(3), ValueError, "model must be a Sequential or another Model, received 3"),
    (lambda: clone_model(model(), clone_function=3), TypeError, "clone_function must be a function, received 3"),
    (lambda: vivace.layer, AttributeError, "has no attribute 'layer'"),
    # layers
    (
        lambda: Dense(2)(Input((1,), dtype="string")),
        TypeError,
        "takes numbers, received the strings of 'input_",
    ),
    (lambda: Dense(3, activaton="relu"), TypeError, "Dense has no argument 'activaton'; did you mean 'activation'"),
    (lambda: Dense(Input((3,))), ValueError, r"SymbolicTensor .*; a layer is made first and called then, as in Dense"),
    (lambda: Sequential([Dense]), ValueError, r"received the class Dense; Dense\(...\) makes an object of it"),
    (lambda: Model(X, X), TypeError, r"inputs must be symbolic tensors, .* received an array of shape \("),
    (lambda: optimizers.Adam(lr=1), TypeError, "Adam has no argument 'lr'; it is called learning_rate"),
    (lambda: optimizers.Adam(beta1=1), TypeError, "Adam has no argument 'beta1'; did you mean 'beta_1'"),
    (lambda: fit(X, Y, epochs="3"), TypeError, r"fit: epochs must be integers, received '3'"),
    (lambda: fit(X, Y, callbacks="stop"), TypeError, "callbacks must be vivace.callbacks.Callback, received 'stop'"),
    (
        lambda: fit(X, Y, callbacks=[vivace.callbacks.EarlyStopping("val_acc")], validation_split=0.5),
        ValueError,
        r"EarlyStopping: there is no 'val_acc' to watch; the model has \['loss'\]",
    ),
    (lambda: layers.StringLookup()([3]), TypeError, r"string_lookup.*: expected strings, received 3 \(int\)"),
    (lambda: layers.IntegerLookup()(["a"]), TypeError, "integer_lookup.*: expected numbers, received dtype <U1"),
    (
        lambda: layers.TextVectorization()([["a", "b"]]),
        ValueError,
        r"one text for each.*received shape \(1, 2\)",
    ),
    (lambda: Dense(0), ValueError, "units must be an integer >= 1, received 0"),
    (lambda: Conv2D(8, (3, 3, 3)), ValueError, "kernel_size must be an integer >= 1 or 2 of them"),
    (lambda: Conv2D(8, 3, padding="full"), ValueError, "padding must be 'valid' or 'same', received 'full'"),
    (lambda: Conv2D(8, 3, data_format="nhwc"), ValueError, "'channels_last' or 'channels_first', received 'nhwc'"),
    (lambda: Conv2D(8, 3, groups=3), ValueError, r"groups must divide filters \(8\), received 3"),
    (lambda: Dropout(1.5), ValueError, r"rate must lie in \[0, 1\], received 1.5"),
    (lambda: Dense(1, dtype="float16"), ValueError, "dtype must be float32 or float64, received float16"),
    (lambda: Dense(1, dtype="bfloat16"), ValueError, "dtype must be float32 or float64, received 'bfloat16'"),
    (lambda: Conv2D(2, 3)(np.full((1, 8, 8, 1), "a")), TypeError, "conv2d.*: expected numbers, received dtype <U1"),
    (lambda: Dense(2)(np.ones((2, 3), complex)), TypeError, "dense.*: expected numbers, received dtype complex128"),
    (lambda: layers.Add()([X, None]), TypeError, "add.*: expected numbers, received dtype object"),
    (lambda: Sequential([print]), ValueError, "expected a layer"),
    (lambda: Sequential([Dense(1, name="a"), Dense(1, name="a")]), ValueError, "a layer named 'a' already"),
    (lambda: Sequential([Dense(1), Dense(1, dtype="float64")]), ValueError, "give all one dtype"),
    (lambda: Sequential([Dense(1), Input((3,))]), ValueError, "an Input must come first"),
    (lambda: optimizers.SGD(-1), ValueError, "learning_rate must not be negative, received -1"),
    (lambda: optimizers.Adam(beta_1=1.0), ValueError, r"beta_1 must lie in \[0, 1\), received 1.0"),
    (lambda: losses.BinaryCrossentropy(label_smoothing=2), ValueError, "label_smoothing must lie in"),
    (lambda: vivace.utils.set_random_seed(-1), ValueError, "seed must be a non-negative integer, received -1"),
    (lambda: vivace.set_num_threads(0), ValueError, "threads must be at least 1, received 0"),
    # weights
    (lambda: model().set_weights([]), ValueError, "expected 4 arrays, received 0"),
    (lambda: model().set_weights([np.zeros(1)] * 4), ValueError, r"kernel has shape \(3, 3, 1, 4\), received \(1,\)"),
    (lambda: model().load_weights("missing.safetensors"), FileNotFoundError, "no file 'missing.safetensors'"),
]


@pytest.mark.parametrize(("call", "error", "message"), TABLE, ids=[row[2][:40] for row in TABLE])
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_layer_that_does_not_fit_names_itself_and_the_chain() -> None:
    m = Sequential([Input((8, 8, 1)), Conv2D(4, 3, name="a"), MaxPooling2D(4, name="b")])
    with pytest.raises(ValueError, match="layer 2: c") as info:
        m.add(Conv2D(2, 3, name="c"))
    text = str(info.value)
    assert "layer 2: c (Conv2D): conv2d: the dilated kernel does not fit the padded input" in text
    assert "input (None, 8, 8, 1) -> a (None, 6, 6, 4) -> b (None, 1, 1, 4)" in text
    assert len(m.layers) == 2  # the model is as it was
    m.add(layers.Flatten())
    assert m.output_shape == (None, 4)


def test_failed_calls_change_no_weights() -> None:
    m = model()
    before = m.get_weights()
    for bad in (labels(3), labels(float("nan"))):
        with pytest.raises(ValueError, match="labels|targets"):
            m.fit(X, bad, verbose=0)
    with pytest.raises(ValueError, match="received"):
        m.set_weights([*before[:3], np.zeros(7)])
    for a, b in zip(before, m.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
