"""Pooling layers: over windows, and over everything but the channels.

A sequence is an image of height 1, and global pooling has one window. Volumes are pooled in boxes of any place and
size, as is everything by the layers of `adaptive`.
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
from .base import Layer
from .checks import check_rank
from .geometry import (
    AXES,
    check_data_format,
    check_padding,
    filled,
    first_shape,
    last_shape,
    same_padding,
    sizes,
    to_first,
    to_last,
    two,
    unknown_as,
)

Windows = list[tuple[int, int]]


class _Way(NamedTuple):
    """One pass over images or volumes."""

    shape: Any  # native.Pool2DShape or Pool3DShape
    output: Shape
    forward: str  # the native functions' names
    backward: str
    positions: Any  # the dtype of the winners' positions; None: means have none


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

    def way(self, shape: Any, output: Shape, window: int) -> _Way:
        """window: elements in the largest one."""
        op = f"{'max' if self.maximum else 'average'}_pool{'3d' if isinstance(shape, native.Pool3DShape) else '2d'}"
        kind = np.dtype(np.uint8 if window <= 256 else np.uint32) if self.maximum else None
        return _Way(shape, output, f"{op}_forward", f"{op}_backward", kind)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if step.mask is not None:
            self.drop_mask(step)
        if self.channels_first:
            x = to_last(True, x, step)
        y, saved = self.pool(x, step)
        return to_first(True, y, step) if self.channels_first else y, saved

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if not input_gradient:
            return None
        dx = self.pool_backward(to_last(self.channels_first, dy, step), saved, step)
        return to_first(self.channels_first, dx, step)

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        if self.channels_first:
            return None
        shape, output, forward, _, positions = self._ways.get(x.shape) or self.new_way(x.shape)
        y = step.empty(output, x.dtype)
        return y, [partial(getattr(native, forward), shape, x, y, *([] if positions is None else [None]))]

    def pool(self, x: Array, step: Step) -> tuple[Array, Any]:
        way = self._ways.get(x.shape) or self.new_way(x.shape)
        shape, output, forward, _, kind = way
        if kind is None:
            y = step.empty(output, x.dtype)
            getattr(native, forward)(shape, x, y)
            return y, (way, None, x.shape)
        positions = step.empty(output, kind) if step.training else None
        y = step.empty(output, x.dtype)
        getattr(native, forward)(shape, x, y, positions)
        return y, (way, positions, x.shape)

    def pool_backward(self, dy: Array, saved: Any, step: Step) -> Array:
        way, positions, x_shape = saved
        dx = step.empty(x_shape, dy.dtype)
        if positions is None:
            getattr(native, way.backward)(way.shape, dy, dx)
        else:
            getattr(native, way.backward)(way.shape, dy, positions, dx)
        return dx


class BoxPooling(_Pooling):
    """Pooling over boxes of any place and size.

    A subclass implements `windows`.
    """

    def windows(self, shape: Shape) -> list[Windows]:
        """Of each axis between the batch and the channels: what each output sees, its first element and the end."""
        raise TypeError(f"{type(self).__name__} must define windows(shape)")

    def make_way(self, shape: Shape) -> _Way:
        windows, missing = self.windows(shape), 3 - self.rank
        volume = (shape[0], *(1,) * missing, *shape[1:])
        boxes = native.Pool3DShape(volume, [*[[(0, 1)]] * missing, *windows])  # type: ignore[arg-type]
        return self.way(boxes, (shape[0], *map(len, windows), shape[-1]), boxes.largest)


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

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        known = self.check(input_shape)
        shape = filled(known, self.pool_size)
        way: _Way = self._ways.get(shape) or self.new_way(shape)
        output = unknown_as(known, (known[0], *way.output[1:]))
        return first_shape(self.channels_first, (*output[:-1], known[-1]))

    def make_way(self, shape: Shape) -> _Way:
        image, window, strides = (shape[0], *two(shape[1:-1]), shape[-1]), two(self.pool_size), two(self.strides)
        padding = [0, 0, 0, 0]
        if self.padding == "same":
            pads = (same_padding(*axis) for axis in zip(image[1:3], window, strides, strict=True))
            padding = [p for pad in pads for p in pad]
        geometry = native.Pool2DShape(image, window, strides, tuple(padding))  # type: ignore[arg-type]
        return self.way(geometry, (shape[0], *geometry.output[3 - self.rank :]), math.prod(self.pool_size))

    def shape_for(self, x_shape: Shape) -> native.Pool2DShape:
        """The geometry of images (or sequences) of this shape, channels last."""
        way: Any = self._ways.get(x_shape) or self.new_way(x_shape)
        shape: native.Pool2DShape = way.shape
        return shape


class _VolumePooling(BoxPooling, _WindowPooling):
    rank = 3

    def windows(self, shape: Shape) -> list[Windows]:
        axes = zip(shape[1:-1], self.pool_size, self.strides, strict=True)
        return [self._along(*axis) for axis in axes]

    def _along(self, size: int, window: int, stride: int) -> Windows:
        before, behind = same_padding(size, window, stride) if self.padding == "same" else (0, 0)
        starts = range(-before, size + behind - window + 1, stride)
        if not starts:
            raise ValueError(f"window {window} does not fit an axis of {size}")
        return [(max(0, start), min(size, start + window)) for start in starts]


class MaxPooling1D(_WindowPooling):
    __doc__ = f"The maximum of each window of (batch, steps, channels). {_WindowPooling.__doc__}"
    rank = 1
    bind = _Pooling.bind


class MaxPooling2D(_WindowPooling):
    __doc__ = f"The maximum of each window of (batch, height, width, channels). {_WindowPooling.__doc__}"
    bind = _Pooling.bind


class MaxPooling3D(_VolumePooling):
    __doc__ = f"The maximum of each window of (batch, depth, height, width, channels). {_WindowPooling.__doc__}"
    bind = _Pooling.bind


class AveragePooling1D(_WindowPooling):
    __doc__ = f"The mean of each window of (batch, steps, channels). {_WindowPooling.__doc__}"
    rank, maximum = 1, False
    bind = _Pooling.bind


class AveragePooling2D(_WindowPooling):
    __doc__ = f"The mean of each window of (batch, height, width, channels). {_WindowPooling.__doc__}"
    maximum = False
    bind = _Pooling.bind


class AveragePooling3D(_VolumePooling):
    __doc__ = f"The mean of each window of (batch, depth, height, width, channels). {_WindowPooling.__doc__}"
    maximum = False
    bind = _Pooling.bind


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
        if self.rank == 1 and mask is not None and not self.maximum:
            return self._masked_mean(x, mask, step)
        return self.pool(x, step)

    def make_way(self, shape: Shape) -> _Way:
        window = math.prod(shape[1:-1])
        image = native.Pool2DShape((shape[0], 1, window, shape[-1]), (1, window), (1, window))
        return self.way(image, self._output(shape), window)

    def _output(self, x_shape: Shape) -> Shape:
        """The output's shape for an input that has its channels last."""
        if not self.keepdims:
            return x_shape[0], x_shape[-1]
        kept: Any = first_shape(self.channels_first, (x_shape[0], *(1,) * self.rank, x_shape[-1]))
        return kept

    def _masked_mean(self, x: Array, mask: Array, step: Step) -> tuple[Array, Any]:
        """The mean of the steps that count (0 / 0 of none, as in Keras): a product with each step's share in it."""
        share = mask.astype(x.dtype)
        with np.errstate(invalid="ignore"):
            share /= share.sum(1, keepdims=True)
        y = step.empty(self._output(x.shape), x.dtype)
        op = native.Einsum("nt", "ntc", "nc", share.shape, x.shape, ())
        native.einsum_forward(op, share, x, None, y.reshape(op.output))
        return y, (op, share, x)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if not input_gradient:
            return None
        if isinstance(saved[0], native.Einsum):
            op, share, x = saved
            dx = step.empty(x.shape, dy.dtype)
            native.einsum_backward(op, share, x, dy.reshape(op.output), (None, dx, None), False)
        else:
            dx = self.pool_backward(dy, saved, step)
        return to_first(self.channels_first, dx, step)


