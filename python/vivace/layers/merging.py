"""Layers that make one array of several: sums, products, extrema, Concatenate and Dot; and functions of their names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .._core import native
from .._typing import FLOATS, Array, BatchShape, Shape
from ..step import Step
from .base import Layer


class _Joining(Layer):
    """A layer over a list of inputs, which may hold a single one."""

    several_inputs = True
    takes_any = True

    def call_inputs(self, inputs: Any, *more: Any) -> Any:
        found = super().call_inputs(inputs, *more)
        single = isinstance(inputs, (list, tuple)) and len(inputs) == 1 and not isinstance(found, list)
        return [found] if single else found


class _Way(NamedTuple):
    """How inputs of some shapes become arrays of one."""

    output: Shape
    kind: Any  # its dtype
    shapes: tuple[Shape, ...]  # of the inputs
    ranked: list[Shape]  # the same with as many axes each
    axes: list[tuple[int, ...]]  # along which each stretches


class _Merge(_Joining):
    """Takes a list of inputs, most often two or more. Their shapes broadcast: axes of size 1 stretch, and an input of
    lower rank gets axes of size 1 behind its batch axis. Output: the broadcast shape. A step counts if it does in any
    input; if an input has no mask, neither has the output.
    """

    def compute_output_shape(self, input_shape: Any) -> BatchShape:
        shapes = _shapes(self, input_shape)
        output: list[int | None] = []
        for sizes in zip(*_ranked(shapes), strict=True):
            known = {size for size in sizes if size not in (None, 1)}
            if len(known) > 1:
                raise ValueError(f"{self.name} ({type(self).__name__}): shapes {shapes} do not broadcast")
            output.append(known.pop() if known else None if None in sizes else 1)
        return tuple(output)

    operation: native.Merge

    def make_way(self, shape: tuple[Shape, ...]) -> _Way:
        ranked = _ranked(shape)
        wide = np.broadcast_shapes(*ranked)
        axes = [tuple(i for i, size in enumerate(wide) if size != one[i]) for one in ranked]
        return _Way(wide, FLOATS[self.dtype], shape, ranked, axes)

    def way_of(self, x: list[Array]) -> _Way:
        shapes = tuple([array.shape for array in x])
        way: _Way = self._ways.get(shapes) or self.new_way(shapes)
        return way

    def alike(self, x: list[Array], step: Step) -> tuple[list[Array], _Way]:
        """The inputs as arrays of the output's shape and dtype, and the way there."""
        way = self.way_of(x)
        x, copies = _spread(x, way, step)
        for copy in copies:
            copy()
        return x, way

    def forward(self, x: Any, step: Step) -> tuple[Array, Any]:
        if step.mask is not None:
            step.mask = either(step.mask)
        way, shape, kind = None, x[0].shape, FLOATS[self.dtype]
        for array in x:
            if array.shape != shape or array.dtype is not kind:
                x, way = self.alike(x, step)
                shape = way.output
                break
        y = step.empty(shape, kind)
        native.merge_forward(self.operation, x, y)
        return y, (x, way)

    def bind(self, x: list[Array], step: Step) -> tuple[Array, list[Any]]:
        """See `vivace.plan`."""
        way = self.way_of(x)
        y = step.empty(way.output, way.kind)
        x, copies = _spread(x, way, step, y)
        return y, [*copies, partial(native.merge_forward, self.operation, x, y)]

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        if not input_gradient:
            return None
        x, way = saved
        gradients = [dy, *(step.empty(dy.shape, dy.dtype) for _ in x[1:])]
        native.merge_backward(self.operation, x, dy, gradients)
        return _summed(gradients, way, step)


def _shapes(layer: Layer, input_shape: Any) -> list[BatchShape]:
    if not isinstance(input_shape, list) or not input_shape:
        raise ValueError(f"{layer.name} ({type(layer).__name__}) takes a list of inputs, received shape {input_shape}")
    return [tuple(shape) for shape in input_shape]


def _of_dtype(x: list[Array], dtype: str) -> list[Array]:
    """The inputs in a layer's dtype: one that an Embedding takes too is of integers."""
    kind = FLOATS[dtype]
    return [array if array.dtype is kind else array.astype(kind) for array in x]


def _ranked(shapes: Sequence[Any]) -> list[Any]:
    """The shapes with axes of size 1 behind the batch's, so that all have as many."""
    rank = max(map(len, shapes))
    return [(shape[0], *(1,) * (rank - len(shape)), *shape[1:]) for shape in shapes]


