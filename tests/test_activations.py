"""Activation functions: values by plain formulas, gradients by finite differences, layers that end in them."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from helpers import numeric_gradient
from vivace import activations
from vivace.layers import Activation, Conv2D, Dense
from vivace.step import Step

X = np.random.default_rng(3).standard_normal((6, 8)) * 2.5
X[np.abs(np.abs(X) - 1) < 0.01] += 0.05  # off the edges


def sg(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def cdf(x: Any) -> Any:
    return np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.ravel()]).reshape(x.shape)


CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("linear", {}, lambda x: x),
    ("relu", {}, lambda x: np.maximum(x, 0)),
    ("relu", {"negative_slope": 0.1, "max_value": 2.0, "threshold": 0.5},
     lambda x: np.minimum(np.where(x >= 0.5, x, 0.1 * (x - 0.5)), 2)),
    ("sigmoid", {}, sg),
    ("tanh", {}, np.tanh),
    ("softmax", {}, lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    ("log_softmax", {}, lambda x: np.log(np.exp(x) / np.exp(x).sum(-1, keepdims=True))),
    ("relu6", {}, lambda x: np.minimum(np.maximum(x, 0), 6)),
    ("leaky_relu", {}, lambda x: np.where(x > 0, x, 0.2 * x)),
    ("leaky_relu", {"negative_slope": 0.01}, lambda x: np.where(x > 0, x, 0.01 * x)),
    ("elu", {"alpha": 0.7}, lambda x: np.where(x > 0, x, 0.7 * (np.exp(x) - 1))),
    ("selu", {}, lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1))),
    ("celu", {"alpha": 0.7}, lambda x: np.where(x > 0, x, 0.7 * (np.exp(x / 0.7) - 1))),
    ("gelu", {}, lambda x: x * cdf(x)),
    ("gelu", {"approximate": True}, lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))),
    ("silu", {}, lambda x: x * sg(x)),
    ("swish", {}, lambda x: x * sg(x)),
    ("softplus", {}, lambda x: np.log(1 + np.exp(x))),
    ("softsign", {}, lambda x: x / (1 + abs(x))),
    ("mish", {}, lambda x: x * np.tanh(np.log(1 + np.exp(x)))),
    ("exponential", {}, np.exp),
    ("hard_sigmoid", {}, lambda x: np.clip((x + 3) / 6, 0, 1)),
    ("hard_silu", {}, lambda x: x * np.clip((x + 3) / 6, 0, 1)),
    ("hard_tanh", {}, lambda x: np.clip(x, -1, 1)),
    ("log_sigmoid", {}, lambda x: np.log(sg(x))),
    ("squareplus", {"b": 2.0}, lambda x: (x + np.sqrt(x * x + 2)) / 2),
    ("soft_shrink", {}, lambda x: np.sign(x) * np.maximum(abs(x) - 0.5, 0)),
    ("hard_shrink", {"threshold": 0.7}, lambda x: np.where(abs(x) > 0.7, x, 0)),
    ("tanh_shrink", {}, lambda x: x - np.tanh(x)),
    ("threshold", {"threshold": 0.3, "default_value": -2.0}, lambda x: np.where(x > 0.3, x, -2.0)),
    ("sparse_plus", {}, lambda x: np.where(x <= -1, 0, np.where(x < 1, (x + 1) ** 2 / 4, x))),
    ("sparse_sigmoid", {}, lambda x: np.clip((x + 1) / 2, 0, 1)),
    ("glu", {}, lambda x: x[:, :4] * sg(x[:, 4:])),
]  # fmt: skip


def check_gradient(name: str, options: dict[str, Any]) -> None:
    function, gradient = getattr(activations, name), getattr(activations, f"{name}_gradient")
    x = X.copy()
    dy = np.random.default_rng(4).standard_normal(function(x, **options).shape)
    expected = numeric_gradient(lambda: float((function(x, **options) * dy).sum()), x)
    np.testing.assert_allclose(gradient(x, function(x, **options), dy, **options), expected, 1e-5, 1e-7)
    single = gradient(x.astype("f4"), function(x.astype("f4"), **options), dy.astype("f4"), **options)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, 1e-3, 1e-4)


@pytest.mark.parametrize(("name", "options", "formula"), CASES)
def test_value_and_gradient(
    core: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any], formula: Any
) -> None:
    monkeypatch.setattr(activations, "native", core)
    function = getattr(activations, name)
    np.testing.assert_allclose(function(X, **options), formula(X), 1e-7, 1e-9)
    single = function(X.astype("f4"), **options)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, formula(X), 1e-4, 1e-6)
    check_gradient(name, options)


def test_sparsemax_is_the_nearest_distribution() -> None:
    np.testing.assert_allclose(activations.sparsemax([[1.0, 2.0, 3.0], [0.1, 0.2, 0.0]]),
                               [[0, 0, 1], [1 / 3, 1 / 3 + 0.1, 1 / 3 - 0.1]], 1e-5)  # fmt: skip
    y = activations.sparsemax(X)
    np.testing.assert_allclose(y.sum(-1), 1)
    threshold = np.where(y > 0, X - y, np.inf).min(-1, keepdims=True)
    assert (np.where(y > 0, 0, X) <= np.maximum(threshold, 0) + 1e-12).all()
    check_gradient("sparsemax", {})


@pytest.mark.parametrize("name", sorted(activations._BY_NAME))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_go_where_they_are_wanted(name: str, dtype: str) -> None:
    x = np.ascontiguousarray(X, dtype)
    dy = np.cos(x)
    function, gradient = activations.pair(name)
    y, dx = function(x), gradient(x, function(x), dy)
    out = np.full_like(x, 9)
    assert function(x, out=out) is out
    np.testing.assert_array_equal(out, y)
    assert gradient(x, y, dy, out=dy) is dy
    np.testing.assert_array_equal(dy, dx)
    across = np.asfortranarray(X.astype(dtype))  # other strides are copied
    np.testing.assert_array_equal(function(across), y)
    np.testing.assert_array_equal(gradient(across, y, np.cos(across)), dx)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sparsemax"])
def test_other_axes(name: str) -> None:
    function, gradient = activations.pair(name)
    x, dy, out = X.reshape(2, 3, 8), np.cos(X).reshape(2, 3, 8), np.empty((2, 3, 8))
    last = [np.moveaxis(a, 1, -1).copy() for a in (x, dy)]
    y = function(x, 1)
    np.testing.assert_array_equal(y, np.moveaxis(function(last[0]), -1, 1))
    np.testing.assert_array_equal(function(x, 1, out=out), y)
    expected = gradient(last[0], function(last[0]), last[1])
    np.testing.assert_allclose(gradient(x, y, dy, 1), np.moveaxis(expected, -1, 1), rtol=1e-12)


@pytest.mark.parametrize("name", sorted(activations._BY_NAME))
def test_no_overflow(name: str) -> None:
    x = np.array([[-1e4, -100.0, 0.0, 80.0]], np.float32)
    function, gradient = activations.pair(name)
    assert np.isfinite(function(x)).all()
    assert np.isfinite(gradient(x, function(x), np.ones_like(x))).all()


@pytest.mark.parametrize("name", sorted(activations._BY_NAME))
@pytest.mark.parametrize("make", [
    lambda name: (Activation(name, dtype="float64"), (5, 4)),
    lambda name: (Dense(3, name, dtype="float64"), (5, 4)),
    lambda name: (Conv2D(3, 2, activation=name, dtype="float64"), (2, 4, 4, 2)),
])  # fmt: skip
def test_layers_end_in_any_of_them(name: str, make: Any, rng: np.random.Generator) -> None:
    layer, shape = make(name)
    layer.build_once((None, *shape[1:]))
    x = rng.standard_normal(shape)
    y, _ = layer.forward(x, Step(True))
    dy = rng.standard_normal(y.shape)
    expected = numeric_gradient(lambda: float((layer.forward(x, Step(True))[0] * dy).sum()), x)
    saved = layer.forward(x, Step(True))[1]
    np.testing.assert_allclose(layer.backward(dy.copy(), saved, Step(True)), expected, 1e-4, 1e-6)


def test_names() -> None:
    assert activations.name_of(activations.gelu) == "gelu"
    assert activations.name_of("HardSigmoid") == "hard_sigmoid"
    assert activations.get(None) is activations.linear
    with pytest.raises(ValueError, match="unknown activation 'glue'"):
        activations.name_of("glue")
    with pytest.raises(ValueError, match="must have an even size"):
        activations.glu(np.ones((2, 3)))


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sparsemax"])
def test_an_axis_that_is_not_there_is_refused(name: str) -> None:
    for x, axis in ((np.ones(()), -1), (np.ones((2, 3)), 2), (np.ones((2, 3)), -3)):
        with pytest.raises(ValueError, match=f"rank {x.ndim} has no axis {axis}"):
            getattr(activations, name)(x, axis=axis)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sparsemax"])
def test_the_input_stays_as_it_is_along_every_axis(name: str) -> None:
    for shape in ((3, 1), (1, 3), (2, 3, 1)):
        x = np.arange(math.prod(shape), dtype="float64").reshape(shape)
        before = x.copy()
        for axis in range(x.ndim):
            getattr(activations, name)(x, axis=axis)
            np.testing.assert_array_equal(x, before)