class GlobalAveragePooling1D(_GlobalPooling):
    __doc__ = f"The mean of (batch, steps, channels) over the steps that a mask leaves. {_GlobalPooling.__doc__}"
    rank, maximum = 1, False
    bind = _Pooling.bind


class GlobalAveragePooling2D(_GlobalPooling):
    __doc__ = f"The mean of (batch, height, width, channels) over the pixels. {_GlobalPooling.__doc__}"
    maximum = False
    bind = _Pooling.bind


class GlobalAveragePooling3D(_GlobalPooling):
    __doc__ = f"The mean of (batch, depth, height, width, channels) over the voxels. {_GlobalPooling.__doc__}"
    rank, maximum = 3, False
    bind = _Pooling.bind


class GlobalMaxPooling1D(_GlobalPooling):
    __doc__ = f"The maximum of (batch, steps, channels) over the steps. {_GlobalPooling.__doc__}"
    rank = 1
    bind = _Pooling.bind


class GlobalMaxPooling2D(_GlobalPooling):
    __doc__ = f"The maximum of (batch, height, width, channels) over the pixels. {_GlobalPooling.__doc__}"
    bind = _Pooling.bind


class GlobalMaxPooling3D(_GlobalPooling):
    __doc__ = f"The maximum of (batch, depth, height, width, channels) over the voxels. {_GlobalPooling.__doc__}"
    rank = 3
    bind = _Pooling.bind


MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
GlobalAvgPool1D, GlobalAvgPool2D, GlobalAvgPool3D = (
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
)
GlobalMaxPool1D, GlobalMaxPool2D, GlobalMaxPool3D = GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D
