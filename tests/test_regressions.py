"""Defects found once, and kept from coming back."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vivace import activations, layers, optimizers
from vivace._core import native
from vivace.callbacks import Callback, EarlyStopping, LambdaCallback
from vivace.layers import (
    LSTM,
    Activation,
    BatchNormalization,
    Bidirectional,
    Concatenate,
    Conv2D,
    Dense,
    Input,
    Layer,
    MaxPooling2D,
    ReLU,
    TimeDistributed,
)  # fmt: skip
from vivace.models import Model, Sequential, clone_model
from vivace.regularizers import L2
from vivace.step import Step

X = np.linspace(-1, 1, 80, dtype=np.float32).reshape(20, 4)
Y = np.arange(20) % 3


def classifier(*layers: Layer) -> Sequential:
    model = Sequential([Input((4,)), *(layers or (Dense(5, "relu"),)), Dense(3, "softmax")])
    model.compile(optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model


class Interrupting(Layer):
    """The identity, until someone presses Ctrl-C during its backward pass."""

    pressed = False

    def forward(self, x: Any, step: Step) -> Any:
        return x, None

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        if self.pressed:
            raise KeyboardInterrupt
        return dy


def test_an_interrupted_step_leaves_no_gradient_to_the_next() -> None:
    layer = Interrupting()
    model = classifier(Dense(5, "relu"), layer)
    model.train_on_batch(X, Y)
    start = model.get_weights()
    model.train_on_batch(X, Y)
    expected = model.get_weights()
    model.set_weights(start)
    layer.pressed = True
    with pytest.raises(KeyboardInterrupt):
        model.train_on_batch(50 * X, Y)
    layer.pressed = False
    model.train_on_batch(X, Y)
    for got, want in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("shape", [(8, 4), (8, 7, 4)])
def test_the_reported_loss_holds_the_whole_penalty_once(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    x, y = rng.standard_normal(shape).astype("f4"), rng.integers(0, 3, shape[:-1])
    model = Sequential([Input(shape[1:]), Dense(3, "softmax", kernel_regularizer=L2(0.5))])
    model.compile(optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    p = np.take_along_axis(model.predict(x, verbose=0), y[..., None], -1)
    expected = -np.log(p).mean() + 0.5 * np.square(model.get_weights()[0]).sum()
    assert model.evaluate(x, y, batch_size=3, verbose=0) == pytest.approx(expected, rel=1e-5)
    assert model.fit(x, y, batch_size=3, verbose=0).history["loss"][0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [Input((7, 4)), Bidirectional(LSTM(3)), Dense(2)],
        lambda: [Input((7, 4)), TimeDistributed(Dense(3))],
        lambda: [Input((4,)), Sequential([Input((4,)), Dense(5), Sequential([Input((5,)), Dense(5)])]), Dense(3)],
    ],
)
def test_weights_of_nested_layers_load_into_another_model(layers: Callable[[], Any], tmp_path: Path) -> None:
    """The second model's layers have other automatic names."""
    first, second = Sequential(layers()), Sequential(layers())
    assert any((a != b).any() for a, b in zip(first.get_weights(), second.get_weights(), strict=True))
    first.save_weights(tmp_path / "a.safetensors")
    second.load_weights(tmp_path / "a.safetensors")
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "wrapped", [lambda: TimeDistributed(Dense(5, trainable=False)), lambda: Bidirectional(LSTM(5, trainable=False))]
)
def test_a_frozen_layer_stays_inside_a_wrapper(wrapped: Callable[[], Layer], rng: np.random.Generator) -> None:
    model = Sequential([Input((7, 3)), wrapped(), Dense(2)])
    model.compile(optimizers.SGD(0.5), "mse")
    before = model.get_weights()
    x = rng.standard_normal((4, 7, 3))
    model.train_on_batch(x, np.ones((4, *(model.output_shape or ())[1:])))
    after = model.get_weights()
    frozen = [bool((a == b).all()) for a, b in zip(before, after, strict=True)]
    assert frozen == [True] * (len(frozen) - 2) + [False, False]


