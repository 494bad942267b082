"""Layers for images (batch, height, width, channels): resizing, cropping, and random changes in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import random
from .._core import native
from .._typing import Array, BatchShape, Shape
from ..step import Step
from .base import Layer, check_rank, positive
from .geometry import check_data_format, first_shape, last_shape, to_first, to_last
from .reshaping import Resampled, check_interpolation, resampled, resizing
from .symbolic import is_symbolic

Range = tuple[float, float]


class _Images(Layer):
    """A layer over images, or over a single one where it is called on an array; `change` and `change_backward` see a
    batch with the channels last."""

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format, self.channels_first = check_data_format(self.name, data_format)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and type(args[0]) is np.ndarray:
            one = args[0].ndim == 3
        else:
            one = len(args) == 1 and not is_symbolic(args[0]) and np.ndim(args[0]) == 3
        if one:
            return super().__call__(np.asarray(args[0])[None], **kwargs)[0]
        return super().__call__(*args, **kwargs)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        axes = "(batch, channels, height, width)" if self.channels_first else "(batch, height, width, channels)"
        if len(input_shape) != 4:
            check_rank(f"{self.name} ({type(self).__name__})", input_shape, 4, axes)
        return first_shape(self.channels_first, self.changed_shape(last_shape(self.channels_first, input_shape)))

    def changed_shape(self, shape: BatchShape) -> BatchShape:
        return shape

    def change(self, x: Array, step: Step) -> tuple[Array, Any]:
        raise TypeError(f"{type(self).__name__} must define change")

    def change_backward(self, dy: Array, saved: Any, step: Step) -> Array:
        raise TypeError(f"{type(self).__name__} must define change_backward")

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if not self.channels_first:
            return self.change(x, step)
        y, saved = self.change(to_last(True, x, step), step)
        return to_first(True, y, step), saved

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if not input_gradient:
            return None
        dx = self.change_backward(to_last(self.channels_first, dy, step), saved, step)
        return to_first(self.channels_first, dx, step)


def _crop(x: Array, top: int, left: int, height: int, width: int, step: Step) -> Array:
    return step.copy(x[:, top : top + height, left : left + width])


def _uncrop(dy: Array, shape: tuple[int, ...], top: int, left: int, step: Step) -> Array:
    dx = step.empty(shape, dy.dtype)
    dx.fill(0)
    dx[:, top : top + dy.shape[1], left : left + dy.shape[2]] = dy
    return dx


class Resizing(_Images):
    """Images of another size.

    Args:
        height, width: the new size.
        interpolation: "bilinear" (the default), "bicubic", "lanczos3" or "lanczos5" between the pixels' centres, or
            "nearest".
        crop_to_aspect_ratio: cut the largest centred part of the new shape first, instead of distorting (False).
        pad_to_aspect_ratio: pad to the new shape first, instead of distorting (False).
        fill_mode, fill_value: what is padded: "constant" is the only mode; 0.
        antialias: in shrinking, average over all pixels, instead of sampling some (False).
        data_format: "channels_last" (None, the default), or "channels_first", which is transposed to it and back.
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
        _, h, w, _ = shape
        axes = zip((h, w), (self.height, self.width), self._parts(h, w), strict=True)
        forward, backward, sums = zip(
            *(resizing(n, to, self.interpolation, self.antialias, part) for n, to, part in axes), strict=True
        )
        padding = None
        if self.pad_to_aspect_ratio and self.fill_value:
            padding = (self.fill_value * (1 - np.outer(*sums))[..., None]).astype(self.dtype)
        return resampled(shape, list(zip(forward, backward, strict=True))), padding

    def change_backward(self, dy: Array, saved: Any, step: Step) -> Array:
        backward, shape = saved
        dx = step.empty(shape, dy.dtype)
        native.resample(backward, dy, dx)
        return dx


