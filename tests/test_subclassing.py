"""Models that are classes with a `call`: the same as the graph they compose, and clear where that is not possible."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import numeric_gradient
from vivace import layers as L
from vivace.layers import Conv2D, Dense, Dropout, Embedding, Flatten, Input, MaxPooling2D
from vivace.models import Model, Sequential, clone_model, model_from_json
from vivace.step import Step
from vivace.utils import set_random_seed

D = {"dtype": "float64"}


class Plain(Model):
    def __init__(self, units: int = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conv, self.pool = Conv2D(4, 3, activation="relu"), MaxPooling2D()
        self.flatten, self.hidden, self.out = Flatten(), Dense(units, "relu"), Dense(3, "softmax")

    def call(self, x: Any) -> Any:
        return self.out(self.hidden(self.flatten(self.pool(self.conv(x)))))


def chain(units: int = 8) -> Sequential:
    return Sequential(
        [Conv2D(4, 3, activation="relu"), MaxPooling2D(), Flatten(), Dense(units, "relu"), Dense(3, "softmax")]
    )


def images(rng: np.random.Generator, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(n, 8, 8, 1)).astype("float32"), rng.integers(0, 3, n)


def test_a_class_trains_with_the_bits_of_the_chain_that_it_is(rng: np.random.Generator) -> None:
    x, y = images(rng)
    results = []
    for make in (Plain, chain):
        set_random_seed(3)
        model = make()
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        history = model.fit(x, y, epochs=3, batch_size=16, verbose=0, validation_split=0.2).history
        results.append((history, model.predict(x), model.evaluate(x, y, verbose=0), model.get_weights()))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert results[0][2] == results[1][2]
    assert all((a == b).all() for a, b in zip(results[0][3], results[1][3], strict=True))


class Residual(Model):
    """A block: operators and slices add layers."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.inner = [Dense(units, "tanh", **D), Dense(units, **D)]
        self.norm = L.LayerNormalization(**D)

    def call(self, x: Any) -> Any:
        h = x
        for layer in self.inner:
            h = layer(h)
        return self.norm(2 * x - h * 0.5 + 1)


class Network(Model):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = {"first": Residual(6), "second": Residual(6)}
        self.head = Dense(2, **D)

    def call(self, x: Any) -> Any:
        h = self.blocks["second"](self.blocks["first"](x))
        return self.head(h[:, -1]) * (1 - self.head(-h[:, 0, :])) / 2


def check_gradients(model: Model, x: Any, rng: np.random.Generator) -> None:
    several = isinstance(x, list)
    y, saved = model.forward(x, step := Step(training=True))
    outputs = y if isinstance(y, list) else [y]
    constants = [rng.normal(size=one.shape) for one in outputs]

    def value() -> float:
        y = model.forward(x, Step(training=True))[0]
        return sum(float((a * c).sum()) for a, c in zip(y if isinstance(y, list) else [y], constants, strict=True))

    dys = [c.copy() for c in constants]
    dx = model.backward(dys if isinstance(y, list) else dys[0], saved, step)
    pairs = list(zip(x, dx, strict=True)) if several else [(x, dx)]
    gradients = [np.array(g) for _, g in pairs] + [p.gradient.copy() for p in model.trainable_weights]
    for array, gradient in zip(
        [*(a for a, _ in pairs), *(p.value for p in model.trainable_weights)], gradients, strict=True
    ):
        np.testing.assert_allclose(gradient, numeric_gradient(value, array), rtol=1e-5, atol=1e-7)


def test_nested_classes_operators_and_slices_have_right_gradients(rng: np.random.Generator) -> None:
    model = Network()
    x = rng.normal(size=(3, 4, 6))
    y = model(x)
    assert y.shape == (3, 2)
    assert [p.shape for p in model.weights] == [(6, 6), (6,), (6, 6), (6,), (6,), (6,)] * 2 + [(6, 2), (2,)]
    block = model.blocks["first"]
    a, b, c, d, gamma, beta = (p.value for p in block.weights)
    z = 2 * x - 0.5 * (np.tanh(x @ a + b) @ c + d) + 1
    centred = z - z.mean(-1, keepdims=True)
    expected = centred / np.sqrt(centred.var(-1, keepdims=True) + 1e-3) * gamma + beta
    np.testing.assert_allclose(block(x), expected, rtol=1e-10)
    check_gradients(model, x, rng)


