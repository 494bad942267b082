"""Functions of vivace.ops: on arrays, in graphs, in the `call` of one's own layers, in losses and metrics."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vivace
from vivace import layers as L
from vivace import ops
from vivace.models import Model, Sequential, clone_model, load_model, model_from_json
from vivace.testing import check_gradients

# name: what to compute of x (batch, 3, 4) and y of the same shape, and the same by NumPy
TABLE: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "operators": (lambda x, y: (x + y) / (2 - y) - x**2 * -y, lambda x, y: (x + y) / (2 - y) - x**2 * -y),
    "abs": (lambda x, y: abs(x) * 2 / (abs(y) + 1), lambda x, y: np.abs(x) * 2 / (np.abs(y) + 1)),
    "matmul": (lambda x, y: x @ ops.transpose(y, (0, 2, 1)), lambda x, y: x @ y.transpose(0, 2, 1)),
    "matmul by an array": (lambda x, y: x @ np.eye(4, 2, dtype="float32"), lambda x, y: x[..., :2]),
    "einsum": (lambda x, y: ops.einsum("bij,bkj->bik", x, y), lambda x, y: x @ y.transpose(0, 2, 1)),
    "mean": (lambda x, y: ops.mean(x * y, axis=-1), lambda x, y: (x * y).mean(-1)),
    "axes": (lambda x, y: ops.sum(x, axis=[1, 2], keepdims=True), lambda x, y: x.sum((1, 2), keepdims=True)),
    "extrema": (lambda x, y: ops.max(x, axis=1) - ops.amin(y, 1), lambda x, y: x.max(1) - y.min(1)),
    "var": (lambda x, y: ops.var(x, axis=-1) + ops.std(y, axis=-1), lambda x, y: x.var(-1) + y.std(-1)),
    "norm": (lambda x, y: ops.norm(x, axis=-1), lambda x, y: np.linalg.norm(x, axis=-1)),
    "normalize": (lambda x, y: ops.normalize(x), lambda x, y: x / np.linalg.norm(x, axis=-1, keepdims=True)),
    "exp": (lambda x, y: ops.log(ops.exp(x) + 1), lambda x, y: np.log1p(np.exp(x))),
    "roots": (lambda x, y: ops.rsqrt(ops.square(x) + 1), lambda x, y: 1 / np.sqrt(x * x + 1)),
    "where": (lambda x, y: ops.where(x > y, x, 2 * y), lambda x, y: np.where(x > y, x, 2 * y)),
    "where by numbers": (lambda x, y: ops.where(ops.greater(x, 0), x, 0.0), lambda x, y: np.maximum(x, 0)),
    "clip": (lambda x, y: ops.clip(x, -0.5, 0.5), lambda x, y: np.clip(x, -0.5, 0.5)),
    "concatenate": (lambda x, y: ops.concatenate([x, y], axis=-1), lambda x, y: np.concatenate([x, y], -1)),
    "stack": (lambda x, y: ops.stack([x, y], axis=1), lambda x, y: np.stack([x, y], 1)),
    "twice the same": (lambda x, y: ops.stack([x, x], axis=1) * 1.5, lambda x, y: np.stack([x, x], 1) * 1.5),
    "reshape": (lambda x, y: ops.reshape(x, (-1, 2, 6)), lambda x, y: x.reshape(-1, 2, 6)),
    "the batch in a shape": (lambda x, y: ops.reshape(x, (ops.shape(x)[0], 12)), lambda x, y: x.reshape(-1, 12)),
    "expand and squeeze": (lambda x, y: ops.squeeze(ops.expand_dims(x, 1), 1) * 2, lambda x, y: x * 2),
    "split": (lambda x, y: ops.split(x, 2, axis=-1)[1], lambda x, y: x[..., 2:]),
    "unstack": (lambda x, y: ops.unstack(x, axis=1)[2], lambda x, y: x[:, 2]),
    "a new axis": (lambda x, y: x[:, None, 1:, :, None] * 2, lambda x, y: x[:, None, 1:, :, None] * 2),
    "new axes": (lambda x, y: x[..., None] + x[:, 1, None, None], lambda x, y: x[..., None] + x[:, 1, None, None]),
    "take": (lambda x, y: ops.take(x, [2, 0], axis=1), lambda x, y: x[:, [2, 0]]),
    "pad": (lambda x, y: ops.pad(x, ((0, 0), (1, 0), (0, 0))), lambda x, y: np.pad(x, ((0, 0), (1, 0), (0, 0)))),
    "stretched": (lambda x, y: x + ops.mean(y, -1, True), lambda x, y: x + y.mean(-1, keepdims=True)),
    "ranks that differ": (lambda x, y: x + ops.mean(y, axis=(0, 1)), lambda x, y: x + y.mean((0, 1))),
    "of less rank": (lambda x, y: x + ops.ones((4,)), lambda x, y: x + 1),
    "softmax": (lambda x, y: ops.softmax(x, axis=1), lambda x, y: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    "relu": (lambda x, y: ops.relu(x) + ops.sigmoid(y), lambda x, y: np.maximum(x, 0) + 1 / (1 + np.exp(-y))),
    "softplus": (lambda x, y: ops.softplus(x + 0 * y), lambda x, y: np.log1p(np.exp(x))),
    "logsumexp": (lambda x, y: ops.logsumexp(x, axis=-1), lambda x, y: np.log(np.exp(x).sum(-1))),
    "log_softmax": (lambda x, y: ops.log_softmax(x, 1), lambda x, y: x - np.log(np.exp(x).sum(1, keepdims=True))),
    "silu": (lambda x, y: ops.silu(x) * ops.tanh(y), lambda x, y: x / (1 + np.exp(-x)) * np.tanh(y)),
    "activations": (lambda x, y: vivace.activations.relu(x), lambda x, y: np.maximum(x, 0)),
    "tile": (lambda x, y: ops.tile(x, [1, 1, 2]), lambda x, y: np.tile(x, (1, 1, 2))),
    "stop": (lambda x, y: x * ops.stop_gradient(y), lambda x, y: x * y),
    "flip": (lambda x, y: ops.flip(x, axis=1) - ops.flip(y, [-1]), lambda x, y: x[:, ::-1] - y[..., ::-1]),
    "sort": (lambda x, y: ops.sort(x) * ops.sort(y, axis=1), lambda x, y: np.sort(x) * np.sort(y, 1)),
    "diagonal": (lambda x, y: ops.diagonal(x * y, 1, axis1=1, axis2=2), lambda x, y: np.diagonal(x * y, 1, 1, 2)),
    "diagonal below": (lambda x, y: ops.diagonal(x * y, -1, 2, 1), lambda x, y: np.diagonal(x * y, -1, 2, 1)),
    "reflected": (
        lambda x, y: ops.pad(x + y, ((0, 0), (1, 0), (2, 3)), "reflect"),
        lambda x, y: np.pad(x + y, ((0, 0), (1, 0), (2, 3)), "reflect"),
    ),
    **{
        f"norm {ord} of {axis}": (
            lambda x, y, ord=ord, axis=axis: ops.norm(x - y, ord=ord, axis=axis),
            lambda x, y, ord=ord, axis=axis: np.linalg.norm(x - y, ord=ord, axis=axis),
        )
        for ord, axis in (
            (1, 1), (3, -1), (np.inf, 2), (-np.inf, 2), (None, (1, 2)), ("fro", (2, 1)), (1, (1, 2)), (-1, (1, 2)),
            (np.inf, (1, 2)), (-np.inf, (2, 1)), (2, (1, 2)), (-2, (1, 2)), ("nuc", (1, 2)),
        )
    },
    "normalize by 1": (
        lambda x, y: ops.normalize(x, 1, order=1), lambda x, y: x / np.abs(x).sum(1, keepdims=True)
    ),
    "prod": (lambda x, y: ops.prod(x, axis=(2, 1)) * ops.prod(y), lambda x, y: x.prod((1, 2)) * y.prod()),
    "cumsum": (lambda x, y: ops.cumsum(x, axis=1), lambda x, y: x.cumsum(1)),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_values_shapes_gradients_and_configuration(name: str, rng: np.random.Generator) -> None:
    function, by_numpy = TABLE[name]
    given = [rng.normal(size=(5, 3, 4)).astype("float32") for _ in range(2)]
    expected = by_numpy(*given)
    np.testing.assert_allclose(function(*given), expected, rtol=2e-5, atol=1e-6)
    symbols = [L.Input((3, 4)), L.Input((3, 4))]
    made = function(*symbols)
    assert made.shape == (None, *expected.shape[1:])
    model = Model(symbols, [made, *symbols])
    again = model_from_json(model.to_json())
    for one in (model, again, clone_model(model)):
        np.testing.assert_allclose(one.predict(given, verbose=0)[0], expected, rtol=2e-5, atol=1e-6)
    double = [L.Input((3, 4), dtype="float64"), L.Input((3, 4), dtype="float64")]
    if name != "stop":
        check_gradients(Model(double, [function(*double), 2 * double[1]]), [one.astype("float64") for one in given])


def test_models_of_functions_can_be_pickled() -> None:
    x = L.Input((3,))
    again = pickle.loads(pickle.dumps(Model(x, ops.exp(x))))
    np.testing.assert_allclose(again.predict(np.zeros((2, 3)), verbose=0), np.ones((2, 3)))


class Linear(L.Layer):
    def __init__(self, units: int = 32, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: Any) -> None:
        self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer="random_normal", name="w")
        self.b = self.add_weight(shape=(self.units,), initializer="zeros", name="b")

    def call(self, inputs: Any) -> Any:
        return ops.matmul(inputs, self.w) + self.b


class Gated(L.Layer):
    """Weights of its own and layers, arithmetic among weights, a mode of training."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner, self.drop = L.Dense(units, "tanh"), L.Dropout(0.5)
        self.gate = self.add_weight(shape=(units,), initializer="ones", name="gate")
        self.fixed = self.add_weight(shape=(), initializer="ones", trainable=False, name="fixed")

    def call(self, inputs: Any, training: bool = False) -> Any:
        strength = ops.sigmoid(2 * self.gate - 1) * self.fixed + self.gate[0] * 0
        hidden = self.inner(inputs) * strength
        return self.drop(hidden) if training else hidden


