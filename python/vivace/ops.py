"""Functions of arrays, under Keras's names, for what a `call`, a loss or a metric of one's own computes.

Given arrays (or what autograd differentiates), they compute with NumPy. Given a tensor of a graph, or a layer's weight
while its `call` is traced, they become a part of the graph:

    class Linear(Layer):
        def build(self, input_shape):
            self.w = self.add_weight(shape=(input_shape[-1], 4))

        def call(self, x):
            return ops.relu(ops.matmul(x, self.w))

Training then needs the autograd library (the extra `autograd`), which derives the gradients, but for sums and products
with weights, sums and products of tensors, and activations: there stand layers. Axes count the batch, as
in NumPy; in a graph `ops.shape(x)[0]` is None, which stands for the size of the batch where a shape is asked for.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import config
from .layers.operation import applied
from .layers.symbolic import SymbolicTensor, traced_tensor
from .parameters import Parameter
from .random import SeedGenerator, generator

Op = Callable[..., Any]


def _np() -> Any:
    """NumPy, or autograd's version of it where somebody has that."""
    return sys.modules.get("autograd.numpy", np)


def _op(function: Op) -> Op:
    @functools.wraps(function)
    def op(*args: Any, **kwargs: Any) -> Any:
        return applied(function, args, kwargs)

    return op


