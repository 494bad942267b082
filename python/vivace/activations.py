"""Activation functions on NumPy arrays, their gradients, and the names under which layers know them.

linear, relu, sigmoid and tanh are fused into the kernels before them; the others have kernels of their own, except
sparsemax, which sorts. Every one is a pair: a function of x, and `<name>_gradient(x, y, dy)`, the gradient of x where y
is the function's value and dy the gradient of y. softmax, log_softmax and sparsemax work along `axis`, the last one.

What a layer may end in also takes `out`, as NumPy's functions do: an array for the result (of a gradient: dy will do);
by default a new one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from functools import cache, wraps
from typing import Any

import numpy as np

from ._core import native
from ._naming import custom_objects, lookup
from ._typing import Array

FUSED = ("linear", "relu", "sigmoid", "tanh")


def _floating(x: Any) -> Array:
    """x itself if a kernel can read it; a dense floating-point copy otherwise."""
    if type(x) is np.ndarray and x.dtype.char in "fd" and x.flags.c_contiguous:
        return x
    x = np.asarray(x) if hasattr(x, "dtype") else np.asarray(x, np.float32)
    return np.asarray(x, x.dtype if x.dtype in (np.float32, np.float64) else np.float32, order="C")


def _fused(name: Any, x: Any, out: Array | None) -> Array:
    x = _floating(x)
    y = np.empty_like(x) if out is None else out
    native.activation_forward(name, x, y)
    return y


def _fused_gradient(name: Any, y: Array, dy: Array, out: Array | None) -> Array:
    y, dy = np.ascontiguousarray(y, dy.dtype), np.ascontiguousarray(dy)
    dx = np.empty_like(dy) if out is None else out
    native.activation_backward(name, y, dy, dx)
    return dx


# What has kernels of its own: from the arguments of a function here, the kernels' name of it and their parameters.
_FORMS: dict[str, Callable[..., tuple[Any, float, float, float]]] = {
    "relu": lambda slope, limit, threshold: ("leaky_relu", slope, math.inf if limit is None else limit, threshold),
    "relu6": lambda: ("leaky_relu", 0, 6, 0),
    "leaky_relu": lambda slope=0.2: ("leaky_relu", slope, math.inf, 0),
    "elu": lambda alpha=1: ("elu", alpha, 1, 1),
    "selu": lambda: ("elu", 1.6732632423543772, 1.0507009873554805, 1),  # alpha, scale
    "celu": lambda alpha=1: ("elu", alpha, 1, 1 / alpha),
    "gelu": lambda approximate=False: ("gelu_tanh" if approximate else "gelu", 0, 0, 0),
    "silu": lambda: ("silu", 0, 0, 0),
    "softplus": lambda: ("softplus", 1, 0, 0),
    "softsign": lambda: ("softsign", 0, 0, 0),
    "mish": lambda: ("mish", 0, 0, 0),
    "exponential": lambda: ("exponential", 0, 0, 0),
    "hard_sigmoid": lambda: ("clip", 1 / 6, 0.5, 0),
    "hard_silu": lambda: ("hard_silu", 0, 0, 0),
    "hard_tanh": lambda: ("clip", 1, 0, -1),
    "log_sigmoid": lambda: ("softplus", -1, 0, 0),
    "squareplus": lambda b=4: ("squareplus", b, 0, 0),
    "soft_shrink": lambda threshold=0.5: ("soft_shrink", threshold, 0, 0),
    "hard_shrink": lambda threshold=0.5: ("hard_shrink", threshold, 0, 0),
    "tanh_shrink": lambda: ("tanh_shrink", 0, 0, 0),
    "sparse_plus": lambda: ("sparse_plus", 0, 0, 0),
    "sparse_sigmoid": lambda: ("clip", 0.5, 0.5, 0),
    "threshold": lambda threshold, default_value: ("threshold", threshold, default_value, 0),
}


@cache
def native_form(activation: str) -> Any:
    """An activation by name, as the kernels take it that compute it inside: the name of one that all fuse, or a
    function's and its three parameters; None if they cannot.
    """
    return activation if activation in FUSED else _FORMS[activation]() if activation in _FORMS else None


def _apply(name: str, x: Any, out: Array | None, *arguments: Any) -> Array:
    function, a, b, c = _FORMS[name](*arguments)
    if out is None:
        x = _floating(x)
        out = np.empty_like(x)
    try:
        native.function_forward(function, x, out, a, b, c)
    except TypeError:  # a list, say, or a view: looking at x first takes longer than the call
        native.function_forward(function, _floating(x), out, a, b, c)
    return out


def _gradient(name: str, x: Array, y: Array, dy: Array, out: Array | None, *arguments: Any) -> Array:
    x, y, dy = np.ascontiguousarray(x, dy.dtype), np.ascontiguousarray(y, dy.dtype), np.ascontiguousarray(dy)
    dx = np.empty_like(dy) if out is None else out
    function, a, b, c = _FORMS[name](*arguments)
    native.function_backward(function, x, y, dy, dx, a, b, c)
    return dx


def _over(axis: int, rows: Callable[..., None], out: Array | None, *arrays: Array) -> Array:
    """What rows(*arrays, result) makes of the last axes, along any axis."""
    rank = arrays[0].ndim
    if not -rank <= axis < rank:
        raise ValueError(f"softmax and its like: an array of rank {rank} has no axis {axis}")
    if axis % rank == rank - 1:
        result = np.empty_like(arrays[0]) if out is None else out
        rows(*arrays, result)
        return result
    moved = [np.ascontiguousarray(np.moveaxis(a, axis, -1)) for a in arrays]
    along = np.empty_like(moved[-1])  # where an axis has size 1, what was moved is no copy but the caller's
    rows(*moved, along)
    result = np.ascontiguousarray(np.moveaxis(along, -1, axis))
    if out is None:
        return result
    np.copyto(out, result)
    return out


def linear(x: Any, *, out: Array | None = None) -> Array:
    """x itself."""
    return _floating(x) if out is None else _fused("linear", x, out)


def linear_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Array:
    return dy if out is None else _fused_gradient("linear", y, dy, out)


def relu(
    x: Any,
    negative_slope: float = 0.0,
    max_value: float | None = None,
    threshold: float = 0.0,
    *,
    out: Array | None = None,
) -> Array:
    """max(x, 0); NaN stays NaN.

    In general: x above the threshold, with max_value cut to [0, max_value]; negative_slope * (x - threshold) below.
    """
    if negative_slope == 0 and max_value is None and threshold == 0:
        return _fused("relu", x, out)
    return _apply("relu", x, out, negative_slope, max_value, threshold)


def relu_gradient(
    x: Array,
    y: Array,
    dy: Array,
    negative_slope: float = 0.0,
    max_value: float | None = None,
    threshold: float = 0.0,
    *,
    out: Array | None = None,
) -> Array:
    if negative_slope == 0 and max_value is None and threshold == 0:
        return _fused_gradient("relu", y, dy, out)
    return _gradient("relu", x, y, dy, out, negative_slope, max_value, threshold)


def sigmoid(x: Any, *, out: Array | None = None) -> Array:
    """1 / (1 + exp(-x))."""
    return _fused("sigmoid", x, out)


def sigmoid_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Array:
    return _fused_gradient("sigmoid", y, dy, out)


def tanh(x: Any, *, out: Array | None = None) -> Array:
    """The hyperbolic tangent."""
    return _fused("tanh", x, out)


def tanh_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Array:
    return _fused_gradient("tanh", y, dy, out)


def softmax(x: Any, axis: int = -1, *, out: Array | None = None) -> Array:
    """exp(x) / sum(exp(x)) over an axis."""
    return _over(axis, native.softmax_forward, out, _floating(x))


def softmax_gradient(x: Array, y: Array, dy: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    return _over(axis, native.softmax_backward, out, np.ascontiguousarray(y, dy.dtype), np.ascontiguousarray(dy))


def log_softmax(x: Any, axis: int = -1, *, out: Array | None = None) -> Array:
    """x - log(sum(exp(x))) over an axis."""
    return _over(axis, native.log_softmax_forward, out, _floating(x))


def log_softmax_gradient(x: Array, y: Array, dy: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    return _over(axis, native.log_softmax_backward, out, np.ascontiguousarray(y, dy.dtype), np.ascontiguousarray(dy))


def sparsemax(x: Any, axis: int = -1, *, out: Array | None = None) -> Array:
    """The nearest point to x among the distributions over an axis (Martins & Astudillo 2016)."""
    return _over(axis, _sparsemax_rows, out, _floating(x))


def _sparsemax_rows(x: Array, y: Array) -> None:
    largest = -np.sort(-x, axis=-1)
    sums, counts = largest.cumsum(-1), np.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    support = np.count_nonzero(1 + counts * largest > sums, axis=-1)[..., None]
    threshold = (np.take_along_axis(sums, support - 1, -1) - 1) / support.astype(x.dtype)
    np.maximum(x - threshold, 0, out=y)


def sparsemax_gradient(x: Array, y: Array, dy: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    support = y > 0
    mean = (dy * support).sum(axis, keepdims=True) / support.sum(axis, keepdims=True, dtype=dy.dtype)
    return np.multiply(dy - mean, support, out=out)


def relu6(x: Any, *, out: Array | None = None) -> Array:
    """min(max(x, 0), 6)."""
    return _apply("relu6", x, out)


def relu6_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Array:
    return _gradient("relu6", x, y, dy, out)


def leaky_relu(x: Any, negative_slope: float = 0.2, *, out: Array | None = None) -> Array:
    """x where positive, negative_slope * x elsewhere."""
    return _apply("leaky_relu", x, out, negative_slope)


def leaky_relu_gradient(
    x: Array, y: Array, dy: Array, negative_slope: float = 0.2, *, out: Array | None = None
) -> Array:
    return _gradient("leaky_relu", x, y, dy, out, negative_slope)


def elu(x: Any, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    """x where positive, alpha * (exp(x) - 1) elsewhere (Clevert et al. 2016)."""
    return _apply("elu", x, out, alpha)


def elu_gradient(x: Array, y: Array, dy: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    return _gradient("elu", x, y, dy, out, alpha)


def selu(x: Any, *, out: Array | None = None) -> Array:
    """1.0507 * elu(x, 1.6733), which keeps mean 0 and variance 1 (Klambauer et al. 2017)."""
    return _apply("selu", x, out)


def selu_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Array:
    return _gradient("selu", x, y, dy, out)


def celu(x: Any, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    """x where positive, alpha * (exp(x / alpha) - 1) elsewhere (Barron 2017)."""
    return _apply("celu", x, out, alpha)


def celu_gradient(x: Array, y: Array, dy: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    return _gradient("celu", x, y, dy, out, alpha)


def gelu(x: Any, approximate: bool = False, *, out: Array | None = None) -> Array:
    """x times the normal distribution function at x (Hendrycks & Gimpel 2016).

    approximate: with tanh(sqrt(2 / pi) * (x + 0.044715 x^3)) in place of the error function.
    """
    return _apply("gelu", x, out, approximate)


def gelu_gradient(x: Array, y: Array, dy: Array, approximate: bool = False, *, out: Array | None = None) -> Array:
    return _gradient("gelu", x, y, dy, out, approximate)


def silu(x: Any, *, out: Array | None = None) -> Array:
    """x * sigmoid(x), also known as swish."""
    return _apply("silu", x, out)


def silu_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Array:
    return _gradient("silu", x, y, dy, out)


swish, swish_gradient = silu, silu_gradient


def softplus(x: Any, *, out: Array | None = None) -> Array:
    """log(1 + exp(x))."""
    return _apply("softplus", x, out)


def softplus_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Array:
    return _gradient("softplus", x, y, dy, out)


def softsign(x: Any, *, out: Array | None = None) -> Array:
    """x / (1 + |x|)."""
    return _apply("softsign", x, out)


def softsign_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Array:
    return _gradient("softsign", x, y, dy, out)


def mish(x: Any, *, out: Array | None = None) -> Array:
    """x * tanh(softplus(x)) (Misra 2019)."""
    return _apply("mish", x, out)


def mish_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Array:
    return _gradient("mish", x, y, dy, out)


def exponential(x: Any, *, out: Array | None = None) -> Array:
    """exp(x)."""
    return _apply("exponential", x, out)


def exponential_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Array:
    return _gradient("exponential", x, y, dy, out)


def hard_sigmoid(x: Any, *, out: Array | None = None) -> Array:
    """x / 6 + 1/2, clipped to [0, 1]."""
    return _apply("hard_sigmoid", x, out)


def hard_sigmoid_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Array:
    return _gradient("hard_sigmoid", x, y, dy, out)


def hard_silu(x: Any, *, out: Array | None = None) -> Array:
    """x * hard_sigmoid(x), also known as hard swish."""
    return _apply("hard_silu", x, out)


def hard_silu_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Array:
    return _gradient("hard_silu", x, y, dy, out)


hard_swish, hard_swish_gradient = hard_silu, hard_silu_gradient


def hard_tanh(x: Any, *, out: Array | None = None) -> Array:
    """x clipped to [-1, 1]."""
    return _apply("hard_tanh", x, out)


def hard_tanh_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Array:
    return _gradient("hard_tanh", x, y, dy, out)


def log_sigmoid(x: Any, *, out: Array | None = None) -> Array:
    """log(sigmoid(x))."""
    return _apply("log_sigmoid", x, out)


def log_sigmoid_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Array:
    return _gradient("log_sigmoid", x, y, dy, out)


def squareplus(x: Any, b: float = 4, *, out: Array | None = None) -> Array:
    """(x + sqrt(x^2 + b)) / 2 (Barron 2021)."""
    return _apply("squareplus", x, out, b)


def squareplus_gradient(x: Array, y: Array, dy: Array, b: float = 4, *, out: Array | None = None) -> Array:
    return _gradient("squareplus", x, y, dy, out, b)


def soft_shrink(x: Any, threshold: float = 0.5, *, out: Array | None = None) -> Array:
    """x moved towards 0 by the threshold, and no further than 0."""
    return _apply("soft_shrink", x, out, threshold)


def soft_shrink_gradient(x: Array, y: Array, dy: Array, threshold: float = 0.5, *, out: Array | None = None) -> Array:
    return _gradient("soft_shrink", x, y, dy, out, threshold)


def hard_shrink(x: Any, threshold: float = 0.5, *, out: Array | None = None) -> Array:
    """x where |x| exceeds the threshold, 0 elsewhere."""
    return _apply("hard_shrink", x, out, threshold)


def hard_shrink_gradient(x: Array, y: Array, dy: Array, threshold: float = 0.5, *, out: Array | None = None) -> Array:
    return _gradient("hard_shrink", x, y, dy, out, threshold)


def tanh_shrink(x: Any, *, out: Array | None = None) -> Array:
    """x - tanh(x)."""
    return _apply("tanh_shrink", x, out)


def tanh_shrink_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Array:
    return _gradient("tanh_shrink", x, y, dy, out)


def sparse_plus(x: Any, *, out: Array | None = None) -> Array:
    """0 up to -1, (x + 1)^2 / 4 between, x from 1 on."""
    return _apply("sparse_plus", x, out)


def sparse_plus_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Array:
    return _gradient("sparse_plus", x, y, dy, out)


def sparse_sigmoid(x: Any, *, out: Array | None = None) -> Array:
    """(x + 1) / 2, clipped to [0, 1]."""
    return _apply("sparse_sigmoid", x, out)


def sparse_sigmoid_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Array:
    return _gradient("sparse_sigmoid", x, y, dy, out)


def threshold(x: Any, threshold: float, default_value: float, *, out: Array | None = None) -> Array:
    """x where it exceeds the threshold, default_value elsewhere."""
    return _apply("threshold", x, out, threshold, default_value)


def threshold_gradient(
    x: Array, y: Array, dy: Array, threshold: float, default_value: float, *, out: Array | None = None
) -> Array:
    return _gradient("threshold", x, y, dy, out, threshold, default_value)


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


# What a layer may end in: functions that need no argument and keep the shape.
_NAMES = (
    *FUSED, "softmax", "log_softmax", "sparsemax", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu",
    "swish", "softplus", "softsign", "mish", "exponential", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
    "log_sigmoid", "squareplus", "soft_shrink", "hard_shrink", "tanh_shrink", "sparse_plus", "sparse_sigmoid",
)  # fmt: skip
_OF_ARRAYS: dict[str, Callable[..., Array]] = {name: globals()[name] for name in _NAMES}


@cache
def _of_graphs_too(function: Callable[..., Array]) -> Callable[..., Array]:
    """The function, which given a tensor of a graph adds a layer to that."""

    @wraps(function)
    def activation(x: Any, *args: Any, **kwargs: Any) -> Any:
        if hasattr(x, "activated"):
            return x.activated(function.__name__, *args, **kwargs)
        return function(x, *args, **kwargs)

    return activation


_BY_NAME = {name: _of_graphs_too(function) for name, function in _OF_ARRAYS.items()}
globals().update(_BY_NAME)


# Functions of `vivace.ops` that are one of these, by the names they have here.
_OF_OPS = {name: name for name in (
    "relu", "leaky_relu", "elu", "sigmoid", "softplus", "silu", "softmax", "log_softmax", "tanh",
)} | {"exp": "exponential"}  # fmt: skip


def _name_by_ops(activation: Any) -> str | None:
    """The name here of a function of `vivace.ops`, if it has one."""
    ops, name = sys.modules.get(f"{__package__}.ops"), getattr(activation, "__name__", "")
    return _OF_OPS[name] if name in _OF_OPS and activation is getattr(ops, name, None) else None


def function_of_ones_own(activation: Any) -> Callable[..., Any] | None:
    """The function, if it is none of this module's (nor a layer), or the custom object of that name."""
    if isinstance(activation, str):
        own = custom_objects().get(activation)
        return own if activation not in _BY_NAME and callable(own) else None
    known = any(activation is one for one in (*_BY_NAME.values(), *_OF_ARRAYS.values())) or _name_by_ops(activation)
    return activation if callable(activation) and not known and not hasattr(activation, "weights") else None