class Modes(Model):
    """What `call` does in training may differ."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.noise, self.dropout = Dense(4), L.GaussianNoise(5.0, seed=1), Dropout(0.5, seed=1)
        self.calls: list[Any] = []

    def call(self, x: Any, training: bool | None = None) -> Any:
        self.calls.append(training)
        if training:
            x = self.noise(x, training=training)
        return self.dense(self.dropout(x, training=training))


def test_call_is_run_once_for_each_mode(rng: np.random.Generator) -> None:
    model, x = Modes(), rng.normal(size=(5, 4)).astype("float32")
    kernel, bias = None, None
    model.compile("sgd", "mse")
    for _ in range(3):
        model.fit(x, x, verbose=0)
        kernel, bias = model.get_weights()
        np.testing.assert_allclose(model.predict(x), x @ kernel + bias, rtol=1e-5, atol=1e-6)
    assert model.calls == [False, True]
    assert np.abs(model(x, training=True) - model(x)).max() > 1
    outer_input = Input((4,))
    outer = Model(outer_input, model(outer_input, training=False))
    np.testing.assert_array_equal(outer(x, training=True), model(x))
    assert len(model.calls) == 2


class TwoInputs(Model):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.a, self.b = (
            Embedding(5, 3, **D),
            Dense(2, name="a", **D),
            Dense(3, "softmax", name="b", **D),
        )

    def call(self, inputs: Any) -> Any:
        words, numbers = inputs["words"], inputs["numbers"]
        h = L.GlobalAveragePooling1D(**D)(self.embedding(words))
        h = L.concatenate([h, numbers], **D)
        return [self.a(h), self.b(h)]


def test_several_inputs_by_name_and_several_outputs(rng: np.random.Generator) -> None:
    model = TwoInputs()
    x = {"words": rng.integers(0, 5, (30, 4)), "numbers": rng.normal(size=(30, 2))}
    y = {"a": rng.normal(size=(30, 2)), "b": rng.integers(0, 3, 30)}
    model.compile("adam", {"a": "mse", "b": "sparse_categorical_crossentropy"}, metrics={"b": "accuracy"})
    history = model.fit(x, y, epochs=2, verbose=0).history
    assert list(history) == ["a_loss", "b_accuracy", "b_loss", "loss"]
    p, q = model.predict(x)
    assert (p.shape, q.shape) == ((30, 2), (30, 3))
    np.testing.assert_array_equal(model(x)[1], q)
    words, numbers = Input((4,)), Input((2,))
    outer = Model([words, numbers], model({"words": words, "numbers": numbers}))
    np.testing.assert_array_equal(outer.predict([x["words"], x["numbers"]])[0], p)
    reordered = dict(reversed(x.items()))
    np.testing.assert_array_equal(model(reordered)[1], q)
    with pytest.raises(ValueError, match=r"expected a dict with the inputs \['words', 'numbers'\]"):
        model({"words": x["words"]})
    np.testing.assert_array_equal(model.predict(reordered)[1], q)
    assert model.count_params() == 15 + 12 + 18


class Pair(Model):
    def __init__(self) -> None:
        super().__init__()
        self.shared = Dense(3, "tanh", **D)

    def call(self, inputs: Any) -> Any:
        a, b = inputs
        return {"sum": self.shared(a) + self.shared(b), "product": self.shared(a) * self.shared(b)}


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_and_tuples_of_inputs(kind: Any, rng: np.random.Generator) -> None:
    model, x = Pair(), [rng.normal(size=(4, 2)) for _ in range(2)]
    product, total = model(kind(x)).values()
    kernel, bias = model.get_weights()
    a, b = (np.tanh(one @ kernel + bias) for one in x)
    np.testing.assert_allclose(total, a + b, rtol=1e-12)
    np.testing.assert_allclose(product, a * b, rtol=1e-12)
    check_gradients(model, x, rng)


def test_weights_are_written_read_copied_and_cloned(tmp_path: Path, rng: np.random.Generator) -> None:

    x, _ = images(rng, 5)
    model = Plain(7, name="mine")
    y = model(x)
    model.save_weights(tmp_path / "w.safetensors")
    other = Plain.from_config(model.get_config())
    assert (other.name, other.hidden.units) == ("mine", 7)
    assert not np.array_equal(other(x), y)
    other.load_weights(tmp_path / "w.safetensors")
    clone = clone_model(model)
    clone.build((None, 8, 8, 1))
    clone.set_weights(model.get_weights())
    for one in (other, clone, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(one(x), y)
        one.compile("sgd", "sparse_categorical_crossentropy")
        one.train_on_batch(x, np.zeros(5, int))
    with pytest.raises(ValueError, match="a class of its own"):
        clone_model(model, clone_function=lambda layer: layer)


def test_a_copy_trains_its_own_weights(rng: np.random.Generator) -> None:
    x, y = images(rng, 8)
    model = Plain()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, y, verbose=0)
    other = copy.deepcopy(model)
    before = model.get_weights()
    other.fit(x, y, verbose=0)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert any((a != b).any() for a, b in zip(before, other.get_weights(), strict=True))


def test_freezing_inside_a_class(rng: np.random.Generator) -> None:
    outer_in = Input((4, 6))
    model = Network()
    outer = Model(outer_in, model(outer_in))
    x, y = rng.normal(size=(4, 4, 6)), rng.normal(size=(4, 2))
    outer.compile("sgd", "mse")
    outer.fit(x, y, verbose=0)
    model.blocks["first"].trainable = False
    outer.compile("sgd", "mse")
    before = model.get_weights()
    outer.fit(x, y, verbose=0)
    same = [(a == b).all() for a, b in zip(before, model.get_weights(), strict=True)]
    assert all(same[:6])
    assert not any(same[6:8])
    assert sum(p.size for p in outer.trainable_weights) == 96 + 14
    block = model.blocks["second"]
    block.inner[0].trainable = False
    outer.compile("sgd", "mse")
    outer.fit(x, y, verbose=0)
    computed = {run.__self__.name: active for run, _, _, active, _ in block._of_mode(True).schedule.backwards}
    assert not computed[block.inner[0].name]  # its gradient is not even computed
    assert computed[block.inner[1].name]


class Inherited(Model):
    """A graph given to the base class's constructor."""

    def __init__(self, units: int) -> None:
        x = Input((4,))
        super().__init__(inputs=x, outputs=Dense(units, **D)(Dense(3, "tanh", **D)(x)))
        self.units = units


