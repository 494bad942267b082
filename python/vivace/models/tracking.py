"""The layers and weights among a model's attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..layers.base import Layer
from ..parameters import Parameter


def tracked(attributes: Any) -> Iterable[Layer]:
    """The layers among some values, also in lists and dicts."""
    values = attributes.items() if isinstance(attributes, Mapping) else ((None, value) for value in attributes)
    for name, value in values:
        if isinstance(value, Layer):
            yield value
        elif isinstance(value, (list, tuple, dict)) and not (isinstance(name, str) and name in _OWN):
            yield from tracked(value)


_OWN = (
    "_layers",
    "_traced",
    "_resized",
    "_given",
    "_arguments",
    "_compile_later",
    "_compile_given",
    "_nodes",
    "_regularized",
)  # not a user's attributes


def once(parameters: Any) -> list[Parameter]:
    """Each parameter once, though layers may share it."""
    return list({id(p): p for p in parameters}.values())


__all__: list[str] = []
