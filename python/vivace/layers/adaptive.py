"""Pooling to a given size, whatever the input's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._typing import Array, BatchShape
from ..step import Step
from .geometry import first_shape, sizes, to_first, to_last
from .pooling import _Pooling


class _AdaptivePooling(_Pooling):
    """Output i of m along an axis of size n is that of the elements from floor(i n / m) up to ceil((i + 1) n / m).

    Args:
        output_size: m, for all axes between the batch and the channels, or one for each.
        data_format: "channels_last" (None, the default), or "channels_first", which is transposed first: a copy.
    """

    def __init__(self, output_size: int | Sequence[int], data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.output_size = sizes(self.name, "output_size", output_size, self.rank)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        batch, *axes, channels = self.check(input_shape)
        if any(n is not None and n < 1 for n in axes):
            raise ValueError(f"{self.name} ({type(self).__name__}): nothing to pool in shape {input_shape}")
        return first_shape(self.channels_first, (batch, *self.output_size, channels))

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        self.drop_mask(step)
        x = to_last(self.channels_first, x, step)
        tape: list[tuple[Array, Array]] = []
        for axis, m in enumerate(self.output_size, 1):  # one axis after the other: the windows are boxes
            y = np.empty((*x.shape[:axis], m, *x.shape[axis + 1 :]), x.dtype)
            for i, window in _windows(x, axis, m):
                part = x[window]
                y[_at(axis, i)] = part.max(axis) if self.maximum else part.mean(axis)
            tape.append((x, y))
            x = y
        return step.copy(np.moveaxis(x, -1, 1) if self.channels_first else x), tape

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if not input_gradient:
            return None
        dy = to_last(self.channels_first, dy, step)
        for axis, (x, y) in reversed(list(enumerate(saved, 1))):
            dx = np.zeros_like(x)
            for i, window in _windows(x, axis, y.shape[axis]):
                share: Any = np.ones_like(x[window])
                if self.maximum:
                    share = (x[window] == np.expand_dims(y[_at(axis, i)], axis)).astype(x.dtype)
                share /= share.sum(axis, keepdims=True)
                dx[window] += share * np.expand_dims(dy[_at(axis, i)], axis)
            dy = dx
        return to_first(self.channels_first, step.copy(dy), step)


def _at(axis: int, i: int) -> tuple[Any, ...]:
    return (*(slice(None),) * axis, i)


def _windows(x: Array, axis: int, m: int) -> list[tuple[int, tuple[slice, ...]]]:
    """What of x each of m outputs along the axis sees."""
    n, before = x.shape[axis], (slice(None),) * axis
    return [(i, (*before, slice(i * n // m, -(-(i + 1) * n // m)))) for i in range(m)]


_BASE = _AdaptivePooling.__doc__


class AdaptiveAveragePooling1D(_AdaptivePooling):
    __doc__ = f"Means of (batch, steps, channels). {_BASE}"
    rank, maximum = 1, False


class AdaptiveAveragePooling2D(_AdaptivePooling):
    __doc__ = f"Means of (batch, height, width, channels). {_BASE}"
    maximum = False


class AdaptiveAveragePooling3D(_AdaptivePooling):
    __doc__ = f"Means of (batch, depth, height, width, channels). {_BASE}"
    rank, maximum = 3, False


class AdaptiveMaxPooling1D(_AdaptivePooling):
    __doc__ = f"The largest elements of (batch, steps, channels). {_BASE}"
    rank = 1


class AdaptiveMaxPooling2D(_AdaptivePooling):
    __doc__ = f"The largest elements of (batch, height, width, channels). {_BASE}"


class AdaptiveMaxPooling3D(_AdaptivePooling):
    __doc__ = f"The largest elements of (batch, depth, height, width, channels). {_BASE}"
    rank = 3


__all__ = [
    "AdaptiveAveragePooling1D",
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
]
