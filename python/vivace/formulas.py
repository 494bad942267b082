"""Formulas of arrays that NumPy does not have, or not in a form of which the autograd library derives the gradient.

They are functions of `vivace.ops`, which calls them also with what autograd differentiates.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from . import config


def numpy_here() -> Any:
    """NumPy, or autograd's version of it where somebody has that."""
    return sys.modules.get("autograd.numpy", np)


_np = numpy_here


def value_of(x: Any) -> Any:
    """The array itself, of which no gradient is taken."""
    return np.asarray(getattr(x, "_value", x))


def as_array(x: Any) -> Any:
    """Lists as arrays, whose fractions have the dtype floatx; arrays and numbers as they are."""
    if hasattr(x, "dtype") or isinstance(x, (bool, int, float, complex)):
        return x
    made = _np().array(x)
    return made.astype(config.floatx()) if made.dtype == np.float64 and not hasattr(made, "_value") else made


def floating(x: Any) -> Any:
    """x in its own floating-point dtype, or in floatx."""
    kind = getattr(x, "dtype", None)
    return x if kind is not None and kind.kind in "fc" else _np().array(x, config.floatx())


def alike(x1: Any, x2: Any) -> tuple[Any, Any]:
    """Two arrays; where one holds integers and the other is of fractions, both in the dtype of these."""
    x1, x2 = as_array(x1), as_array(x2)
    dtypes = [x.dtype if hasattr(x, "dtype") else np.dtype(config.floatx()) if type(x) is float else None
              for x in (x1, x2)]  # fmt: skip
    kinds = ["" if dtype is None else dtype.kind for dtype in dtypes]
    if kinds[0] in ("i", "u") and kinds[1] == "f":
        x1 = x1.astype(dtypes[1])
    elif kinds[1] in ("i", "u") and kinds[0] == "f":
        x2 = x2.astype(dtypes[0])
    return x1, x2


def fractions(x1: Any, x2: Any) -> tuple[Any, Any]:
    """Two arrays, one of them at least of fractions."""
    x1, x2 = alike(x1, x2)
    dtypes = [getattr(x, "dtype", None) or np.result_type(x) for x in (x1, x2)]
    return (x1, x2) if any(dtype.kind in "fc" for dtype in dtypes) else (floating(x1), floating(x2))


