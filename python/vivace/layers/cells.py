"""Recurrent cells, and the layer that runs them over sequences."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from .._core import native
from .._typing import Array, BatchShape, Initializer
from ..constraints import Constraint
from ..parameters import Parameter, Watch
from ..regularizers import L1L2
from ..step import OneCall, Step
from .base import Layer
from .own_cells import Loop, build_step, first_states, flat, is_cell, output_size, state_sizes, with_states
from .recurrent import GRU, LSTM, Recurrent, SimpleRNN
from .symbolic import as_inputs

_alike = native.alike


class Cell(Recurrent):
    """One step of a recurrent layer: (x, states) -> (output, new states), x (batch, features), states (batch, units).

    In an `RNN` the same cell runs whole sequences, by the calls that the layer of its kind makes.
    """

    holder = ""  # the weights are its own
    run_sequence = Recurrent.forward  # as an RNN's copy of it; `forward` is one step
    _written = True  # whether a class has the `forward` and `backward` of this one

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._written = cls.forward is Cell.forward and cls.backward is Cell.backward

    def __call__(self, x: Any, states: Any = None, training: bool | None = None) -> Any:  # type: ignore[override]
        """(x, states) -> the output, and the list of states after it. states: those before, one or a list."""
        states = states if type(states) is list else flat(states)
        if not states:
            raise ValueError(f"{self.name} ({type(self).__name__}) takes the states too: {self.name}(x, states)")
        inputs = [x, *states]
        shape, dtype = self._accepted
        plain = self._written and "forward" not in self.__dict__ and self.activity_regularizer is None
        if plain and _alike(inputs, shape, dtype):
            step = OneCall()
            if training:
                step.training = True
            y, after, _ = self._run(x, states, step)  # half of what Layer.__call__ takes
            return y, after
        y, *after = super().__call__(inputs, training=training)
        return y, after

    def call_inputs(self, inputs: Any, initial_state: Any = None) -> Any:
        """inputs: the input, or a list of it and the states, which may be in lists themselves."""
        inputs, *states = inputs if isinstance(inputs, (list, tuple)) else [inputs, initial_state]
        return as_inputs([inputs, *flat(states)])

    @property
    def state_size(self) -> int | list[int]:
        return self.units if self.states_count() == 1 else [self.units] * self.states_count()

    @property
    def output_size(self) -> int:
        return self.units

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape, *states = input_shape if isinstance(input_shape, list) else [input_shape]
        if len(shape) != 2:
            raise ValueError(
                f"{self.name} ({type(self).__name__}) takes one step, (batch, features); received shape {shape}"
            )
        state = (shape[0], self.units)
        super().compute_output_shape([(shape[0], 1, shape[1]), *states])
        return [state] * (1 + self.states_count())

    def flops(self) -> int:
        return 2 * (self.kernel.size + self.recurrent_kernel.size)

    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        step.mask = None
        x, *states = x
        y, after, saved = self._run(x, states, step)
        return step.own([y, *after]), saved

    def _run(self, x: Array, states: list[Array], step: Step) -> tuple[Array, list[Array], Any]:
        """The output, the new states, and what `backward` needs."""
        shape, tape_shape, output, drops = self._ways.get(x.shape) or self.new_way(x.shape)
        if shape is None:
            (y, *after), saved = self._forward_by_steps(x, None, states, step)
            return y, after, saved
        kind, empty = x.dtype, step.empty
        y, new_h = empty(output, kind), empty(output, kind)
        if self.cell == "lstm":
            h, c = states
            new_c = empty(output, kind)
            after = [new_h, new_c]
        else:
            (h,), c, new_c = states, None, None
            after = [new_h]
        extras = None, h, c, self.numbers() if drops and step.training else None, new_h, new_c
        tape = empty(tape_shape, kind) if step.keeps else None
        native.rnn_forward(shape, x, self.arrays(), tape, y, extras)
        return y, after, (shape, x, tape, y, extras, True)


class SimpleRNNCell(Cell, SimpleRNN):
    """One step of a `SimpleRNN`. Arguments as there."""

    def __init__(
        self,
        units: int,
        activation: str | Callable[[Any], Array] | None = "tanh",
        use_bias: bool = True,
        kernel_initializer: str | Initializer = "glorot_uniform",
        recurrent_initializer: str | Initializer = "orthogonal",
        bias_initializer: str | Initializer = "zeros",
        kernel_regularizer: str | L1L2 | None = None,
        recurrent_regularizer: str | L1L2 | None = None,
        bias_regularizer: str | L1L2 | None = None,
        kernel_constraint: str | Constraint | None = None,
        recurrent_constraint: str | Constraint | None = None,
        bias_constraint: str | Constraint | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        SimpleRNN.__init__(
            self, units, activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer,
            kernel_regularizer, recurrent_regularizer, bias_regularizer, kwargs.pop("activity_regularizer", None),
            kernel_constraint, recurrent_constraint, bias_constraint, dropout, recurrent_dropout, seed=seed, **kwargs,
        )  # fmt: skip
        self.return_state = True


class LSTMCell(Cell, LSTM):
    """One step of an `LSTM`. Arguments as there; the states are h and c."""

    def __init__(
        self,
        units: int,
        activation: str | Callable[[Any], Array] | None = "tanh",
        recurrent_activation: str | Callable[[Any], Array] | None = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: str | Initializer = "glorot_uniform",
        recurrent_initializer: str | Initializer = "orthogonal",
        bias_initializer: str | Initializer = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: str | L1L2 | None = None,
        recurrent_regularizer: str | L1L2 | None = None,
        bias_regularizer: str | L1L2 | None = None,
        kernel_constraint: str | Constraint | None = None,
        recurrent_constraint: str | Constraint | None = None,
        bias_constraint: str | Constraint | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        LSTM.__init__(
            self, units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer,
            bias_initializer, unit_forget_bias, kernel_regularizer, recurrent_regularizer, bias_regularizer,
            kwargs.pop("activity_regularizer", None), kernel_constraint, recurrent_constraint, bias_constraint,
            dropout, recurrent_dropout, seed, **kwargs,
        )  # fmt: skip
        self.return_state = True


class GRUCell(Cell, GRU):
    """One step of a `GRU`. Arguments as there."""

    def __init__(
        self,
        units: int,
        activation: str | Callable[[Any], Array] | None = "tanh",
        recurrent_activation: str | Callable[[Any], Array] | None = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: str | Initializer = "glorot_uniform",
        recurrent_initializer: str | Initializer = "orthogonal",
        bias_initializer: str | Initializer = "zeros",
        kernel_regularizer: str | L1L2 | None = None,
        recurrent_regularizer: str | L1L2 | None = None,
        bias_regularizer: str | L1L2 | None = None,
        kernel_constraint: str | Constraint | None = None,
        recurrent_constraint: str | Constraint | None = None,
        bias_constraint: str | Constraint | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        GRU.__init__(
            self, units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer,
            bias_initializer, kernel_regularizer, recurrent_regularizer, bias_regularizer,
            kwargs.pop("activity_regularizer", None), kernel_constraint, recurrent_constraint, bias_constraint,
            dropout, recurrent_dropout, seed, reset_after=reset_after, **kwargs,
        )  # fmt: skip
        self.return_state = True


class StackedRNNCells(Layer):
    """Cells that run one behind the other in every step, as one cell: its states are those of all, in order.

    cells: each as of `RNN`.
    """

    several_inputs = True

    def __init__(self, cells: Sequence[Any], **kwargs: Any) -> None:
        for cell in cells:
            if isinstance(cell, StackedRNNCells):
                raise TypeError("StackedRNNCells: cells must not be stacks themselves; put all cells in one list")
            _check_cell("StackedRNNCells: cells", cell)
        super().__init__(**{"dtype": cells[0].dtype if cells else None, **kwargs})
        self.cells = list(cells)
        self._known = all(isinstance(cell, Cell) for cell in cells)
        self._shares: list[slice] = []  # of each cell in a list of all states
        for cell in cells:
            first = self.states_count()
            self._shares.append(slice(first, first + len(state_sizes(cell))))

    def __call__(self, x: Any, states: Any = None, training: bool | None = None) -> Any:  # type: ignore[override]
        """(x, states) -> the output, and the list of states after it. states: those before, in nested lists or flat."""
        states = states if type(states) is list else flat(states)
        if not states:
            raise ValueError(f"{self.name} (StackedRNNCells) takes the states too: {self.name}(x, states)")
        inputs = [x, *states]
        shape, dtype = self._accepted
        if self._known and self.activity_regularizer is None and _alike(inputs, shape, dtype):
            after: list[Array] = []
            for cell, share in zip(self.cells, self._shares):  # noqa: B905 (strict takes its time)
                x, new = cell(x, states[share], training)
                after += new
            return x, after
        y, *after = super().__call__(inputs, training=training)
        return y, after

    @property
    def state_size(self) -> list[int | list[int]]:
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> int:
        return output_size(self.cells[-1])

    def states_count(self) -> int:
        return self._shares[-1].stop if self._shares else 0

    def get_initial_state(self, batch_size: int) -> list[list[Array]]:
        """What sequences start from, for each cell a list."""
        return [first_states(cell, batch_size, self.dtype) for cell in self.cells]

    call_inputs = Cell.call_inputs

    def sublayers(self) -> dict[str, Layer]:
        return {f"cell_{i}": cell for i, cell in enumerate(self.cells)}

    @property
    def weights(self) -> list[Parameter]:
        return [weight for cell in self.cells for weight in cell.weights]

    def shared_out(self, states: Sequence[Any]) -> list[list[Any]]:
        """The states, or what belongs to each of them, for each cell."""
        return [list(states[share]) for share in self._shares]

    def build(self, input_shape: Any) -> None:
        self.compute_output_shape(input_shape)

    def compute_output_shape(self, input_shape: Any) -> Any:
        x, *states = input_shape
        if len(states) != self.states_count():
            raise ValueError(
                f"{self.name} (StackedRNNCells) takes the states of all cells, {self.states_count()}, received {states}"
            )
        after: list[BatchShape] = []
        for cell, own in zip(self.cells, self.shared_out(states), strict=True):
            made: Any = [build_step(cell, x), *own]
            if isinstance(cell, Cell):
                made = cell.build_once([x, *own])  # type: ignore[arg-type]
            x, *new = made
            after += new
        return [x, *after]

    def flops(self) -> int:
        return sum(cell.flops() for cell in self.cells)

    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        x, *states = x
        after, tape = [], []
        for cell, own in zip(self.cells, self.shared_out(states), strict=True):
            (x, *new), saved = cell.forward([x, *own], step)
            after += new
            tape.append(saved)
        return step.own([x, *after]), tape

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        d, *dstates = dy
        before: list[Any] = []
        for i, own in reversed(list(enumerate(self.shared_out(dstates)))):
            d, *first = self.cells[i].backward([d, *own], saved[i], step, True)
            before = first + before
        return [d, *before]


class RNN(Layer):
    """Runs a cell, or several one behind the other, over sequences: (batch, steps, features) -> (batch, units).

    With return_sequences the output is (batch, steps, units); with return_state it is a list [output, *final states],
    the states of all cells in order. A mask may have any pattern: a masked step carries the states on.

    Each cell runs the whole sequence in one native call, as the layer of its kind does: `RNN(LSTMCell(8))` computes
    what `LSTM(8)` computes, as fast. A cell of one's own (see docs/custom.md) runs step by step in Python.

    Args:
        cell: a SimpleRNNCell, LSTMCell, GRUCell or StackedRNNCells, a layer of one's own with a `state_size`, or a list
            of cells.
        return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask: as of `LSTM`.
    """

    several_inputs = True

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        one: Any = StackedRNNCells(cell) if isinstance(cell, (list, tuple)) else cell
        _check_cell("RNN: cell", one)
        super().__init__(**{"dtype": one.dtype, **kwargs})
        self.cell = one
        self.return_sequences, self.return_state, self.go_backwards = return_sequences, return_state, go_backwards
        self.stateful, self.unroll, self.zero_output_for_mask = stateful, unroll, zero_output_for_mask
        self._runs: list[Any] = []  # what runs each of the cells over sequences
        self._watch = Watch()

    @property
    def cells(self) -> list[Any]:
        return self.cell.cells if isinstance(self.cell, StackedRNNCells) else [self.cell]

    @property
    def state_size(self) -> list[Any]:
        size = self.cell.state_size
        return list(size) if isinstance(size, list) else [size]

    def call_inputs(self, sequences: Any, initial_state: Any = None) -> Any:
        """initial_state: of all cells in order, each (batch, units); zeros by default."""
        return as_inputs(sequences, tuple(flat(initial_state)))

    def sublayers(self) -> dict[str, Layer]:
        return {"cell": self.cell}

    @property
    def weights(self) -> list[Parameter]:
        return self.cell.weights

    def build(self, input_shape: Any) -> None:
        shape = input_shape[0] if isinstance(input_shape, list) else input_shape
        x: Any = (shape[0], *shape[2:])
        if isinstance(self.cell, (Cell, StackedRNNCells)):
            self.cell.build_once(with_states(self.cell, x))
        else:
            build_step(self.cell, x)
        self._features = shape[2]
        self._make_runs()

    def _make_runs(self) -> None:
        states = [run._state for run in self._runs] or [None] * len(self.cells)
        self._runs = [self._run(i) for i in range(len(self.cells))]
        for run, state in zip(self._runs, states, strict=True):
            run._state = state

    def _run(self, i: int) -> Any:
        """Cell i as what runs sequences here: of the same weights, with flags and a state between batches of its own.

        Only the first turns the steps around, only the last may return less than all of them.
        """
        cell, last = self.cells[i], i == len(self.cells) - 1
        flags: dict[str, Any] = {
            "return_sequences": not last or self.return_sequences,
            "go_backwards": self.go_backwards and i == 0,
            "stateful": self.stateful,
            "return_state": self.return_state,
            "zero_output_for_mask": last and self.zero_output_for_mask,
        }
        if not isinstance(cell, Cell) or not cell._written or "forward" in vars(cell):
            return Loop(cell, **flags)
        run = copy.copy(cell)
        vars(run).update(flags)  # that a run is made is no change of a layer
        return run

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape, *states = input_shape if isinstance(input_shape, list) else [input_shape]
        if len(shape) != 3 or shape[2] is None:
            raise ValueError(
                f"{self.name} (RNN) takes inputs of rank 3, (batch, steps, features); received shape {shape}"
            )
        expected = [(shape[0], size) for size in state_sizes(self.cell)]
        if states and [tuple(state[1:]) for state in states] != [state[1:] for state in expected]:
            raise ValueError(f"{self.name} (RNN) takes initial states of shapes {expected}, received {states}")
        if self.built and shape[2] != self._features:
            raise ValueError(f"{self.name} (RNN) was built for {self._features} features, received shape {shape}")
        units = output_size(self.cell)
        y = (*shape[:2], units) if self.return_sequences else (shape[0], units)
        return [y, *expected] if self.return_state else y

    def flops(self) -> int:
        shape: Any = self.input_shape or (None, 1)
        return ((shape[0] if isinstance(shape, list) else shape)[1] or 1) * self.cell.flops()

    def reset_states(self) -> None:
        """Forget the states kept between batches (`stateful`)."""
        for run in self._runs:
            run.reset_states()

    reset_state = reset_states

    def _shared_out(self, states: list[Any]) -> list[list[Any]]:
        return self.cell.shared_out(states) if isinstance(self.cell, StackedRNNCells) else [states]

    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        if self._watch.changed():
            self._make_runs()
        if self.return_state or type(x) is list:
            return self._forward_with_states(x, step)
        tape = []
        for run in self._runs:
            x, saved = run.run_sequence(x, step)
            tape.append(saved)
        return x, (tape, False)

    def _forward_with_states(self, x: Any, step: Step) -> tuple[Any, Any]:
        given = type(x) is list
        x, *states = x if given else [x]
        shares = self._shared_out(states) if given else [[]] * len(self._runs)
        after, tape = [], []
        for run, own in zip(self._runs, shares, strict=True):
            x, saved = run.run_sequence([x, *own] if given else x, step)
            if self.return_state:
                x, *new = x
                after += new
            tape.append(saved)
        return step.own([x, *after]) if self.return_state else x, (tape, given)

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        tape, given = saved
        d, *dstates = dy if self.return_state else [dy]
        shares = self._shared_out(dstates) if self.return_state else [[] for _ in self.cells]
        before: list[Any] = []
        for i in range(len(self.cells) - 1, -1, -1):
            d = [d, *shares[i]] if self.return_state else d
            back = self._runs[i].backward(d, tape[i], step, input_gradient or i > 0)
            d, *first = back if given else [back]
            before = first + before
        return [d, *before] if given else d


def _check_cell(what: str, cell: Any) -> None:
    if not is_cell(cell) or isinstance(cell, RNN) or not getattr(cell, "cells", True):
        raise TypeError(
            f"{what} must be SimpleRNNCell, LSTMCell, GRUCell or a layer with a state_size, received {cell!r}"
        )


__all__ = ["RNN", "GRUCell", "LSTMCell", "SimpleRNNCell", "StackedRNNCells"]