def test_a_graph_may_be_given_to_the_constructor(rng: np.random.Generator) -> None:
    model = Inherited(2)
    x = rng.normal(size=(3, 4))
    assert model.predict(x).shape == (3, 2)
    assert [layer.name.rstrip("_0123456789") for layer in model.layers] == ["input_layer", "dense", "dense"]
    assert Inherited.from_config(model.get_config()).count_params() == model.count_params() == 23
    check_gradients(model, x, rng)


class LateLayers(Model):
    def build(self, input_shape: Any) -> None:
        self.dense = Dense(input_shape[-1], **D)

    def call(self, x: Any) -> Any:
        return x + self.dense(x)


def test_columns_of_integers_go_to_embeddings(rng: np.random.Generator) -> None:
    class Ratings(Model):
        def __init__(self) -> None:
            super().__init__()
            self.users, self.films = Embedding(5, 3), Embedding(7, 3)

        def call(self, pairs: Any) -> Any:
            return L.Dot(1)([self.users(pairs[:, 0]), self.films(pairs[:, 1])])

    model = Ratings()
    pairs = np.stack([rng.integers(0, 5, 20), rng.integers(0, 7, 20)], 1)
    model.compile("adam", "mse")
    model.fit(pairs, rng.normal(size=20), verbose=0)
    users, films = model.get_weights()
    np.testing.assert_allclose(model.predict(pairs)[:, 0], (users[pairs[:, 0]] * films[pairs[:, 1]]).sum(1), rtol=1e-5)
    x = Input((2,), dtype="int32")
    np.testing.assert_array_equal(Model(x, model(x)).predict(pairs), model.predict(pairs))


def test_layers_may_be_made_in_build(rng: np.random.Generator) -> None:
    model = LateLayers()
    assert model(rng.normal(size=(2, 3))).shape == (2, 3)
    assert model.count_params() == 12
    model.summary(print_fn=(lines := []).append)
    assert "late_layers" in lines[0]
    assert "(None, 3)" in lines[0]


