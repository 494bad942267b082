"""Activation functions on NumPy arrays, their gradients, and the names under which layers know them.

linear, relu, sigmoid and tanh are fused into the kernels before them; softmax has kernels of its own. Every one is a
pair: a function of x, and `<name>_gradient(x, y, dy)`, the gradient of x where y is the function's value and dy the
gradient of y. softmax, log_softmax and sparsemax work along `axis`, the last one.
"""

from __future__ import annotations

import math
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


def _apply(name: Any, x: Any) -> Array:
    x = _floating(x)
    y = np.empty_like(x)
    native.activation_forward(name, x, y)
    return y


def linear(x: Any) -> Array:
    """x itself."""
    return _floating(x)


def linear_gradient(x: Array, y: Array, dy: Array) -> Array:
    return dy


def relu(x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Array:
    """max(x, 0); NaN stays NaN.

    In general: x above the threshold, with max_value cut to [0, max_value]; negative_slope * (x - threshold) below.
    """
    if negative_slope == 0 and max_value is None and threshold == 0:
        return _apply("relu", x)
    x = _floating(x)
    above = x if max_value is None else np.clip(x, 0, x.dtype.type(max_value))
    return np.where(~(x <= threshold), above, negative_slope * (x - threshold)).astype(x.dtype, copy=False)


def relu_gradient(
    x: Array,
    y: Array,
    dy: Array,
    negative_slope: float = 0.0,
    max_value: float | None = None,
    threshold: float = 0.0,
) -> Array:
    above = 1 if max_value is None else (x > 0) & (x < max_value)
    return _times(dy, np.where(x > threshold, above, negative_slope))


def sigmoid(x: Any) -> Array:
    """1 / (1 + exp(-x))."""
    return _apply("sigmoid", x)


def sigmoid_gradient(x: Array, y: Array, dy: Array) -> Array:
    return dy * (y * (1 - y))


def tanh(x: Any) -> Array:
    """The hyperbolic tangent."""
    return _apply("tanh", x)


def tanh_gradient(x: Array, y: Array, dy: Array) -> Array:
    return dy * (1 - y * y)


def softmax(x: Any, axis: int = -1) -> Array:
    """exp(x) / sum(exp(x)) over an axis."""
    x = _floating(x)
    if axis % x.ndim != x.ndim - 1:
        return _along(axis, softmax, x)
    y = np.empty_like(x)
    native.softmax_forward(x, y)
    return y


def softmax_gradient(x: Array, y: Array, dy: Array, axis: int = -1) -> Array:
    return y * (dy - (dy * y).sum(axis, keepdims=True))


def log_softmax(x: Any, axis: int = -1) -> Array:
    """x - log(sum(exp(x))) over an axis."""
    x = _floating(x)
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def log_softmax_gradient(x: Array, y: Array, dy: Array, axis: int = -1) -> Array:
    return dy - np.exp(y) * dy.sum(axis, keepdims=True)


def _along(axis: int, function: Callable[[Array], Array], *arrays: Array) -> Array:
    """A function of last axes along another one."""
    return np.moveaxis(function(*(np.moveaxis(a, axis, -1) for a in arrays)), -1, axis)


def sparsemax(x: Any, axis: int = -1) -> Array:
    """The nearest point to x among the distributions over an axis (Martins & Astudillo 2016)."""
    x = _floating(x)
    if axis % x.ndim != x.ndim - 1:
        return _along(axis, sparsemax, x)
    largest = -np.sort(-x, axis=-1)
    sums, counts = largest.cumsum(-1), np.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    support = np.count_nonzero(1 + counts * largest > sums, axis=-1)[..., None]
    threshold = (np.take_along_axis(sums, support - 1, -1) - 1) / support.astype(x.dtype)
    return np.maximum(x - threshold, 0)


def sparsemax_gradient(x: Array, y: Array, dy: Array, axis: int = -1) -> Array:
    support = y > 0
    mean = (dy * support).sum(axis, keepdims=True) / support.sum(axis, keepdims=True, dtype=dy.dtype)
    return (dy - mean) * support


def relu6(x: Any) -> Array:
    """min(max(x, 0), 6)."""
    return np.clip(_floating(x), 0, 6)


def relu6_gradient(x: Array, y: Array, dy: Array) -> Array:
    return dy * ((x > 0) & (x < 6))


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Array:
    """x where positive, negative_slope * x elsewhere."""
    x = _floating(x)
    return np.where(x > 0, x, x.dtype.type(negative_slope) * x)


def leaky_relu_gradient(x: Array, y: Array, dy: Array, negative_slope: float = 0.2) -> Array:
    return _times(dy, np.where(x > 0, 1, negative_slope))


def elu(x: Any, alpha: float = 1.0) -> Array:
    """x where positive, alpha * (exp(x) - 1) elsewhere (Clevert et al. 2016)."""
    x = _floating(x)
    return np.where(x > 0, x, x.dtype.type(alpha) * np.expm1(np.minimum(x, 0)))


def elu_gradient(x: Array, y: Array, dy: Array, alpha: float = 1.0) -> Array:
    return _times(dy, np.where(x > 0, 1, y + alpha))


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def selu(x: Any) -> Array:
    """1.0507 * elu(x, 1.6733), which keeps mean 0 and variance 1 (Klambauer et al. 2017)."""
    return elu(x, _SELU_ALPHA) * _floating(x).dtype.type(_SELU_SCALE)


def selu_gradient(x: Array, y: Array, dy: Array) -> Array:
    return _times(dy, np.where(x > 0, _SELU_SCALE, y + _SELU_SCALE * _SELU_ALPHA))


def celu(x: Any, alpha: float = 1.0) -> Array:
    """x where positive, alpha * (exp(x / alpha) - 1) elsewhere (Barron 2017)."""
    x = _floating(x)
    return np.where(x > 0, x, x.dtype.type(alpha) * np.expm1(np.minimum(x, 0) / x.dtype.type(alpha)))


def celu_gradient(x: Array, y: Array, dy: Array, alpha: float = 1.0) -> Array:
    return _times(dy, np.where(x > 0, 1, y / alpha + 1))


def _erf(x: Array) -> Array:
    if x.dtype != np.float32:
        return np.vectorize(math.erf, otypes=[float])(x)
    # Abramowitz & Stegun 7.1.26: within 1.5e-7, the precision of float32
    t = 1 / (1 + np.float32(0.3275911) * np.abs(x))
    factors = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    polynomial = np.zeros_like(x)
    for factor in factors:
        polynomial = (polynomial + np.float32(factor)) * t
    return np.copysign(1 - polynomial * np.exp(-x * x), x)


def gelu(x: Any, approximate: bool = False) -> Array:
    """x times the normal distribution function at x (Hendrycks & Gimpel 2016).

    approximate: with tanh(sqrt(2 / pi) * (x + 0.044715 x^3)) in place of the error function.
    """
    x = _floating(x)
    return x * (1 + _gelu_inner(x, approximate)) / 2


def _gelu_inner(x: Array, approximate: bool) -> Array:
    root = x.dtype.type(math.sqrt(2 / math.pi))
    return np.tanh(root * (x + x.dtype.type(0.044715) * x**3)) if approximate else _erf(x / x.dtype.type(math.sqrt(2)))


def gelu_gradient(x: Array, y: Array, dy: Array, approximate: bool = False) -> Array:
    inner = _gelu_inner(x, approximate)
    if approximate:
        slope = (1 - inner * inner) * (math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x))
    else:
        slope = np.exp(-x * x / 2) * math.sqrt(2 / math.pi)
    return _times(dy, (1 + inner + x * slope) / 2)


