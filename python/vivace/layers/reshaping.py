"""Layers that move, add or drop elements: Reshape, Permute, padding, cropping and upsampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from .._core import native
from .._typing import Array, BatchShape, Shape
from ..step import Step
from .base import Layer
from .checks import check_rank
from .geometry import AXES, check_data_format, first_shape, last_shape, sizes


class Reshape(Layer):
    """Gives each sample another shape of as many elements, in row-major order, without copying.

    Args:
        target_shape: the new shape without the batch; one size may be -1: what is left.
    """

    passes_on = True

    def __init__(self, target_shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_shape = tuple(int(size) for size in target_shape)
        if any(size < 1 and size != -1 for size in self.target_shape) or self.target_shape.count(-1) > 1:
            raise ValueError(
                f"{self.name}: target_shape must hold sizes >= 1 and at most one -1, received {target_shape!r}"
            )

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        if any(size is None for size in input_shape[1:]):
            return (input_shape[0], *(None if size == -1 else size for size in self.target_shape))
        elements, known = math.prod(size or 0 for size in input_shape[1:]), abs(math.prod(self.target_shape))
        if (elements % known) if -1 in self.target_shape else (elements != known):
            raise ValueError(
                f"{self.name} (Reshape): target_shape {self.target_shape} does not fit the {elements} elements of a "
                f"sample of shape {input_shape[1:]}"
            )
        return (input_shape[0], *(elements // known if size == -1 else size for size in self.target_shape))

    def _reshaped(self, x: Array) -> Array:
        if x.size == 0:  # which leaves no size to be found
            shape: Any = self.compute_output_shape(x.shape)
            return x.reshape(shape)
        return x.reshape(len(x), *self.target_shape)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        self.drop_mask(step)
        return self._reshaped(x), x.shape

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]]:
        """See `vivace.plan`."""
        return self._reshaped(x), []

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return dy.reshape(saved)


class GetItem(Layer):
    """x[key]: a part of every sample. `tensor[:, 0]` makes one while a graph is made.

    Args:
        key: an integer, a slice or ..., or several of them, as NumPy has them; the first entry belongs to the batch and
            must leave it whole (:). In a configuration a slice is [start, stop, step].
    """

    passes_on = True

    def __init__(self, key: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        parts = list(key) if isinstance(key, (tuple, list)) else [key]
        self.slices = tuple(slice(*part) if isinstance(part, (list, tuple)) else ... if part == "..." else part
                            for part in parts)  # fmt: skip
        if not all(part is ... or isinstance(part, (int, np.integer, slice)) for part in self.slices):
            raise ValueError(f"{self.name}: a key may hold integers, slices and ..., received {key!r}")
        if self.slices[0] is not ... and self.slices[0] != slice(None):
            raise ValueError(
                f"{self.name}: the batch (the first axis) must be taken whole, as in x[:, ...]; got {key!r}"
            )
        self.key = [
            [part.start, part.stop, part.step] if isinstance(part, slice) else "..." if part is ... else int(part)
            for part in self.slices
        ]

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        sizes = [1 if size is None else size for size in input_shape]
        # a position on an axis of unknown size may be any
        pairs = zip(self._parts(len(sizes)), input_shape, strict=False)
        key = tuple(0 if n is None and not isinstance(part, slice) else part for part, n in pairs)
        try:
            index = np.broadcast_to(np.int8(0), sizes)[
                key if len(self._parts(len(sizes))) <= len(sizes) else self.slices
            ]
        except IndexError as error:
            raise ValueError(f"{self.name} (GetItem): {self.key} does not fit shape {input_shape}: {error}") from None
        known: BatchShape = (input_shape[0], *index.shape[1:])
        if None not in input_shape[1:]:
            return known
        # Which axes of unknown size are left, and are still unknown: those that differ for two sizes.
        other = np.broadcast_to(np.int8(0), [2 if size is None else size for size in input_shape])[key]
        more = np.broadcast_to(np.int8(0), [9 if size is None else size for size in input_shape])[key]
        return (
            input_shape[0],
            *(a if a == b == c else None for a, b, c in zip(known[1:], other.shape[1:], more.shape[1:], strict=True)),
        )

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if step.mask is not None:
            step.mask = self._mask(step.mask, x.ndim)
        return step.copy(x[self.slices]), x.shape

    def _mask(self, mask: Array, rank: int) -> Array | None:
        """Of (batch, steps): None where one step is taken."""
        parts = self._parts(rank)
        of_steps = parts[1] if len(parts) > 1 else slice(None)
        return np.ascontiguousarray(mask[:, of_steps]) if isinstance(of_steps, slice) else None

    def _parts(self, rank: int) -> list[Any]:
        """The key without ..., of the first axes."""
        parts = list(self.slices)
        if ... in parts:
            at = parts.index(...)
            parts[at : at + 1] = [slice(None)] * (rank - len(parts) + 1)
        return parts

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if not input_gradient:
            return None
        dx = step.empty(saved, dy.dtype)
        dx.fill(0)
        dx[self.slices] = dy
        return dx


class Permute(Layer):
    """Exchanges the axes of each sample; a copy.

    Args:
        dims: for each axis of the output, the axis of the input that it is; 1 is the first behind the batch.
    """

    def __init__(self, dims: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dims = tuple(int(axis) for axis in dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(f"{self.name}: dims must hold each of 1 ... {len(self.dims)} once, received {dims!r}")

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        if len(input_shape) != len(self.dims) + 1:
            raise ValueError(f"{self.name} (Permute): dims {self.dims} do not fit an input of shape {input_shape}")
        return (input_shape[0], *(input_shape[axis] for axis in self.dims))

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        self.drop_mask(step)
        return step.copy(x.transpose(0, *self.dims)), None

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return step.copy(dy.transpose(np.argsort((0, *self.dims)))) if input_gradient else None


Pairs = tuple[tuple[int, int], ...]


def _pairs(owner: str, argument: str, value: Any, rank: int) -> Pairs:
    """An integer, one for each axis, or a pair (before, behind) for each axis; for one axis also one pair."""
    if isinstance(value, (int, np.integer)):
        value = (value,) * rank
    if rank == 1 and len(value) == 2:
        value = (value,)
    pairs = [(v, v) if isinstance(v, (int, np.integer)) else tuple(v) for v in value]
    good = len(pairs) == rank and all(len(p) == 2 for p in pairs)
    if not good or not all(isinstance(n, (int, np.integer)) and n >= 0 for p in pairs for n in p):
        one = "a pair" if rank == 1 else f"{rank} of them or {rank} pairs"
        raise ValueError(f"{owner}: {argument} must be an integer >= 0, {one} of such integers, received {value!r}")
    return tuple((int(a), int(b)) for a, b in pairs)


class _Spatial(Layer):
    """A layer over (batch, ..., channels) with `rank` axes in between; the channels may come first."""

    rank = 2

    def __init__(self, data_format: str | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format, self.channels_first = check_data_format(self.name, data_format)

    def check(self, input_shape: BatchShape) -> BatchShape:
        """The shape with the channels last."""
        axes = f"channels, {AXES[self.rank]}" if self.channels_first else f"{AXES[self.rank]}, channels"
        kind = f"{self.name} ({type(self).__name__})"
        if len(input_shape) != self.rank + 2:
            check_rank(kind, input_shape, self.rank + 2, f"(batch, {axes})")
        return last_shape(self.channels_first, input_shape)


def with_channels_last(shape: Any, channels_first: bool) -> Any:
    """A shape (batch, ..., channels) of as many elements in the same order: channels that come first are samples."""
    return (shape[0] * shape[1], *shape[2:], 1) if channels_first else shape


def margins(shape: Any, pairs: Sequence[tuple[int, int]], channels_first: bool) -> native.Margins:
    """What surrounds an array of this shape on an outer one: so many elements before and behind on each axis."""
    missing = 3 - len(pairs)
    n, *middle, c = with_channels_last(shape, channels_first)
    return native.Margins((n, *(1,) * missing, *middle, c), (*((0, 0),) * missing, *pairs))


class _Borders(_Spatial):
    """A layer that adds a border of zeros, or takes one away.

    A subclass implements `make_way`: what is around the smaller array, and the output's shape.
    """

    pads = True

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if step.mask is not None:
            self.drop_mask(step)
        margins, output = self._ways.get(x.shape) or self.new_way(x.shape)
        y = step.empty(output, x.dtype)
        (native.pad if self.pads else native.crop)(margins, x, y)
        return y, (margins, x.shape)

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]]:
        """See `vivace.plan`."""
        margins, output = self._ways.get(x.shape) or self.new_way(x.shape)
        y = step.empty(output, x.dtype)
        return y, [partial(native.pad if self.pads else native.crop, margins, x, y)]

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if not input_gradient:
            return None
        margins, shape = saved
        dx = step.empty(shape, dy.dtype)
        (native.crop if self.pads else native.pad)(margins, dy, dx)
        return dx


class _ZeroPadding(_Borders):
    """Zeros around each sample.

    Args:
        padding: an integer; or one for each axis; or a pair (before, behind) for each axis.
        data_format: "channels_last" (None, the default) or "channels_first".
    """

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.padding = _pairs(self.name, "padding", padding, self.rank)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        batch, *middle, channels = self.check(input_shape)
        padded = (None if n is None else n + a + b for n, (a, b) in zip(middle, self.padding, strict=True))
        return first_shape(self.channels_first, (batch, *padded, channels))

    def make_way(self, shape: Shape) -> tuple[native.Margins, Any]:
        """The zeros around, and the output's shape."""
        return margins(shape, self.padding, self.channels_first), self.compute_output_shape(shape)