def test_sequences_of_other_lengths_are_taken(rng: np.random.Generator) -> None:
    class Tagger(Model):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = L.GRU(4, return_sequences=True), Dense(2)

        def call(self, x: Any) -> Any:
            return self.out(self.rnn(x))

    model = Tagger()
    assert model(rng.normal(size=(2, 5, 3))).shape == (2, 5, 2)
    assert model(rng.normal(size=(2, 9, 3))).shape == (2, 9, 2)
    assert model.input_shape == (None, None, 3)
    with pytest.raises(ValueError, match=r"expected input of shape \('batch', None, 3\), received \(2, 9, 4\)"):
        model(rng.normal(size=(2, 9, 4)))


class TransformerBlock(L.Layer):
    """A layer composed of layers, as programs for Keras write it."""

    def __init__(self, heads: int, size: int, rate: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attention = L.MultiHeadAttention(heads, size, **D)
        self.ffn = Sequential([Dense(2 * size, "relu", **D), Dense(heads * size, **D)])
        self.norm1, self.norm2 = L.LayerNormalization(**D), L.LayerNormalization(**D)
        self.dropout = Dropout(rate, **D)

    def call(self, inputs: Any, training: bool = False) -> Any:
        attended = self.dropout(self.attention(inputs, inputs), training=training)
        h = self.norm1(inputs + attended)
        return self.norm2(h + self.dropout(self.ffn(h), training=training))


class Gate(L.Layer):
    """Takes two inputs, one argument each."""

    def build(self, input_shape: Any) -> None:
        self.dense = Dense(input_shape[0][-1], "sigmoid", **D)

    def call(self, x: Any, context: Any) -> Any:
        return x * self.dense(context)


def test_a_layer_may_be_composed_of_layers(rng: np.random.Generator) -> None:
    x = Input((4, 6))
    block = TransformerBlock(2, 3, rate=0.0, name="block")
    y = block(x)
    model = Model(x, Gate(name="gate")(y, x)[:, 0])
    data = rng.normal(size=(2, 4, 6))
    assert isinstance(block, TransformerBlock)
    assert model.get_layer("block") is block
    assert len(block.weights) == 8 + 4 + 4
    check_gradients(model, data, rng)
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied(data), model(data))
    assert isinstance(copied.get_layer("block"), TransformerBlock)
    custom = {"TransformerBlock": TransformerBlock, "Gate": Gate}

    again = model_from_json(model.to_json(), custom)
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(data), model(data))
    chain = Sequential([TransformerBlock(2, 3, dtype="float64"), Flatten(**D), Dense(1, **D)])
    chain.compile("adam", "mse")
    chain.fit(data, np.ones(2), epochs=2, verbose=0)
    np.testing.assert_array_equal(chain(data), chain.predict(data))


def test_call_may_stand_in_a_class_further_down(rng: np.random.Generator) -> None:
    class Named(L.Layer):
        def described(self) -> str:
            return f"a {type(self).__name__}"

    class Doubled(Named):
        def call(self, x: Any) -> Any:
            return 2 * x

    layer = Doubled()
    assert layer.described() == "a Doubled"
    np.testing.assert_array_equal(layer(np.ones((1, 2), "f4")), 2)
    with pytest.raises(TypeError, match=r"Scaled.call would not be used: Dense computes in forward and backward"):

        class Scaled(Dense):
            def call(self, x: Any) -> Any:
                return super().call(x) * 2