def name_of(activation: str | Callable[[Any], Array] | None) -> str:
    """The name of an activation given by name, as one of this module's functions, or as None ("linear")."""
    if activation is None:
        return "linear"
    if callable(activation):
        for name, function in _BY_NAME.items():
            if activation is function:
                return name
        if (known := _name_by_ops(activation)) is not None:
            return known
        raise ValueError(
            f"activation must be one of {', '.join(_BY_NAME)} (a name or its function from this module), or, where a "
            f"layer is dense or a convolution, a layer such as LeakyReLU(0.1); received {activation!r}"
        )
    return lookup("activation", activation, _BY_NAME).__name__


@cache
def pair(name: str) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """The function of that name, and its gradient (x, y, dy) -> dx."""
    function = lookup("activation", name, _OF_ARRAYS)
    return function, globals()[f"{function.__name__}_gradient"]


_OTHERS: dict[str, Callable[..., Array]] = {"glu": glu, "threshold": threshold}


def get(identifier: str | Callable[..., Array] | None) -> Callable[..., Array]:
    """The function of that name; a function itself; linear for None."""
    if callable(identifier):
        return identifier
    return _OTHERS.get(identifier or "") or _BY_NAME[name_of(identifier)]


def serialize(activation: str | Callable[..., Array]) -> str:
    """The activation's name."""
    for name, function in _OTHERS.items():
        if activation in (name, function):
            return name
    return name_of(activation)


def deserialize(config: str, custom_objects: Mapping[str, Any] | None = None) -> Callable[..., Array]:
    """The function of that name, one's own among them."""
    return (custom_objects or {}).get(config) or get(config)
