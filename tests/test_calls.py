"""What a `call` computes with besides layers: operators, constants, weights of its own, losses, optional arguments."""

from __future__ import annotations

import pickle
import traceback
from typing import Any

import numpy as np
import pytest

from helpers import numeric_gradient
from vivace import layers as L
from vivace import ops
from vivace.layers import Dense, Embedding, Input, Layer
from vivace.models import Functional, Model, Sequential, clone_model, model_from_json

D = {"dtype": "float64"}


class Positions(Layer):
    """Keras's usual way to add positions: an Embedding of numbers that depend on nothing."""

    def __init__(self, rows: bool) -> None:
        super().__init__()
        self.words, self.places, self.rows = Embedding(9, 4, **D), Embedding(5, 4, **D), rows

    def call(self, x: Any) -> Any:
        places = np.arange(x.shape[1])
        return self.words(x) + self.places(places[None] if self.rows else places)


@pytest.mark.parametrize("rows", [True, False])
def test_what_a_layer_makes_of_constants_learns(rows: bool, rng: np.random.Generator) -> None:
    layer = Positions(rows)
    x, y = rng.integers(0, 9, (7, 5)), rng.normal(size=(7, 5, 4))
    inputs = Input((5,))
    model = Model(inputs, layer(inputs))
    model.compile("sgd", "mse")
    words, places = model.get_weights()
    places[...] = rng.normal(size=places.shape)
    model.set_weights([words, places])
    np.testing.assert_allclose(model.predict(x, verbose=0), words[x] + places)
    np.testing.assert_allclose(layer(x), words[x] + places)
    expected = places - 0.01 * numeric_gradient(lambda: float(np.square(words[x] + places - y).mean()), places)
    model.train_on_batch(x, y)
    np.testing.assert_allclose(model.get_weights()[1], expected, rtol=1e-6)
    np.testing.assert_array_equal(L.Rescaling(2.0)(np.arange(3.0)), [0, 2, 4])  # outside of a call nothing changes


def test_a_functional_model_takes_operators(rng: np.random.Generator) -> None:
    x = Input((5, 3))
    y = x[:, 1:4, :2] * 3 - x[..., ::2][:, :3]
    model = Model(x, y)
    data = rng.normal(size=(2, 5, 3)).astype("float32")
    np.testing.assert_allclose(model(data), data[:, 1:4, :2] * 3 - data[..., ::2][:, :3], rtol=1e-6)
    assert isinstance(model, Functional)
    assert model.output_shape == (None, 3, 2)
    steps = Input((None, 3))
    assert [tensor.shape for tensor in (steps[:, 2:], steps[:, 0], steps[:, -1:], steps[:, :, 0])] == [
        (None, None, 3), (None, 3), (None, 1, 3), (None, None),
    ]  # fmt: skip


