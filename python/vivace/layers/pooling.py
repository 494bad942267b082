"""Pooling layers: over windows, and over everything but the channels.

All of them are the two kernels of 2-D pooling: a sequence is an image of height 1, a volume is pooled in its slices and
then across them, and global pooling has one window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .._core import native
from .._typing import Array, BatchShape, Shape
from ..step import Step
from .base import Layer, check_rank, same_padding
from .geometry import (
    AXES,
    check_data_format,
    check_padding,
    filled,
    first_shape,
    last_shape,
    sizes,
    to_first,
    to_last,
    two,
    unknown_as,
)


class _Way(NamedTuple):
    """One pass over images."""

    shape: native.Pool2DShape
    output: Shape
    positions: Any  # the dtype of the winners' positions


def _way(shape: native.Pool2DShape, output: Shape, window: int) -> _Way:
    """window: elements in it."""
    return _Way(shape, output, np.dtype(np.uint8 if window <= 256 else np.uint32))


class _Pooling(Layer):
    """A layer over (batch, ..., channels) with `rank` axes between the two."""

    rank = 2
    maximum = True

    def __init__(self, data_format: str | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format, self.channels_first = check_data_format(self.name, data_format)

    def check(self, input_shape: BatchShape) -> BatchShape:
        """The shape with the channels last."""
        axes = f"channels, {AXES[self.rank]}" if self.channels_first else f"{AXES[self.rank]}, channels"
        check_rank(f"{self.name} ({type(self).__name__})", input_shape, self.rank + 2, f"(batch, {axes})")
        return last_shape(self.channels_first, input_shape)

    def pool(self, way: _Way, x: Array, step: Step) -> tuple[Array, Any]:
        shape, output, kind = way
        if not self.maximum:
            y = step.empty(output, x.dtype)
            native.average_pool2d_forward(shape, x, y)
            return y, (shape, None)
        positions = step.empty(output, kind) if step.training else None
        y = step.empty(output, x.dtype)
        native.max_pool2d_forward(shape, x, y, positions)
        return y, (shape, positions)

    def bound_pool(self, way: _Way, x: Array, step: Step) -> tuple[Array, list[Any]]:
        """The pass in inference, bound to its arrays: see `vivace.plan`."""
        y = step.empty(way.output, x.dtype)
        if self.maximum:
            return y, [partial(native.max_pool2d_forward, way.shape, x, y, None)]
        return y, [partial(native.average_pool2d_forward, way.shape, x, y)]

    def pool_backward(self, dy: Array, saved: Any, step: Step) -> Array:
        shape, positions = saved
        dx = step.empty(shape.input, dy.dtype)
        if self.maximum:
            native.max_pool2d_backward(shape, dy, positions, dx)
        else:
            native.average_pool2d_backward(shape, dy, dx)
        return dx


class _WindowPooling(_Pooling):
    """Pooling over windows.

    Args:
        pool_size: the window; an integer or one for each axis.
        strides: the step from window to window; None, the default, means pool_size.
        padding: "valid", or "same" (so that an axis has ceil(size / stride) outputs); padding never wins and is never
            counted.
        data_format: "channels_last" (None, the default), or "channels_first", which is transposed to it and back: two
            copies each way.
    """

    def __init__(
        self,
        pool_size: int | Sequence[int] = 2,
        strides: int | Sequence[int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format, name=name, **kwargs)
        self.pool_size = sizes(self.name, "pool_size", pool_size, self.rank)
        self.strides = self.pool_size if strides is None else sizes(self.name, "strides", strides, self.rank)
        self.padding = check_padding(self.name, padding)
        self._area = math.prod(self.pool_size[max(0, self.rank - 2) :])  # of a window in an image

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        known = self.check(input_shape)
        shape = filled(known, self.pool_size)
        way = self._ways.get(shape) or self.new_way(shape)
        last: _Way = way[1] if self.rank == 3 else way
        output = unknown_as(known, (known[0], *last.output[1:]))
        return first_shape(self.channels_first, (*output[:-1], known[-1]))

    def make_way(self, shape: Shape) -> Any:
        """Of a volume two: over its slices, and across them."""
        if self.rank < 3:
            image = self._image_shape(shape)
            return _way(image, (shape[0], *image.output[3 - self.rank :]), self._area)
        slices = self._image_shape((shape[0] * shape[1], *shape[2:]))
        across = self._across(shape, slices.output)
        output = (*across.output[:2], *slices.output[1:])
        return _way(slices, slices.output, self._area), _way(across, output, self.pool_size[0])

    def shape_for(self, x_shape: Shape) -> native.Pool2DShape:
        """The geometry of images (or sequences) of this shape, channels last."""
        way: _Way = self._ways.get(x_shape) or self.new_way(x_shape)
        return way.shape

    def _image_shape(self, x: Shape) -> native.Pool2DShape:
        axes = slice(max(0, self.rank - 2), None)  # a volume's depth is not one of the slices'
        window, strides = two(self.pool_size[axes]), two(self.strides[axes])
        image = (x[0], *two(x[1:-1]), x[-1])
        padding = [0, 0, 0, 0]
        if self.padding == "same":
            pads = (same_padding(*axis) for axis in zip(image[1:3], window, strides, strict=True))
            padding = [p for pad in pads for p in pad]
        return native.Pool2DShape(image, window, strides, tuple(padding))  # type: ignore[arg-type]

    def _across(self, x: Shape, slices: Shape) -> native.Pool2DShape:
        """The geometry across a volume's pooled slices: they are the rows of images (batch, depth, p * q, channels)."""
        window, stride = self.pool_size[0], self.strides[0]
        padding = same_padding(x[1], window, stride) if self.padding == "same" else (0, 0)
        image = (x[0], x[1], slices[1] * slices[2], slices[3])
        return native.Pool2DShape(image, (window, 1), (stride, 1), (*padding, 0, 0))

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if step.mask is not None:
            self.drop_mask(step)
        if self.channels_first:
            x = to_last(True, x, step)
        across = None
        way = self._ways.get(x.shape) or self.new_way(x.shape)
        if self.rank == 3:
            y, saved = self.pool(way[0], x, step)
            y, across = self.pool(way[1], y, step)
        else:
            y, saved = self.pool(way, x, step)
        return to_first(True, y, step) if self.channels_first else y, (saved, across, x.shape)

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        if self.channels_first or self.rank == 3:
            return None
        return self.bound_pool(self._ways.get(x.shape) or self.new_way(x.shape), x, step)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if not input_gradient:
            return None
        saved, across, shape = saved
        dy = to_last(self.channels_first, dy, step)
        if across is not None:
            dy = self.pool_backward(dy, across, step)
        return to_first(self.channels_first, self.pool_backward(dy, saved, step).reshape(shape), step)