def _spread(x: list[Array], way: _Way, step: Step, y: Array | None = None) -> tuple[list[Array], list[Any]]:
    """The inputs as arrays of the output's shape and dtype, and what copies those there that have another: the first
    into y, if that is given.
    """
    arrays, copies = list(x), []
    for i, (array, shape) in enumerate(zip(x, way.ranked, strict=True)):
        if array.shape != way.output or array.dtype != way.kind:
            arrays[i], y = step.empty(way.output, way.kind) if y is None else y, None
            copies.append(partial(np.copyto, arrays[i], array.reshape(shape)))
    return arrays, copies


def _counts(mask: Array | None, x: Array) -> Array | None:
    """Which elements count (bool), as what broadcasts to x."""
    return None if mask is None else (mask != 0)[(..., *(None,) * (x.ndim - mask.ndim))]


def either(masks: Any) -> Array | None:
    """A step counts if it does in any input, provided that all have masks."""
    if not isinstance(masks, list) or any(mask is None for mask in masks):
        return None
    total: Array = masks[0]
    for mask in masks[1:]:
        total = np.logical_or(total, mask).astype(np.uint8)
    return total


def _summed(gradients: list[Array], way: _Way | None, step: Step) -> list[Array]:
    """Gradients of inputs that were spread as those of the inputs."""
    if way is None:
        return gradients
    for i, (axes, ranked, shape) in enumerate(zip(way.axes, way.ranked, way.shapes, strict=True)):
        own = gradients[i]
        if axes:
            own = np.sum(own, axes, keepdims=True, out=step.empty(ranked, own.dtype))
        gradients[i] = own.reshape(shape)
    return gradients


class Add(_Merge):
    __doc__ = f"y = x_1 + x_2 + ...\n\n    {_Merge.__doc__}"

    operation = "add"
    bind = _Merge.bind


class Subtract(_Merge):
    __doc__ = f"y = x_1 - x_2, of two inputs.\n\n    {_Merge.__doc__}"

    operation = "subtract"
    bind = _Merge.bind

    def compute_output_shape(self, input_shape: Any) -> BatchShape:
        if len(_shapes(self, input_shape)) != 2:
            raise ValueError(f"{self.name} (Subtract) takes two inputs, received {len(input_shape)}")
        return super().compute_output_shape(input_shape)


class Multiply(_Merge):
    __doc__ = f"""y = x_1 x_2 ..., element by element. A masked step of an input is left out of the product; where all
    have masks and none counts, y is 0.

    {_Merge.__doc__}"""

    operation = "multiply"
    bind = _Merge.bind

    def forward(self, x: Any, step: Step) -> tuple[Array, Any]:
        masks = step.mask
        if type(masks) is not list or all(mask is None for mask in masks):
            y, saved = _Merge.forward(self, x, step)
            return y, (saved, None, None)
        counts = [_counts(mask, array) for mask, array in zip(masks, x, strict=True)]
        ones = [a if c is None else np.where(c, a, a.dtype.type(1)) for a, c in zip(x, counts, strict=True)]
        y, saved = super().forward(ones, step)
        left = _counts(step.mask, y)
        return y if left is None else np.multiply(y, left, out=step.empty(y.shape, y.dtype)), (saved, counts, left)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        inner, counts, left = saved
        gradients = super().backward(dy if left is None else dy * left, inner, step, input_gradient)
        if gradients is not None and counts is not None:
            for gradient, count in zip(gradients, counts, strict=True):
                if count is not None:
                    gradient *= count
        return gradients


class Average(_Merge):
    __doc__ = f"y = (x_1 + x_2 + ... + x_n) / n.\n\n    {_Merge.__doc__}"

    operation = "average"
    bind = _Merge.bind


class _Extremum(_Merge):
    """A masked step of an input gives way to what the others have there."""

    ufunc: np.ufunc  # the same, behind masks

    def forward(self, x: Any, step: Step) -> tuple[Array, Any]:
        masks = step.mask
        if type(masks) is not list:
            y, saved = _Merge.forward(self, x, step)
            return y, (saved, None)
        x, way = self.alike(x, step)
        y, counts, taken = x[0], _counts(masks[0], x[0]), []
        for other, mask in zip(x[1:], masks[1:], strict=True):
            chosen = self.ufunc(y, other)
            share = _share(y, other, chosen)
            now = _counts(mask, other)
            if now is not None:
                share = np.where(now, share, 0)
            if counts is not None:
                share = np.where(counts, share, 1 if now is None else now)
            if now is not None or counts is not None:
                chosen = np.where(share == 0, y, np.where(share == 1, other, chosen)).astype(other.dtype)
            counts = None if now is None or counts is None else now | counts
            y = chosen
            taken.append(share)
        step.mask = either(masks)
        return np.ascontiguousarray(y), (way, taken)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        way, taken = saved
        if taken is None or not input_gradient:
            return _Merge.backward(self, dy, way, step, input_gradient)
        parts = []
        for share in reversed(taken):
            parts.append(dy * share)
            dy = dy * (1 - share)
        parts.append(dy)
        parts.reverse()
        return _summed(parts, way, step)