def test_operators_of_tensors_with_numbers_and_arrays() -> None:
    x, one = Input((3,)), Input((1,))
    z, a = np.float32([[0, 1, 4]]), np.float32([[2]])
    small, flags, steps = np.array([1, 2, 3], np.uint8), np.array([True, False, True]), np.arange(3.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = (z + 1) / np.float32(0)
    table: list[tuple[Any, Any]] = [
        (x - small, z - np.float32(small)),
        (x - flags, z - np.float32(flags)),
        (x / flags[:1] * small, z * small),
        ((x + 1) / 0, inverse),
        (x - True, z - 1),
        (one + steps, a + steps),
        (one * steps - steps[None], a * steps - steps),
        (steps.tolist() - one, steps - a),
        ((x != 1) * 1.0, [[1, 0, 1]]),
        ((x == 1) * 1.0, [[0, 1, 0]]),
        ((x != x) * 1.0, [[0, 0, 0]]),
        (((x > 0) & ~(x > 1) | (x < 0)) * 1.0, [[0, 1, 0]]),
        (x // 2 + 7 % (x + 4), z // 2 + 7 % (z + 4)),
    ]
    for i, (made, expected) in enumerate(table):
        found = Model([x, one], [made, x, one]).predict([z, a], verbose=0)[0]
        np.testing.assert_allclose(found, expected, err_msg=f"row {i}")
        assert made.shape == (None, 3)
    assert (x == x, x == one, x in [one, x], one in [x]) == (True, False, True, False)
    (w := Dense(2, kernel_initializer="identity")).build((None, 2))
    eye = np.eye(2)
    for made, expected in [
        (w.kernel > 0, eye > 0), (abs(-w.kernel), eye), (2**w.kernel, 2**eye), (w.kernel != 0, eye != 0),
        (w.kernel == 0, eye == 0), (w.kernel // 1 % 2, eye),
    ]:  # fmt: skip
        np.testing.assert_array_equal(made, expected)
    assert w.kernel in w.weights


class Scaled(Layer):
    """Takes its weight in a way of its own, and builds with the values of weights."""

    def __init__(self, take: Any) -> None:
        super().__init__()
        self.take, self.dense = take, Dense(3, use_bias=False, trainable=False, kernel_initializer="identity")

    def build(self, input_shape: Any) -> None:
        self.dense.build(input_shape)
        self.w = self.add_weight(shape=input_shape[-1:], initializer="ones")
        self.w.assign(self.dense.kernel.value.sum(0))
        self.w.value[...] += np.asarray(self.dense.kernel).max()

    def call(self, x: Any) -> Any:
        return x * self.take(self.w)


@pytest.mark.parametrize(
    "take", [ops.convert_to_tensor, ops.array, lambda w: ops.convert_to_tensor(w, "float32"), lambda w: w]
)
def test_weights_taken_as_tensors_learn(take: Any) -> None:
    layer, x = Scaled(take), np.ones((4, 3), "float32")
    inputs = Input((3,))
    model = Model(inputs, layer(inputs))
    np.testing.assert_array_equal(model(x), 2 * x)
    model.compile("sgd", "mse")
    model.train_on_batch(x, 0 * x)
    assert (layer.w.value < 2).all()
    layer.w.assign(np.full(3, 5))
    np.testing.assert_array_equal(model(x), 5 * x)
    assert isinstance(ops.convert_to_tensor(layer.w), np.ndarray)


class Counter(Layer):
    """Assigns constants and other weights in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.d, self.e = (self.add_weight(shape=(), initializer="zeros", trainable=False) for _ in range(3))

    def call(self, x: Any) -> Any:
        self.c.assign(5.0)
        self.c.assign_add(1.0)
        self.d.assign(self.e)
        return x + self.c


def test_constants_are_assigned_in_every_pass() -> None:
    layer = Counter()
    for e in (1, 2):
        layer.c.assign(0)
        layer.e.assign(e)
        np.testing.assert_array_equal(layer(np.ones((2, 3))), np.full((2, 3), 7))
        assert (layer.c.value, layer.d.value) == (6, e)


def test_what_a_call_adds_to_the_loss_is_its_own() -> None:
    class Strict(Layer):
        raises = True

        def call(self, x: Any) -> Any:
            self.add_loss(ops.sum(x))
            if self.raises:
                self.fail(x)
            return x

        def fail(self, x: Any) -> None:
            raise ValueError("not yet")

    layer, x = Strict(), np.ones((2, 3), "float32")
    with pytest.raises(ValueError, match="Strict.call.: not yet") as raised:
        layer(x)
    frames, cause = [], raised.value.__cause__
    while cause is not None:
        frames += [one.name for one in traceback.extract_tb(cause.__traceback__)]
        cause = cause.__cause__
    assert "fail" in frames  # the user's own
    layer.raises = False
    layer(x)
    assert layer.losses == [6]
    with pytest.raises(TypeError, match="only a `call` can add to the loss"):
        layer.add_loss(ops.sum(Input((3,))))


def test_integers_come_out_of_nested_models() -> None:
    class Sign(Layer):
        def call(self, x: Any) -> Any:
            return [x / 2, ops.cast(x > 0, "int32")]

    x, inner = Input((2,)), Input((2,))
    half, sign = Sign()(x)
    assert (half.dtype, sign.dtype) == ("float32", "int32")
    nested = Model(inner, ops.cast(inner > 0, "int32"))
    assert (nested(x).dtype, Sequential([nested])(x).dtype) == ("int32", "int32")
    for y in (sign, nested(x), Sequential([nested])(x)):
        model = Model(x, Dense(2, kernel_initializer="identity")(y))
        np.testing.assert_array_equal(model(np.float32([[-1, 2]])), [[0, 1]])


def test_outputs_without_a_batch_axis_are_not_predicted() -> None:
    x = Input((3,))
    model = Model(x, ops.sum(x))
    assert model(np.ones((2, 3))) == 6
    with pytest.raises(ValueError, match=r"predict: the output of '\w+', of shape \(\), has no batch axis"):
        model.predict(np.ones((2, 3)), verbose=0)


def test_sequences_without_steps_are_refused() -> None:
    class Cell(Layer):
        state_size = 2

        def call(self, x: Any, states: Any) -> Any:
            return x + states[0], [x]

    for flag in (False, True):
        with pytest.raises(ValueError, match=r"sequences need one step at least, received shape \(3, 0, 2\)"):
            L.RNN(Cell(), return_sequences=flag)(np.ones((3, 0, 2)))


class Optional(Layer):
    """Takes inputs and constants that it need not be given."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = Dense(3, kernel_initializer="identity")

    def call(self, x: Any, context: Any = None, *, scale: float = 1.0, training: bool = False) -> Any:
        parts = context if isinstance(context, (list, tuple)) else [] if context is None else [context]
        for one in parts:
            x = x + one
        return self.dense(x) * scale


def test_optional_arguments_of_call() -> None:
    a, b, c = (np.full((2, 3), n, "float32") for n in (1, 2, 4))
    table: list[tuple[tuple[Any, ...], dict[str, Any], int]] = [
        ((a,), {}, 1),
        ((a, b), {}, 3),
        ((a,), {"context": b}, 3),
        ((a,), {"scale": 3.0}, 3),
        ((a,), {"context": None}, 1),
        ((a, b), {"scale": 3.0}, 9),
        ((a,), {"context": [b, c], "scale": 0.5}, 3.5),
        ((a,), {"context": (b,), "scale": 2.0}, 6),
    ]
    one = Optional()
    for args, named, expected in table * 2:
        for layer in (one, Optional()):  # also one that was called otherwise before
            np.testing.assert_array_equal(layer(*args, **named), np.full((2, 3), expected))
        np.testing.assert_array_equal(one(a), a)
    assert len(one.weights) == 2
    x, y = Input((3,)), Input((3,))
    for args, named, expected in [
        ((x, y), {}, 3),
        ((x,), {"context": [y], "scale": 2.0}, 6),
        ((x, y), {"scale": 4.0}, 12),
    ]:
        layer = Optional()
        model = Model([x, y], layer(*args, **named))
        again = model_from_json(model.to_json(), {"Optional": Optional})
        for made in (model, again, clone_model(model), pickle.loads(pickle.dumps(model))):
            np.testing.assert_array_equal(made.predict([a, b], verbose=0), np.full((2, 3), expected))
        with pytest.raises(ValueError, match="stands in a graph with other arguments"):
            layer(x, scale=7.0)
    with pytest.raises(TypeError, match="call: got an unexpected keyword argument 'other'"):
        one(a, other=b)
