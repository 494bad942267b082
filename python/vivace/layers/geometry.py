"""What layers over images, sequences and volumes share: window sizes, padding and the place of the channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._typing import Array, BatchShape
from ..step import Step

AXES = {1: "steps", 2: "height, width", 3: "depth, height, width"}


def sizes(owner: str, argument: str, value: int | Sequence[int], rank: int, minimum: int = 1) -> tuple[int, ...]:
    """An integer or `rank` of them as a tuple. Raises ValueError naming the layer and the argument."""
    values = (value,) * rank if isinstance(value, (int, np.integer)) else tuple(value)
    if len(values) != rank or not all(isinstance(v, (int, np.integer)) and v >= minimum for v in values):
        many = "" if rank == 1 else f" or {rank} of them"
        raise ValueError(f"{owner}: {argument} must be an integer >= {minimum}{many}, received {value!r}")
    return tuple(int(v) for v in values)


def check_padding(owner: str, padding: str, known: Sequence[str] = ("valid", "same")) -> str:
    if not isinstance(padding, str) or padding.lower() not in known:
        raise ValueError(f"{owner}: padding must be {' or '.join(map(repr, known))}, received {padding!r}")
    return padding.lower()


def check_data_format(owner: str, data_format: str | None) -> tuple[str, bool]:
    """The format, and whether the channels come first in it; None means that they come last."""
    if data_format not in (None, "channels_last", "channels_first"):
        raise ValueError(f"{owner}: data_format must be 'channels_last' or 'channels_first', received {data_format!r}")
    return data_format or "channels_last", data_format == "channels_first"


def format_hint(channels_first: bool, shape: BatchShape) -> str:
    """A suggestion where an input looks as if its channels stood at the other end."""
    first, last = shape[1], shape[-1]
    if not channels_first and first in (1, 3, 4) and last not in (1, 3, 4):
        return "; if the channels come first, say data_format='channels_first' or transpose the input"
    if channels_first and last in (1, 3, 4) and first not in (1, 3, 4):
        return "; if the channels come last, leave out data_format='channels_first'"
    return ""


def filled(shape: BatchShape, windows: Sequence[int]) -> tuple[int, ...]:
    """One sample of a shape (batch, ..., channels): where a size is unknown, as much as one window takes."""
    middle = zip(shape[1:-1], windows, strict=True)
    return (1, *(window if size is None else size for size, window in middle), shape[-1] or 1)


def unknown_as(shape: BatchShape, output: BatchShape) -> BatchShape:
    """The output's shape (batch, ..., channels), unknown along the axes along which the input's is."""
    middle = zip(shape[1:-1], output[1:-1], strict=True)
    return (output[0], *(None if size is None else q for size, q in middle), output[-1])


def last_shape(channels_first: bool, shape: BatchShape) -> BatchShape:
    """(batch, channels, ...) as (batch, ..., channels), if they come first."""
    return (shape[0], *shape[2:], shape[1]) if channels_first and len(shape) > 2 else shape


def first_shape(channels_first: bool, shape: BatchShape) -> BatchShape:
    """(batch, ..., channels) as (batch, channels, ...), if they should come first."""
    return (shape[0], shape[-1], *shape[1:-1]) if channels_first else shape


def to_last(channels_first: bool, x: Array, step: Step) -> Array:
    """A copy with the channels last, if they come first."""
    return step.copy(np.moveaxis(x, 1, -1)) if channels_first else x


def to_first(channels_first: bool, x: Array, step: Step) -> Array:
    """A copy with the channels first, if they should come first."""
    return step.copy(np.moveaxis(x, -1, 1)) if channels_first else x


def two(values: Sequence[int]) -> tuple[int, int]:
    """One or two sizes as those of an image: a sequence is an image of height 1."""
    return (1, values[0]) if len(values) == 1 else (values[0], values[1])


def same_padding(size: int, window: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """TensorFlow's "same": ceil(size / stride) outputs; an odd element goes to the end."""
    outputs = -(-size // stride)
    total = max(0, (outputs - 1) * stride + (window - 1) * dilation + 1 - size)
    return total // 2, total - total // 2
