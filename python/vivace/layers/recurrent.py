"""Recurrent layers: one native call runs a whole sequence, one runs it backward through time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import activations, regularizers
from .._core import native
from .._typing import Array, BatchShape, Initializer, Shape
from ..regularizers import L1L2
from ..step import Step, Stream
from .base import Layer, check_rank, positive


def data_array(owner: str, x: Any, dtype: str) -> Array:
    """x as a C-contiguous array of numbers. Raises TypeError for anything else."""
    array = np.asarray(x)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{owner}: expected numbers, received dtype {array.dtype}")
    return np.ascontiguousarray(array, dtype=dtype)


class Recurrent(Layer):
    """Input (batch, steps, features); output (batch, units), or (batch, steps, units) with return_sequences.

    A mask (from `Embedding(mask_zero=True)` or `Masking`) may have any pattern: a masked step carries the state on.

    Args:
        units: size of the state, at least 1.
        activation, recurrent_activation: "tanh" and "sigmoid"; also "relu" and "linear".
        use_bias: add a bias (True).
        kernel_initializer, recurrent_initializer, bias_initializer: "glorot_uniform", "orthogonal", "zeros".
        kernel_regularizer, recurrent_regularizer, bias_regularizer: none by default.
        return_sequences: return the output of every step instead of the last.
        go_backwards: run from the last step to the first; sequences are returned in that order.
        stateful: a batch starts from the state in which the one before ended, until `reset_states`; fit such a layer
            with shuffle=False and batches of one size.
        return_state: calling the layer by itself also returns the final states; a Sequential takes none of them.
        dropout: in training, this fraction of the inputs is dropped, the same ones at every step of a sequence.
        recurrent_dropout: the same for the state, where it meets the recurrent weights.
        unroll: accepted for Keras's sake; a native call has no loop to unroll.
    """

    cell: Any
    gates: int

    def __init__(
        self,
        units: int,
        activation: str | Callable[[Any], Array] | None = "tanh",
        *,
        recurrent_activation: str | Callable[[Any], Array] | None = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: str | Initializer = "glorot_uniform",
        recurrent_initializer: str | Initializer = "orthogonal",
        bias_initializer: str | Initializer = "zeros",
        kernel_regularizer: str | L1L2 | None = None,
        recurrent_regularizer: str | L1L2 | None = None,
        bias_regularizer: str | L1L2 | None = None,
        return_sequences: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_state: bool = False,
        unroll: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for argument, rate in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout)):
            if not 0 <= rate < 1:
                raise ValueError(f"{self.name}: {argument} must lie in [0, 1), received {rate!r}")
        self.activation: Any = activations.name_of(activation)
        self.recurrent_activation: Any = activations.name_of(recurrent_activation)
        for name in (self.activation, self.recurrent_activation):
            if name not in activations.FUSED:
                raise ValueError(f"{self.name}: activations must be of {', '.join(activations.FUSED)}, received {name}")
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = regularizers.get(recurrent_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.units = positive(self.name, "units", units)
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.recurrent_initializer = recurrent_initializer
        self.bias_initializer = bias_initializer
        self.return_sequences = return_sequences
        self.go_backwards = go_backwards
        self.stateful = stateful
        self.dropout = float(dropout)
        self.recurrent_dropout = float(recurrent_dropout)
        self.return_state = return_state
        self.unroll = unroll
        self.stream = Stream(seed)
        self._state: tuple[Array, Array | None] | None = None
        self._shapes: dict[Shape, native.RnnShape] = {}

    def build(self, input_shape: BatchShape) -> None:
        columns = self.gates * self.units
        shape: Shape = (input_shape[-1] or 0, columns)
        self.kernel = self.add_weight("kernel", shape, self.kernel_initializer, regularizer=self.kernel_regularizer)
        shape = (self.units, columns)
        self.recurrent_kernel = self.add_weight(
            "recurrent_kernel", shape, self.recurrent_initializer, regularizer=self.recurrent_regularizer
        )
        self.bias = None
        if self.use_bias:
            shape = self.bias_shape()
            self.bias = self.add_weight("bias", shape, self.bias_initializer, regularizer=self.bias_regularizer)

    def bias_shape(self) -> Shape:
        return (self.gates * self.units,)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        if len(input_shape) != 3 or input_shape[2] is None:
            hint = "; add the features' axis with x[..., None]" if len(input_shape) == 2 else ""
            raise ValueError(
                f"{self.name} ({type(self).__name__}) takes inputs of rank 3, (batch, steps, features); "
                f"received shape {input_shape}{hint}"
            )
        if self.built and input_shape[2] != self.kernel.shape[0]:
            raise ValueError(
                f"{self.name} ({type(self).__name__}) was built for {self.kernel.shape[0]} features, "
                f"received shape {input_shape}"
            )
        return (*input_shape[:2], self.units) if self.return_sequences else (input_shape[0], self.units)

    def flops(self) -> int:
        steps = (self.input_shape or (None, 1))[1] or 1
        return 2 * steps * (self.kernel.size + self.recurrent_kernel.size)

    def shape_for(self, x_shape: Shape) -> native.RnnShape:
        shape = self._shapes.get(x_shape)
        if shape is None:
            batch, steps, features = x_shape
            kind = (self.cell, self.go_backwards, self.activation, self.recurrent_activation)
            shape = native.RnnShape(batch, steps, features, self.units, *kind)
            if len(self._shapes) >= 16:
                self._shapes.clear()
            self._shapes[x_shape] = shape
        return shape

    def reset_states(self) -> None:
        """Forget the state kept between batches (`stateful`)."""
        self._state = None

    def _initial_state(self, batch: int) -> tuple[Array | None, Array | None]:
        if not self.stateful or self._state is None:
            return None, None
        if len(self._state[0]) != batch:
            raise ValueError(
                f"{self.name} is stateful and its state is that of {len(self._state[0])} sequences, received {batch}; "
                "use batches of one size, or call reset_states()"
            )
        return self._state

    def _kept(self, shape: Shape, rate: float, step: Step, dtype: Any) -> Array | None:
        """What dropout leaves: 0 or 1 / (1 - rate); None outside training."""
        if not step.training or not rate:
            return None
        kept = step.empty(shape, dtype)
        kept.fill(1)
        native.dropout(kept, rate, self.stream.seed, self.stream.next(), kept)
        return kept

    def run(self, x: Array, step: Step) -> tuple[Array, Array, Any]:
        """(states, workspace, saved) of a whole batch of sequences."""
        shape = self.shape_for(x.shape)
        kept = self._kept((len(x), 1, x.shape[2]), self.dropout, step, x.dtype)
        kept_state = self._kept((len(x), self.units), self.recurrent_dropout, step, x.dtype)
        if kept is not None:
            x = np.multiply(x, kept, out=step.empty(x.shape, x.dtype))
        h0, c0 = self._initial_state(len(x))
        workspace, h = step.empty(shape.workspace, x.dtype), step.empty(shape.states, x.dtype)
        c = step.empty(shape.states, x.dtype) if self.cell == "lstm" else None
        mask = step.mask
        bias = self.bias.value if self.bias else None
        native.rnn_forward(
            shape, x, self.kernel.value, self.recurrent_kernel.value, bias, mask, h0, c0, kept_state, workspace, h, c
        )
        if self.stateful:
            self._state = (h[:, -1].copy(), None if c is None else c[:, -1].copy())
        if not self.return_sequences:
            step.mask = None
        elif mask is not None and self.go_backwards:
            step.mask = np.ascontiguousarray(mask[:, ::-1])
        return h, workspace, (shape, x, workspace, h, c, mask, h0, c0, kept, kept_state)

    def run_back(self, saved: Any, dy: Array | None, dh: Array, step: Step, input_gradient: bool) -> Array | None:
        """Backward through time from the gradients of all outputs (or None) and of the final state (consumed)."""
        shape, x, workspace, h, c, mask, h0, c0, kept, kept_state = saved
        dx = step.empty(x.shape, x.dtype) if input_gradient else None
        dc = None
        if c is not None:
            dc = step.empty(dh.shape, dh.dtype)
            dc.fill(0)
        native.rnn_backward(
            shape, x, self.kernel.value, self.recurrent_kernel.value, mask, h0, c0, kept_state, workspace, h, c,
            dy, dx,
            self.kernel.gradient, self.recurrent_kernel.gradient, self.bias.gradient if self.bias else None, dh, dc,
        )  # fmt: skip
        if dx is not None and kept is not None:
            dx *= kept
        return dx

    def __call__(self, x: Any, initial_state: Sequence[Any] | None = None, mask: Any = None) -> Any:
        """Run the layer by itself, in inference mode, on sequences (batch, steps, features).

        Args:
            initial_state: [h], for an LSTM [h, c], each (batch, units); zeros by default.
            mask: (batch, steps), true where a step counts.

        Returns:
            The output; with `return_state` a list of the output and the final states.
        """
        x = data_array(self.name, x, self.dtype)
        self.build_once((None, *x.shape[1:]))
        step = Step(training=False)
        if mask is not None:
            step.mask = np.ascontiguousarray(mask, dtype=np.uint8)
        before, stateful = self._state, self.stateful
        try:
            self.stateful = True  # the state goes in and comes out through the same place
            if initial_state is not None:
                states = [data_array(self.name, state, self.dtype) for state in initial_state]
                self._state = (states[0], states[1] if len(states) > 1 else None)
            elif not stateful:
                self._state = None
            y, _ = self.forward(x, step)
            final = [state for state in self._state or () if state is not None]
        finally:
            self.stateful = stateful
            if not stateful:
                self._state = before
        return [y, *final] if self.return_state else y

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        h, _, saved = self.run(x, step)
        if self.return_sequences:
            return h, saved
        y = step.empty((len(x), self.units), x.dtype)
        y[...] = h[:, -1]
        return y, saved

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if not self.return_sequences:
            return self.run_back(saved, None, dy, step, input_gradient)
        dh = step.empty((len(dy), self.units), dy.dtype)
        dh.fill(0)
        return self.run_back(saved, dy, dh, step, input_gradient)


class SimpleRNN(Recurrent):
    __doc__ = f"h_t = tanh(x_t W + h_(t-1) U + b).\n\n    {Recurrent.__doc__}"
    cell = "simple"
    gates = 1


class LSTM(Recurrent):
    __doc__ = f"""Long short-term memory (Hochreiter & Schmidhuber 1997), gates in the order i f c o.

        c_t = s(f) c_(t-1) + s(i) tanh(g);  h_t = s(o) tanh(c_t)        s: the logistic sigmoid

    The forget gate's bias starts at 1 (`unit_forget_bias`).

    {Recurrent.__doc__}"""
    cell = "lstm"
    gates = 4

    def __init__(
        self,
        units: int,
        activation: str | Callable[[Any], Array] | None = "tanh",
        *,
        unit_forget_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, **kwargs)
        self.unit_forget_bias = unit_forget_bias

    def build(self, input_shape: BatchShape) -> None:
        super().build(input_shape)
        if self.bias and self.unit_forget_bias:
            self.bias.value[self.units : 2 * self.units] = 1


class GRU(Recurrent):
    __doc__ = f"""Gated recurrent unit (Cho et al. 2014), gates in the order z r h, reset after the product as in Keras.

        h_t = s(z) h_(t-1) + (1 - s(z)) tanh(x W_h + b_h + s(r) (h_(t-1) U_h + b'_h))

    The bias has shape (2, 3 units): that of the input's product and that of the recurrent one.

    {Recurrent.__doc__}"""
    cell = "gru"
    gates = 3

    def bias_shape(self) -> Shape:
        return (2, 3 * self.units)


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

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        return (*super().compute_output_shape(input_shape)[:-1], self.output_units)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        _, workspace, saved = self.run(x, step)
        gated = workspace[:, :: -1 if self.go_backwards else 1, self.units :]
        if not self.return_sequences:
            gated = gated[:, -1]
        o = step.empty(gated.shape, x.dtype)
        o[...] = gated
        y = step.empty((*o.shape[:-1], self.output_units), x.dtype)
        native.dense_forward(
            o.reshape(-1, self.units), self.output_kernel.value, None, y.reshape(-1, self.output_units)
        )
        return y, (saved, o)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        inner, o = saved
        flat_o, flat_dy = o.reshape(-1, self.units), dy.reshape(-1, self.output_units)
        native.dense_weight_gradient(flat_o, flat_dy, self.output_kernel.gradient, None)
        do = step.empty(o.shape, o.dtype)
        native.dense_input_gradient(flat_dy, self.output_kernel.value, do.reshape(flat_o.shape))
        if not self.return_sequences:  # of all outputs only the last counts
            last, do = do, step.empty(inner[3].shape, o.dtype)
            do.fill(0)
            do[:, -1] = last
        dh = step.empty((len(dy), self.units), dy.dtype)
        dh.fill(0)
        return self.run_back(inner, do, dh, step, input_gradient)


class Embedding(Layer):
    """Integers (batch, ...) to vectors (batch, ..., output_dim): rows of the weight `embeddings`.

    Args:
        input_dim: number of different integers, 0 ... input_dim - 1.
        output_dim: size of a vector.
        embeddings_initializer: "uniform" in [-0.05, 0.05].
        mask_zero: 0 is padding; the layers behind skip it.
    """

    input_dtype = "int64"

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: str | Initializer = "uniform",
        mask_zero: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input_dim = positive(self.name, "input_dim", input_dim)
        self.output_dim = positive(self.name, "output_dim", output_dim)
        self.embeddings_initializer = embeddings_initializer
        self.mask_zero = mask_zero

    def build(self, input_shape: BatchShape) -> None:
        self.embeddings = self.add_weight("embeddings", (self.input_dim, self.output_dim), self.embeddings_initializer)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        return (*input_shape, self.output_dim)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        y = step.empty((*x.shape, self.output_dim), self.dtype)
        try:
            native.gather_rows(self.embeddings.value, x.reshape(-1), y.reshape(-1, self.output_dim))
        except IndexError:
            bad = x[(x < 0) | (x >= self.input_dim)][0]
            raise ValueError(
                f"{self.name} (Embedding): integers must lie in [0, {self.input_dim}), received {bad}"
            ) from None
        if self.mask_zero:
            step.mask = (x != 0).astype(np.uint8)
        return y, x

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        native.scatter_add_rows(dy, saved, self.embeddings.gradient)
        return None


class Masking(Layer):
    """Masks the steps of (batch, steps, features) whose features all equal mask_value; the values pass unchanged."""

    def __init__(self, mask_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask_value = mask_value

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        check_rank(f"{self.name} (Masking)", (input_shape[0], 1, *input_shape[2:]), 3, "(batch, steps, features)")
        return input_shape

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        step.mask = (x != self.mask_value).any(-1).astype(np.uint8)
        return x, None

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return dy
