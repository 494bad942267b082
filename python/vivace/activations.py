"""Activation functions on NumPy arrays, and the names under which layers know them.

linear, relu, sigmoid and tanh are fused into the kernels before them; softmax works on the last axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._core import native
from ._naming import lookup
from ._typing import Array

FUSED = ("linear", "relu", "sigmoid", "tanh")


def _floating(x: Any) -> Array:
    x = np.asarray(x)
    return np.ascontiguousarray(x, dtype=x.dtype if x.dtype in (np.float32, np.float64) else np.float32)


def linear(x: Any) -> Array:
    """x itself."""
    return _floating(x)


def relu(x: Any) -> Array:
    """max(x, 0); NaN stays NaN."""
    return _apply("relu", x)


def sigmoid(x: Any) -> Array:
    """1 / (1 + exp(-x))."""
    return _apply("sigmoid", x)


def tanh(x: Any) -> Array:
    """The hyperbolic tangent."""
    return _apply("tanh", x)


def softmax(x: Any) -> Array:
    """exp(x) / sum(exp(x)) over the last axis."""
    x = _floating(x)
    y = np.empty_like(x)
    native.softmax_forward(x, y)
    return y


def _apply(name: Any, x: Any) -> Array:
    x = _floating(x)
    y = np.empty_like(x)
    native.activation_forward(name, x, y)
    return y


_BY_NAME: dict[str, Callable[[Any], Array]] = {
    "linear": linear,
    "relu": relu,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "softmax": softmax,
}


def value(name: str, x: Array) -> Array:
    """The activation of that name."""
    return _BY_NAME[name](x)


def gradient(name: Any, x: Array, y: Array, dy: Array) -> Array:
    """The gradient of the input x from the output y = f(x) and its gradient dy, all C-contiguous and of one shape."""
    dx = np.empty_like(dy)
    if name == "softmax":
        native.softmax_backward(y, dy, dx)
    else:
        native.activation_backward(name, y, dy, dx)
    return dx


def name_of(activation: str | Callable[[Any], Array] | None) -> str:
    """The name of an activation given by name, as one of this module's functions, or as None ("linear")."""
    if activation is None:
        return "linear"
    if callable(activation):
        for name, function in _BY_NAME.items():
            if activation is function:
                return name
        raise ValueError(f"activation must be one of {', '.join(_BY_NAME)} (a name or its function from this module)")
    return lookup("activation", activation, _BY_NAME).__name__