def silu(x: Any) -> Array:
    """x * sigmoid(x), also known as swish."""
    x = _floating(x)
    return x * sigmoid(x)


def silu_gradient(x: Array, y: Array, dy: Array) -> Array:
    s = sigmoid(x)
    return dy * (s * (1 + x * (1 - s)))


swish, swish_gradient = silu, silu_gradient


def softplus(x: Any) -> Array:
    """log(1 + exp(x))."""
    x = _floating(x)
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def softplus_gradient(x: Array, y: Array, dy: Array) -> Array:
    return dy * sigmoid(x)


def softsign(x: Any) -> Array:
    """x / (1 + |x|)."""
    x = _floating(x)
    return x / (1 + np.abs(x))


def softsign_gradient(x: Array, y: Array, dy: Array) -> Array:
    return dy / np.square(1 + np.abs(x))


def mish(x: Any) -> Array:
    """x * tanh(softplus(x)) (Misra 2019)."""
    x = _floating(x)
    return x * np.tanh(softplus(x))


def mish_gradient(x: Array, y: Array, dy: Array) -> Array:
    t = np.tanh(softplus(x))
    return dy * (t + x * sigmoid(x) * (1 - t * t))


def exponential(x: Any) -> Array:
    """exp(x)."""
    return np.exp(_floating(x))


def exponential_gradient(x: Array, y: Array, dy: Array) -> Array:
    return dy * y


def hard_sigmoid(x: Any) -> Array:
    """x / 6 + 1/2, clipped to [0, 1]."""
    return np.clip(_floating(x) / 6 + 0.5, 0, 1)


def hard_sigmoid_gradient(x: Array, y: Array, dy: Array) -> Array:
    return _times(dy, np.where(np.abs(x) < 3, 1 / 6, 0))


def hard_silu(x: Any) -> Array:
    """x * hard_sigmoid(x), also known as hard swish."""
    x = _floating(x)
    return x * hard_sigmoid(x)


def hard_silu_gradient(x: Array, y: Array, dy: Array) -> Array:
    return _times(dy, np.where(np.abs(x) < 3, x / 3 + 0.5, x >= 3))


hard_swish, hard_swish_gradient = hard_silu, hard_silu_gradient


