"""Inference over batches of one shape, with its native calls bound to their arrays once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._typing import Array
from .layers.regularization import Penalized, runs_as_written
from .parameters import Changes, aligned_empty
from .step import Step


class Wiring(NamedTuple):
    """What runs, in order, and which arrays go in and out. Arrays are numbers, those of slots that hold them.

    A unit of several inputs or outputs has a tuple of them. What runs depends on the layers' attributes, which counts
    in `changes` when it was found.
    """

    units: Sequence[Any]
    sources: Sequence[Any]
    targets: Sequence[Any]
    inputs: Sequence[int]
    outputs: Sequence[int]
    slots: int
    changes: int

    def holds(self) -> bool:
        """Whether no layer has changed since."""
        return self.changes == Changes.layers


class Varies(Exception):
    """No arrays can be bound: the shape of a unit's output depends on values, or the inputs are not numbers."""


class Plan:
    """What is left of a forward pass in inference when shapes and weights stay the same: a list of calls.

    A unit takes part with native calls if its class has `bind(x, step) -> (y, calls)`: the array its output will be in,
    and what computes it there from x; or None, if it cannot. Any other unit takes part with its `forward`, and so do
    those behind a mask. The first `run` binds them all, and is a pass like every other. The plan holds as long as
    nothing changes that inference depends on (`Changes`), and the wiring is the same.
    """

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.changes = Changes.count
        self.bound = False
        self.varies = False  # whether some unit's output has turned out not to have one shape
        self._values: list[Any] = [None] * wiring.slots
        self._masks: list[Any] = [None] * wiring.slots
        self._x: list[Array] = []
        self._y: Any = None
        self._calls: list[Callable[[], Any]] = []

    def holds(self, wiring: Wiring) -> bool:
        return self.changes == Changes.count and self.wiring is wiring and not self.varies

    def run(self, x: Any) -> Any:
        """The output for x (of several inputs or outputs lists), valid until the next run.

        Raises Varies if some unit's output does not have the shape that it had before, or if x is not of numbers.
        """
        if not self.bound:
            self._bind(x if type(x) is list else [x])
        elif type(x) is not list:
            self._x[0][...] = x
            for call in self._calls:
                call()
        else:
            for own, one in zip(self._x, x, strict=True):
                own[...] = one
            for call in self._calls:
                call()
        return self._y

    def _bind(self, given: list[Array]) -> None:
        if any(one.dtype.kind not in "biuf" for one in given):
            raise Varies
        wiring, values, step = self.wiring, self._values, Step(training=False)
        self._x, self._calls = [aligned_empty(one.shape, one.dtype) for one in given], []
        for slot, own, one in zip(wiring.inputs, self._x, given, strict=True):
            own[...] = one
            values[slot] = own
        for unit, source, target in zip(wiring.units, wiring.sources, wiring.targets, strict=True):
            unit = unit.layer if type(unit) is Penalized else unit
            calls = self._bound(unit, source, target, step)
            if calls is None:
                calls = [_Forward(unit, source, target, values, self._masks)]
            for call in calls:
                call()
            self._calls += calls
        outputs = [values[slot] for slot in wiring.outputs]
        self._y = outputs[0] if len(outputs) == 1 else outputs
        self.bound = True

    def _bound(self, unit: Any, source: Any, target: Any, step: Step) -> list[Callable[[], Any]] | None:
        sources = [source] if type(source) is int else source
        if not runs_as_written(unit) or type(target) is not int:
            return None
        if any(self._masks[slot] is not None for slot in sources):
            return None
        x = [self._values[slot] for slot in sources]
        bound = unit.bind(x[0] if type(source) is int else x, step)
        if bound is None:
            return None
        self._values[target], calls = bound
        return calls


class _Forward:
    """A unit's `forward` as a call: from and to slots, with their masks."""

    def __init__(self, unit: Any, source: Any, target: Any, values: list[Any], masks: list[Any]) -> None:
        self.unit, self.source, self.target, self.values, self.masks = unit, source, target, values, masks
        self.step = Step(training=False)

    def __call__(self) -> None:
        step, source, target, masks = self.step.start(), self.source, self.target, self.masks
        x: Any
        if type(source) is int:
            x, step.mask = self.values[source], masks[source]
        else:
            x, marks = [self.values[slot] for slot in source], [masks[slot] for slot in source]
            step.mask = None if all(mark is None for mark in marks) else marks
        y = self.unit.forward(x, step)[0]
        if type(target) is int:
            self._keep(target, y)
            masks[target] = step.mask
        else:
            marks = step.mask if isinstance(step.mask, list) else [step.mask] + [None] * (len(y) - 1)
            for slot, one, mark in zip(target, y, marks, strict=True):
                self._keep(slot, one)
                masks[slot] = mark

    def _keep(self, slot: int, y: Array) -> None:
        """What stands behind reads the array that was there first."""
        known = self.values[slot]
        if known is None:  # what the step has not made may be another slot's array
            self.values[slot] = y if self.step.owns(y) else y.copy()
        elif known.shape != y.shape:
            raise Varies
        elif known is not y:
            np.copyto(known, y)