class CenterCrop(_Images):
    """The middle of each image. One that is too small is resized instead, its largest part of the new shape.

    Args:
        height, width: the new size.
        data_format: "channels_last" (None, the default), or "channels_first", which is transposed to it and back.
    """

    def __init__(self, height: int, width: int, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.height, self.width = positive(self.name, "height", height), positive(self.name, "width", width)
        self._resize = Resizing(height, width, crop_to_aspect_ratio=True, dtype=self.dtype)

    def changed_shape(self, shape: BatchShape) -> BatchShape:
        return (shape[0], self.height, self.width, shape[3])

    def corner(self, h: int, w: int, step: Step) -> tuple[int, int]:
        return (h - self.height) // 2, (w - self.width) // 2

    def cuts(self, h: int, w: int, step: Step) -> bool:
        """Whether an image of this size is cropped, not resized."""
        return h >= self.height and w >= self.width

    def change(self, x: Array, step: Step) -> tuple[Array, Any]:
        _, h, w, _ = x.shape
        if not self.cuts(h, w, step):
            y, matrices = self._resize.change(x, step)
            return y, (None, matrices)
        corner = self.corner(h, w, step)
        return _crop(x, *corner, self.height, self.width, step), (x.shape, corner)

    def change_backward(self, dy: Array, saved: Any, step: Step) -> Array:
        shape, how = saved
        return (
            self._resize.change_backward(dy, how, step) if shape is None else _uncrop(dy, shape, how[0], how[1], step)
        )


class RandomCrop(CenterCrop):
    """In training, a part of each image at a random place, the same for the whole batch.

    Otherwise, and where images are too small, the largest part of the new shape, resized.

    Args:
        height, width: the new size.
        seed: fixes the sequence of places; by default the next seed of the global stream.
        data_format: "channels_last" (None, the default), or "channels_first", which is transposed to it and back.
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
        self.rng = random.generator(seed)

    def cuts(self, h: int, w: int, step: Step) -> bool:
        return step.training and super().cuts(h, w, step)

    def corner(self, h: int, w: int, step: Step) -> tuple[int, int]:
        return int(self.rng.integers(h - self.height + 1)), int(self.rng.integers(w - self.width + 1))


class _Random(_Images):
    """A random change of each image in training; the identity otherwise."""

    def __init__(self, seed: int | None, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.seed = seed
        self.rng = random.generator(seed)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        return super().forward(x, step) if step.training else (x, None)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return dy if saved is None else super().backward(dy, saved, step, input_gradient)

    def range(self, argument: str, factor: float | Sequence[float], lowest: float = -1.0) -> Range:
        """One number stands for (-factor, factor), two for (lower, upper)."""
        given = (-abs(factor), abs(factor)) if isinstance(factor, (int, float)) else tuple(factor)
        if len(given) != 2 or not lowest <= min(given) <= max(given):
            raise ValueError(f"{self.name}: {argument} must be a number or two, at least {lowest}, received {factor!r}")
        return min(given), max(given)

    def draw(self, between: Range, rows: int) -> Array:
        return self.rng.uniform(*between, rows)


class RandomFlip(_Random):
    """In training, mirrors each image with probability 1/2, for each direction.

    Args:
        mode: "horizontal" (left and right), "vertical" (top and bottom) or "horizontal_and_vertical", the default.
        seed: fixes the sequence of flips; by default the next seed of the global stream.
        data_format: "channels_last" (None, the default), or "channels_first", which is transposed to it and back.
    """

    def __init__(
        self,
        mode: str = "horizontal_and_vertical",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, data_format, **kwargs)
        if mode not in ("horizontal", "vertical", "horizontal_and_vertical"):
            raise ValueError(
                f"{self.name}: mode must be 'horizontal', 'vertical' or 'horizontal_and_vertical', received {mode!r}"
            )
        self.axes = [axis for axis, name in ((1, "vertical"), (2, "horizontal")) if name in mode]

    def change(self, x: Array, step: Step) -> tuple[Array, Any]:
        flips = [(axis, self.rng.random(len(x)) < 0.5) for axis in self.axes]
        return self.change_backward(x, flips, step), flips

    def change_backward(self, dy: Array, saved: Any, step: Step) -> Array:
        y = step.copy(dy)
        for axis, rows in saved:
            y[rows] = np.flip(y[rows], axis)
        return y


class _RandomAffine(_Random):
    """Moves pixels: the output at (column, row) is the input at (a0 column + a1 row + a2, b0 column + b1 row + b2).

    Args:
        fill_mode: what lies outside: "reflect" (the default), "wrap", "nearest" or "constant".
        interpolation: "bilinear" (the default) or "nearest".
        seed: fixes the sequence of changes; by default the next seed of the global stream.
        fill_value: what lies outside with "constant", 0.
        data_format: "channels_last" (None, the default), or "channels_first", which is transposed to it and back.
    """

    def __init__(
        self,
        fill_mode: str,
        interpolation: str,
        seed: int | None,
        fill_value: float,
        data_format: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, data_format, **kwargs)
        for argument, value, known in (
            ("fill_mode", fill_mode, ("reflect", "wrap", "nearest", "constant")),
            ("interpolation", interpolation, ("bilinear", "nearest")),
        ):
            if value not in known:
                raise ValueError(f"{self.name}: {argument} must be {' or '.join(map(repr, known))}, received {value!r}")
        self.fill_mode: Any = fill_mode
        self.interpolation, self.fill_value = interpolation, float(fill_value)

    def transforms(self, rows: int, height: int, width: int) -> Array:
        """(rows, 2, 3): [[a0, a1, a2], [b0, b1, b2]] of each image."""
        raise TypeError(f"{type(self).__name__} must define transforms")

    def change(self, x: Array, step: Step) -> tuple[Array, Any]:
        maps = self.transforms(*x.shape[:3])
        y = step.empty(x.shape, x.dtype)
        native.affine_forward(maps, self.fill_mode, self.interpolation == "bilinear", self.fill_value, x, y)
        return y, maps

    def change_backward(self, dy: Array, saved: Any, step: Step) -> Array:
        dx = step.empty(dy.shape, dy.dtype)
        native.affine_backward(saved, self.fill_mode, self.interpolation == "bilinear", dy, dx)
        return dx


class RandomRotation(_RandomAffine):
    __doc__ = f"""In training, turns each image about its centre by a random angle.

    {_RandomAffine.__doc__}
        factor: as a fraction of a full turn: a number f for (-f, f), or (lower, upper); counterclockwise.
    """

    def __init__(
        self,
        factor: float | Sequence[float],
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.factor = self.range("factor", factor)

    def transforms(self, rows: int, height: int, width: int) -> Array:
        angle = 2 * np.pi * self.draw(self.factor, rows)
        cos, sin, x, y = np.cos(angle), np.sin(angle), (width - 1) / 2, (height - 1) / 2
        first = np.stack([cos, -sin, x - x * cos + y * sin], -1)
        return np.stack([first, np.stack([sin, cos, y - x * sin - y * cos], -1)], 1)


class RandomZoom(_RandomAffine):
    __doc__ = f"""In training, shrinks (factors above 0) or enlarges each image about its centre.

    {_RandomAffine.__doc__}
        height_factor: a number f for (-f, f), or (lower, upper), at least -1: the part of the image that is gained.
        width_factor: the same for the width; None: as much as the height, which keeps the proportions.
    """

    def __init__(
        self,
        height_factor: float | Sequence[float],
        width_factor: float | Sequence[float] | None = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor = self.range("height_factor", height_factor)
        self.width_factor = None if width_factor is None else self.range("width_factor", width_factor)

    def transforms(self, rows: int, height: int, width: int) -> Array:
        tall = 1 + self.draw(self.height_factor, rows)
        wide = tall if self.width_factor is None else 1 + self.draw(self.width_factor, rows)
        zero = np.zeros(rows)
        first = np.stack([wide, zero, (width - 1) / 2 * (1 - wide)], -1)
        return np.stack([first, np.stack([zero, tall, (height - 1) / 2 * (1 - tall)], -1)], 1)


class RandomTranslation(_RandomAffine):
    __doc__ = f"""In training, shifts each image.

    {_RandomAffine.__doc__}
        height_factor, width_factor: down and to the right, as a part of the height and width: a number f for (-f, f),
            or (lower, upper).
    """

    def __init__(
        self,
        height_factor: float | Sequence[float],
        width_factor: float | Sequence[float],
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor = self.range("height_factor", height_factor)
        self.width_factor = self.range("width_factor", width_factor)

    def transforms(self, rows: int, height: int, width: int) -> Array:
        down, right = self.draw(self.height_factor, rows) * height, self.draw(self.width_factor, rows) * width
        one, zero = np.ones(rows), np.zeros(rows)
        return np.stack([np.stack([one, zero, -right], -1), np.stack([zero, one, -down], -1)], 1)


class _RandomTone(_Random):
    """Changes values; what leaves the range is cut off."""

    def __init__(self, value_range: Sequence[float], seed: int | None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        if len(value_range) != 2 or not value_range[0] < value_range[1]:
            raise ValueError(f"{self.name}: value_range must be (lower, upper), received {value_range!r}")
        self.value_range = float(value_range[0]), float(value_range[1])

    def tone(self, y: Array) -> Any:
        """Change y in place; returns what the gradient needs."""
        raise TypeError(f"{type(self).__name__} must define tone")

    def tone_backward(self, dy: Array, saved: Any) -> Array:
        return dy

    def change(self, x: Array, step: Step) -> tuple[Array, Any]:
        y = step.copy(x)
        kept = self.tone(y)
        inside = (y >= self.value_range[0]) & (y <= self.value_range[1])
        np.clip(y, *self.value_range, out=y)
        return y, (inside, kept)

    def change_backward(self, dy: Array, saved: Any, step: Step) -> Array:
        inside, kept = saved
        dy *= inside
        return self.tone_backward(dy, kept)


def _means(x: Array) -> Array:
    """Of each channel of each image, repeated along a row of pixels: (batch, 1, width, channels). NumPy is fast where
    the inner loop is long: over rows first, and in adding whole rows."""
    n, h, w, c = x.shape
    means = x.reshape(n, h, w * c).mean(1).reshape(n, w, c).mean(1)
    return np.tile(means[:, None, None], (1, 1, w, 1))


class RandomBrightness(_RandomTone):
    """In training, adds one number to each image, drawn between the factors times the width of the value range.

    Args:
        factor: a number f for (-f, f), or (lower, upper), at least -1.
        value_range: of the images, (0, 255); the output is cut to it.
        seed: fixes the sequence; by default the next seed of the global stream.
    """

    def __init__(
        self,
        factor: float | Sequence[float],
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed, **kwargs)
        self.factor = self.range("factor", factor)

    def tone(self, y: Array) -> Any:
        width = self.value_range[1] - self.value_range[0]
        y += (self.draw(self.factor, len(y)) * width).astype(y.dtype)[:, None, None, None]


class RandomContrast(_RandomTone):
    """In training, stretches each channel of each image about its mean: y = (x - mean) * contrast + mean.

    Args:
        factor: a number f for a contrast between 1 - f and 1 + f, or (lower, upper) for 1 - lower to 1 + upper
            (in ascending order).
        value_range: of the images, (0, 255); the output is cut to it.
        seed: fixes the sequence; by default the next seed of the global stream.
    """

    def __init__(
        self,
        factor: float | Sequence[float],
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed, **kwargs)
        lower, upper = (factor, factor) if isinstance(factor, (int, float)) else sorted(factor)
        if not (0 <= lower <= 1 and upper >= 0):
            raise ValueError(f"{self.name}: factor must be a number in [0, 1] or (lower, upper), received {factor!r}")
        self.contrast = 1 - float(lower), 1 + float(upper)

    def tone(self, y: Array) -> Any:
        contrast = self.draw(self.contrast, len(y)).astype(y.dtype)[:, None, None, None]
        mean = _means(y)
        y -= mean
        y *= contrast
        y += mean
        return contrast

    def tone_backward(self, dy: Array, saved: Any) -> Array:
        mean = _means(dy)
        dy *= saved
        dy += (1 - saved) * mean
        return dy


__all__ = [
    "CenterCrop",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "Resizing",
]