class ZeroPadding1D(_ZeroPadding):
    __doc__ = f"(batch, steps, channels). {_ZeroPadding.__doc__}"
    rank = 1
    bind = _Borders.bind

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"padding": self.padding[0]}


class ZeroPadding2D(_ZeroPadding):
    __doc__ = f"(batch, height, width, channels). {_ZeroPadding.__doc__}"
    bind = _Borders.bind


class ZeroPadding3D(_ZeroPadding):
    __doc__ = f"(batch, depth, height, width, channels). {_ZeroPadding.__doc__}"
    rank = 3
    bind = _Borders.bind


class _Cropping(_Borders):
    """Drops the borders of each sample.

    Args:
        cropping: an integer; or one for each axis; or a pair (before, behind) for each axis.
        data_format: "channels_last" (None, the default) or "channels_first".
    """

    pads = False

    def __init__(self, cropping: Any, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.cropping = _pairs(self.name, "cropping", cropping, self.rank)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        batch, *middle, channels = self.check(input_shape)
        left = [None if n is None else n - a - b for n, (a, b) in zip(middle, self.cropping, strict=True)]
        if any(n is not None and n < 1 for n in left):
            raise ValueError(
                f"{self.name} ({type(self).__name__}): cropping {self.cropping} leaves nothing of shape {input_shape}"
            )
        return first_shape(self.channels_first, (batch, *left, channels))

    def make_way(self, shape: Shape) -> tuple[native.Margins, Any]:
        """What is around the output, and its shape."""
        output: Any = self.compute_output_shape(shape)
        return margins(output, self.cropping, self.channels_first), output


class Cropping1D(_Cropping):
    __doc__ = f"(batch, steps, channels). {_Cropping.__doc__}"
    rank = 1
    bind = _Borders.bind

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"cropping": self.cropping[0]}

    def __init__(self, cropping: int | Sequence[int] = (1, 1), **kwargs: Any) -> None:
        super().__init__(cropping, **kwargs)


