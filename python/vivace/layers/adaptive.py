"""Pooling to a given size, whatever the input's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._typing import BatchShape, Shape
from .geometry import first_shape, sizes
from .pooling import BoxPooling, Windows


class _AdaptivePooling(BoxPooling):
    """Output i of m along an axis of size n is that of the elements from floor(i n / m) up to ceil((i + 1) n / m).

    Args:
        output_size: m, for all axes between the batch and the channels, or one for each.
        data_format: "channels_last" (None, the default), or "channels_first", which is transposed to it and back: two
            copies each way.
    """

    def __init__(self, output_size: int | Sequence[int], data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.output_size = sizes(self.name, "output_size", output_size, self.rank)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        batch, *axes, channels = self.check(input_shape)
        if any(n is not None and n < 1 for n in axes):
            raise ValueError(f"{self.name} ({type(self).__name__}): nothing to pool in shape {input_shape}")
        return first_shape(self.channels_first, (batch, *self.output_size, channels))

    def windows(self, shape: Shape) -> list[Windows]:
        axes = zip(shape[1:-1], self.output_size, strict=True)
        return [[(i * n // m, -(-(i + 1) * n // m)) for i in range(m)] for n, m in axes]


_BASE = _AdaptivePooling.__doc__


class AdaptiveAveragePooling1D(_AdaptivePooling):
    __doc__ = f"Means of (batch, steps, channels). {_BASE}"
    rank, maximum = 1, False
    bind = BoxPooling.bind


class AdaptiveAveragePooling2D(_AdaptivePooling):
    __doc__ = f"Means of (batch, height, width, channels). {_BASE}"
    maximum = False
    bind = BoxPooling.bind


class AdaptiveAveragePooling3D(_AdaptivePooling):
    __doc__ = f"Means of (batch, depth, height, width, channels). {_BASE}"
    rank, maximum = 3, False
    bind = BoxPooling.bind


class AdaptiveMaxPooling1D(_AdaptivePooling):
    __doc__ = f"The largest elements of (batch, steps, channels). {_BASE}"
    rank = 1
    bind = BoxPooling.bind


class AdaptiveMaxPooling2D(_AdaptivePooling):
    __doc__ = f"The largest elements of (batch, height, width, channels). {_BASE}"
    bind = BoxPooling.bind


class AdaptiveMaxPooling3D(_AdaptivePooling):
    __doc__ = f"The largest elements of (batch, depth, height, width, channels). {_BASE}"
    rank = 3
    bind = BoxPooling.bind


__all__ = [
    "AdaptiveAveragePooling1D",
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
]
