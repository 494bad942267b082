"""Functions of vivace.ops on arrays: values, dtypes, names of arguments, and gradients where these are delicate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vivace
from vivace import layers as L
from vivace import ops
from vivace.models import Model, Sequential, load_model

ONE, EVEN = np.ones((2, 3), "float32"), np.full(4, 3.0, "float32")
MATRIX = np.arange(6.0, dtype="float32").reshape(2, 3)
F, I32 = np.float32, np.int32

# what functions make of arrays, and what is expected: value, shape and dtype
ON_ARRAYS: dict[str, tuple[Callable[[], Any], Any]] = {
    "sigmoid far below": (lambda: ops.sigmoid(F([-20, -80, 0, 90])), F([np.exp(-20), np.exp(-80), 0.5, 1])),
    "silu far below": (lambda: ops.silu(F([-20, 90])), F([-20 * np.exp(-20), 90])),
    "binary by name": (lambda: ops.add(x1=F([1]), x2=F([2])), F([3])),
    "unary by name": (lambda: ops.exp(x=F([0])), F([1])),
    "matmul by name": (lambda: ops.matmul(x1=ONE, x2=ONE.T), np.full((2, 2), 3, "float32")),
    "where by name": (lambda: ops.where(ONE > 0, x1=ONE, x2=2 * ONE), ONE),
    "cumsum by name": (lambda: ops.cumsum(x=F([1, 2]), axis=0, dtype="int32"), I32([1, 3])),
    "expand_dims of several": (lambda: ops.expand_dims(ONE, (-1, -2)), ONE[..., None, None]),
    "spectral norm": (lambda: ops.norm(MATRIX, ord=2), F(np.linalg.norm(MATRIX, 2))),
    "norm kept": (lambda: ops.norm(MATRIX, ord=1, axis=(0, 1), keepdims=True), F([[7]])),
    "relu of NaN": (lambda: ops.relu(F([np.nan, -np.inf, np.inf, -1])), F([np.nan, 0, np.inf, 0])),
    "relu of integers": (lambda: ops.relu(I32([-1, 2])), I32([0, 2])),
    "std of equals": (lambda: ops.std(EVEN), F(0)),
    "product of none": (lambda: ops.prod(F([])), F(1)),
    "sigmoid of a list": (lambda: ops.sigmoid([0.0, 0.0]), F([0.5, 0.5])),
    "leaky_relu of a list": (lambda: ops.leaky_relu([1.0, -1.0]), F([1, -0.2])),
    "reciprocal of a list": (lambda: ops.reciprocal([2, 4]), F([0.5, 0.25])),
    "take of a list": (lambda: ops.take([1.0, 2.0], [1], axis=0), F([2])),
    "dropout of a list": (lambda: vivace.random.dropout([1.0, 2.0], 0.0), F([1, 2])),
    "exp of a list": (lambda: ops.exp([0.0]), F([1])),
    "sqrt of integers": (lambda: ops.sqrt(I32([4])), F([2])),
    "integers divided": (lambda: ops.divide(I32([1]), I32([2])), F([0.5])),
    "integers by a number": (lambda: ops.divide(I32([1]), 2), F([0.5])),
    "integers and a fraction": (lambda: ops.add(I32([1]), 0.5), F([1.5])),
    "integers and fractions": (lambda: ops.multiply(I32([3]), F([0.5])), F([1.5])),
    "absolute of integers": (lambda: ops.absolute(I32([-3])), I32([3])),
}  # fmt: skip


@pytest.mark.parametrize("name", ON_ARRAYS)
def test_of_arrays(name: str) -> None:
    compute, expected = ON_ARRAYS[name]
    made = np.asarray(compute())
    assert (made.dtype, made.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(made, expected, rtol=1e-6)


# gradients of a sum at points where there is none, or where a formula that divides has none
CORNERS: dict[str, tuple[Callable[..., Any], Any, Any]] = {
    "product with a zero": (ops.prod, [0, 2, 3], [6, 0, 0]),
    "product with two zeros": (ops.prod, [0, 2, 0], [0, 0, 0]),
    "relu at 0": (lambda x: ops.relu(2 * x - x), [0, 1, -1], [0, 1, 0]),
    "relu": (ops.relu, [0, 1, -1], [0, 1, 0]),
    "std of equals": (ops.std, [3, 3, 3], [0, 0, 0]),
    "norm of zeros": (ops.norm, [0, 0, 0], [0, 0, 0]),
    "sigmoid far below": (ops.sigmoid, [-40, 0, 40], [np.exp(-40.0), 0.25, np.exp(-40.0)]),
}


@pytest.mark.parametrize("name", CORNERS)
def test_gradients_in_corners(name: str) -> None:
    from autograd import grad

    function, x, expected = CORNERS[name]
    np.testing.assert_allclose(grad(lambda x: ops.sum(function(x)))(np.float64(x)), expected, rtol=1e-9, atol=1e-25)


ACTIVATIONS = (
    "relu", "leaky_relu", "elu", "sigmoid", "softplus", "silu", "softmax", "log_softmax", "tanh", "exp", "gelu",
    "square", "swish",
)  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_as_activations(name: str, rng: np.random.Generator, tmp_path: Path) -> None:
    x, function = rng.normal(size=(4, 3)).astype("float32"), getattr(ops, name)
    model = Sequential([L.Dense(2, activation=function), L.Activation(function)])
    model.build((None, 3))
    w, b = model.get_weights()
    np.testing.assert_allclose(model(x), function(function(x @ w + b)), rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again(x), model(x))
    assert isinstance(again.layers[0].activation, str) == (name not in ("gelu", "square"))


@pytest.mark.parametrize(
    "key", [(..., slice(None, 2)), (slice(None), np.int64(1)), [..., slice(None, None, 2), [0, 2]]]
)
def test_items_are_saved(key: Any, rng: np.random.Generator, tmp_path: Path) -> None:
    x, symbol = rng.normal(size=(4, 3, 3)).astype("float32"), L.Input((3, 3))
    model = Model(symbol, ops.get_item(symbol, key))
    model.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(load_model(tmp_path / "model.safetensors").predict(x, verbose=0), x[tuple(key)])


def test_what_the_module_shows() -> None:
    assert {"add", "relu", "shape", "norm", "arange", "nn"} <= set(dir(ops))
    assert not {"Op", "applied", "np", "sys", "generator", "as_array", "random_normal"} & set(dir(ops))
    assert all(callable(getattr(ops, name)) for name in dir(ops) if name not in ("nn", "numpy"))