def axes_of(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis


def _axes(x: Any, axis: Any) -> tuple[int, ...]:
    """The axes counted from the front; None: all."""
    given = range(x.ndim) if axis is None else axis if isinstance(axis, (list, tuple)) else (axis,)
    if not all(-x.ndim <= one < x.ndim for one in given):
        raise ValueError(f"axis {axis} is out of bounds for an array of {x.ndim} axes")
    return tuple(one % x.ndim for one in given)


# Along axes


def _root(squares: Any) -> Any:
    """The square root, whose gradient is 0 at 0."""
    zero = squares == 0
    return _np().sqrt(_np().where(zero, 1, squares)) * (1 - zero).astype(squares.dtype)


def std(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The standard deviation along an axis or several; None: of all."""
    return _root(_np().var(floating(as_array(x)), axis=axes_of(axis), keepdims=keepdims))


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The product along an axis or several; None: of all."""
    if not hasattr(x, "_value"):
        return np.prod(as_array(x), axis=axes_of(axis), keepdims=keepdims)
    axes = _axes(x, axis)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    left = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    x = _np().reshape(_np().moveaxis(x, axes, range(len(axes))), (math.prod(x.shape[i] for i in axes), *left))
    while len(x) > 1:  # by halves: dividing the product by each factor, as autograd does, fails where one is 0
        half = len(x) // 2
        x = _np().concatenate([x[:half] * x[half : 2 * half], x[2 * half :]])
    x = x[0] if len(x) else _np().sum(x, axis=0) + 1
    return _np().reshape(x, kept) if keepdims else x


def sort(x: Any, axis: int = -1) -> Any:
    """In ascending order along an axis."""
    x = _np().moveaxis(as_array(x), axis, -1)
    order = np.argsort(value_of(x), axis=-1)
    return _np().moveaxis(x[(*np.indices(x.shape, sparse=True)[:-1], order)], -1, axis)


def flip(x: Any, axis: Any = None) -> Any:
    """In reverse order along an axis, or several; None: all."""
    x = as_array(x)
    axes = _axes(x, axis)
    return x[tuple(slice(None, None, -1 if i in axes else 1) for i in range(x.ndim))]


def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The diagonal of two axes, as the last one."""
    x = _np().moveaxis(as_array(x), (axis1, axis2), (-2, -1))
    rows = np.arange(max(0, -offset), max(0, -offset, min(x.shape[-2], x.shape[-1] - offset)))
    return x[..., rows, rows + offset]


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Any:
    """x with more entries around it: (before, after) for each axis."""
    x = as_array(x)
    if mode == "constant":
        more = {} if constant_values is None else {"constant_values": constant_values}
        return _np().pad(x, pad_width, mode, **more)
    if mode not in ("reflect", "symmetric", "edge", "wrap"):
        raise ValueError(f"ops.pad: mode must be constant, reflect, symmetric, edge or wrap, received {mode!r}")
    if constant_values is not None:
        raise ValueError(f"ops.pad: constant_values belong to mode 'constant', received mode {mode!r}")
    for i, width in enumerate(np.broadcast_to(pad_width, (x.ndim, 2))):
        x = x[(*[slice(None)] * i, np.pad(np.arange(x.shape[i]), width, mode))]  # type: ignore[call-overload]
    return x


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """log of the sum of exp(x) along an axis or several, without overflow."""
    x = floating(as_array(x))
    shift = np.max(value_of(x), axis=axes_of(axis), keepdims=True)
    shift = np.where(np.isfinite(shift), shift, 0)
    total = _np().log(_np().sum(_np().exp(x - shift), axis=axes_of(axis), keepdims=True)) + shift
    return total if keepdims else _np().squeeze(total, axes_of(axis)) if axis is not None else total.reshape(())


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """The Euclidean norm along an axis or several; None: of all.

    ord: another one of vectors (one axis: a number, inf, -inf) or of matrices (two: "fro", "nuc", 1, 2, inf and their
    negatives), as in NumPy.
    """
    x = floating(as_array(x))
    axes = _axes(x, axis)
    vectors, matrices = len(axes) == 1, len(axes) == 2
    if ord in (None, "euclidean") or (ord == 2 and vectors) or (ord == "fro" and matrices):
        return _root(_np().sum(_np().square(x), axis=axes, keepdims=keepdims))
    if vectors and not isinstance(ord, str):
        return _vector_norm(_np().abs(x), ord, axes[0], keepdims)
    if not matrices or ord not in ("nuc", 1, -1, 2, -2, math.inf, -math.inf):
        raise ValueError(f"ops.norm: of {len(axes)} axes there is no norm of ord {ord!r}")
    made = _matrix_norm(_np().moveaxis(x, axes, (-2, -1)), ord)
    return _np().reshape(made, [1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdims else made


def _vector_norm(x: Any, ord: Any, axis: int, keepdims: bool) -> Any:
    if math.isinf(ord):
        return (_np().max if ord > 0 else _np().min)(x, axis=axis, keepdims=keepdims)
    if ord == 0:
        return _np().sum(x != 0, axis=axis, keepdims=keepdims).astype(x.dtype)
    total = _np().sum(x if ord == 1 else x**ord, axis=axis, keepdims=keepdims)
    return total if ord == 1 else total ** (1 / ord)


def _matrix_norm(x: Any, ord: Any) -> Any:
    """Of the last two axes."""
    if ord in (2, -2, "nuc"):
        values = _np().linalg.svd(x, compute_uv=False)
        return _np().sum(values, axis=-1) if ord == "nuc" else values[..., 0 if ord > 0 else -1]
    sums = _np().sum(_np().abs(x), axis=-1 if math.isinf(ord) else -2)
    return _np().max(sums, axis=-1) if ord > 0 else _np().min(sums, axis=-1)


def normalize(x: Any, axis: int = -1, order: int = 2, epsilon: float | None = None) -> Any:
    """x divided by its norm along an axis, which counts as epsilon (1e-7) at least."""
    x, least = floating(as_array(x)), 1e-7 if epsilon is None else epsilon
    if order == 2:
        squares = _np().sum(_np().square(x), axis=axis, keepdims=True)
        return x / _np().sqrt(_np().maximum(squares, least * least))
    return x / _np().maximum(norm(x, order, axis, True), least)


# Activations


def relu(x: Any) -> Any:
    """max(x, 0)."""
    x = as_array(x)
    return _np().where(x <= 0, 0, x)  # not maximum, to which autograd gives the gradient 0.5 at 0


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    """x where positive, negative_slope * x elsewhere."""
    x = floating(as_array(x))
    return _np().where(x > 0, x, negative_slope * x)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where positive, alpha * (exp(x) - 1) elsewhere."""
    x = floating(as_array(x))
    return _np().where(x > 0, x, alpha * _np().expm1(_np().minimum(x, 0)))


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return _np().exp(-softplus(-floating(as_array(x))))


def softplus(x: Any) -> Any:
    """log(1 + exp(x))."""
    return _np().logaddexp(floating(as_array(x)), 0)


def silu(x: Any) -> Any:
    """x * sigmoid(x)."""
    x = floating(as_array(x))
    return x * sigmoid(x)


def gelu(x: Any, approximate: bool = True) -> Any:
    """x times the normal distribution, by its approximation with tanh; the exact one is `Activation("gelu")`."""
    if not approximate:
        raise ValueError("ops.gelu: only the approximate one is here; Activation('gelu') is exact")
    x = floating(as_array(x))
    return 0.5 * x * (1 + _np().tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


def log_softmax(x: Any, axis: int = -1) -> Any:
    """log(softmax(x)) along an axis."""
    x = floating(as_array(x))
    shifted = x - np.max(value_of(x), axis=axis, keepdims=True)
    return shifted - _np().log(_np().sum(_np().exp(shifted), axis=axis, keepdims=True))


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x), divided by its sum along an axis."""
    x = floating(as_array(x))
    powers = _np().exp(x - np.max(value_of(x), axis=axis, keepdims=True))
    return powers / _np().sum(powers, axis=axis, keepdims=True)