def hard_tanh(x: Any) -> Array:
    """x clipped to [-1, 1]."""
    return np.clip(_floating(x), -1, 1)


def hard_tanh_gradient(x: Array, y: Array, dy: Array) -> Array:
    return dy * (np.abs(x) < 1)


def log_sigmoid(x: Any) -> Array:
    """log(sigmoid(x))."""
    return -softplus(-_floating(x))


def log_sigmoid_gradient(x: Array, y: Array, dy: Array) -> Array:
    return dy * sigmoid(-x)


def squareplus(x: Any, b: float = 4) -> Array:
    """(x + sqrt(x^2 + b)) / 2 (Barron 2021)."""
    x = _floating(x)
    return (x + np.sqrt(x * x + b)) / 2


def squareplus_gradient(x: Array, y: Array, dy: Array, b: float = 4) -> Array:
    return dy * (1 + x / np.sqrt(x * x + b)) / 2


def soft_shrink(x: Any, threshold: float = 0.5) -> Array:
    """x moved towards 0 by the threshold, and no further than 0."""
    x = _floating(x)
    return x - np.clip(x, -threshold, threshold)


def soft_shrink_gradient(x: Array, y: Array, dy: Array, threshold: float = 0.5) -> Array:
    return dy * (np.abs(x) > threshold)


def hard_shrink(x: Any, threshold: float = 0.5) -> Array:
    """x where |x| exceeds the threshold, 0 elsewhere."""
    x = _floating(x)
    return x * (np.abs(x) > threshold)


def hard_shrink_gradient(x: Array, y: Array, dy: Array, threshold: float = 0.5) -> Array:
    return dy * (np.abs(x) > threshold)


def tanh_shrink(x: Any) -> Array:
    """x - tanh(x)."""
    x = _floating(x)
    return x - np.tanh(x)


def tanh_shrink_gradient(x: Array, y: Array, dy: Array) -> Array:
    return dy * np.square(x - y)


def sparse_plus(x: Any) -> Array:
    """0 up to -1, (x + 1)^2 / 4 between, x from 1 on."""
    x = _floating(x)
    return np.where(x < 1, np.square(np.maximum(x + 1, 0)) / 4, x)


def sparse_plus_gradient(x: Array, y: Array, dy: Array) -> Array:
    return dy * np.clip((x + 1) / 2, 0, 1)


def sparse_sigmoid(x: Any) -> Array:
    """(x + 1) / 2, clipped to [0, 1]."""
    return np.clip((_floating(x) + 1) / 2, 0, 1)


def sparse_sigmoid_gradient(x: Array, y: Array, dy: Array) -> Array:
    return dy * (np.abs(x) < 1) / 2


def threshold(x: Any, threshold: float, default_value: float) -> Array:
    """x where it exceeds the threshold, default_value elsewhere."""
    x = _floating(x)
    return np.where(x > threshold, x, x.dtype.type(default_value))


def threshold_gradient(x: Array, y: Array, dy: Array, threshold: float, default_value: float) -> Array:
    return dy * (x > threshold)


def glu(x: Any, axis: int = -1) -> Array:
    """The first half along `axis` times the sigmoid of the second (Dauphin et al. 2017)."""
    x = _floating(x)
    if x.shape[axis] % 2:
        raise ValueError(f"glu: axis {axis} must have an even size, received shape {x.shape}")
    a, b = np.split(x, 2, axis)
    return a * sigmoid(b)


def glu_gradient(x: Array, y: Array, dy: Array, axis: int = -1) -> Array:
    a, b = np.split(x, 2, axis)
    s = sigmoid(b)
    return np.concatenate([dy * s, dy * a * s * (1 - s)], axis)


def _times(dy: Array, slope: Array) -> Array:
    """Their product in dy's dtype."""
    return np.multiply(dy, slope, dtype=dy.dtype, casting="same_kind")


# What a layer may end in: functions that need no argument and keep the shape.
_NAMES = (
    *FUSED, "softmax", "log_softmax", "sparsemax", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu",
    "swish", "softplus", "softsign", "mish", "exponential", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
    "log_sigmoid", "squareplus", "soft_shrink", "hard_shrink", "tanh_shrink", "sparse_plus", "sparse_sigmoid",
)  # fmt: skip
_BY_NAME: dict[str, Callable[..., Array]] = {name: globals()[name] for name in _NAMES}


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


def pair(name: str) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """The function of that name, and its gradient (x, y, dy) -> dx."""
    function = lookup("activation", name, _BY_NAME)
    return function, globals()[f"{function.__name__}_gradient"]


def get(identifier: str | Callable[..., Array] | None) -> Callable[..., Array]:
    """The function of that name; a function itself; linear for None."""
    return identifier if callable(identifier) else _BY_NAME[name_of(identifier)]


def serialize(activation: str | Callable[..., Array]) -> str:
    """The activation's name."""
    return name_of(activation)


def deserialize(config: str) -> Callable[..., Array]:
    """The function of that name."""
    return get(config)
