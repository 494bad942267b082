"""Layers that move, add or drop elements: Reshape, Permute, padding, cropping and upsampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .._core import native
from .._typing import Array, BatchShape, Shape
from ..step import Step
from .base import Layer, check_rank
from .geometry import AXES, check_data_format, first_shape, last_shape, sizes, to_first, to_last


class Reshape(Layer):
    """Gives each sample another shape of as many elements, in row-major order, without copying.

    Args:
        target_shape: the new shape without the batch; one size may be -1: what is left.
    """

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

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        self.drop_mask(step)
        return x.reshape(len(x), *self.target_shape), x.shape

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]]:
        """See `vivace.plan`."""
        return x.reshape(len(x), *self.target_shape), []

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return dy.reshape(saved)


class GetItem(Layer):
    """x[key]: a part of every sample. `tensor[:, 0]` makes one while a graph is made.

    Args:
        key: an integer, a slice or ..., or several of them, as NumPy has them; the first entry belongs to the batch and
            must leave it whole (:). In a configuration a slice is [start, stop, step].
    """

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
        try:
            index = np.broadcast_to(np.int8(0), sizes)[self.slices]
        except IndexError as error:
            raise ValueError(f"{self.name} (GetItem): {self.key} does not fit shape {input_shape}: {error}") from None
        known: BatchShape = (input_shape[0], *index.shape[1:])
        if None not in input_shape[1:]:
            return known
        # Which axes of unknown size are left, and are still unknown: those that differ for two sizes.
        other = np.broadcast_to(np.int8(0), [2 if size is None else size for size in input_shape])[self.slices]
        more = np.broadcast_to(np.int8(0), [9 if size is None else size for size in input_shape])[self.slices]
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
        parts = list(self.slices)
        if ... in parts:
            at = parts.index(...)
            parts[at : at + 1] = [slice(None)] * (rank - len(parts) + 1)
        of_steps = parts[1] if len(parts) > 1 else slice(None)
        return np.ascontiguousarray(mask[:, of_steps]) if isinstance(of_steps, slice) else None

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

    def inside(self, pairs: Pairs, shape: Sequence[int]) -> tuple[slice, ...]:
        """Where the middle of an array of this shape lies, without what pairs say of its borders."""
        middle = [slice(None), *(slice(a, size - b) for (a, b), size in zip(pairs, self.middle(shape), strict=True))]
        if self.channels_first:
            middle.insert(1, slice(None))
        return tuple(middle)

    def middle(self, shape: Sequence[Any]) -> Sequence[Any]:
        return shape[2:] if self.channels_first else shape[1:-1]


class _ZeroPadding(_Spatial):
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

    def make_way(self, shape: Shape) -> tuple[Any, tuple[slice, ...]]:
        """The output's shape, and where in it the input lies."""
        output: Any = self.compute_output_shape(shape)
        return output, self.inside(self.padding, output)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if step.mask is not None:
            self.drop_mask(step)
        output, inside = self._ways.get(x.shape) or self.new_way(x.shape)
        y = step.empty(output, x.dtype)
        y.fill(0)
        y[inside] = x
        return y, inside

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return step.copy(dy[saved]) if input_gradient else None


class ZeroPadding1D(_ZeroPadding):
    __doc__ = f"(batch, steps, channels). {_ZeroPadding.__doc__}"
    rank = 1

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"padding": self.padding[0]}


class ZeroPadding2D(_ZeroPadding):
    __doc__ = f"(batch, height, width, channels). {_ZeroPadding.__doc__}"


class ZeroPadding3D(_ZeroPadding):
    __doc__ = f"(batch, depth, height, width, channels). {_ZeroPadding.__doc__}"
    rank = 3


class _Cropping(_Spatial):
    """Drops the borders of each sample.

    Args:
        cropping: an integer; or one for each axis; or a pair (before, behind) for each axis.
        data_format: "channels_last" (None, the default) or "channels_first".
    """

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

    def make_way(self, shape: Shape) -> tuple[slice, ...]:
        """What is left."""
        return self.inside(self.cropping, shape)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if step.mask is not None:
            self.drop_mask(step)
        return step.copy(x[self._ways.get(x.shape) or self.new_way(x.shape)]), x.shape

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if not input_gradient:
            return None
        dx = step.empty(saved, dy.dtype)
        dx.fill(0)
        dx[self._ways.get(saved) or self.new_way(saved)] = dy
        return dx


class Cropping1D(_Cropping):
    __doc__ = f"(batch, steps, channels). {_Cropping.__doc__}"
    rank = 1

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"cropping": self.cropping[0]}

    def __init__(self, cropping: int | Sequence[int] = (1, 1), **kwargs: Any) -> None:
        super().__init__(cropping, **kwargs)