class MaxPooling1D(_WindowPooling):
    __doc__ = f"The maximum of each window of (batch, steps, channels). {_WindowPooling.__doc__}"
    rank = 1
    bind = _WindowPooling.bind


class MaxPooling2D(_WindowPooling):
    __doc__ = f"The maximum of each window of (batch, height, width, channels). {_WindowPooling.__doc__}"
    bind = _WindowPooling.bind


class MaxPooling3D(_WindowPooling):
    __doc__ = f"The maximum of each window of (batch, depth, height, width, channels). {_WindowPooling.__doc__}"
    rank = 3


class AveragePooling1D(_WindowPooling):
    __doc__ = f"The mean of each window of (batch, steps, channels). {_WindowPooling.__doc__}"
    rank, maximum = 1, False
    bind = _WindowPooling.bind


class AveragePooling2D(_WindowPooling):
    __doc__ = f"The mean of each window of (batch, height, width, channels). {_WindowPooling.__doc__}"
    maximum = False
    bind = _WindowPooling.bind


class AveragePooling3D(_WindowPooling):
    __doc__ = f"The mean of each window of (batch, depth, height, width, channels). {_WindowPooling.__doc__}"
    rank, maximum = 3, False


class _GlobalPooling(_Pooling):
    """Pooling over all axes between the batch and the channels: output (batch, channels).

    Args:
        data_format: "channels_last" (None, the default), or "channels_first", which is transposed first: a copy.
        keepdims: keep those axes, with size 1 (False).
    """

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.keepdims = keepdims

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        batch, *axes, channels = self.check(input_shape)
        return first_shape(self.channels_first, (batch, *(1 for _ in axes if self.keepdims), channels))

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        mask = step.mask
        if mask is not None:
            if self.rank == 1 and not self.maximum:
                step.mask = None  # used up
            else:
                self.drop_mask(step)
        if self.channels_first:
            x = to_last(True, x, step)
        saved: Any
        if self.rank == 1 and mask is not None and not self.maximum:
            y, saved = self._masked_mean(x, mask, step)
        else:
            y, saved = self.pool(self._ways.get(x.shape) or self.new_way(x.shape), x, step)
        return y, (saved, x.shape)

    def make_way(self, shape: Shape) -> _Way:
        window = math.prod(shape[1:-1])
        image = native.Pool2DShape((shape[0], 1, window, shape[-1]), (1, window), (1, window))
        return _way(image, self._output(shape), window)

    def _output(self, x_shape: Shape) -> Shape:
        """The output's shape for an input that has its channels last."""
        if not self.keepdims:
            return x_shape[0], x_shape[-1]
        kept: Any = first_shape(self.channels_first, (x_shape[0], *(1,) * self.rank, x_shape[-1]))
        return kept

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        if self.channels_first:
            return None
        return self.bound_pool(self._ways.get(x.shape) or self.new_way(x.shape), x, step)

    def _masked_mean(self, x: Array, mask: Array, step: Step) -> tuple[Array, Array]:
        """The mean of the steps that count (0 / 0 of none, as in Keras), and each step's share in it."""
        share = mask.astype(x.dtype)
        with np.errstate(invalid="ignore"):
            share /= share.sum(1, keepdims=True)
        y = step.empty(self._output(x.shape), x.dtype)
        np.einsum("nt,ntc->nc", share, x, out=y.reshape(len(x), -1))
        return y, share

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if not input_gradient:
            return None
        saved, shape = saved
        if isinstance(saved, np.ndarray):
            dx = step.empty(shape, dy.dtype)
            np.multiply(saved[:, :, None], dy.reshape(len(dy), 1, -1), out=dx)
        else:
            dx = self.pool_backward(dy, saved, step).reshape(shape)
        return to_first(self.channels_first, dx, step)


