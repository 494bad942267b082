"""Layers for images (batch, height, width, channels): resizing and cropping. Random changes are in `augmentation`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._core import native
from .._typing import Array, BatchShape, Shape
from ..step import Step, Stream
from .base import Layer
from .checks import check_rank, data_array, positive
from .geometry import check_data_format, first_shape, last_shape
from .reshaping import Resampled, check_interpolation, margins, resampled, resizing


class Images(Layer):
    """A layer over images, or over a single one where it is called on an array.

    A subclass implements `change`, the `forward` of a batch, and `backward`.
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format, self.channels_first = check_data_format(self.name, data_format)

    def _accept(self, inputs: Any) -> Any:
        if type(inputs) is list and np.ndim(inputs) != 3:
            return super()._accept(inputs)
        x = data_array(self.name, inputs, self.dtype)
        if x.ndim != 3:
            return super()._accept(x)
        super()._accept(x[None])
        self._accepted = x.shape, x.dtype
        return x

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        axes = "(batch, channels, height, width)" if self.channels_first else "(batch, height, width, channels)"
        if len(input_shape) != 4:
            check_rank(f"{self.name} ({type(self).__name__})", input_shape, 4, axes)
        return first_shape(self.channels_first, self.changed_shape(last_shape(self.channels_first, input_shape)))

    def changed_shape(self, shape: BatchShape) -> BatchShape:
        return shape

    def change(self, x: Array, step: Step) -> tuple[Array, Any]:
        raise TypeError(f"{type(self).__name__} must define change")

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if len(x.shape) == 3:
            return self.change(x[None], step)[0][0], None
        return self.change(x, step)