class Cropping2D(_Cropping):
    __doc__ = f"(batch, height, width, channels). {_Cropping.__doc__}"
    bind = _Borders.bind

    def __init__(self, cropping: Any = ((0, 0), (0, 0)), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(cropping, data_format, **kwargs)


class Cropping3D(_Cropping):
    __doc__ = f"(batch, depth, height, width, channels). {_Cropping.__doc__}"
    rank = 3
    bind = _Borders.bind

    def __init__(self, cropping: Any = ((1, 1), (1, 1), (1, 1)), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(cropping, data_format, **kwargs)


class _UpSampling(_Spatial):
    """Repeats every element.

    Args:
        size: how often along each axis: an integer or one for each axis, 2.
        data_format: "channels_last" (None, the default) or "channels_first".
    """

    interpolation = "nearest"

    def __init__(self, size: int | Sequence[int] = 2, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.size = sizes(self.name, "size", size, self.rank)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        batch, *middle, channels = self.check(input_shape)
        repeated = (None if n is None else n * times for n, times in zip(middle, self.size, strict=True))
        return first_shape(self.channels_first, (batch, *repeated, channels))

    def make_way(self, shape: Shape) -> Resampled:
        axes = zip(last_shape(self.channels_first, shape)[1:-1], self.size, strict=True)
        if self.interpolation == "nearest" or 0 in shape:
            pairs = [_repeated(n or 0, times) for n, times in axes]
        else:
            pairs = [resizing(n or 0, (n or 0) * times, self.interpolation)[:2] for n, times in axes]
        return resampled(shape, pairs, self.channels_first)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if step.mask is not None:
            self.drop_mask(step)
        output, forward, backward = self._ways.get(x.shape) or self.new_way(x.shape)
        y = step.empty(output, x.dtype)
        native.resample(forward, x, y)
        return y, (backward, x.shape)

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]]:
        """See `vivace.plan`."""
        output, forward, _ = self._ways.get(x.shape) or self.new_way(x.shape)
        y = step.empty(output, x.dtype)
        return y, [partial(native.resample, forward, x, y)]

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if not input_gradient:
            return None
        backward, shape = saved
        dx = step.empty(shape, dy.dtype)
        native.resample(backward, dy, dx)
        return dx


class UpSampling1D(_UpSampling):
    __doc__ = f"(batch, steps, channels). {_UpSampling.__doc__}"
    rank = 1
    bind = _UpSampling.bind

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {"size": self.size[0]}
        if not self.channels_first:  # an argument that Keras does not have
            del config["data_format"]
        return config


class UpSampling2D(_UpSampling):
    __doc__ = f"""(batch, height, width, channels). {_UpSampling.__doc__}
        interpolation: "nearest" (the default) repeats; "bilinear", "bicubic", "lanczos3" and "lanczos5" interpolate
            between the elements' centres.
    """

    bind = _UpSampling.bind

    def __init__(
        self,
        size: int | Sequence[int] = (2, 2),
        data_format: str | None = None,
        interpolation: str = "nearest",
        **kwargs: Any,
    ) -> None:
        super().__init__(size, data_format, **kwargs)
        self.interpolation = check_interpolation(self.name, interpolation)


class UpSampling3D(_UpSampling):
    __doc__ = f"(batch, depth, height, width, channels). {_UpSampling.__doc__}"
    rank = 3
    bind = _UpSampling.bind


INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")


def check_interpolation(owner: str, interpolation: str, known: Sequence[str] = INTERPOLATIONS) -> str:
    if interpolation not in known:
        raise ValueError(f"{owner}: interpolation must be one of {', '.join(known)}, received {interpolation!r}")
    return interpolation


def _lanczos(x: Array, radius: int) -> Array:
    return np.where(x < radius, np.sinc(x) * np.sinc(x / radius), 0)


def _cubic(x: Array) -> Array:
    """Keys's kernel with a = -1/2."""
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


_KERNELS: dict[str, Callable[[Array], Array]] = {
    "bilinear": lambda x: np.maximum(0, 1 - x),
    "bicubic": _cubic,
    "lanczos3": lambda x: _lanczos(x, 3),
    "lanczos5": lambda x: _lanczos(x, 5),
}


# A matrix as native.Resampling takes it, whose nonzero elements stand close together: how many inputs it has, where
# those that count for each output begin, and their weights.
Bands = tuple[int, Array, Array]


class Resampled(NamedTuple):
    """What resamples arrays of one shape."""

    output: Shape
    forward: native.Resampling
    backward: native.Resampling


def resampled(shape: Shape, axes: Sequence[tuple[Bands, Bands]], channels_first: bool) -> Resampled:
    """What multiplies each axis but the batch and the channels by a matrix; given with its transpose."""
    n, *_, c = with_channels_last(shape, channels_first)
    forward, backward = ([pair[way] for pair in axes] for way in (0, 1))
    middle = [len(first) for _, first, _ in forward]
    output = (*shape[:2], *middle) if channels_first else (n, *middle, c)
    return Resampled(output, native.Resampling(n, forward, c), native.Resampling(n, backward, c))


def _bands(matrix: Array) -> Bands:
    inputs, used = matrix.shape[1], matrix != 0
    first, end = used.argmax(1), inputs - used[:, ::-1].argmax(1)
    width = max(1, int(np.where(used.any(1), end - first, 0).max()))
    first = np.minimum(first, inputs - width)
    weights = np.take_along_axis(matrix, first[:, None] + np.arange(width), 1)
    return inputs, first.astype(np.int32), np.ascontiguousarray(weights)


def _repeated(n: int, times: int) -> tuple[Bands, Bands]:
    """The matrix (n * times, n) that repeats each element, and its transpose."""
    outputs = np.arange(n * times, dtype=np.int32)
    repeat = n, outputs // times, np.ones((n * times, 1))
    return repeat, (n * times, outputs[::times].copy(), np.ones((n, times)))


@lru_cache(maxsize=256)
def resizing(
    inputs: int,
    outputs: int,
    interpolation: str,
    antialias: bool = False,
    part: tuple[int, int] | None = None,
) -> tuple[Bands, Bands, Array]:
    """The matrix (outputs, inputs) that resizes one axis by interpolation between the elements' centres, its transpose,
    and the sums of its rows.

    antialias: the kernel is widened where the axis shrinks, so that every input counts.
    part: where that starts which is resized, and its size; the whole axis. Beyond the axis lie zeros.
    """
    start, size = part or (0, inputs)
    if inputs < 1:
        raise ValueError("there is nothing to resize along an axis of size 0")
    at = (np.arange(outputs) + 0.5) * size / outputs - 0.5
    if interpolation == "nearest":
        matrix = np.zeros((outputs, size))
        matrix[np.arange(outputs), np.minimum((at + 0.5).astype(int), size - 1)] = 1
    else:
        wide = max(size / outputs, 1.0) if antialias else 1.0
        weights = _KERNELS[interpolation](np.abs(at[:, None] - np.arange(size)) / wide)
        matrix = weights / weights.sum(1, keepdims=True)
    matrix = np.pad(matrix, ((0, 0), (max(start, 0), max(inputs - start - size, 0))))
    matrix = matrix[:, max(-start, 0) : max(-start, 0) + inputs]
    return _bands(matrix), _bands(matrix.T), matrix.sum(1)


__all__ = [
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "GetItem",
    "Permute",
    "Reshape",
    "UpSampling1D",
    "UpSampling2D",
    "UpSampling3D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
]
