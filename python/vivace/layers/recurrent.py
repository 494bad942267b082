"""Recurrent layers: one native call runs a whole sequence, one runs it backward through time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import activations, constraints, initializers, regularizers
from .._config import take_former
from .._core import native
from .._typing import Array, BatchShape, Initializer, Shape
from ..constraints import Constraint
from ..regularizers import L1L2
from ..step import Step, Stream
from . import recurrent_steps
from .base import Layer
from .checks import positive
from .symbolic import as_inputs


class Recurrent(Layer):
    """Input (batch, steps, features); output (batch, units), or (batch, steps, units) with return_sequences.

    The input may be a list [x, *initial states], each state (batch, units): h, for an LSTM h and c. With return_state
    the output is a list [output, *final states].

    A mask (from `Embedding(mask_zero=True)` or `Masking`) may have any pattern: a masked step carries the state on.

    Args:
        units: size of the state, at least 1.
        activation, recurrent_activation: "tanh" and "sigmoid". "softmax", "log_softmax" and "sparsemax", which see all
            units together, run step by step in Python, many times slower; with all others the whole sequence is one
            native call.
        use_bias: add a bias (True).
        kernel_initializer, recurrent_initializer, bias_initializer: "glorot_uniform", "orthogonal", "zeros".
        kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer: penalties on the weights and
            on the output, none by default.
        kernel_constraint, recurrent_constraint, bias_constraint: none by default.
        return_sequences: return the output of every step instead of the last.
        go_backwards: run from the last step to the first; sequences are returned in that order.
        stateful: a batch starts from the state in which the one before ended, until `reset_states`; fit such a layer
            with shuffle=False and batches of one size.
        return_state: return the final states too.
        dropout: in training, this fraction of the inputs is dropped, the same ones at every step of a sequence.
        recurrent_dropout: the same for the state, where it meets the recurrent weights. Every gate of an LSTM or a GRU
            then has masks of its own, of its inputs too.
        seed: of the dropout; by default the next seed of the global stream.
        zero_output_for_mask: with return_sequences, a masked step's output is 0; otherwise that of the step before.
        unroll, use_cudnn: accepted for Keras's sake; a native call has no loop to unroll.
    """

    several_inputs = True
    former = ("input_dim", "implementation")
    cell: Any
    gates: int
    reset_after = True  # of a GRU

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
        activity_regularizer: str | L1L2 | None = None,
        kernel_constraint: str | Constraint | None = None,
        recurrent_constraint: str | Constraint | None = None,
        bias_constraint: str | Constraint | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        take_former(kwargs, "implementation", "leave it out, there is one for all")
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        for argument, rate in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout)):
            if not 0 <= rate < 1:
                raise ValueError(f"{self.name}: {argument} must lie in [0, 1), received {rate!r}")
        self.activation: Any = activations.name_of(activation)
        self.recurrent_activation: Any = activations.name_of(recurrent_activation)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = regularizers.get(recurrent_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.recurrent_constraint = constraints.get(recurrent_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.units = positive(self.name, "units", units)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.recurrent_initializer = initializers.get(recurrent_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.return_sequences = return_sequences
        self.go_backwards = go_backwards
        self.stateful = stateful
        self.dropout = float(dropout)
        self.recurrent_dropout = float(recurrent_dropout)
        self.return_state = return_state
        self.unroll = unroll
        self.zero_output_for_mask = zero_output_for_mask
        self.seed = seed
        self.stream = Stream(seed)
        self._state: tuple[Array, Array | None] | None = None

    def build(self, input_shape: BatchShape) -> None:
        columns = self.gates * self.units
        shape: Shape = (sequence(input_shape)[-1] or 0, columns)
        self.kernel = self.add_weight(
            "kernel", shape, self.kernel_initializer, True, self.kernel_regularizer, self.kernel_constraint
        )
        shape = (self.units, columns)
        self.recurrent_kernel = self.add_weight(
            "recurrent_kernel",
            shape,
            self.recurrent_initializer,
            True,
            self.recurrent_regularizer,
            self.recurrent_constraint,
        )
        self.bias = None
        if self.use_bias:
            shape = self.bias_shape()
            self.bias = self.add_weight(
                "bias", shape, self.bias_initializer, True, self.bias_regularizer, self.bias_constraint
            )

    def bias_shape(self) -> Shape:
        return (self.gates * self.units,)

    def get_initial_state(self, batch_size: int | None = None) -> list[Array]:
        """Zeros, as many states as the layer has, each (batch_size, units)."""
        return [np.zeros((batch_size or 1, self.units), self.dtype) for _ in range(self.states_count())]

    def states_count(self) -> int:
        """How many states a sequence has."""
        return 2 if self.cell == "lstm" else 1

    def outputs_size(self) -> int:
        return self.units

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = sequence(input_shape)
        who = f"{self.name} ({type(self).__name__})"
        if len(shape) != 3 or shape[2] is None:
            hint = "; add the features' axis with x[..., None]" if len(shape) == 2 else ""
            hint += ", or let a recurrent layer in front return_sequences" if hint else ""
            raise ValueError(f"{who} takes inputs of rank 3, (batch, steps, features); received shape {shape}{hint}")
        if self.built and shape[2] != self.kernel.shape[0]:
            raise ValueError(f"{who} was built for {self.kernel.shape[0]} features, received shape {shape}")
        if isinstance(input_shape, list):
            for state in input_shape[1:]:
                if tuple(state[1:]) != (self.units,) or len(input_shape) != 1 + self.states_count():
                    raise ValueError(
                        f"{who} takes {self.states_count()} initial states of shape (batch, {self.units}), "
                        f"received {', '.join(map(str, input_shape[1:]))}"
                    )
        y = (*shape[:2], self.outputs_size()) if self.return_sequences else (shape[0], self.outputs_size())
        return [y, *[(shape[0], self.units)] * self.states_count()] if self.return_state else y

    def flops(self) -> int:
        steps = sequence(self.input_shape or (None, 1))[1] or 1
        return 2 * steps * (self.kernel.size + self.recurrent_kernel.size)

    @property
    def fused(self) -> bool:
        """Whether one native call runs the whole sequence; otherwise `recurrent_steps` does."""
        return all(activations.native_form(one) for one in (self.activation, self.recurrent_activation))

    def native_shape(self, shape: Shape, in_time: bool = False) -> native.RnnShape:
        """What one native call runs over inputs of this shape. in_time: whether a sequence of outputs shall be in the
        order of time even if the layer goes backwards.
        """
        batch, *steps, features = shape  # or one step, of a cell
        cell: Any = self.cell if self.reset_after else "gru_reset_before"
        activation, recurrent = map(activations.native_form, (self.activation, self.recurrent_activation))
        return native.RnnShape(
            batch, steps[0] if steps else 1, features, self.units, cell, self.go_backwards, activation, recurrent,
            self.dropout, self.recurrent_dropout, self.return_sequences, in_time, self.zero_output_for_mask,
            self.outputs_size(),
        )  # fmt: skip

    def make_way(self, shape: Shape) -> tuple[native.RnnShape | None, Shape, Shape, bool]:
        """The native shape (None where Python goes step by step), those of the tape and of the output, and whether
        anything is dropped in training.
        """
        if not self.fused:
            return None, (), (), self.drops
        geometry = self.native_shape(shape)
        return geometry, geometry.tape, geometry.output, self.drops

    def arrays(self) -> tuple[Array | None, ...]:
        """The weights as the kernels take them."""
        bias = self.bias
        return self.kernel.array, self.recurrent_kernel.array, bias.array if bias else None

    def gradients(self) -> tuple[Array | None, ...]:
        bias = self.bias
        return self.kernel.gradient, self.recurrent_kernel.gradient, bias.gradient if bias else None

    def reset_states(self) -> None:
        """Forget the state kept between batches (`stateful`)."""
        self._state = None

    reset_state = reset_states

    def initial_state(self, batch: int, given: list[Array] | None) -> tuple[Array | None, Array | None]:
        """What the first step starts from, h and c; None: zeros."""
        if given:
            return given[0], given[1] if len(given) > 1 else None
        if not self.stateful or self._state is None:
            return None, None
        if len(self._state[0]) != batch:
            raise ValueError(
                f"{self.name} is stateful and its state is that of {len(self._state[0])} sequences, received {batch}; "
                "use batches of one size, or call reset_states()"
            )
        return self._state

    @property
    def drops(self) -> bool:
        """Whether the layer drops anything in training."""
        return self.dropout > 0 or self.recurrent_dropout > 0

    def numbers(self) -> tuple[int, int, int]:
        """The seed and the streams of random numbers of a pass that drops: for the inputs and for the states."""
        return self.stream.two()

    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        given, mask = None, step.mask
        extras: tuple[Any, ...] = ()
        final: tuple[Array, ...] = ()
        if type(x) is list:
            x, *given = x
            if type(mask) is list:
                step.mask = mask = mask[0]
        shape, tape_shape, output, drops = self._ways.get(x.shape) or self.new_way(x.shape)
        if shape is None:
            return self._forward_by_steps(x, mask, given, step)
        kind = x.dtype
        drops = drops and step.training
        if drops or mask is not None or given or self.return_state or self.stateful:
            h = c = None
            if given or self.stateful:
                h, c = self.initial_state(len(x), given)
            if self.return_state or self.stateful:
                final = self._room_for_states(len(x), kind, step)
            extras = (mask, h, c, self.numbers() if drops else None, *final)
            if mask is not None:
                step.mask = self.output_mask(mask)
        tape = step.empty(tape_shape, kind) if step.keeps else None
        y = step.empty(output, kind)
        native.rnn_forward(shape, x, self.arrays(), tape, y, extras)
        saved = shape, x, tape, y, extras[:4], given is not None
        return self._with_states(y, final, step) if final else y, saved

    def _room_for_states(self, batch: int, kind: Any, step: Step) -> tuple[Array, ...]:
        one = step.empty((batch, self.units), kind)
        return (one, step.empty(one.shape, kind)) if self.cell == "lstm" else (one,)

    def output_mask(self, mask: Array) -> Array | None:
        """The mask of what the layer puts out."""
        if not self.return_sequences:
            return None
        return np.ascontiguousarray(mask[:, ::-1]) if self.go_backwards else mask

    def _with_states(self, y: Array, final: Sequence[Array], step: Step) -> Any:
        """What the layer returns; keeps the final states for the next batch (`stateful`)."""
        if self.stateful:
            self._state = final[0].copy(), final[1].copy() if len(final) > 1 else None
        return step.own([y, *final]) if self.return_state else y

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        shape, x, tape, y, extras, given = saved
        dy, *d_final = dy if self.return_state else [dy]
        dx: Any
        dh: Any = None
        dc: Any = None
        if given or d_final or shape is None:
            d_final = d_final or [None] * self.states_count()
            dh = _copy_or_zeros(d_final[0], (len(x), self.units), step, x.dtype)
            dc = _copy_or_zeros(d_final[1], dh.shape, step, x.dtype) if self.cell == "lstm" else None
        if shape is None:
            dx, dh, dc = recurrent_steps.layer_backward(self, dy, dh, dc, x, extras[0], tape)
        else:
            dx = step.empty(x.shape, x.dtype) if input_gradient else None
            native.rnn_backward(shape, x, self.arrays(), self.gradients(), tape, y, dy, dx, dh, dc, extras)
        if not given:
            return dx if input_gradient else None
        return [dx if input_gradient else None, *([dh] if dc is None else [dh, dc])]

    def bind(self, x: Any, step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        if isinstance(x, list) or self.stateful or self.return_state:
            return None
        shape, _, output, _ = self._ways.get(x.shape) or self.new_way(x.shape)
        if shape is None:
            return None
        y = step.empty(output, x.dtype)
        return y, [partial(native.rnn_forward, shape, x, self.arrays(), None, y)]

    def _forward_by_steps(self, x: Array, mask: Array | None, given: list[Array] | None, step: Step) -> tuple[Any, Any]:
        initial = self.initial_state(len(x), given)
        y, final, tape = recurrent_steps.layer_forward(self, x, mask, initial, step)
        if mask is not None:
            step.mask = self.output_mask(mask)
        if self.return_state or self.stateful:
            y = self._with_states(y, final, step)
        return y, (None, x, tape, None, (mask,), given is not None)

    def call_inputs(self, sequences: Any, initial_state: Any = None) -> Any:
        """initial_state: h or [h], for an LSTM [h, c], each (batch, units); zeros by default."""
        states = [] if initial_state is None else initial_state
        return as_inputs(sequences, tuple(states) if isinstance(states, (list, tuple)) else (states,))


def sequence(input_shape: Any) -> BatchShape:
    """The shape of the sequences among those of [sequences, *initial states]."""
    shape: BatchShape = input_shape[0] if isinstance(input_shape, list) else input_shape
    return shape


def _copy_or_zeros(x: Array | None, shape: Shape, step: Step, dtype: Any) -> Array:
    y = step.empty(shape, dtype)
    y[...] = 0 if x is None else x
    return y


class SimpleRNN(Recurrent):
    __doc__ = f"h_t = tanh(x_t W + h_(t-1) U + b).\n\n    {Recurrent.__doc__}"
    cell = "simple"
    holder = "simple_rnn_cell"
    gates = 1
    bind = Recurrent.bind

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
        activity_regularizer: str | L1L2 | None = None,
        kernel_constraint: str | Constraint | None = None,
        recurrent_constraint: str | Constraint | None = None,
        bias_constraint: str | Constraint | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units, activation, "sigmoid", use_bias, kernel_initializer, recurrent_initializer, bias_initializer,
            kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
            recurrent_constraint, bias_constraint, dropout, recurrent_dropout, seed, return_sequences, return_state,
            go_backwards, stateful, unroll, **kwargs,
        )  # fmt: skip


class LSTM(Recurrent):
    __doc__ = f"""Long short-term memory (Hochreiter & Schmidhuber 1997), gates in the order i f c o.

        c_t = s(f) c_(t-1) + s(i) tanh(g);  h_t = s(o) tanh(c_t)        s: the logistic sigmoid

    The forget gate's bias starts at 1 (`unit_forget_bias`).

    {Recurrent.__doc__}"""
    cell = "lstm"
    holder = "lstm_cell"
    gates = 4
    bind = Recurrent.bind

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
        activity_regularizer: str | L1L2 | None = None,
        kernel_constraint: str | Constraint | None = None,
        recurrent_constraint: str | Constraint | None = None,
        bias_constraint: str | Constraint | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        use_cudnn: Any = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer,
            bias_initializer, kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer,
            kernel_constraint, recurrent_constraint, bias_constraint, dropout, recurrent_dropout, seed,
            return_sequences, return_state, go_backwards, stateful, unroll, **kwargs,
        )  # fmt: skip
        self.unit_forget_bias = unit_forget_bias

    def build(self, input_shape: BatchShape) -> None:
        super().build(input_shape)
        if self.bias and self.unit_forget_bias:
            self.bias.array[self.units : 2 * self.units] = 1


class GRU(Recurrent):
    __doc__ = f"""Gated recurrent unit (Cho et al. 2014), gates in the order z r h.

        h_t = s(z) h_(t-1) + (1 - s(z)) tanh(g)
        reset_after=True (Keras's default):  g = x W_h + b_h + s(r) (h_(t-1) U_h + b'_h); the bias has shape
            (2, 3 units): that of the input's product and that of the recurrent one
        reset_after=False (the paper's):     g = x W_h + b_h + (s(r) h_(t-1)) U_h; the bias has shape (3 units,)

    {Recurrent.__doc__}"""
    cell = "gru"
    holder = "gru_cell"
    gates = 3
    bind = Recurrent.bind

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
        activity_regularizer: str | L1L2 | None = None,
        kernel_constraint: str | Constraint | None = None,
        recurrent_constraint: str | Constraint | None = None,
        bias_constraint: str | Constraint | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        reset_after: bool = True,
        use_cudnn: Any = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer,
            bias_initializer, kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer,
            kernel_constraint, recurrent_constraint, bias_constraint, dropout, recurrent_dropout, seed,
            return_sequences, return_state, go_backwards, stateful, unroll, **kwargs,
        )  # fmt: skip
        self.reset_after = reset_after

    def bias_shape(self) -> Shape:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)


class OutputGatedRNN(Recurrent):
    __doc__ = f"""A recurrent cell with an output gate that also sees the input directly, and a linear read-out.

        a_t = s(W_hh h_(t-1) + W_xh x_t + b_h)        h_t = tanh(a_t)
        o_t = s(W_ho h_(t-1) + W_xo x_t + b_o)        y_t = W_oy o_t

    The first two weights hold both gates, in the order a o; `output_kernel` (units, output_units) is W_oy. What a
    masked step returns is not to be used; its gradient should be zero.

    {Recurrent.__doc__}"""
    cell = "output_gated"
    gates = 2
    bind = Recurrent.bind

    def __init__(self, units: int, output_units: int, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.output_units = positive(self.name, "output_units", output_units)

    def build(self, input_shape: BatchShape) -> None:
        super().build(input_shape)
        self.output_kernel = self.add_weight("output_kernel", (self.units, self.output_units), self.kernel_initializer)

    def outputs_size(self) -> int:
        return self.output_units

    def flops(self) -> int:
        steps = sequence(self.input_shape or (None, 1))[1] or 1 if self.return_sequences else 1
        return super().flops() + 2 * steps * self.output_kernel.size

    def arrays(self) -> tuple[Array | None, ...]:
        return *super().arrays(), self.output_kernel.array

    def gradients(self) -> tuple[Array | None, ...]:
        return *super().gradients(), self.output_kernel.gradient
