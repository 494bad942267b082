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

from . import config, formulas
from .formulas import alike, as_array, axes_of, floating, fractions, numpy_here, value_of
from .layers.operation import BATCH, applied
from .layers.symbolic import SymbolicTensor, traced_tensor
from .parameters import Parameter
from .random import SeedGenerator, generator

Op = Callable[..., Any]


def _op(function: Op) -> Op:
    @functools.wraps(function)
    def op(*args: Any, **kwargs: Any) -> Any:
        return applied(function, args, kwargs)

    return op


def _shaped(function: Op) -> Op:
    """With an argument `shape`, `newshape` or `repeats`, in which None in front stands for the batch."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    which = next(name for name in names if name in ("shape", "newshape", "repeats"))

    @functools.wraps(function)
    def op(*args: Any, **kwargs: Any) -> Any:
        given = dict(zip(names, args, strict=False)) | kwargs
        if len(args) > len(names) or which not in given:
            return function(*args, **kwargs)  # which says what is wrong
        sizes = given[which]
        sizes = sizes.tolist() if isinstance(sizes, np.ndarray) else [None] if sizes is None else sizes
        left = list(sizes) if isinstance(sizes, (list, tuple)) else []
        if which != "newshape" and None in left[1:]:
            raise ValueError(
                f"ops.{function.__name__}: of the sizes in {which} only the first, the batch's, may be None, received "
                f"{tuple(left)}; ops.zeros_like(x) and its like have the sizes of x"
            )
        # of a reshape, -1 finds the one size that is not known
        batch = left[:1] == [None] and (which != "newshape" or left.count(None) + left.count(-1) > 1)
        return applied(function, (), given | {which: [BATCH, *left[1:]] if batch else sizes}, batch)

    return op


def _made(function: Op, name: str, text: str) -> Op:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = text
    return _op(function)


_KEEP_INTEGERS = (
    "absolute", "negative", "square", "sign", "floor", "ceil", "isnan", "isfinite", "logical_not",
)  # fmt: skip


def _unary(name: str, text: str) -> Op:
    """The function of one array that NumPy has under this name."""

    def function(x: Any) -> Any:
        return getattr(numpy_here(), name)(as_array(x) if name in _KEEP_INTEGERS else floating(as_array(x)))

    return _made(function, name, text)


def _binary(name: str, text: str) -> Op:
    """The function of two arrays that NumPy has under this name."""

    def function(x1: Any, x2: Any) -> Any:
        pair = (fractions if name in ("divide", "arctan2") else alike)(x1, x2)
        return getattr(numpy_here(), name)(*pair)

    return _made(function, name, text)


def _reduction(name: str, text: str) -> Op:
    def function(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        x = floating(as_array(x)) if name in ("mean", "var") else as_array(x)
        return getattr(numpy_here(), name)(x, axis=axes_of(axis), keepdims=keepdims)

    return _made(function, name, f"{text} along an axis or several; None: of all.")


# Element by element

absolute = abs = _unary("absolute", "|x|.")
add = _binary("add", "x1 + x2.")
subtract = _binary("subtract", "x1 - x2.")
multiply = _binary("multiply", "x1 * x2.")
divide = true_divide = _binary("divide", "x1 / x2.")
floor_divide = _binary("floor_divide", "The integer part of x1 / x2.")
mod = _binary("mod", "The remainder of x1 / x2.")
power = _binary("power", "x1 to the power of x2.")
maximum = _binary("maximum", "The larger of x1 and x2.")
minimum = _binary("minimum", "The smaller of x1 and x2.")
negative = _unary("negative", "-x.")
square = _unary("square", "x * x.")
sqrt = _unary("sqrt", "The square root.")
exp = _unary("exp", "e to the power of x.")
expm1 = _unary("expm1", "exp(x) - 1.")
log = _unary("log", "The natural logarithm.")
log1p = _unary("log1p", "log(1 + x).")
log2 = _unary("log2", "The logarithm to base 2.")
log10 = _unary("log10", "The logarithm to base 10.")
sin = _unary("sin", "The sine.")
cos = _unary("cos", "The cosine.")
tan = _unary("tan", "The tangent.")
arctan = _unary("arctan", "The inverse of the tangent.")
arctan2 = _binary("arctan2", "The angle of (x2, x1).")
sinh = _unary("sinh", "The hyperbolic sine.")
cosh = _unary("cosh", "The hyperbolic cosine.")
tanh = _unary("tanh", "The hyperbolic tangent.")
sign = _unary("sign", "-1, 0 or 1.")
floor = _unary("floor", "The next integer below.")
ceil = _unary("ceil", "The next integer above.")


@_op
def round(x: Any, decimals: int = 0) -> Any:
    """Rounded to so many decimals; what lies in the middle, to the even one."""
    return numpy_here().around(as_array(x), decimals)


isnan = _unary("isnan", "Whether x is not a number.")
isfinite = _unary("isfinite", "Whether x is a finite number.")
equal = _binary("equal", "x1 == x2.")
not_equal = _binary("not_equal", "x1 != x2.")
greater = _binary("greater", "x1 > x2.")
greater_equal = _binary("greater_equal", "x1 >= x2.")
less = _binary("less", "x1 < x2.")
less_equal = _binary("less_equal", "x1 <= x2.")
logical_and = _binary("logical_and", "Whether both are true.")
logical_or = _binary("logical_or", "Whether either is true.")
logical_not = _unary("logical_not", "Whether x is false.")


@_op
def where(condition: Any, x1: Any = None, x2: Any = None) -> Any:
    """x1 where the condition holds, x2 elsewhere; given neither, the positions where it holds."""
    return numpy_here().where(condition) if x1 is None and x2 is None else numpy_here().where(condition, *alike(x1, x2))


@_op
def rsqrt(x: Any) -> Any:
    """1 / sqrt(x)."""
    return 1 / numpy_here().sqrt(floating(as_array(x)))


@_op
def reciprocal(x: Any) -> Any:
    """1 / x."""
    return 1 / floating(as_array(x))


@_op
def clip(x: Any, x_min: Any, x_max: Any) -> Any:
    """x, at least x_min and at most x_max."""
    return numpy_here().clip(as_array(x), x_min, x_max)


@_op
def cast(x: Any, dtype: Any) -> Any:
    """x in another dtype."""
    return (x if hasattr(x, "astype") else np.asarray(x)).astype(dtype)


@_op
def stop_gradient(x: Any) -> Any:
    """x, of which no gradient is taken."""
    return value_of(x)


# Along axes

sum = _reduction("sum", "The sum")
mean = _reduction("mean", "The mean")
prod = _op(formulas.prod)
max = amax = _reduction("max", "The largest")
min = amin = _reduction("min", "The smallest")
var = _reduction("var", "The variance")
std = _op(formulas.std)
logsumexp = _op(formulas.logsumexp)
norm = _op(formulas.norm)
normalize = _op(formulas.normalize)
sort = _op(formulas.sort)
any = _reduction("any", "Whether any is true")
all = _reduction("all", "Whether all are true")


@_op
def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """The position of the largest along an axis; None: of all."""
    return numpy_here().argmax(x, axis, keepdims=keepdims)


@_op
def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """The position of the smallest along an axis; None: of all."""
    return numpy_here().argmin(x, axis, keepdims=keepdims)


@_op
def argsort(x: Any, axis: int | None = -1) -> Any:
    """The positions in ascending order along an axis."""
    return numpy_here().argsort(x, axis)


@_op
def cumsum(x: Any, axis: int | None = None, dtype: Any = None) -> Any:
    """The sum of all up to here, along an axis."""
    x = as_array(x) if dtype is None else as_array(x).astype(dtype)
    made = numpy_here().cumsum(x, axis)
    return made if made.dtype == x.dtype else made.astype(x.dtype)  # NumPy's sums of int32 are int64


# Products

matmul = _binary("matmul", "The matrix product of the last two axes.")
dot = _binary("dot", "The product over the last axis of x1 and the last but one of x2.")


@_op
def tensordot(x1: Any, x2: Any, axes: Any = 2) -> Any:
    """The product over so many last and first axes, or over those given."""
    return numpy_here().tensordot(*alike(x1, x2), axes)


@_op
def einsum(subscripts: str, *operands: Any) -> Any:
    """The sum of products that the subscripts describe."""
    return numpy_here().einsum(subscripts, *operands)


outer = _binary("outer", "All products of two vectors.")

# Shapes


@_shaped
def reshape(x: Any, newshape: Any) -> Any:
    """x in another shape; -1 or None stands for what is left, None in front of another one for the batch."""
    sizes = (newshape,) if isinstance(newshape, (int, np.integer)) else newshape
    return numpy_here().reshape(as_array(x), tuple(-1 if n is None else int(n) for n in sizes))


@_op
def transpose(x: Any, axes: Any = None) -> Any:
    """The axes in another order; None: reversed."""
    return numpy_here().transpose(as_array(x), axes)


@_op
def expand_dims(x: Any, axis: Any) -> Any:
    """A new axis of size 1, or several."""
    return numpy_here().expand_dims(as_array(x), axes_of(axis))


@_op
def squeeze(x: Any, axis: Any = None) -> Any:
    """Without axes of size 1: those given, or all."""
    return numpy_here().squeeze(as_array(x), axes_of(axis))


@_shaped
def broadcast_to(x: Any, shape: Any) -> Any:
    """x stretched to a shape."""
    x = np.asarray(x) if isinstance(x, (bool, int, float)) else as_array(x)
    if len(shape) < x.ndim or np.broadcast_shapes(x.shape, tuple(shape)) != tuple(shape):
        raise ValueError(f"ops.broadcast_to: an array of shape {x.shape} cannot be stretched to {tuple(shape)}")
    return x + np.zeros(tuple(shape), x.dtype)


@_shaped
def tile(x: Any, repeats: Any) -> Any:
    """x so many times along each axis; None in front: as many times as there are samples."""
    return numpy_here().tile(as_array(x), repeats)


@_op
def concatenate(xs: Sequence[Any], axis: int = 0) -> Any:
    """Arrays one behind the other along an axis."""
    return numpy_here().concatenate(list(xs), axis)


@_op
def stack(x: Sequence[Any], axis: int = 0) -> Any:
    """Arrays along a new axis."""
    return numpy_here().stack(list(x), axis)


@_op
def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """The elements at integer positions along an axis; None: of all elements in one row."""
    x = as_array(x)
    if axis is None:
        x, axis = numpy_here().reshape(as_array(x), (-1,)), 0
    positions = value_of(indices).astype(np.int64)
    return x[(*[slice(None)] * (axis % x.ndim), positions)]


@_op
def get_item(x: Any, key: Any) -> Any:
    """x[key]."""
    return x[tuple(key) if isinstance(key, list) else key]


@_op
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """Two axes exchanged."""
    return numpy_here().swapaxes(as_array(x), axis1, axis2)


@_op
def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """Axes moved to other places."""
    return numpy_here().moveaxis(as_array(x), source, destination)


@_op
def roll(x: Any, shift: Any, axis: Any = None) -> Any:
    """Moved on along an axis; what leaves comes in in front."""
    return numpy_here().roll(as_array(x), shift, axis)


@_shaped
def repeat(x: Any, repeats: Any, axis: int | None = None) -> Any:
    """Every element so many times, along an axis; None: as many times as there are samples."""
    repeats = repeats[0] if isinstance(repeats, list) and len(repeats) == 1 else repeats
    return numpy_here().repeat(as_array(x), repeats, axis)


@_op
def tril(x: Any, k: int = 0) -> Any:
    """The lower triangle of the last two axes."""
    return numpy_here().tril(as_array(x), k)


@_op
def triu(x: Any, k: int = 0) -> Any:
    """The upper triangle of the last two axes."""
    return numpy_here().triu(as_array(x), k)


@_op
def zeros_like(x: Any, dtype: Any = None) -> Any:
    """Zeros of the shape of x; dtype: that of x."""
    return numpy_here().zeros_like(as_array(x), dtype=dtype)


@_op
def ones_like(x: Any, dtype: Any = None) -> Any:
    """Ones of the shape of x; dtype: that of x."""
    return numpy_here().ones_like(as_array(x), dtype=dtype)


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


flip = _op(formulas.flip)
diagonal = _op(formulas.diagonal)
pad = _op(formulas.pad)

# New arrays


def _new(shape: Any, dtype: Any, value: Any) -> Any:
    sizes = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    if hasattr(value, "_value"):  # what autograd differentiates
        return np.zeros(sizes, dtype or config.floatx()) + value
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
    inputs = floating(as_array(inputs))
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
    labels = value_of(x)
    return np.moveaxis((labels[..., None] == np.arange(num_classes)).astype(dtype or config.floatx()), -1, axis)


# Activations

relu = _op(formulas.relu)
leaky_relu = _op(formulas.leaky_relu)
elu = _op(formulas.elu)
sigmoid = _op(formulas.sigmoid)
softplus = _op(formulas.softplus)
silu = _op(formulas.silu)
gelu = _op(formulas.gelu)
softmax = _op(formulas.softmax)
log_softmax = _op(formulas.log_softmax)


swish = silu


nn = numpy = sys.modules[__name__]  # where Keras has some of the names again

# Without what this module imports, and without what `vivace.random` offers.
__all__ = [
    name
    for name, one in globals().items()
    if (hasattr(one, "__wrapped__") or getattr(one, "__module__", "") == __name__)
    and not name.startswith(("_", "random_"))
]
__all__ += ["nn", "numpy"]


def __dir__() -> list[str]:
    return __all__
