"""Recurrent cells of a user's own: what an `RNN` asks of a cell, and the loop that runs one over sequences.

A cell is a layer that has a `state_size` (of several states a list) and, if its outputs are of another size than the
first state, an `output_size`. One step is its `forward([x, *states], step) -> ([output, *new states], saved)`, which
classes with a `call(inputs, states) -> (output, new states)` have from `Model` or `AutogradLayer`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._typing import Array, BatchShape
from ..step import Step
from .base import Layer


def flat(states: Any) -> list[Any]:
    """States, or their sizes, in nested lists, in order; None: none."""
    if not isinstance(states, (list, tuple)):
        return [] if states is None else [states]
    return [one for part in states for one in (flat(part) if isinstance(part, (list, tuple)) else [part])]


def first_states(cell: Any, batch: int, dtype: Any) -> list[Array]:
    """What a sequence starts from: the cell's `get_initial_state`, or zeros."""
    if hasattr(cell, "get_initial_state"):
        return [np.ascontiguousarray(one, dtype) for one in flat(cell.get_initial_state(batch_size=batch))]
    return [np.zeros((batch, size), dtype) for size in state_sizes(cell)]


def is_cell(layer: Any) -> bool:
    """Whether a layer is a step of a recurrent one."""
    return isinstance(layer, Layer) and hasattr(layer, "state_size")


def state_sizes(cell: Any) -> list[int]:
    """Of every state of a cell."""
    return flat(cell.state_size)


def output_size(cell: Any) -> int:
    size = getattr(cell, "output_size", None)
    return state_sizes(cell)[0] if size is None else size


def with_states(cell: Any, shape: Any) -> Any:
    """The shape of a cell's input as those of its input and its states."""
    return shape if isinstance(shape, list) else [shape, *((shape[0], size) for size in state_sizes(cell))]


def build_step(cell: Any, shape: BatchShape) -> BatchShape:
    """Build a cell of one's own for inputs of this shape, which is what its `build` gets; returns the output's."""
    cell.build_once(shape)
    return (shape[0], output_size(cell))


class Loop:
    """Runs a cell over sequences, step by step. Flags as of `RNN`."""

    def __init__(
        self,
        cell: Any,
        return_sequences: bool,
        go_backwards: bool,
        stateful: bool,
        return_state: bool,
        zero_output_for_mask: bool,
    ) -> None:
        self.cell = cell
        self.return_sequences, self.return_state, self.go_backwards = return_sequences, return_state, go_backwards
        self.stateful, self.zero_output_for_mask = stateful, zero_output_for_mask and return_sequences
        self._state: Any = None

    def reset_states(self) -> None:
        self._state = None

    def _first_states(self, batch: int, dtype: Any) -> list[Array]:
        if self.stateful and self._state is not None:
            if len(self._state[0]) != batch:
                raise ValueError(
                    f"{self.cell.name}: the state is that of {len(self._state[0])} sequences, received {batch}; use "
                    "batches of one size, or call reset_states()"
                )
            return list(self._state)
        return first_states(self.cell, batch, dtype)

    def run_sequence(self, x: Any, step: Step) -> tuple[Any, Any]:
        mask, given = step.mask, type(x) is list
        x, *states = x if given else [x]
        mask = mask[0] if type(mask) is list else mask
        states = states or self._first_states(len(x), x.dtype)
        if not x.shape[1]:
            raise ValueError(f"{self.cell.name}: sequences need one step at least, received shape {x.shape}")
        outputs: list[Array] = []
        tape: list[Any] = []
        for t in range(x.shape[1])[:: -1 if self.go_backwards else 1]:
            step.mask = None
            (y, *after), saved = self.cell.forward([step.copy(x[:, t]), *states], step)
            if not outputs:
                self._check_shapes(len(x), [y, *after])
            counts = None
            if mask is not None:
                counts = mask[:, t, None] != 0
                y = np.where(counts, y, 0 if self.zero_output_for_mask or not outputs else outputs[-1]).astype(x.dtype)
                after = [np.where(counts, new, old) for new, old in zip(after, states, strict=True)]
            outputs.append(y)
            states = after
            if step.keeps:
                tape.append((t, counts, saved))
        step.mask = self._output_mask(mask)
        if self.stateful:
            self._state = [state.copy() for state in states]
        size = output_size(self.cell)
        y = step.empty((len(x), len(outputs), size) if self.return_sequences else (len(x), size), x.dtype)
        if self.return_sequences:
            np.stack(outputs, 1, out=y)
        else:
            y[...] = outputs[-1]
        return step.own([y, *map(step.copy, states)]) if self.return_state else y, (x.shape, given, tape)

    def _check_shapes(self, batch: int, made: list[Array]) -> None:
        expected = [(batch, size) for size in (output_size(self.cell), *state_sizes(self.cell))]
        received = [np.shape(one) for one in made]
        if received != expected:
            raise ValueError(
                f"{self.cell.name} ({type(self.cell).__name__}): by its state_size and output_size the cell's "
                f"output and new states have shapes {expected}, received {received}"
            )

    def _output_mask(self, mask: Array | None) -> Array | None:
        if mask is None or not self.return_sequences:
            return None
        return np.ascontiguousarray(mask[:, ::-1]) if self.go_backwards else mask

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        shape, given, tape = saved
        dy, *d_states = dy if self.return_state else [dy]
        d_states = d_states or [np.zeros((shape[0], size), dy.dtype) for size in state_sizes(self.cell)]
        dx = step.empty(shape, dy.dtype) if input_gradient else None
        later = np.zeros((shape[0], output_size(self.cell)), dy.dtype)  # of an output that masked steps put out again
        if not self.return_sequences:
            later += dy
        for i in range(len(tape) - 1, -1, -1):
            t, counts, inner = tape[i]
            d = later + dy[:, i] if self.return_sequences else later
            past: Any = [0] * len(d_states)
            later = np.zeros_like(d)
            if counts is not None:
                past = [np.where(counts, 0, one) for one in d_states]
                later = later if self.zero_output_for_mask else np.where(counts, 0, d).astype(d.dtype)
                d, *d_states = (np.where(counts, one, 0).astype(one.dtype) for one in (d, *d_states))
            d, *d_states = self.cell.backward([d, *d_states], inner, step, True)
            if dx is not None:
                dx[:, t] = 0 if d is None else d
            d_states = [
                np.zeros((shape[0], size), dy.dtype) + before if one is None else one + before
                for one, before, size in zip(d_states, past, state_sizes(self.cell), strict=True)
            ]
        return [dx, *d_states] if given else dx


__all__: list[str] = []
