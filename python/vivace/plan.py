"""Inference over batches of one size, with its native calls bound to their arrays once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ._typing import Array, Shape
from .parameters import Changes, aligned_empty
from .step import Step


class Plan:
    """What is left of a chain's forward pass when shapes and weights stay the same: a list of native calls.

    A unit takes part whose class has `bind(x, step) -> (y, calls)`: the array its output will be in, and what computes
    it there from x; or None, if it cannot. The plan holds as long as no parameter changes and the chain's units are the
    same.
    """

    def __init__(self, units: Sequence[Any], shape: Shape, dtype: Any) -> None:
        self.units = units
        self.changes = Changes.count
        self.x = aligned_empty(shape, dtype)
        self.calls: list[Callable[[], Any]] | None = []
        step = Step(training=False)
        y = self.x
        for unit in units:
            # A class that inherits `bind` may have another `forward`.
            bound = unit.bind(y, step) if "bind" in vars(type(unit)) else None
            if bound is None:
                self.calls = None  # the chain runs unit by unit
                return
            y = bound[0]
            self.calls += bound[1]
        self.y = y

    def run(self, x: Array) -> Array | None:
        """The output for x, as a new array; None where some unit cannot be bound."""
        if self.calls is None:
            return None
        self.x[...] = x
        for call in self.calls:
            call()
        return self.y.copy()
