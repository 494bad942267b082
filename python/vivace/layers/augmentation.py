"""Random movements of images (batch, height, width, channels) in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._core import native
from .._typing import Array
from ..step import Step, Stream
from .images import Images

Range = tuple[float, float]


class RandomImages(Images):
    """A random change of each image in training; the identity otherwise.

    One native call draws and changes. What it draws depends on the stream's number alone, so the way back draws it
    again. What it must know besides is a native value, the layer's only way: `make_way`.
    """

    def __init__(self, seed: int | None, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.seed = seed
        self.stream = Stream(seed)

    def change(self, x: Array, step: Step) -> tuple[Array, Any]:
        if not step.training:
            return x, None
        number = self.stream.next()
        y = step.empty(x.shape, x.dtype)
        return y, self.draw(self._ways.get(None) or self.new_way(None), self.stream.seed, number, x, y)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if saved is None or not input_gradient:
            return dy
        return self.draw_back(self._ways.get(None) or self.new_way(None), self.stream.seed, saved, dy, step)

    def draw(self, way: Any, seed: int, number: int, x: Array, y: Array) -> Any:
        """Make y of x; returns what the way back needs, not None."""
        raise TypeError(f"{type(self).__name__} must define draw")

    def draw_back(self, way: Any, seed: int, saved: Any, dy: Array, step: Step) -> Array:
        """The input's gradient; may overwrite dy."""
        raise TypeError(f"{type(self).__name__} must define draw_back")

    def range(self, argument: str, factor: float | Sequence[float], lowest: float = -1.0) -> Range:
        """One number stands for (-factor, factor), two for (lower, upper)."""
        given = (-abs(factor), abs(factor)) if isinstance(factor, (int, float)) else tuple(factor)
        if len(given) != 2 or not lowest <= min(given) <= max(given):
            raise ValueError(f"{self.name}: {argument} must be a number or two, at least {lowest}, received {factor!r}")
        return min(given), max(given)


class RandomFlip(RandomImages):
    """In training, mirrors each image with probability 1/2, for each direction.

    Args:
        mode: "horizontal" (left and right), "vertical" (top and bottom) or "horizontal_and_vertical", the default.
        seed: fixes the sequence of flips; by default the next seed of the global stream.
        data_format: "channels_last" (None, the default) or "channels_first".
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
        self.mode = mode

    def make_way(self, shape: Any) -> native.RandomFlip:
        return native.RandomFlip("vertical" in self.mode, "horizontal" in self.mode, self.channels_first)

    def draw(self, way: Any, seed: int, number: int, x: Array, y: Array) -> int:
        native.random_flip(way, seed, number, x, y)
        return number

    def draw_back(self, way: Any, seed: int, saved: Any, dy: Array, step: Step) -> Array:
        dx = step.empty(dy.shape, dy.dtype)
        native.random_flip(way, seed, saved, dy, dx)
        return dx


class _RandomAffine(RandomImages):
    """Moves pixels: the output at (column, row) is the input at (a0 column + a1 row + a2, b0 column + b1 row + b2).

    Args:
        fill_mode: what lies outside: "reflect" (the default), "wrap", "nearest" or "constant".
        interpolation: "bilinear" (the default) or "nearest".
        seed: fixes the sequence of changes; by default the next seed of the global stream.
        fill_value: what lies outside with "constant", 0.
        data_format: "channels_last" (None, the default) or "channels_first".
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

    def moved(self) -> tuple[Any, Range, Range | None]:
        """The movement, and between what its two numbers are drawn: see `RandomMovement` in resample.h."""
        raise TypeError(f"{type(self).__name__} must define moved")

    def make_way(self, shape: Any) -> native.RandomMovement:
        bilinear = self.interpolation == "bilinear"
        return native.RandomMovement(*self.moved(), self.fill_mode, bilinear, self.fill_value, self.channels_first)

    def draw(self, way: Any, seed: int, number: int, x: Array, y: Array) -> int:
        native.random_affine_forward(way, seed, number, x, y)
        return number

    def draw_back(self, way: Any, seed: int, saved: Any, dy: Array, step: Step) -> Array:
        dx = step.empty(dy.shape, dy.dtype)
        native.random_affine_backward(way, seed, saved, dy, dx)
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

    def moved(self) -> tuple[Any, Range, Range | None]:
        return "turn", self.factor, None


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

    def moved(self) -> tuple[Any, Range, Range | None]:
        return "zoom", self.height_factor, self.width_factor


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

    def moved(self) -> tuple[Any, Range, Range | None]:
        return "shift", self.height_factor, self.width_factor


class RandomShear(_RandomAffine):
    __doc__ = f"""In training, slants each image, and as likely the other way.

    {_RandomAffine.__doc__}
        x_factor, y_factor: how far a row is shifted against the next one, and a column: a number f in [0, 1] for
            (-f, f), or (lower, upper), at least -1.
    """

    def __init__(
        self,
        x_factor: float | Sequence[float] = 0.0,
        y_factor: float | Sequence[float] = 0.0,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        for argument, value in (("x_factor", x_factor), ("y_factor", y_factor)):
            if isinstance(value, (int, float)) and not 0 <= value <= 1:
                raise ValueError(f"{self.name}: {argument} must be in [0, 1], received {value!r}")
        self.x_factor, self.y_factor = self.range("x_factor", x_factor), self.range("y_factor", y_factor)

    def moved(self) -> tuple[Any, Range, Range | None]:
        return "shear", self.x_factor, self.y_factor


__all__ = ["RandomFlip", "RandomRotation", "RandomShear", "RandomTranslation", "RandomZoom"]