def test_sizes_may_be_numpy_integers() -> None:
    assert Dense(Y.max() + 1).units == 3
    assert Conv2D(np.int64(4), 3, groups=np.int64(2)).filters == 4


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones((4, 5)), r"one entry per sample \(20\), received 20 in shape \(4, 5\)"),
        (np.full(20, np.nan), "sample_weight must be finite"),
    ],
)
def test_sample_weights_that_do_not_fit_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classifier().fit(X, Y, sample_weight=weights, verbose=0)


@pytest.mark.parametrize("x", [None, np.float32(3), (row for row in X)])
def test_predict_says_what_it_takes(x: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"\.predict: (the input must hold|expected input of shape)"):
        classifier().predict(x)


def test_validation_freq_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="validation_freq must be an integer >= 1, received 0"):
        classifier().fit(X, Y, validation_data=(X, Y), validation_freq=0, verbose=0)


class Scripted(Callback):
    """Replaces val_loss by a script, and marks the weights with the epoch."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["val_loss"] = self.values[epoch]
        self.model.set_weights([np.full((1, 1), float(epoch))])


@pytest.mark.parametrize(
    ("options", "values", "epochs", "restored"),
    [  # epochs run and epoch restored: what Keras 3.15 does
        ({"patience": 2, "baseline": 0.1}, [5, 4, 3, 2, 1, 1], 6, 4),
        ({"patience": 3, "baseline": 0.1}, [5, 4, 3, 3, 3, 3], 4, 2),
        ({"patience": 2}, [5, 3, 4, 4, 4, 4], 4, 1),
        ({"patience": 0}, [5, 6, 7, 8, 9, 9], 2, 0),
        ({"patience": 9}, [5, 3, 4, 4, 4, 4], 6, 1),
        ({"patience": 1, "min_delta": 0.5}, [5, 4.8, 4.6, 4.4, 4.3, 4.2], 2, 0),
    ],
)
def test_early_stopping_as_keras(options: dict[str, Any], values: list[float], epochs: int, restored: int) -> None:
    model = Sequential([Input((1,)), Dense(1, use_bias=False)])
    model.compile(optimizers.SGD(0.0), "mse")
    calls = [Scripted(values), EarlyStopping(mode="min", restore_best_weights=True, **options)]
    history = model.fit(np.zeros((2, 1)), np.zeros((2, 1)), epochs=6, verbose=0, callbacks=calls)
    assert (len(history.epoch), model.get_weights()[0].item()) == (epochs, restored)


def trained(model: Any, layers: list[Any], x: Any = X, y: Any = Y) -> list[bool]:
    """Which of the layers a step on the model changes."""
    before = [layer.get_weights() for layer in layers]
    model.train_on_batch(x, y)
    return [
        any((a != b).any() for a, b in zip(was, layer.get_weights(), strict=True))
        for was, layer in zip(before, layers, strict=True)
    ]


def chain(*layers: Any) -> Any:
    return Sequential([Input((4,)), *layers])


def graph(*layers: Any) -> Any:
    x = y = Input((4,))
    for layer in layers:
        y = layer(y)
    return Model(x, y)


@pytest.mark.parametrize("made", [chain, graph])
def test_a_frozen_model_freezes_all_that_is_inside(made: Any) -> None:
    dense, norm, deep = Dense(4), BatchNormalization(), BatchNormalization()
    base = made(dense, norm, made(deep))
    model = classifier(base)
    assert trained(model, [dense, norm, deep]) == [True] * 3
    base.trainable = False
    assert [norm.trainable, deep.trainable, base.trainable_weights] == [False, False, []]
    assert trained(model, [dense, norm, deep, model.layers[-1]]) == [False, False, False, True]
    np.testing.assert_array_equal(base(X, training=True), base(X))  # by the statistics of before
    dense.trainable = True
    assert trained(model, [dense, norm, deep]) == [True, False, False]  # a layer of a frozen model may learn
    again = Model.from_config(model.get_config()).layers[0]
    assert [again.trainable, *(layer.trainable for layer in again.layers if layer.weights)] == [
        False, True, False, False,
    ]  # fmt: skip
    base.trainable = True
    assert trained(model, [dense, norm, deep]) == [True] * 3


@pytest.mark.parametrize("made", [chain, graph])
def test_freezing_counts_from_the_next_batch_on(made: Any) -> None:
    first, second = Dense(5), Dense(3)
    model = made(first, second)
    model.compile(optimizers.Adam(0.1), "mse")
    x, y = X, np.ones((20, 3))
    assert trained(model, [first, second], x, y) == [True, True]
    first.trainable = False
    moment = model.optimizer.slots[0][:20].copy()
    assert trained(model, [first, second], x, y) == [False, True]
    first.trainable = True
    model._flat_parameters()
    model.optimizer._own(model._flat_parameters())
    np.testing.assert_array_equal(model.optimizer.slots[0][:20], moment)  # which was kept for it
    assert trained(model, [first, second], x, y) == [True, True]


def test_adversaries_leave_each_other_no_gradients() -> None:
    judge, maker = chain(Dense(4, "relu"), Dense(1, "sigmoid")), chain(Dense(4))
    both = Sequential([Input((4,)), maker, judge])
    for model in (judge, both):
        model.compile(optimizers.SGD(0.1), "binary_crossentropy")
    for _ in range(3):
        judge.trainable = False
        assert trained(both, [maker, judge], X, np.ones((20, 1))) == [True, False]
        assert not any(p.gradient.any() for p in judge.weights)
        judge.trainable = True
        assert trained(judge, [maker, judge], X, np.zeros((20, 1))) == [False, True]


IMAGE = np.random.default_rng(0).standard_normal((4, 8, 8, 2)).astype(np.float32)


@pytest.mark.parametrize("as_graph", [False, True])
@pytest.mark.parametrize(
    ("layers", "change"),
    [
        (lambda: [Conv2D(4, 3, activation="relu"), MaxPooling2D()], lambda a, b: setattr(a, "activation", "tanh")),
        (lambda: [BatchNormalization(), ReLU()], lambda a, b: setattr(b, "max_value", 0.5)),
        (lambda: [Dense(4), Activation("relu")], lambda a, b: setattr(b, "activation", "sigmoid")),
    ],
)
def test_fused_layers_heed_what_changes_in_them(layers: Any, change: Any, as_graph: bool) -> None:
    first, second = layers()
    source = Input((8, 8, 2))
    model: Any = Model(source, second(first(source))) if as_graph else Sequential([source, first, second])
    for _ in range(3):
        before = model.predict(IMAGE)
    change(first, second)
    expected = second(first(IMAGE))
    assert abs(expected - before).max() > 0.1
    for training in (False, True, False):
        if not (training and isinstance(first, BatchNormalization)):
            np.testing.assert_allclose(model(IMAGE, training=training), expected, rtol=1e-5, atol=1e-5)


def test_a_list_of_one_input_is_that_input() -> None:
    model = classifier()
    np.testing.assert_array_equal(model.predict([X]), model.predict(X))
    assert model.evaluate([X], [Y], verbose=0) == model.evaluate((X,), Y, verbose=0)
    model.fit([X], [Y], verbose=0)


def test_a_fit_that_was_interrupted_holds_no_data() -> None:
    model = classifier()
    stop = LambdaCallback(on_train_batch_end=lambda batch, logs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.fit(X, Y, verbose=0, callbacks=[stop])
    assert model.feed is None


def test_outputs_given_by_name_come_by_name() -> None:
    x = Input((4,))
    model, single = Model(x, {"z": Dense(2)(x), "b": Dense(3)(x)}), Model(x, {"only": Dense(2)(x)})
    assert [w.shape for w in model.get_weights()] == [(4, 3), (3,), (4, 2), (2,)]  # sorted by name, as Keras does
    for found in (model.predict(X), model.predict(X, batch_size=7), model(X), model(X, training=True)):
        assert {name: y.shape for name, y in found.items()} == {"b": (20, 3), "z": (20, 2)}
    assert single(X)["only"].shape == single.predict(X)["only"].shape == (20, 2)
    parts = model(x)
    outer = Model(x, Concatenate()([parts["z"], parts["b"]]))
    for copy in (Model.from_config(outer.get_config()), clone_model(outer), deepcopy(outer)):
        copy.set_weights(outer.get_weights())
        np.testing.assert_array_equal(copy.predict(X), np.concatenate([model(X)["z"], model(X)["b"]], -1))


def test_an_initializer_keeps_its_array() -> None:
    kernel = np.ones((4, 3), np.float32)
    first, second = (Dense(3, kernel_initializer=lambda shape, dtype: kernel) for _ in range(2))
    for layer in (first, second):
        layer.build((None, 4))
    first.set_weights([np.zeros((4, 3)), np.zeros(3)])
    assert kernel.all()
    assert second.get_weights()[0].all()


@pytest.mark.parametrize("layer", [Dense(3), BatchNormalization(), Bidirectional(LSTM(2)), TimeDistributed(Dense(3))])
def test_a_layer_may_be_built_by_itself(layer: Any) -> None:
    layer.build((None, 5, 4))
    layer.set_weights([np.ones(w.shape) for w in layer.get_weights()])
    count = len(layer.weights)
    layer(np.ones((2, 5, 4)))
    assert len(layer.weights) == count
    assert all(w.all() for w in layer.get_weights())


def test_a_weight_may_be_frozen_by_itself() -> None:
    model = classifier()
    assert trained(model, model.layers) == [True, True]
    kernel, bias = model.layers[0].weights
    kernel.trainable = False
    was = kernel.numpy(), bias.numpy()
    assert trained(model, model.layers) == [True, True]
    np.testing.assert_array_equal(kernel.numpy(), was[0])
    assert (bias.numpy() != was[1]).any()


def test_a_model_is_called_with_a_list_of_anything_like_arrays() -> None:
    class Table:
        def __init__(self, array: Any) -> None:
            self.array = array

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return self.array

    a, b = Input((4,)), Input((4,))
    model = Model([a, b], a - b)
    np.testing.assert_array_equal(model([Table(X), Table(2 * X)]), -X)


def test_attributes_set_later_count() -> None:
    x = np.random.default_rng(0).standard_normal((2, 40, 40, 1)).astype("f4")
    pool = layers.MaxPooling2D(2)
    pool(x, training=True)
    pool.pool_size = pool.strides = (20, 20)  # positions in a window no longer fit a byte
    np.testing.assert_array_equal(pool(x, training=True), layers.MaxPooling2D(20)(x))
    dense = layers.Dense(3, "relu")
    z = x[:, 0, :, 0]
    dense(z)
    dense.activation = activations.linear
    np.testing.assert_allclose(dense(z), z @ dense.get_weights()[0], rtol=1e-5, atol=1e-6)


def test_images_of_what_is_no_number() -> None:
    x = np.array([0, 100, np.nan, 255], "f4").reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(np.isnan(layers.RandomPosterization((4, 4))(x, training=True)), np.isnan(x))
    with pytest.raises(ValueError, match=r"bins must be at most 65536, received 16777216"):
        layers.Equalization(bins=2**24)
    with pytest.raises(ValueError, match=r"equalize: bins must lie in 1 ... 65536"):
        native.equalize(False, 2**61, (0.0, 255.0), x, x.copy())
    far = np.array([-3e38, 3e38, 1, 0], "f4").reshape(1, 2, 2, 1)
    np.testing.assert_allclose(layers.AutoContrast()(far).ravel(), [0, 255, 127.5, 127.5])


def test_what_is_not_alike() -> None:
    x, dtype = np.zeros((2, 3), "f4"), np.dtype("f4")
    assert native.alike(x, (2, 3), dtype)
    assert native.alike([x], [(2, 3)], dtype)
    endless: list[Any] = []
    endless.append(endless)
    for other in ((None, 3), (2.0, 3), (2**70, 3), (2,), [2, 3], None):
        assert not native.alike(x, other, dtype)
    assert not native.alike(endless, endless, dtype)
    assert not native.alike(x.T, (3, 2), dtype)
    assert not native.alike(x, (2, 3), np.dtype("f8"))