def _share(y: Array, other: Array, chosen: Array) -> Array:
    """The other's share of the gradient: equal ones halve it."""
    share = (chosen == other).astype(other.dtype)
    share /= np.maximum(share + (chosen == y), 1)
    return share


class Maximum(_Extremum):
    __doc__ = f"The largest of the inputs, element by element.\n\n    {_Merge.__doc__}"
    operation = "maximum"
    ufunc = np.maximum
    bind = _Merge.bind


class Minimum(_Extremum):
    __doc__ = f"The smallest of the inputs, element by element.\n\n    {_Merge.__doc__}"
    operation = "minimum"
    ufunc = np.minimum
    bind = _Merge.bind


class Concatenate(_Joining):
    """Joins a list of inputs, which have the same shape but for one axis, along that axis.

    Args:
        axis: the last by default; not the batch.
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def compute_output_shape(self, input_shape: Any) -> BatchShape:
        shapes = _shapes(self, input_shape)
        rank = len(shapes[0])
        axis = self.axis % rank if -rank <= self.axis < rank else 0
        if axis == 0:
            raise ValueError(
                f"{self.name} (Concatenate): axis must name an axis of {shapes[0]} but the batch, received {self.axis}"
            )
        rests = [shape[:axis] + shape[axis + 1 :] for shape in shapes]
        if any(
            len(rest) != rank - 1 or any(None not in pair and pair[0] != pair[1] for pair in zip(rest, rests[0]))  # noqa: B905
            for rest in rests
        ):
            raise ValueError(
                f"{self.name} (Concatenate): shapes must agree but for axis {self.axis}, received {shapes}"
            )
        sizes = [shape[axis] for shape in shapes]
        joined = None if None in sizes else sum(size or 0 for size in sizes)
        return (*shapes[0][:axis], joined, *shapes[0][axis + 1 :])

    def forward(self, x: Any, step: Step) -> tuple[Array, Any]:
        shapes = tuple([array.shape for array in x])
        rows, output = self._ways.get(shapes) or self.new_way(shapes)
        x = _of_dtype(x, self.dtype)
        y = step.empty(output, x[0].dtype)
        native.concatenate(rows, x, y)
        if step.mask is not None:
            step.mask = self._mask(step.mask, x, self.axis % y.ndim)
        return y, (rows, shapes)

    def make_way(self, shape: tuple[Shape, ...]) -> tuple[int, Shape]:
        """How many rows the arrays are that are joined, and the output's shape."""
        first = shape[0]
        axis = self.axis % len(first)
        return math.prod(first[:axis]) or 1, (*first[:axis], sum(one[axis] for one in shape), *first[axis + 1 :])

    def bind(self, x: list[Array], step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        if any(array.dtype != self.dtype for array in x):
            return None
        y, (rows, _) = self.forward(x, step)
        return y, [partial(native.concatenate, rows, x, y)]

    def _mask(self, masks: Any, x: list[Array], axis: int) -> Array | None:
        """Along the steps, the masks join too; otherwise a step counts if it does in any input."""
        if not isinstance(masks, list) or all(mask is None for mask in masks):
            return None
        full = [np.ones(a.shape[:2], np.uint8) if m is None else m for m, a in zip(masks, x, strict=True)]
        if axis == 1:
            return np.concatenate(full, 1)
        return either(full)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        if not input_gradient:
            return None
        rows, shapes = saved
        gradients = [step.empty(shape, dy.dtype) for shape in shapes]
        native.split(rows, dy, gradients)
        return gradients


class Dot(Layer):
    """Dot products of two inputs along one axis of each: axes (a, b) and (c, d) but the batch's contract b with d, say.

    Output (batch, the other axes of the first, the other axes of the second); (batch, 1) if there are none.

    Args:
        axes: the axis of both, or one for each; not the batch.
        normalize: scale both to length 1 along their axis first: the cosine of their angle.
    """

    several_inputs = True

    def __init__(self, axes: int | Sequence[int], normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        pair = (axes, axes) if isinstance(axes, int) else tuple(axes)
        if len(pair) != 2 or 0 in pair:
            raise ValueError(f"{self.name} (Dot): axes must be one or two axes but the batch, received {axes!r}")
        self.axes, self.normalize = axes, normalize
        self._axes = pair

    def compute_output_shape(self, input_shape: Any) -> BatchShape:
        shapes = _shapes(self, input_shape)
        if len(shapes) != 2:
            raise ValueError(f"{self.name} (Dot) takes two inputs, received {len(shapes)}")
        if any(not -len(shape) < axis < len(shape) for shape, axis in zip(shapes, self._axes, strict=True)):
            raise ValueError(f"{self.name} (Dot): axes {self._axes} are not axes of the shapes {shapes}")
        rests = []
        for shape, axis in zip(shapes, self._axes, strict=True):
            axis %= len(shape)
            rests.append(shape[1:axis] + shape[axis + 1 :])
        first, second = (shape[axis] for shape, axis in zip(shapes, self._axes, strict=True))
        if None not in (first, second) and first != second:
            raise ValueError(f"{self.name} (Dot): axes {self._axes} of shapes {shapes} have sizes {first} and {second}")
        return (shapes[0][0], *(rests[0] + rests[1] or (1,)))

    def forward(self, x: Any, step: Step) -> tuple[Array, Any]:
        x = first, second = _of_dtype(x, self.dtype)
        shapes = first.shape, second.shape
        op, shape = self._ways.get(shapes) or self.new_way(shapes)
        norms = None
        if self.normalize:
            norms = [
                np.sqrt(np.maximum((one * one).sum(axis, keepdims=True), 1e-12))
                for one, axis in zip(x, self._axes, strict=True)
            ]
            first, second = first / norms[0], second / norms[1]
        y = step.empty(shape, first.dtype)
        native.einsum_forward(op, first, second, None, y)
        step.mask = None
        return y, (op, first, second, norms)

    def make_way(self, shape: tuple[Shape, Shape]) -> tuple[native.Einsum, Shape]:
        """The native op, and the output's shape."""
        first = [chr(0x100 + i) for i in range(len(shape[0]))]
        second = [first[0], *(chr(0x200 + i) for i in range(1, len(shape[1])))]
        a, b = (axis % len(one) for one, axis in zip(shape, self._axes, strict=True))
        output = [*first[:a], *first[a + 1 :], *second[1:b], *second[b + 1 :]]
        second[b] = first[a]
        op = native.Einsum("".join(first), "".join(second), "".join(output), *shape, ())
        return op, op.output if len(output) > 1 else (*op.output, 1)

    def bind(self, x: Any, step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        if self.normalize or any(array.dtype != self.dtype for array in x):
            return None
        first, second = x
        op, shape = self._ways.get((first.shape, second.shape)) or self.new_way((first.shape, second.shape))
        y = step.empty(shape, first.dtype)
        return y, [partial(native.einsum_forward, op, first, second, None, y)]

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        if not input_gradient:
            return None
        op, first, second, norms = saved
        gradients = step.empty(first.shape, dy.dtype), step.empty(second.shape, dy.dtype)
        native.einsum_backward(op, first, second, dy, (*gradients, None), False)
        for one, gradient, norm, axis in zip((first, second), gradients, norms or (), self._axes, strict=False):
            gradient -= one * (one * gradient).sum(axis, keepdims=True)
            gradient /= norm
        return list(gradients)


def add(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """`Add(**kwargs)(inputs)`."""
    return Add(**kwargs)(inputs)


def subtract(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """`Subtract(**kwargs)(inputs)`."""
    return Subtract(**kwargs)(inputs)


def multiply(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """`Multiply(**kwargs)(inputs)`."""
    return Multiply(**kwargs)(inputs)


def average(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """`Average(**kwargs)(inputs)`."""
    return Average(**kwargs)(inputs)


def maximum(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """`Maximum(**kwargs)(inputs)`."""
    return Maximum(**kwargs)(inputs)


def minimum(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """`Minimum(**kwargs)(inputs)`."""
    return Minimum(**kwargs)(inputs)


def concatenate(inputs: Sequence[Any], axis: int = -1, **kwargs: Any) -> Any:
    """`Concatenate(axis, **kwargs)(inputs)`."""
    return Concatenate(axis, **kwargs)(inputs)


def dot(inputs: Sequence[Any], axes: int | Sequence[int] = -1, **kwargs: Any) -> Any:
    """`Dot(axes, **kwargs)(inputs)`."""
    return Dot(axes, **kwargs)(inputs)


__all__ = [
    "Add",
    "Average",
    "Concatenate",
    "Dot",
    "Maximum",
    "Minimum",
    "Multiply",
    "Subtract",
    "add",
    "average",
    "concatenate",
    "dot",
    "maximum",
    "minimum",
    "multiply",
    "subtract",
]