def test_weights_of_ones_own_in_a_call(rng: np.random.Generator, tmp_path: Path) -> None:
    x = rng.normal(size=(64, 5)).astype("float32")
    layer = Linear(3)
    y = layer(x)
    np.testing.assert_allclose(y, x @ layer.w.numpy() + layer.b.numpy(), rtol=1e-6)
    assert layer.weights == layer.trainable_weights == [layer.w, layer.b]
    assert [w.path for w in layer.weights] == [f"{layer.name}/w", f"{layer.name}/b"]
    assert layer.call(x).shape == (64, 3)
    dense = Sequential([L.Dense(3)])
    dense.build((None, 5))
    dense.set_weights(layer.get_weights())
    model = Sequential([layer])
    for one in (model, dense):
        one.compile("adam", "mse")
    target = x[:, :3] ** 2
    histories = [one.fit(x, target, epochs=5, shuffle=False, verbose=0).history["loss"] for one in (model, dense)]
    np.testing.assert_allclose(*histories, rtol=1e-5)
    model.save(tmp_path / "linear.safetensors")
    again = load_model(tmp_path / "linear.safetensors", custom_objects={"Linear": Linear})
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    layer.trainable = False
    assert model.trainable_weights == []
    assert len(model.non_trainable_weights) == 2