class Cropping2D(_Cropping):
    __doc__ = f"(batch, height, width, channels). {_Cropping.__doc__}"

    def __init__(self, cropping: Any = ((0, 0), (0, 0)), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(cropping, data_format, **kwargs)


class Cropping3D(_Cropping):
    __doc__ = f"(batch, depth, height, width, channels). {_Cropping.__doc__}"
    rank = 3

    def __init__(self, cropping: Any = ((1, 1), (1, 1), (1, 1)), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(cropping, data_format, **kwargs)


class _UpSampling(_Spatial):
    """Repeats every element.

    Args:
        size: how often along each axis: an integer or one for each axis, 2.
        data_format: "channels_last" (None, the default), or "channels_first", which is transposed to it and back.
    """

    def __init__(self, size: int | Sequence[int] = 2, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.size = sizes(self.name, "size", size, self.rank)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        batch, *middle, channels = self.check(input_shape)
        repeated = (None if n is None else n * times for n, times in zip(middle, self.size, strict=True))
        return first_shape(self.channels_first, (batch, *repeated, channels))

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if step.mask is not None:
            self.drop_mask(step)
        if self.channels_first:
            x = to_last(True, x, step)
        y = self.upsample(x, step)
        return to_first(True, y, step) if self.channels_first else y, x.shape

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if not input_gradient:
            return None
        dx = self.upsample_backward(to_last(self.channels_first, dy, step), saved, step)
        return to_first(self.channels_first, dx, step)

    def upsample(self, x: Array, step: Step) -> Array:
        output, apart, ones = self._ways.get(x.shape) or self.new_way(x.shape)
        y = step.empty(output, x.dtype)
        y.reshape(apart)[...] = x.reshape(ones)
        return y

    def make_way(self, shape: Shape) -> tuple[Shape, Shape, Shape]:
        """The output's shape; and with an axis for each element's copies, (n, a, times, b, times, ..., c), those of
        the output and of the input.
        """
        n, *middle, c = shape
        pairs = list(zip(middle, self.size, strict=True))
        output = (n, *(a * times for a, times in pairs), c)
        return output, (n, *(s for pair in pairs for s in pair), c), (n, *(s for a, _ in pairs for s in (a, 1)), c)

    def upsample_backward(self, dy: Array, shape: tuple[int, ...], step: Step) -> Array:
        middle = zip(shape[1:-1], self.size, strict=True)
        return along_axes([_neighbours(n, times, dy.dtype) for n, times in middle], dy, step)


class UpSampling1D(_UpSampling):
    __doc__ = f"(batch, steps, channels). {_UpSampling.__doc__}"
    rank = 1

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

    def __init__(
        self,
        size: int | Sequence[int] = (2, 2),
        data_format: str | None = None,
        interpolation: str = "nearest",
        **kwargs: Any,
    ) -> None:
        super().__init__(size, data_format, **kwargs)
        self.interpolation = check_interpolation(self.name, interpolation)

    def upsample(self, x: Array, step: Step) -> Array:
        if self.interpolation == "nearest":
            return super().upsample(x, step)
        return along_axes([forward for forward, _, _ in self._resizing(x.shape, x.dtype)], x, step)

    def upsample_backward(self, dy: Array, shape: tuple[int, ...], step: Step) -> Array:
        if self.interpolation == "nearest":
            return super().upsample_backward(dy, shape, step)
        return along_axes([backward for _, backward, _ in self._resizing(shape, dy.dtype)], dy, step)

    def _resizing(self, shape: tuple[int, ...], dtype: Any) -> list[tuple[Bands, Bands, Array]]:
        middle = zip(shape[1:3], self.size, strict=True)
        return [resizing(n, n * times, dtype, self.interpolation) for n, times in middle]


class UpSampling3D(_UpSampling):
    __doc__ = f"(batch, depth, height, width, channels). {_UpSampling.__doc__}"
    rank = 3


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


Bands = tuple[Array, Array]  # a matrix as native.multiply_bands takes it: first, weights


def _bands(matrix: Array) -> Bands:
    inputs, used = matrix.shape[1], matrix != 0
    first, end = used.argmax(1), inputs - used[:, ::-1].argmax(1)
    width = max(1, int(np.where(used.any(1), end - first, 0).max()))
    first = np.minimum(first, inputs - width)
    weights = np.take_along_axis(matrix, first[:, None] + np.arange(width), 1)
    return first.astype(np.int32), np.ascontiguousarray(weights)


@lru_cache(maxsize=256)
def _neighbours(n: int, times: int, dtype: Any) -> Bands:
    """The matrix (n, n * times) that adds up so many neighbours each."""
    return np.arange(0, n * times, times, dtype=np.int32), np.ones((n, times), dtype)


@lru_cache(maxsize=256)
def resizing(
    inputs: int,
    outputs: int,
    dtype: Any,
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
    at = (np.arange(outputs) + 0.5) * size / outputs - 0.5
    if interpolation == "nearest":
        matrix = np.zeros((outputs, size), dtype)
        matrix[np.arange(outputs), np.minimum((at + 0.5).astype(int), size - 1)] = 1
    else:
        wide = max(size / outputs, 1.0) if antialias else 1.0
        weights = _KERNELS[interpolation](np.abs(at[:, None] - np.arange(size)) / wide)
        matrix = (weights / weights.sum(1, keepdims=True)).astype(dtype)
    matrix = np.pad(matrix, ((0, 0), (max(start, 0), max(inputs - start - size, 0))))
    matrix = matrix[:, max(-start, 0) : max(-start, 0) + inputs]
    return _bands(matrix), _bands(matrix.T), matrix.sum(1)


def along_axes(matrices: Sequence[Bands], x: Array, step: Step) -> Array:
    """The products with a matrix along each of the axes between the batch and the channels, the last axis first."""
    shape, kind, inner = list(x.shape), x.dtype, x.shape[-1]
    for axis in range(len(matrices), 0, -1):
        first, weights = matrices[axis - 1]
        outer, size = math.prod(shape[:axis]), len(first)
        y = step.empty((outer, size, inner), kind)
        native.multiply_bands(first, weights, x.reshape(outer, shape[axis], inner), y)
        shape[axis], x = size, y
        inner *= size
    return x.reshape(shape)


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
