"""Changes of the values of images (batch, height, width, channels): random ones in training, and even contrasts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._core import native
from .._typing import Array, BatchShape
from ..step import Step
from .augmentation import RandomImages, Range
from .checks import positive
from .images import Images


def _range(owner: str, value_range: Sequence[float]) -> Range:
    if len(value_range) != 2 or not value_range[0] < value_range[1]:
        raise ValueError(f"{owner}: value_range must be (lower, upper), received {value_range!r}")
    return float(value_range[0]), float(value_range[1])


class AutoContrast(Images):
    """Stretches each channel of each image, from its smallest and largest value to the value range, in training and
    otherwise. A channel of a single value stays as it is.

    Args:
        value_range: of the images, (0, 255).
    """

    def __init__(self, value_range: Sequence[float] = (0, 255), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.value_range = _range(self.name, value_range)

    def change(self, x: Array, step: Step) -> tuple[Array, Any]:
        y = step.empty(x.shape, x.dtype)
        native.stretch_forward(self.channels_first, self.value_range, x, y)
        return y, x

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if input_gradient:
            native.stretch_backward(self.channels_first, self.value_range, saved, dy, dy)
        return dy


class Equalization(Images):
    """Makes the histogram of each channel of each image even, in training and otherwise. Its gradient is 0.

    Args:
        value_range: of the images, (0, 255).
        bins: of the histogram, 256; at most 65536.
        data_format: "channels_last" (None, the default) or "channels_first".
    """

    def __init__(
        self, value_range: Sequence[float] = (0, 255), bins: int = 256, data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(data_format, **kwargs)
        self.value_range = _range(self.name, value_range)
        self.bins = positive(self.name, "bins", bins)
        if bins > 65536:
            raise ValueError(f"{self.name}: bins must be at most 65536, received {bins}")

    def change(self, x: Array, step: Step) -> tuple[Array, Any]:
        y = step.empty(x.shape, x.dtype)
        native.equalize(self.channels_first, self.bins, self.value_range, x, y)
        return y, None

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if input_gradient:
            dy.fill(0)
        return dy


class _RandomTone(RandomImages):
    """A change of values by two numbers that are drawn for each image: images.h has the formulas."""

    tone: Any

    def __init__(self, value_range: Sequence[float], seed: int | None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.value_range = _range(self.name, value_range)

    def positive_range(self, argument: str, factor: float | Sequence[float]) -> Range:
        """Within [0, 1]; one number stands for (0, factor)."""
        given = (0.0, factor) if isinstance(factor, (int, float)) else tuple(factor)
        if len(given) != 2 or not 0 <= min(given) <= max(given) <= 1:
            raise ValueError(f"{self.name}: {argument} must be a number or two in [0, 1], received {factor!r}")
        return min(given), max(given)

    def drawn(self) -> tuple[Range, Range]:
        """Between what the two numbers are drawn."""
        raise TypeError(f"{type(self).__name__} must define drawn")

    def make_way(self, shape: Any) -> native.RandomTone:
        return native.RandomTone(self.tone, *self.drawn(), self.value_range, self.channels_first)

    def draw(self, way: Any, seed: int, number: int, x: Array, y: Array) -> tuple[int, Array]:
        native.random_tone_forward(way, seed, number, x, y)
        return number, x

    def draw_back(self, way: Any, seed: int, saved: Any, dy: Array, step: Step) -> Array:
        number, x = saved
        native.random_tone_backward(way, seed, number, x, dy, dy)
        return dy


class RandomBrightness(_RandomTone):
    """In training, adds one number to each image, drawn between the factors times the width of the value range.

    Args:
        factor: a number f for (-f, f), or (lower, upper), at least -1.
        value_range: of the images, (0, 255); the output is cut to it.
        seed: fixes the sequence; by default the next seed of the global stream.
    """

    tone = "brightness"

    def __init__(
        self,
        factor: float | Sequence[float],
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed, **kwargs)
        self.factor = self.range("factor", factor)

    def drawn(self) -> tuple[Range, Range]:
        width = self.value_range[1] - self.value_range[0]
        return (self.factor[0] * width, self.factor[1] * width), (0, 0)


class RandomContrast(_RandomTone):
    """In training, stretches each channel of each image about its mean: y = (x - mean) * contrast + mean.

    Args:
        factor: a number f for a contrast between 1 - f and 1 + f, or (lower, upper) for 1 - lower to 1 + upper
            (in ascending order).
        value_range: of the images, (0, 255); the output is cut to it.
        seed: fixes the sequence; by default the next seed of the global stream.
    """

    tone = "contrast"

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

    def drawn(self) -> tuple[Range, Range]:
        return self.contrast, (0, 0)


class Solarization(_RandomTone):
    """In training, adds a number to each image, and mirrors what is not below a threshold: v becomes
    lower + upper - v, of the value range's ends.

    Args:
        addition_factor: of the value range's width: a number f for (0, f), or (lower, upper), in [0, 1].
        threshold_factor: the same, for the threshold's distance from the range's lower end.
        value_range: of the images, (0, 255); what is mirrored is cut to it first.
        seed: fixes the sequence; by default the next seed of the global stream.
    """

    tone = "solarization"

    def __init__(
        self,
        addition_factor: float | Sequence[float] = 0.0,
        threshold_factor: float | Sequence[float] = 0.0,
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed, **kwargs)
        self.addition_factor = self.positive_range("addition_factor", addition_factor)
        self.threshold_factor = self.positive_range("threshold_factor", threshold_factor)

    def drawn(self) -> tuple[Range, Range]:
        least, most = self.value_range
        (low, high), (first, last), width = self.addition_factor, self.threshold_factor, most - least
        return (low * width, high * width), (least + first * width, least + last * width)


class RandomInvert(_RandomTone):
    """In training, replaces an image's values by the value range's upper end minus them.

    Args:
        factor: the probability: a number f for one that is drawn between 0 and f for each image, or (lower, upper).
        value_range: of the images, (0, 255).
        seed: fixes the sequence; by default the next seed of the global stream.
        data_format: "channels_last" (None, the default) or "channels_first".
    """

    tone = "inversion"

    def __init__(
        self,
        factor: float | Sequence[float] = 1.0,
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed, data_format=data_format, **kwargs)
        self.factor = self.positive_range("factor", factor)

    def drawn(self) -> tuple[Range, Range]:
        return self.factor, (0, 0)


class RandomPosterization(_RandomTone):
    """In training, keeps the first bits of each value's eight. Its gradient is 0.

    Args:
        factor: how many bits, between 1 and 8: (lower, upper), the upper not drawn unless both are the same; an integer
            f stands for (1, f).
        value_range: of the images, (0, 255), which the eight bits tell apart.
        data_format: "channels_last" (None, the default) or "channels_first".
        seed: fixes the sequence; by default the next seed of the global stream.
    """

    tone = "posterization"

    def __init__(
        self,
        factor: int | Sequence[int],
        value_range: Sequence[float] = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed, data_format=data_format, **kwargs)
        given = (1, factor) if isinstance(factor, (int, float)) else tuple(factor)
        if len(given) != 2 or not 1 <= min(given) <= max(given) <= 8:
            raise ValueError(f"{self.name}: factor must be an integer or two in [1, 8], received {factor!r}")
        self.factor = min(given), max(given)

    def drawn(self) -> tuple[Range, Range]:
        return self.factor, (0, 0)


class _RandomColor(_RandomTone):
    """A change of colors; gray is 0.2989 red + 0.587 green + 0.114 blue."""

    channels: tuple[int, ...] = (3,)

    def changed_shape(self, shape: BatchShape) -> BatchShape:
        if shape[3] is not None and shape[3] not in self.channels:
            counts = " or ".join(map(str, self.channels))
            raise ValueError(f"{self.name} ({type(self).__name__}) takes images of {counts} channels, not {shape[3]}")
        return shape


class _ByFactor(_RandomColor):
    """A change of colors by one number, drawn between two factors."""

    bounded = False  # whether they lie in [0, 1]

    def __init__(
        self,
        factor: float | Sequence[float],
        value_range: Sequence[float] = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed, data_format=data_format, **kwargs)
        self.factor = (self.positive_range if self.bounded else self.range)("factor", factor)

    def drawn(self) -> tuple[Range, Range]:
        return self.factor, (0, 0)


class RandomGrayscale(_RandomColor):
    """In training, makes an image gray, in all of its three channels.

    Args:
        factor: the probability, 0.5.
        data_format: "channels_last" (None, the default) or "channels_first".
        seed: fixes the sequence; by default the next seed of the global stream.
    """

    tone = "grayscale"
    channels = (1, 3)

    def __init__(
        self, factor: float = 0.5, data_format: str | None = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__((0, 1), seed, data_format=data_format, **kwargs)
        if not 0 <= factor <= 1:
            raise ValueError(f"{self.name}: factor must lie in [0, 1], received {factor!r}")
        self.factor = float(factor)

    def drawn(self) -> tuple[Range, Range]:
        return (self.factor, self.factor), (0, 0)


class RandomColorDegeneration(_ByFactor):
    """In training, mixes each image with its gray version.

    Args:
        factor: the part of gray: a number f for (-f, f), or (lower, upper), at least -1.
        value_range: of the images, (0, 255); the output is cut to it.
        data_format: "channels_last" (None, the default) or "channels_first".
        seed: fixes the sequence; by default the next seed of the global stream.
    """

    tone = "degeneration"


class RandomHue(_ByFactor):
    """In training, turns the hue of each image, either way as likely.

    Args:
        factor: by how much, 1 for half a circle: a number f for (0, f), or (lower, upper), in [0, 1].
        value_range: of the images, (0, 255); the output is cut to it.
        data_format: "channels_last" (None, the default) or "channels_first".
        seed: fixes the sequence; by default the next seed of the global stream.
    """

    tone = "hue"
    bounded = True

    def drawn(self) -> tuple[Range, Range]:
        return (self.factor[0] / 2, self.factor[1] / 2), (0, 0)


class RandomSaturation(_ByFactor):
    """In training, multiplies the saturation of each image by f / (1 - f), f drawn between the factors.

    Args:
        factor: 0 gives gray, 0.5 nothing new, 1 the most: a number f for (-f, f), or (lower, upper), at least -1.
        value_range: of the images, (0, 255); the saturation, which is a part of the largest channel, is cut to it.
        data_format: "channels_last" (None, the default) or "channels_first".
        seed: fixes the sequence; by default the next seed of the global stream.
    """

    tone = "saturation"


class RandomColorJitter(RandomImages):
    """In training, RandomBrightness, RandomContrast, RandomSaturation and RandomHue in this order, those of which a
    factor is given.

    Args:
        value_range: of the images, (0, 255).
        brightness_factor, contrast_factor, saturation_factor, hue_factor: the layers' factors; None, the default: not
            this one. The last two take images of three channels.
        seed: fixes the sequence; by default the next seed of the global stream.
        data_format: "channels_last" (None, the default) or "channels_first".
    """

    def __init__(
        self,
        value_range: Sequence[float] = (0, 255),
        brightness_factor: float | Sequence[float] | None = None,
        contrast_factor: float | Sequence[float] | None = None,
        saturation_factor: float | Sequence[float] | None = None,
        hue_factor: float | Sequence[float] | None = None,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, data_format, **kwargs)
        self.value_range = _range(self.name, value_range)
        self.brightness_factor, self.contrast_factor = brightness_factor, contrast_factor
        self.saturation_factor, self.hue_factor = saturation_factor, hue_factor
        kinds: list[tuple[Any, Any]] = [
            (RandomBrightness, brightness_factor),
            (RandomContrast, contrast_factor),
            (RandomSaturation, saturation_factor),
            (RandomHue, hue_factor),
        ]
        same: dict[str, Any] = {"data_format": data_format, "dtype": self.dtype, "name": self.name}
        self._changes: list[Any] = [
            kind(factor, self.value_range, seed=self.stream.seed, **same)
            for kind, factor in kinds
            if factor is not None
        ]
        for layer in self._changes:  # which draw from one stream, each by numbers of its own
            layer.stream = self.stream

    def changed_shape(self, shape: BatchShape) -> BatchShape:
        for layer in self._changes:
            layer.changed_shape(shape)
        return shape

    def change(self, x: Array, step: Step) -> tuple[Array, Any]:
        saved = []
        for layer in self._changes:
            x, kept = layer.change(x, step)
            saved.append(kept)
        return x, saved

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        for layer, kept in zip(reversed(self._changes), reversed(saved), strict=True):
            dy = layer.backward(dy, kept, step, input_gradient)
        return dy


__all__ = [
    "AutoContrast",
    "Equalization",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPosterization",
    "RandomSaturation",
    "Solarization",
]