def test_products_and_sums_with_weights_need_no_autograd(rng: np.random.Generator) -> None:
    model = Sequential([L.Input((3, 5)), Linear(4), Linear(2)])
    model.compile("adam", "mse")
    x, y = rng.normal(size=(8, 3, 5)), rng.normal(size=(8, 3, 2))
    given = sys.modules.pop("autograd", None)
    sys.modules["autograd"] = None  # type: ignore[assignment]   # as if it were not installed
    try:
        losses = model.fit(x, y, epochs=3, verbose=0).history["loss"]
    finally:
        del sys.modules["autograd"]
        if given is not None:
            sys.modules["autograd"] = given
    assert losses[2] < losses[0]


def test_weights_and_layers_in_one_call(rng: np.random.Generator) -> None:
    x = rng.normal(size=(6, 4))
    layer = Gated(3, dtype="float64")
    layer.inner, layer.drop = L.Dense(3, "tanh", dtype="float64"), L.Dropout(0.5, dtype="float64")
    y = layer(x)
    gate = 1 / (1 + np.exp(-(2 * layer.gate.numpy() - 1)))
    np.testing.assert_allclose(y, layer.inner(x) * gate, rtol=1e-12)
    assert [w.name for w in layer.weights] == ["gate", "fixed", "kernel", "bias"]
    assert [w.name for w in layer.trainable_weights] == ["gate", "kernel", "bias"]
    assert (layer(np.ones((50, 4)), training=True) == 0).mean() == pytest.approx(0.5, abs=0.2)
    check_gradients(Linear(3, dtype="float64"), (4, 5))


