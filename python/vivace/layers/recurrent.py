"""Recurrent layers: one native call runs a whole sequence, one runs it backward through time."""

from __future__ import annotations

from collections.abc import Callable
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
from .base import Layer, positive
from .core import keep_mask
from .recurrent_steps import Kind, Weights
from .symbolic import as_inputs

_NO_STATE = None, None


class Recurrent(Layer):
    """Input (batch, steps, features); output (batch, units), or (batch, steps, units) with return_sequences.

    The input may be a list [x, *initial states], each state (batch, units): h, for an LSTM h and c. With return_state
    the output is a list [output, *final states].

    A mask (from `Embedding(mask_zero=True)` or `Masking`) may have any pattern: a masked step carries the state on.

    Args:
        units: size of the state, at least 1.
        activation, recurrent_activation: "tanh" and "sigmoid". These, "relu" and "linear" run in one native call for
            the whole sequence; any other activation runs step by step in Python, many times slower.
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
            then has masks of its own, of its inputs too, and training runs step by step in Python, two or three times
            slower.
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

    @property
    def fused(self) -> bool:
        """Whether one native call runs the whole sequence; otherwise `recurrent_steps` does."""
        known = activations.FUSED
        return self.reset_after and self.activation in known and self.recurrent_activation in known

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

    def make_way(self, shape: Shape) -> tuple[native.RnnShape | None, Shape, Shape, Shape]:
        """The native shape, and those of the workspace, of the states and of one step's; None where Python goes step by
        step.
        """
        if not self.fused:
            return None, (), (), ()
        batch, steps, features = shape
        kind = (self.cell, self.go_backwards, self.activation, self.recurrent_activation)
        geometry = native.RnnShape(batch, steps, features, self.units, *kind)
        return geometry, geometry.workspace, geometry.states, (batch, self.units)

    def reset_states(self) -> None:
        """Forget the state kept between batches (`stateful`)."""
        self._state = None

    reset_state = reset_states

    def _initial_state(self, batch: int, given: list[Array] | None) -> tuple[Array | None, Array | None]:
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

    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        given, mask = None, step.mask
        if type(x) is list:
            x, *given = x
        if type(mask) is list:
            mask = mask[0]
        kept = kept_state = None
        initial = self._initial_state(len(x), given) if given or self.stateful else _NO_STATE
        shape, workspace_shape, states, last = self._ways.get(x.shape) or self.new_way(x.shape)
        if step.training and (self.dropout or self.recurrent_dropout):
            x, kept, kept_state = self._dropped(x, step)
        if shape is None or (kept_state is not None and kept_state.ndim == 3):
            y, h, c, tape = self._run_steps(x, mask, initial, kept_state)
        else:
            kind, bias, (h0, c0) = x.dtype, self.bias, initial
            workspace, h = step.empty(workspace_shape, kind), step.empty(states, kind)
            y = h if self.return_sequences else step.empty(last, kind)
            native.rnn_forward(
                shape, x, self.kernel.array, self.recurrent_kernel.array, bias.array if bias else None, mask, h0, c0,
                kept_state, workspace, h, None if y is h else y,
            )  # fmt: skip
            if y is h and self.cell == "output_gated":
                y = step.copy(workspace[:, :: -1 if self.go_backwards else 1, self.units :])
            c, tape = workspace, (shape, workspace, h)
        keep = step.mask = None
        if mask is not None and self.return_sequences:
            y, keep = self._masked(y, mask, step)
        saved = (x, mask, initial, kept, kept_state, tape, given, keep)
        if self.return_state or self.stateful:
            y = self._with_states(y, h, c, step)
        return y, saved

    def _masked(self, y: Array, mask: Array, step: Step) -> tuple[Array, Array | None]:
        """The outputs in a new array, if some shall be 0, and which those are not (or None). Sets the step's mask."""
        step.mask = np.ascontiguousarray(mask[:, ::-1]) if self.go_backwards else mask
        if not self.zero_output_for_mask:
            return y, None
        keep = (step.mask != 0)[..., None]
        return np.multiply(y, keep, out=step.empty(y.shape, y.dtype)), keep

    def _with_states(self, y: Array, h: Array, c: Array | None, step: Step) -> Any:
        """What the layer returns, from the states of all steps; keeps the last for the next batch (`stateful`).

        c: the LSTM's memories, which are what its workspace ends in.
        """
        final = [step.copy(h[:, -1])]
        if self.cell == "lstm" and c is not None:
            final.append(step.copy(c.reshape(-1)[-h.size :].reshape(h.shape)[:, -1]))
        if self.stateful:
            self._state = final[0].copy(), final[1].copy() if len(final) > 1 else None
        return [y, *final] if self.return_state else y

    def _dropped(self, x: Array, step: Step) -> tuple[Array, Array | None, Array | None]:
        """The input and what dropout leaves of it; what it leaves of it, and of the states: masks, or None."""
        kept = kept_state = None
        batch, _, features = x.shape
        gates: Shape = (self.gates,) if self.recurrent_dropout and self.cell in ("lstm", "gru") else ()
        if self.dropout:
            kept = keep_mask((*gates, batch, 1, features), self.dropout, self.stream, x.dtype, step)
            x = np.multiply(x, kept, out=step.empty((*gates, *x.shape), x.dtype))
        if self.recurrent_dropout:
            kept_state = keep_mask((*gates, batch, self.units), self.recurrent_dropout, self.stream, x.dtype, step)
        return x, kept, kept_state

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        x, mask, initial, kept, kept_state, tape, states_given, keep = saved
        dy, *d_final = dy if self.return_state else [dy]
        if keep is not None:
            dy *= keep
        d_final = d_final or [None] * self.states_count()
        dh = _copy_or_zeros(d_final[0], (x.shape[-3], self.units), step, x.dtype)
        dc = _copy_or_zeros(d_final[1], dh.shape, step, x.dtype) if self.cell == "lstm" else None
        if not self.return_sequences:  # of all outputs only the last counts
            if self.cell == "output_gated":
                last, dy = dy, _copy_or_zeros(None, (*x.shape[-3:-1], self.units), step, x.dtype)
                dy[:, -1] = last
            else:
                dh += dy
                dy = None
        run_back = self._run_steps_back if isinstance(tape[0], Weights) else self._run_fused_back
        dx, dh, dc = run_back(x, mask, initial, kept_state, tape, dy, dh, dc, step, input_gradient)
        if dx is not None and kept is not None:
            dx *= kept
            dx = dx.sum(0) if dx.ndim == 4 else dx
        if not states_given:
            return dx
        return [dx, dh] if dc is None else [dx, dh, dc]

    def bind(self, x: Any, step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        if isinstance(x, list) or self.stateful or self.return_state or self.cell == "output_gated":
            return None
        shape, workspace, states, last = self._ways.get(x.shape) or self.new_way(x.shape)
        if shape is None:
            return None
        bias, h = self.bias.array if self.bias else None, step.empty(states, x.dtype)
        weights = self.kernel.array, self.recurrent_kernel.array, bias
        y = None if self.return_sequences else step.empty(last, x.dtype)
        call = partial(
            native.rnn_forward, shape, x, *weights, None, None, None, None, step.empty(workspace, x.dtype), h, y
        )
        return h if y is None else y, [call]

    def _run_fused_back(
        self, x: Array, mask: Any, initial: Any, kept: Any, tape: Any, dy: Array | None, dh: Array, dc: Any,
        step: Step, input_gradient: bool,
    ) -> tuple[Array | None, Array, Any]:  # fmt: skip
        """(dx, dh, dc): the gradients of the input and of the initial states."""
        shape, workspace, h = tape
        h0, c0 = initial
        dx = step.empty(x.shape, x.dtype) if input_gradient else None
        native.rnn_backward(
            shape, x, self.kernel.array, self.recurrent_kernel.array, mask, h0, c0, kept, workspace, h, dy, dx,
            self.kernel.gradient, self.recurrent_kernel.gradient, self.bias.gradient if self.bias else None, dh, dc,
        )  # fmt: skip
        return dx, dh, dc

    def _kind(self) -> Kind:
        return Kind(self.cell, self.go_backwards, self.activation, self.recurrent_activation, self.reset_after)

    def _run_steps(self, x: Array, mask: Any, initial: Any, kept: Any) -> tuple[Array, Array, Any, Any]:
        """(output, states, memories, tape); states (batch, steps, units), in the order computed."""
        weights = Weights(self.kernel.array, self.recurrent_kernel.array, self.bias.array if self.bias else None)
        y, h, c, tape = recurrent_steps.forward(self._kind(), x, weights, mask, initial, kept)
        y = y if self.return_sequences else np.ascontiguousarray(y[:, -1])
        return y, h, c if self.cell == "lstm" else None, (weights, tape)

    def _run_steps_back(
        self, x: Array, mask: Any, initial: Any, kept: Any, tape: Any, dy: Array | None, dh: Array, dc: Any,
        step: Step, input_gradient: bool,
    ) -> tuple[Array | None, Array, Any]:  # fmt: skip
        weights, tape = tape
        into = Weights(self.kernel.gradient, self.recurrent_kernel.gradient, self.bias.gradient if self.bias else None)
        memory = np.zeros_like(dh) if dc is None else dc
        dx, dh, memory = recurrent_steps.backward(self._kind(), x, weights, into, mask, kept, tape, dy, dh, memory)
        return dx if input_gradient else None, dh, None if dc is None else memory

    def call_inputs(self, x: Any, initial_state: Any = None) -> Any:
        """initial_state: h or [h], for an LSTM [h, c], each (batch, units); zeros by default."""
        states = [] if initial_state is None else initial_state
        return as_inputs(x, tuple(states) if isinstance(states, (list, tuple)) else (states,))


def sequence(input_shape: Any) -> BatchShape:
    """The shape of the sequences among those of [sequences, *initial states]."""
    shape: BatchShape = input_shape[0] if isinstance(input_shape, list) else input_shape
    return shape


def _contiguous(x: Array, step: Step) -> Array:
    return x if x.flags.c_contiguous else step.copy(x)


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
            self.bias.value[self.units : 2 * self.units] = 1


class GRU(Recurrent):
    __doc__ = f"""Gated recurrent unit (Cho et al. 2014), gates in the order z r h.

        h_t = s(z) h_(t-1) + (1 - s(z)) tanh(g)
        reset_after=True (Keras's default):  g = x W_h + b_h + s(r) (h_(t-1) U_h + b'_h); the bias has shape
            (2, 3 units): that of the input's product and that of the recurrent one
        reset_after=False (the paper's):     g = x W_h + b_h + (s(r) h_(t-1)) U_h; the bias has shape (3 units,); runs
            step by step in Python, many times slower

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

    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        o, saved = super().forward(x, step)
        o, *final = o if self.return_state else [o]
        y = step.empty((*o.shape[:-1], self.output_units), o.dtype)
        native.dense_forward(o, self.output_kernel.array, None, y)
        return [y, *final] if self.return_state else y, (saved, o)

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        inner, o = saved
        dy, *d_final = dy if self.return_state else [dy]
        flat_o, flat_dy = o.reshape(-1, self.units), dy.reshape(-1, self.output_units)
        native.dense_weight_gradient(flat_o, flat_dy, self.output_kernel.gradient, None)
        do = step.empty(o.shape, o.dtype)
        native.dense_input_gradient(flat_dy, self.output_kernel.array, do.reshape(flat_o.shape))
        return super().backward([do, *d_final] if self.return_state else do, inner, step, input_gradient)