class Resizing(Images):
    """Images of another size.

    Args:
        height, width: the new size.
        interpolation: "bilinear" (the default), "bicubic", "lanczos3" or "lanczos5" between the pixels' centres, or
            "nearest".
        crop_to_aspect_ratio: cut the largest centred part of the new shape first, instead of distorting (False).
        pad_to_aspect_ratio: pad to the new shape first, instead of distorting (False).
        fill_mode, fill_value: what is padded: "constant" is the only mode; 0.
        antialias: in shrinking, average over all pixels, instead of sampling some (False).
        data_format: "channels_last" (None, the default) or "channels_first".
    """

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        crop_to_aspect_ratio: bool = False,
        pad_to_aspect_ratio: bool = False,
        fill_mode: str = "constant",
        fill_value: float = 0.0,
        antialias: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format, **kwargs)
        self.height, self.width = positive(self.name, "height", height), positive(self.name, "width", width)
        self.interpolation = check_interpolation(self.name, interpolation)
        if crop_to_aspect_ratio and pad_to_aspect_ratio:
            raise ValueError(f"{self.name}: only one of crop_to_aspect_ratio and pad_to_aspect_ratio may be true")
        if fill_mode != "constant":
            raise ValueError(f"{self.name}: fill_mode must be 'constant', received {fill_mode!r}")
        self.crop_to_aspect_ratio, self.pad_to_aspect_ratio = crop_to_aspect_ratio, pad_to_aspect_ratio
        self.fill_mode, self.fill_value, self.antialias = fill_mode, float(fill_value), antialias

    def changed_shape(self, shape: BatchShape) -> BatchShape:
        return (shape[0], self.height, self.width, shape[3])

    def _parts(self, h: int, w: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Of each axis: where the part that is resized starts, below 0 where it is padded, and its size."""
        tall, wide = int(w * self.height / self.width), int(h * self.width / self.height)  # of the new shape
        if self.crop_to_aspect_ratio:
            tall, wide = max(1, min(h, tall)), max(1, min(w, wide))
            return ((h - tall) // 2, tall), ((w - wide) // 2, wide)
        if self.pad_to_aspect_ratio:
            above, before = (max(h, tall) - h) // 2, (max(w, wide) - w) // 2
            return (-above, h + 2 * above), (-before, w + 2 * before)
        return (0, h), (0, w)

    def change(self, x: Array, step: Step) -> tuple[Array, Any]:
        (output, forward, backward), padding = self._ways.get(x.shape) or self.new_way(x.shape)
        y = step.empty(output, x.dtype)
        native.resample(forward, x, y)
        if padding is not None:
            y += padding
        return y, (backward, x.shape)

    def make_way(self, shape: Shape) -> tuple[Resampled, Array | None]:
        """What resizes, and what has to be added for the part of each pixel that is padding."""
        h, w = shape[2:] if self.channels_first else shape[1:3]
        axes = zip((h, w), (self.height, self.width), self._parts(h, w), strict=True)
        forward, backward, sums = zip(
            *(resizing(n, to, self.interpolation, self.antialias, part) for n, to, part in axes), strict=True
        )
        padding = None
        if self.pad_to_aspect_ratio and self.fill_value:
            padding = (self.fill_value * (1 - np.outer(*sums))).astype(self.dtype)
            padding = padding if self.channels_first else padding[..., None]
        return resampled(shape, list(zip(forward, backward, strict=True)), self.channels_first), padding

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if not input_gradient:
            return None
        backward, shape = saved
        dx = step.empty(shape, dy.dtype)
        native.resample(backward, dy, dx)
        return dx


class _Cut(NamedTuple):
    """How images of one shape are cropped: what is around the part, or None where they are too small; what resizes them
    then; and the output's shape."""

    margins: native.Margins | None
    resize: Resizing
    output: Shape


class CenterCrop(Images):
    """The middle of each image. One that is too small is resized instead, its largest part of the new shape.

    Args:
        height, width: the new size.
        data_format: "channels_last" (None, the default) or "channels_first".
    """

    def __init__(self, height: int, width: int, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.height, self.width = positive(self.name, "height", height), positive(self.name, "width", width)

    def changed_shape(self, shape: BatchShape) -> BatchShape:
        return (shape[0], self.height, self.width, shape[3])

    def make_way(self, shape: Shape) -> _Cut:
        size = self.height, self.width
        resize = Resizing(
            *size, crop_to_aspect_ratio=True, data_format=self.data_format, name=self.name, dtype=self.dtype
        )
        output: Any = self.compute_output_shape(shape)
        h, w = shape[2:] if self.channels_first else shape[1:3]
        if h < self.height or w < self.width:
            return _Cut(None, resize, output)
        pairs = [((n - to) // 2, (n - to + 1) // 2) for n, to in zip((h, w), size, strict=True)]
        return _Cut(margins(output, pairs, self.channels_first), resize, output)

    def change(self, x: Array, step: Step) -> tuple[Array, Any]:
        way: _Cut = self._ways.get(x.shape) or self.new_way(x.shape)
        if way.margins is None:
            y, saved = way.resize.forward(x, step)
            return y, (way, saved)
        y = step.empty(way.output, x.dtype)
        native.crop(way.margins, x, y)
        return y, (way, x.shape)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        way, inner = saved
        if way.margins is None or not input_gradient:
            return way.resize.backward(dy, inner, step, input_gradient)
        dx = step.empty(inner, dy.dtype)
        native.pad(way.margins, dy, dx)
        return dx


class RandomCrop(CenterCrop):
    """In training, a part of each image at a random place, the same for the whole batch.

    Otherwise, and where images are too small, the largest part of the new shape, resized.

    Args:
        height, width: the new size.
        seed: fixes the sequence of places; by default the next seed of the global stream.
        data_format: "channels_last" (None, the default) or "channels_first".
    """

    def __init__(
        self,
        height: int,
        width: int,
        seed: int | None = None,
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(height, width, data_format, name=name, **kwargs)
        self.seed = seed
        self.stream = Stream(seed)

    def change(self, x: Array, step: Step) -> tuple[Array, Any]:
        way: _Cut = self._ways.get(x.shape) or self.new_way(x.shape)
        if way.margins is None or not step.training:
            y, saved = way.resize.forward(x, step)
            return y, (way, None, saved)
        number = self.stream.next()
        y = step.empty(way.output, x.dtype)
        native.random_crop_forward(self.channels_first, self.stream.seed, number, x, y)
        return y, (way, number, x.shape)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        way, number, inner = saved
        if number is None or not input_gradient:
            return way.resize.backward(dy, inner, step, input_gradient)
        dx = step.empty(inner, dy.dtype)
        native.random_crop_backward(self.channels_first, self.stream.seed, number, dy, dx)
        return dx


__all__ = ["CenterCrop", "RandomCrop", "Resizing"]