class Penalized(L.Layer):
    def call(self, inputs: Any) -> Any:
        self.add_loss(0.5 * ops.mean(ops.square(inputs)))
        return 2 * inputs


class Around(L.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Penalized()

    def call(self, inputs: Any) -> Any:
        return self.inner(inputs)


@pytest.mark.parametrize("layer", [Penalized, Around])
def test_add_loss(layer: Any) -> None:
    one = layer()
    assert one.losses == []
    one(np.full((2, 3), 2, "float32"))
    assert one.losses == [2]
    one(np.zeros((2, 3), "float32"))
    assert one.losses == [0]
    x = np.full((4, 3), 2, "float32")
    first = L.Dense(3, use_bias=False, kernel_initializer="identity")
    model = Sequential([first, layer()])
    model.compile("sgd", "mse")
    assert model.evaluate(x, 2 * x, verbose=0) == 2  # nothing but the penalty
    model.compile(vivace.optimizers.SGD(1.0))
    assert model.fit(x, verbose=0).history["loss"] == [2]
    # d mean(h**2) / 2 = h / 12 for each of 12 elements, times x = 2, over 4 samples
    np.testing.assert_allclose(first.get_weights()[0], np.eye(3) - 4 * 2 * 2 / 12, rtol=1e-6)


class Sampling(L.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.seed_generator = vivace.random.SeedGenerator(1337)

    def call(self, inputs: Any) -> Any:
        mean, log_var = inputs
        batch, dim = ops.shape(mean)
        noise = vivace.random.normal(shape=(batch, dim), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_var) * noise


def test_random_numbers_in_a_call() -> None:
    mean, log_var = np.full((4000, 2), 3, "float32"), np.full((4000, 2), 2 * np.log(0.5), "float32")
    layer = Sampling()
    first, second = layer([mean, log_var]), layer([mean, log_var])
    assert first.mean() == pytest.approx(3, abs=0.05)
    assert first.std() == pytest.approx(0.5, abs=0.03)
    assert not np.array_equal(first, second)
    assert np.array_equal(Sampling()([mean, log_var]), Sampling()([mean, log_var]))
    assert vivace.backend.epsilon() == 1e-7
    assert vivace.random.uniform((3,), 2, 4, seed=1).min() >= 2
    np.testing.assert_array_equal(vivace.random.normal((3,), seed=1), vivace.random.normal((3,), seed=1))


class Endpoint(L.Layer):
    """Computes the loss itself, of targets that are an input."""

    def __init__(self, loss: Any, name: str | None = None) -> None:
        super().__init__(name=name)
        self.loss_fn = loss

    def call(self, targets: Any, logits: Any, weights: Any = None) -> Any:
        self.add_loss(self.loss_fn(targets, logits, weights))
        return ops.softmax(logits)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "loss", [vivace.losses.BinaryCrossentropy(from_logits=True), vivace.losses.Huber(reduction="sum")]
)
def test_a_layer_that_computes_the_loss(loss: Any, weighted: bool, rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(12, 3)).astype("float32"), rng.uniform(size=(12, 4)).astype("float32")
    w = rng.uniform(size=12).astype("float32")
    inputs, targets, weights = L.Input((3,), name="x"), L.Input((4,), name="y"), L.Input((), name="w")
    dense, plain = L.Dense(4), L.Dense(4)
    parts = [targets, dense(inputs), *[weights] * weighted]
    model = Model([inputs, targets, *[weights] * weighted], Endpoint(loss)(*parts))
    model.compile("sgd")
    expected = Sequential([plain])
    expected.build((None, 3))
    expected.set_weights(dense.get_weights())
    expected.compile("sgd", loss)
    losses = model.fit(
        {"x": x, "y": y, **({"w": w} if weighted else {})}, epochs=3, batch_size=4, shuffle=False, verbose=0
    )
    others = expected.fit(x, y, sample_weight=w if weighted else None, epochs=3, batch_size=4, shuffle=False, verbose=0)
    np.testing.assert_allclose(losses.history["loss"], others.history["loss"], rtol=1e-5)
    for one, other in zip(dense.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


class Sum(L.Layer):
    """The first layer of Keras's guide that changes a weight of its own."""

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.total = self.add_weight(initializer="zeros", shape=(input_dim,), trainable=False)

    def call(self, inputs: Any) -> Any:
        self.total.assign_add(ops.sum(inputs, axis=0))
        return self.total


class Centred(L.Layer):
    """A moving mean that learns in training only, and counts the batches."""

    def build(self, input_shape: Any) -> None:
        self.mean = self.add_weight(shape=(input_shape[-1],), initializer="zeros", trainable=False)
        self.batches = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.batches.assign_add(1.0)
            self.mean.assign(0.5 * self.mean + 0.5 * ops.mean(x, axis=0))
        return x - self.mean


def test_weights_that_a_call_changes() -> None:
    layer = Sum(2)
    assert [layer(np.ones((2, 2))).tolist() for _ in range(2)] == [[2, 2], [4, 4]]
    assert (layer.trainable_weights, layer.non_trainable_weights) == ([], [layer.total])
    layer.total.assign_sub([1, 2])
    assert layer.total.numpy().tolist() == [3, 2]
    x = np.arange(8.0).reshape(4, 2)
    centred = Centred()
    model = Sequential([centred, L.Dense(1)])
    model.compile("sgd", "mse")
    for _ in range(3):  # also by a plan
        np.testing.assert_array_equal(centred(x), x)
    model.fit(x, np.ones(4), batch_size=2, epochs=1, shuffle=False, verbose=0)
    assert centred.batches.numpy() == 2
    expected = 0.5 * (0.5 * x[:2].mean(0)) + 0.5 * x[2:].mean(0)
    np.testing.assert_allclose(centred.mean.numpy(), expected)
    np.testing.assert_allclose(centred(x), x - expected)
    first = centred(x, training=True)
    np.testing.assert_allclose(first, x - (0.5 * expected + 0.5 * x.mean(0)), rtol=1e-6)


class Halved(L.Layer):
    """Changes the weights of a layer inside before that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = L.Dense(2, kernel_initializer="ones")

    def build(self, input_shape: Any) -> None:
        self.dense.build(input_shape)

    def call(self, x: Any) -> Any:
        self.dense.kernel.assign(self.dense.kernel * 0.5)
        return self.dense(x)


def test_a_weight_is_changed_before_what_comes_behind() -> None:
    layer = Halved()
    assert [float(layer(np.ones((1, 2)))[0, 0]) for _ in range(3)] == [1, 0.5, 0.25]


def test_activations_of_ones_own(rng: np.random.Generator, tmp_path: Path) -> None:
    def cubed(x: Any) -> Any:
        return ops.tanh(x) ** 3

    x = rng.normal(size=(4, 3)).astype("float32")
    with vivace.utils.custom_object_scope({"cubed": cubed}):
        for given in (cubed, "cubed"):
            layers = [L.Dense(2, activation=given), L.Activation(given), L.Dense(1, activation=lambda x: 2 * x)]
            model = Sequential(layers)
            model.compile("sgd", "mse")
            model.fit(x, np.ones(4), verbose=0)
            w, b = layers[0].get_weights()
            np.testing.assert_allclose(layers[0](x), np.tanh(x @ w + b) ** 3, rtol=1e-5, atol=1e-7)
        saved = Sequential([L.Dense(2, activation=cubed)])
        saved.build((None, 3))
        saved.save(tmp_path / "own.safetensors")
        np.testing.assert_array_equal(load_model(tmp_path / "own.safetensors")(x), saved(x))
    with pytest.raises(ValueError, match="the function 'cubed' is not known"):
        load_model(tmp_path / "own.safetensors")
    check_gradients(L.Dense(2, activation=cubed, dtype="float64"), (3,))


def test_a_tensor_without_a_batch_in_front() -> None:
    x = np.arange(12.0, dtype="float32").reshape(3, 4)
    symbol = L.Input((4,))
    stacked = ops.stack([symbol, 2 * symbol], axis=0)
    assert stacked.shape == (2, None, 4)
    np.testing.assert_array_equal(Model(symbol, stacked[1]).predict(x, verbose=0), 2 * x)


class Token(L.Layer):
    """A learned token in front of each sequence, as vision transformers have it."""

    def build(self, input_shape: Any) -> None:
        self.token = self.add_weight(shape=(1, 1, input_shape[-1]), initializer="ones", name="token")

    def call(self, x: Any) -> Any:
        front = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([front, x + ops.zeros(ops.shape(x))], axis=1)


def test_what_depends_on_the_size_of_the_batch() -> None:
    x = np.zeros((3, 2, 4), "float32")
    layer = Token()
    assert layer(x).shape == (3, 3, 4)
    assert layer.output_shape == (None, 3, 4)
    np.testing.assert_array_equal(layer(x)[:, 0], 1)
    check_gradients(Token(dtype="float64"), (2, 4))
    with pytest.raises(ValueError, match="ops.zeros: outside of a `call` the shape must be known"):
        ops.zeros((None, 3))


FREE = (None, 3)  # sequences of any length
# shape of an input, what to compute of it, its shape, and by NumPy
SIZES: dict[str, tuple[Any, Callable[..., Any], Any, Callable[..., Any]]] = {
    "the graph's batch": (
        (3,), lambda x: ops.broadcast_to(ops.mean(x, axis=0, keepdims=True), (ops.shape(x)[0], 3)), (None, 3),
        lambda x: np.broadcast_to(x.mean(0), x.shape),
    ),
    "a number in front": (
        (3,), lambda x: ops.broadcast_to(ops.mean(x), (ops.shape(x)[0], 3)), (None, 3),
        lambda x: np.full(x.shape, x.mean()),
    ),
    "full of a tensor": (
        (3,), lambda x: ops.full((ops.shape(x)[0], 2), ops.mean(x)), (None, 2),
        lambda x: np.full((len(x), 2), x.mean()),
    ),
    "rows to parts": (
        (5, 3), lambda x: ops.reshape(2 * ops.reshape(x, (-1, 3)), (ops.shape(x)[0], 5, 3)), (None, 5, 3),
        lambda x: 2 * x,
    ),
    "the batch and the rest": (
        (4, 3), lambda x: ops.reshape(x, (ops.shape(x)[0], -1, 2)), (None, 6, 2), lambda x: x.reshape(len(x), -1, 2),
    ),
    "two of a shape": (FREE, lambda x: ops.reshape(x + 1, ops.shape(x)), (None, None, 3), lambda x: x + 1),
    "two tensors": (
        FREE, lambda x: ops.reshape(x, (ops.shape(x)[0], 12, 3)) / (x + 3), (None, 12, 3), lambda x: x / (x + 3)
    ),
    "a far step": (FREE, lambda x: ops.take(x, 10, axis=1), (None, 3), lambda x: x[:, 10]),
    "a far step sliced": (FREE, lambda x: x[:, 10], (None, 3), lambda x: x[:, 10]),
    "a far step and parts": (FREE, lambda x: x[..., 10, :2], (None, 2), lambda x: x[:, 10, :2]),
    "with a known size": (
        FREE, lambda x: ops.divide(np.ones((12, 3)), x + 3), (None, 12, 3), lambda x: 1 / (x + 3),
    ),
    "repeated": (
        (3,), lambda x: x + ops.repeat(ops.mean(x, 0, True), ops.shape(x)[0], axis=0), (None, 3),
        lambda x: x + x.mean(0),
    ),
    "as many as samples": ((3,), lambda x: x + ops.zeros(ops.shape(x)[0])[:, None], (None, 3), lambda x: x),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_are_not_known(name: str, rng: np.random.Generator) -> None:
    shape, function, expected, by_numpy = SIZES[name]
    x = rng.uniform(size=(4, *(12 if n is None else n for n in shape))).astype("float32")

    class Own(L.Layer):
        def call(self, inputs: Any) -> Any:
            return function(inputs)

    symbol = L.Input(shape)
    for made in (Own()(symbol), *([] if name == "as many as samples" else [function(symbol)])):
        assert made.shape == expected
        np.testing.assert_allclose(Model(symbol, made).predict(x, verbose=0), by_numpy(x), rtol=1e-5)
    check_gradients(Own(dtype="float64"), x.astype("float64"))


def test_losses_and_metrics_of_ones_own(rng: np.random.Generator) -> None:
    def pinball(y_true: Any, y_pred: Any) -> Any:
        error = y_true - y_pred
        return ops.mean(ops.maximum(0.9 * error, -0.1 * error), axis=-1)

    def mse(y_true: Any, y_pred: Any) -> Any:
        return ops.mean(ops.square(y_true - y_pred), axis=-1)

    class Near(vivace.metrics.Metric):
        def __init__(self, name: str = "near", **kwargs: Any) -> None:
            super().__init__(name=name, **kwargs)
            self.count = self.add_weight(name="count", initializer="zeros")

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            self.count.assign(self.count + ops.sum(ops.cast(ops.abs(y_true - y_pred) < 1e9, "float32")))

        def result(self) -> Any:
            return self.count

    x = rng.normal(size=(64, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    histories = {}
    for loss in (pinball, mse, "mse"):
        vivace.utils.set_random_seed(1)
        model = Sequential([L.Dense(1)])
        model.compile("adam", loss, metrics=[Near(), mse])
        histories[loss] = model.fit(x, y, epochs=3, verbose=0).history
        assert histories[loss]["near"] == [64] * 3
    np.testing.assert_allclose(histories[mse]["loss"], histories["mse"]["loss"], rtol=1e-5)
    np.testing.assert_allclose(histories[mse]["mse"], histories[mse]["loss"], rtol=1e-5)
    assert histories[pinball]["loss"][-1] < histories[pinball]["loss"][0]


@pytest.mark.parametrize(
    ("do", "error", "message"),
    [
        (lambda x: ops.matmul(x, np.ones((5, 2))), ValueError, r"operation.*\(ops.matmul\) of shapes \(None, 4\)"),
        (lambda x: ops.broadcast_to(np.ones((2, 3)), (1, 3)), ValueError, r"\(2, 3\) cannot be stretched to \(1, 3\)"),
        (lambda x: ops.norm(np.ones((2, 3, 4)), ord=2), ValueError, "of 3 axes there is no norm of ord 2"),
        (lambda x: ops.zeros((2, None, 3)), ValueError, r"ops.zeros: .* only the first.* received \(2, None, 3\)"),
        (lambda x: ops.pad(x, ((0, 0), (1, 1)), "mean"), ValueError, "ops.pad: mode must be constant, .* 'mean'"),
        (lambda x: ops.split(x, 3, axis=-1), ValueError, "axis -1 of size 4 does not divide into 3 equal parts"),
        (lambda x: x + "a", TypeError, "can be combined with others, weights, numbers and arrays; received 'a'"),
        (lambda x: vivace.losses.Huber()(ops.exp(x), x), TypeError, "must be inputs of the model, since no gradient"),
        (lambda x: np.exp(x), TypeError, "argument of NumPy's exp; .* functions of vivace.ops, such as ops.exp"),
        (lambda x: vivace.activations.gelu(x, approximate=True), TypeError, "with arguments, a tensor of a graph"),
        (lambda x: Model(x, x * L.Dense(4)(x).node.layer.bias).to_json(), TypeError, "cannot be written down"),
    ],
)  # fmt: skip
def test_bad_input(do: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        do(L.Input((4,)))


class Softmax(L.Layer):
    """Over the steps that count, with the mask that comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        powers = ops.exp(inputs) * ops.cast(mask, "float32")[..., None]
        return powers / ops.sum(powers, axis=1, keepdims=True)


class Halves(L.Layer):
    def call(self, inputs: Any) -> Any:
        return ops.split(inputs, 2, axis=1)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return ops.split(previous_mask, 2, axis=1)


class Inside(L.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm = L.Embedding(9, 4, mask_zero=True), L.LSTM(3)

    def call(self, inputs: Any) -> Any:
        return self.lstm(2 * self.embedding(inputs), mask=self.embedding.compute_mask(inputs))


class Attending(L.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.attention = L.MultiHeadAttention(2, 4)

    def call(self, inputs: Any, mask: Any = None) -> Any:
        return self.attention(query=inputs, value=inputs, attention_mask=ops.cast(mask[:, None, :], "int32"))


class Plain(L.Layer):
    def call(self, x: Any, mask: Any = None) -> Any:
        assert mask is None
        return 2 * x


def test_masks_in_a_call() -> None:
    x = np.array([[3, 4, 5, 0, 0, 0], [1, 2, 3, 4, 5, 0]])
    counts = x != 0
    embedding, lstm = L.Embedding(9, 4, mask_zero=True), L.LSTM(3)
    embedded = embedding(x)
    symbol = L.Input((6,))
    weights = Model(symbol, Softmax()(embedding(symbol))).predict(x, verbose=0)
    assert (weights[~counts] == 0).all()
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    for made in (
        lstm(Softmax()(embedding(symbol))),
        lstm(Softmax()(embedding(symbol)), mask=embedding.compute_mask(symbol)),
    ):
        np.testing.assert_allclose(Model(symbol, made).predict(x, verbose=0), lstm(weights, mask=counts), rtol=1e-5)
    halves = Model(symbol, [lstm(half) for half in Halves()(embedding(symbol))]).predict(x, verbose=0)
    np.testing.assert_allclose(halves[1], lstm(embedded[:, 3:], mask=counts[:, 3:]), rtol=1e-5)
    alone = Softmax()(embedded, mask=counts)  # one on arrays
    np.testing.assert_allclose(alone, weights, rtol=1e-5)
    dense = Sequential([L.Input((4,)), Plain()])
    assert dense(np.ones((2, 4))).shape == (2, 4)  # no steps, no mask
    inside = Inside()
    np.testing.assert_allclose(inside(x), inside.lstm(2 * inside.embedding(x), mask=counts), rtol=1e-6)
    attending = Attending()
    attended = Model(symbol, attending(embedding(symbol))).predict(x, verbose=0)
    expected = attending.attention(embedded, embedded, attention_mask=np.repeat(counts[:, None], 6, 1))
    np.testing.assert_allclose(attended[counts], expected[counts], rtol=1e-5)
    for layer in (Softmax(), Attending()):
        model = Sequential([L.Embedding(9, 4, mask_zero=True), layer])
        model.compile("sgd", "mse")
        assert np.isfinite(model.fit(x, np.ones((2, 6, 4)), verbose=0).history["loss"][0])