class GlobalAveragePooling1D(_GlobalPooling):
    __doc__ = f"The mean of (batch, steps, channels) over the steps that a mask leaves. {_GlobalPooling.__doc__}"
    rank, maximum = 1, False
    bind = _GlobalPooling.bind


class GlobalAveragePooling2D(_GlobalPooling):
    __doc__ = f"The mean of (batch, height, width, channels) over the pixels. {_GlobalPooling.__doc__}"
    maximum = False
    bind = _GlobalPooling.bind


class GlobalAveragePooling3D(_GlobalPooling):
    __doc__ = f"The mean of (batch, depth, height, width, channels) over the voxels. {_GlobalPooling.__doc__}"
    rank, maximum = 3, False
    bind = _GlobalPooling.bind


class GlobalMaxPooling1D(_GlobalPooling):
    __doc__ = f"The maximum of (batch, steps, channels) over the steps. {_GlobalPooling.__doc__}"
    rank = 1
    bind = _GlobalPooling.bind


class GlobalMaxPooling2D(_GlobalPooling):
    __doc__ = f"The maximum of (batch, height, width, channels) over the pixels. {_GlobalPooling.__doc__}"
    bind = _GlobalPooling.bind


class GlobalMaxPooling3D(_GlobalPooling):
    __doc__ = f"The maximum of (batch, depth, height, width, channels) over the voxels. {_GlobalPooling.__doc__}"
    rank = 3
    bind = _GlobalPooling.bind


MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
GlobalAvgPool1D, GlobalAvgPool2D, GlobalAvgPool3D = (
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
)
GlobalMaxPool1D, GlobalMaxPool2D, GlobalMaxPool3D = GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D