class ConvBlock(L.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = Conv2D(2, 3, padding="same", **D), L.BatchNormalization(**D)

    def call(self, x: Any, training: bool | None = None) -> Any:
        return x[:, : x.shape[1] // 2] * self.norm(self.conv(x), training=training)[:, : x.shape[1] // 2]


def test_one_block_for_images_of_two_sizes(rng: np.random.Generator) -> None:
    block = ConvBlock()
    x = Input((8, 6, 2))
    small = L.MaxPooling2D(**D)(x)
    pool = L.GlobalAveragePooling2D(**D)
    model = Model(x, L.concatenate([pool(block(x)), pool(block(small))], **D))
    assert len(model.weights) == 6
    assert block(small).shape == (None, 2, 3, 2)
    data = rng.normal(size=(3, 8, 6, 2))
    check_gradients(model, data, rng)
    copied = copy.deepcopy(model)
    np.testing.assert_array_equal(copied(data), model(data))


def test_images_of_another_size_are_taken_where_layers_can(rng: np.random.Generator) -> None:
    block = ConvBlock()
    data = rng.normal(size=(3, 8, 6, 2))
    whole = block(data)
    assert whole.shape == (3, 4, 6, 2)
    assert block(data[:, :4]).shape == (3, 2, 6, 2)
    np.testing.assert_array_equal(block(data), whole)
    block.compile("sgd", "mse")
    block.fit(data[:, :4], np.zeros((3, 2, 6, 2)), verbose=0)
    assert block.predict(data).shape == (3, 4, 6, 2)
    classifier = Plain()
    classifier(rng.normal(size=(2, 8, 8, 1)))
    with pytest.raises(ValueError, match=r"expected input of shape \('batch', 8, 8, 1\), received \(2, 12, 8, 1\)"):
        classifier(rng.normal(size=(2, 12, 8, 1)))


def failing(call: Any) -> Model:
    class Failing(Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = Dense(3)

    Failing.call = call  # type: ignore[method-assign]
    return Failing()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda self, x: np.tanh(self.dense(x)), TypeError, "argument of NumPy's tanh; while a graph is made"),
        (lambda self, x: np.concatenate([x, x]), TypeError, "argument of NumPy's concatenate"),
        (lambda self, x: self.dense(x).reshape(3), AttributeError, "has no 'reshape'; .* use layers"),
        (lambda self, x: x * np.asarray(self.dense.add_weight()), TypeError, "value of a weight would become a part"),
        (lambda self, x: x * self.dense.add_weight().value, TypeError, "value of a weight would become a part"),
        (lambda self, x: x * self.dense.add_weight().numpy(), TypeError, "value of a weight would become a part"),
        (lambda self, x: x * np.sum(self.dense.add_weight(shape=(2,))), TypeError, "compute with the weight itself"),
        (lambda self, x: x * np.cbrt(self.dense.add_weight(shape=(2,))), TypeError, "compute with the weight itself"),
        (lambda self, x: self.dense.add_weight(shape=(2,)).assign(1.0) or x, ValueError, r"has shape \(2,\), received"),
        (lambda self, x: x if x else 2 * x, TypeError, "cannot be a condition"),
        (lambda self, x: [row for row in x], TypeError, "cannot be iterated over"),
        (lambda self, x: x @ x, ValueError, r"ops.matmul\) of shapes \(None, 4\)"),
        (lambda self, x: x + "a", TypeError, "can be combined with others, weights, numbers and arrays; received 'a'"),
        (lambda self, x: self.add_loss(3) or x, TypeError, r"add_loss: expected what functions of vivace.ops make"),
        (lambda self, x: x[0], ValueError, "the batch .* must be taken whole"),
        (lambda self, x: x[:, 9], ValueError, "does not fit shape"),
        (lambda self, x: 3, TypeError, "call must return what its layers return.*received 3"),
        (lambda self, x: Dense(2)(x), ValueError, "is not an attribute of the model"),
        (lambda self, x, y: x, TypeError, "missing 1 required positional argument"),
    ],
)  # fmt: skip
def test_what_call_cannot_do_is_said(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        failing(call)(np.ones((2, 4)))


def test_what_is_missing_is_said() -> None:
    with pytest.raises(TypeError, match=r"must define call\(self, inputs, training=None\)"):
        type("Empty", (Model,), {})()(np.ones((2, 3)))
    message = r"plain\w* \(Plain.call\): layer 1 behind plain\w*_input \(None, 8, 8\): conv2d.*add the channel axis"
    with pytest.raises(ValueError, match=message):
        Plain()(np.ones((2, 8, 8)))


def test_a_constructor_that_calls_no_other_is_told() -> None:
    class Forgetful(Model):
        def __init__(self) -> None:
            self.dense = Dense(2)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    with pytest.raises(AttributeError, match=r"its __init__ must call super\(\).__init__\(\)"):
        Forgetful()(np.ones((2, 3)))
    with pytest.raises(AttributeError, match="'Dense' object has no attribute 'kernels'$"):
        _ = Dense(2).kernels