def _shaped(function: Op) -> Op:
    """With an argument `shape` or `repeats`, in which None in front stands for the batch."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    which = next(name for name in names if name in ("shape", "repeats"))

    @functools.wraps(function)
    def op(*args: Any, **kwargs: Any) -> Any:
        given = dict(zip(names, args, strict=False)) | kwargs
        sizes: Any = given.get(which)
        sizes = sizes.tolist() if isinstance(sizes, np.ndarray) else sizes
        batch = isinstance(sizes, (list, tuple)) and len(sizes) > 0 and sizes[0] is None
        if batch:
            given[which] = [{"batch": 0}, *sizes[1:]]
        return applied(function, (), given, batch)

    return op


def _named(name: str, text: str, numpy_name: str | None = None, **fixed: Any) -> Op:
    """The function that NumPy has under this or another name."""

    def function(*args: Any, **kwargs: Any) -> Any:
        return getattr(_np(), numpy_name or name)(*args, **kwargs, **fixed)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = text
    return _op(function)


def _reduction(name: str, text: str) -> Op:
    def function(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return getattr(_np(), name)(_floating(x) if name in _MEANS else x, axis=_axes(axis), keepdims=keepdims)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{text} along an axis or several; None: of all."
    return _op(function)


_MEANS = ("mean", "var", "std")


def _axes(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis


def _floating(x: Any) -> Any:
    kind = getattr(x, "dtype", None)
    return x if kind is not None and kind.kind == "f" else _np().array(x, config.floatx())


def _sizes(x: Any, shape: Any) -> tuple[int, ...]:
    """A shape in which None stands for the batch in front, and else for what is left."""
    sizes = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    return tuple((len(x) if i == 0 else -1) if n is None else int(n) for i, n in enumerate(sizes))


# Element by element

absolute = abs = _named("absolute", "|x|.")
add = _named("add", "x1 + x2.")
subtract = _named("subtract", "x1 - x2.")
multiply = _named("multiply", "x1 * x2.")
divide = true_divide = _named("divide", "x1 / x2.")
floor_divide = _named("floor_divide", "The integer part of x1 / x2.")
mod = _named("mod", "The remainder of x1 / x2.")
power = _named("power", "x1 to the power of x2.")
maximum = _named("maximum", "The larger of x1 and x2.")
minimum = _named("minimum", "The smaller of x1 and x2.")
negative = _named("negative", "-x.")
square = _named("square", "x * x.")
sqrt = _named("sqrt", "The square root.")
exp = _named("exp", "e to the power of x.")
expm1 = _named("expm1", "exp(x) - 1.")
log = _named("log", "The natural logarithm.")
log1p = _named("log1p", "log(1 + x).")
log2 = _named("log2", "The logarithm to base 2.")
log10 = _named("log10", "The logarithm to base 10.")
sin = _named("sin", "The sine.")
cos = _named("cos", "The cosine.")
tan = _named("tan", "The tangent.")
arctan = _named("arctan", "The inverse of the tangent.")
arctan2 = _named("arctan2", "The angle of (x2, x1).")
sinh = _named("sinh", "The hyperbolic sine.")
cosh = _named("cosh", "The hyperbolic cosine.")
tanh = _named("tanh", "The hyperbolic tangent.")
sign = _named("sign", "-1, 0 or 1.")
floor = _named("floor", "The next integer below.")
ceil = _named("ceil", "The next integer above.")
round = _named("round", "The nearest integer.", "around")
isnan = _named("isnan", "Whether x is not a number.")
isfinite = _named("isfinite", "Whether x is a finite number.")
equal = _named("equal", "x1 == x2.")
not_equal = _named("not_equal", "x1 != x2.")
greater = _named("greater", "x1 > x2.")
greater_equal = _named("greater_equal", "x1 >= x2.")
less = _named("less", "x1 < x2.")
less_equal = _named("less_equal", "x1 <= x2.")
logical_and = _named("logical_and", "Whether both are true.")
logical_or = _named("logical_or", "Whether either is true.")
logical_not = _named("logical_not", "Whether x is false.")
where = _named("where", "x1 where the condition holds, x2 elsewhere.")


@_op
def rsqrt(x: Any) -> Any:
    """1 / sqrt(x)."""
    return 1 / _np().sqrt(x)


@_op
def reciprocal(x: Any) -> Any:
    """1 / x."""
    return 1 / x


@_op
def clip(x: Any, x_min: Any, x_max: Any) -> Any:
    """x, at least x_min and at most x_max."""
    return _np().clip(x, x_min, x_max)


@_op
def cast(x: Any, dtype: Any) -> Any:
    """x in another dtype."""
    return (x if hasattr(x, "astype") else np.asarray(x)).astype(dtype)


@_op
def stop_gradient(x: Any) -> Any:
    """x, of which no gradient is taken."""
    return np.asarray(getattr(x, "_value", x))


# Along axes

sum = _reduction("sum", "The sum")
mean = _reduction("mean", "The mean")
prod = _reduction("prod", "The product")
max = amax = _reduction("max", "The largest")
min = amin = _reduction("min", "The smallest")
var = _reduction("var", "The variance")
std = _reduction("std", "The standard deviation")
any = _reduction("any", "Whether any is true")
all = _reduction("all", "Whether all are true")
argmax = _named("argmax", "The position of the largest along an axis; None: of all.")
argmin = _named("argmin", "The position of the smallest along an axis; None: of all.")
argsort = _named("argsort", "The positions in ascending order along an axis, -1.")
sort = _named("sort", "In ascending order along an axis, -1.")
cumsum = _named("cumsum", "The sum of all up to here, along an axis.")


@_op
def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """log of the sum of exp(x) along an axis or several, without overflow."""
    shift = np.max(np.asarray(getattr(x, "_value", x)), axis=_axes(axis), keepdims=True)
    shift = np.where(np.isfinite(shift), shift, 0)
    total = _np().log(_np().sum(_np().exp(x - shift), axis=_axes(axis), keepdims=True)) + shift
    return total if keepdims else _np().squeeze(total, _axes(axis)) if axis is not None else total.reshape(())


@_op
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """The Euclidean norm along an axis or several; ord: another one, as in NumPy."""
    if ord in (None, 2, "euclidean") and not isinstance(axis, (list, tuple)):
        return _np().sqrt(_np().sum(_np().square(x), axis=axis, keepdims=keepdims))
    return _np().linalg.norm(x, ord, _axes(axis), keepdims)


@_op
def normalize(x: Any, axis: int = -1, order: int = 2, epsilon: float | None = None) -> Any:
    """x divided by its norm along an axis, which counts as epsilon (1e-7) at least."""
    least = 1e-7 if epsilon is None else epsilon
    if order == 2:
        squares = _np().sum(_np().square(x), axis=axis, keepdims=True)
        return x / _np().sqrt(_np().maximum(squares, least * least))
    return x / _np().maximum(_np().linalg.norm(x, order, axis, True), least)


# Products

matmul = _named("matmul", "The matrix product of the last two axes.")
dot = _named("dot", "The product over the last axis of x1 and the last but one of x2.")
tensordot = _named("tensordot", "The product over axes=2 last and first axes, or over those given.")
einsum = _named("einsum", "The sum of products that the subscripts describe.")
outer = _named("outer", "All products of two vectors.")

# Shapes


@_op
def reshape(x: Any, newshape: Any) -> Any:
    """x in another shape; -1 (and None) stands for what is left, None in front for the batch."""
    return _np().reshape(x, _sizes(x, newshape))


@_op
def transpose(x: Any, axes: Any = None) -> Any:
    """The axes in another order; None: reversed."""
    return _np().transpose(x, axes)


@_op
def expand_dims(x: Any, axis: Any) -> Any:
    """A new axis of size 1, or several."""
    for one in sorted(axis) if isinstance(axis, (list, tuple)) else [axis]:
        x = _np().expand_dims(x, one)
    return x


@_op
def squeeze(x: Any, axis: Any = None) -> Any:
    """Without axes of size 1: those given, or all."""
    return _np().squeeze(x, _axes(axis))


@_shaped
def broadcast_to(x: Any, shape: Any) -> Any:
    """x stretched to a shape."""
    x = x if hasattr(x, "shape") else np.asarray(x)
    return x + np.zeros(tuple(shape), getattr(x, "dtype", None))


@_shaped
def tile(x: Any, repeats: Any) -> Any:
    """x so many times along each axis; None in front: as many times as there are samples."""
    return _np().tile(x, repeats)


@_op
def concatenate(xs: Sequence[Any], axis: int = 0) -> Any:
    """Arrays one behind the other along an axis."""
    return _np().concatenate(list(xs), axis)


@_op
def stack(x: Sequence[Any], axis: int = 0) -> Any:
    """Arrays along a new axis."""
    return _np().stack(list(x), axis)


@_op
def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """The elements at integer positions along an axis; None: of all elements in one row."""
    if axis is None:
        x, axis = _np().reshape(x, (-1,)), 0
    positions = np.asarray(getattr(indices, "_value", indices)).astype(np.int64)
    return x[(*[slice(None)] * (axis % x.ndim), positions)]


@_op
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Any:
    """x with more entries around it: (before, after) for each axis."""
    more = {} if constant_values is None else {"constant_values": constant_values}
    return _np().pad(x, pad_width, mode, **more)


@_op
def get_item(x: Any, key: Any) -> Any:
    """x[key]."""
    return x[tuple(key) if isinstance(key, list) else key]


swapaxes = _named("swapaxes", "Two axes exchanged.")
moveaxis = _named("moveaxis", "Axes moved to other places.")
flip = _named("flip", "In reverse order along an axis, or several; None: all.")
roll = _named("roll", "Moved on along an axis; what leaves comes in in front.")
repeat = _named("repeat", "Every element so many times, along an axis.")
tril = _named("tril", "The lower triangle of the last two axes.")
triu = _named("triu", "The upper triangle of the last two axes.")
diagonal = _named("diagonal", "The diagonal of the first two axes.")
zeros_like = _named("zeros_like", "Zeros of the shape of x.")
ones_like = _named("ones_like", "Ones of the shape of x.")


def shape(x: Any) -> tuple[int | None, ...]:
    """The sizes of the axes; in a graph, of those that are not known, None."""
    return tuple(x.shape) if hasattr(x, "shape") else np.shape(x)


def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Parts of equal size, or those between the positions given, along an axis."""
    rank, size = len(shape(x)), shape(x)[axis]
    if size is None:
        raise ValueError(f"ops.split: the size of axis {axis} must be known, received shape {shape(x)}")
    cuts = indices_or_sections
    if isinstance(cuts, (int, np.integer)):
        if size % cuts:
            raise ValueError(f"ops.split: axis {axis} of size {size} does not divide into {cuts} equal parts")
        cuts = range(size // cuts, size, size // cuts)
    ends = [0, *cuts, size]
    front = [slice(None)] * (axis % rank)
    return [x[(*front, slice(start, end))] for start, end in itertools.pairwise(ends)]


def unstack(x: Any, num: int | None = None, axis: int = 0) -> list[Any]:
    """The parts along an axis, without it."""
    size = num or shape(x)[axis]
    if size is None:
        raise ValueError(f"ops.unstack: the size of axis {axis} must be known, received shape {shape(x)}")
    return [x[(*[slice(None)] * (axis % len(shape(x))), i)] for i in range(size)]


# New arrays


def _new(shape: Any, dtype: Any, value: Any) -> Any:
    sizes = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    return np.full(sizes, value, dtype or config.floatx())


@_shaped
def zeros(shape: Any, dtype: Any = None) -> Any:
    """Zeros; dtype: floatx."""
    return _new(shape, dtype, 0)


@_shaped
def ones(shape: Any, dtype: Any = None) -> Any:
    """Ones; dtype: floatx."""
    return _new(shape, dtype, 1)


@_shaped
def full(shape: Any, fill_value: Any, dtype: Any = None) -> Any:
    """The same value everywhere; dtype: floatx."""
    return _new(shape, dtype, fill_value)


@_op
def random_dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
    """See `vivace.random.dropout`."""
    sizes = [n if m is None else m for n, m in zip(inputs.shape, noise_shape or inputs.shape, strict=True)]
    keep = generator(_number(seed)).random(sizes) >= rate
    return inputs * (keep / (1 - rate if rate < 1 else 1)).astype(inputs.dtype)


@_shaped
def random_normal(shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    """See `vivace.random.normal`."""
    return generator(_number(seed)).normal(mean, stddev, tuple(shape)).astype(dtype or config.floatx())


@_shaped
def random_uniform(shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    """See `vivace.random.uniform`."""
    return generator(_number(seed)).uniform(minval, maxval, tuple(shape)).astype(dtype or config.floatx())


def _number(seed: Any) -> int | None:
    return seed.next() if isinstance(seed, SeedGenerator) else seed


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Any:
    """start, start + step, ... before stop; arange(n): 0, ... n - 1."""
    start, stop = (0, start) if stop is None else (start, stop)
    whole = np.array([start, stop, step]).dtype.kind != "f"
    kind: Any = dtype or ("int32" if whole else config.floatx())
    return np.arange(start, stop, step, dtype=kind)


def linspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None) -> Any:
    """num numbers from start to stop, evenly."""
    return np.linspace(start, stop, num, endpoint, dtype=dtype or config.floatx())


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Any:
    """Ones on the k-th diagonal, zeros elsewhere."""
    return np.eye(N, M, k, dtype or config.floatx())


def convert_to_tensor(x: Any, dtype: Any = None) -> Any:
    """x as an array; a tensor of a graph stays one, and so does a weight while a `call` is traced."""
    symbolic = isinstance(x, SymbolicTensor) or (isinstance(x, Parameter) and traced_tensor() is not None)
    if symbolic or hasattr(x, "_value"):
        return x if dtype is None else cast(x, dtype)
    if dtype is None and not hasattr(x, "dtype") and np.asarray(x).dtype.kind == "f":
        dtype = config.floatx()
    return np.asarray(x, dtype)


array = convert_to_tensor


def convert_to_numpy(x: Any) -> Any:
    """x as an array of NumPy."""
    return np.asarray(x)


@_op
def one_hot(x: Any, num_classes: int, axis: int = -1, dtype: Any = None) -> Any:
    """Integers as vectors of length num_classes, along a new axis."""
    labels = np.asarray(getattr(x, "_value", x))
    return np.moveaxis((labels[..., None] == np.arange(num_classes)).astype(dtype or config.floatx()), -1, axis)


# Activations


@_op
def relu(x: Any) -> Any:
    """max(x, 0)."""
    return _np().maximum(x, 0)


@_op
def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    """x where positive, negative_slope * x elsewhere."""
    return _np().where(x > 0, x, negative_slope * x)


@_op
def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where positive, alpha * (exp(x) - 1) elsewhere."""
    return _np().where(x > 0, x, alpha * _np().expm1(_np().minimum(x, 0)))


@_op
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return 0.5 * (_np().tanh(0.5 * x) + 1)


@_op
def softplus(x: Any) -> Any:
    """log(1 + exp(x))."""
    return _np().logaddexp(x, 0)


@_op
def silu(x: Any) -> Any:
    """x * sigmoid(x)."""
    return x * 0.5 * (_np().tanh(0.5 * x) + 1)


swish = silu


@_op
def gelu(x: Any, approximate: bool = True) -> Any:
    """x times the normal distribution, by its approximation with tanh; the exact one is `Activation("gelu")`."""
    if not approximate:
        raise ValueError("ops.gelu: only the approximate one is here; Activation('gelu') is exact")
    return 0.5 * x * (1 + _np().tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


@_op
def log_softmax(x: Any, axis: int = -1) -> Any:
    """log(softmax(x)) along an axis."""
    shifted = x - np.max(np.asarray(getattr(x, "_value", x)), axis=axis, keepdims=True)
    return shifted - _np().log(_np().sum(_np().exp(shifted), axis=axis, keepdims=True))


@_op
def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x), divided by its sum along an axis."""
    powers = _np().exp(x - np.max(np.asarray(getattr(x, "_value", x)), axis=axis, keepdims=True))
    return powers / _np().sum(powers, axis=axis, keepdims=True)


nn = numpy = sys.modules[__name__]  # where Keras has some of the names again
