"""Layers around layers: Bidirectional and TimeDistributed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .._core import native
from .._typing import Array, BatchShape, Shape
from ..parameters import Parameter, Watch
from ..step import Step, Stream
from .base import Layer
from .cells import RNN, Cell
from .core import Dense
from .normalization import BatchNormalization
from .recurrent import Recurrent
from .regularization import runs_as_written, unit_of
from .symbolic import as_inputs


class _Way(NamedTuple):
    """Both directions as one native call."""

    pair: native.RnnPair | None  # None: they run by themselves
    tape: Shape
    output: Shape
    drops: bool  # whether one of them drops anything in training


def _pairs(layer: Any) -> bool:
    """Whether a layer can be one of two in a native call."""
    alone = isinstance(layer, RNN) or layer.stateful or layer.return_state or layer.activity_regularizer is not None
    return not alone and layer.fused and layer.cell != "output_gated" and runs_as_written(layer)


class Bidirectional(Layer):
    """Runs a recurrent layer forwards and a copy of it backwards through time, and merges the two outputs.

    With return_sequences, both outputs stand in the forward layer's order (the input's, unless it goes backwards), and
    those of masked steps are 0. The input may be a list [x, *initial states], those of the forward layer first; with
    return_state the final states follow the output in the same order.

    Args:
        layer: a recurrent layer, or an RNN, that is not built yet.
        merge_mode: "concat" (the default; 2 * units outputs), "sum", "mul", "ave", or None: a list of both outputs.
        weights: those to start from, of both layers; None: the initializers'.
        backward_layer: the layer that runs backwards; None: a copy of `layer`.
    """

    several_inputs = True

    def __init__(
        self,
        layer: Recurrent | RNN,
        merge_mode: str | None = "concat",
        weights: Sequence[Any] | None = None,
        backward_layer: Recurrent | RNN | None = None,
        **kwargs: Any,
    ) -> None:
        for argument, given in (("layer", layer), ("backward_layer", backward_layer)):
            taken = isinstance(given, (Recurrent, RNN)) and not isinstance(given, Cell) and not given.built
            if not taken and (argument == "layer" or given is not None):
                raise ValueError(
                    f"Bidirectional: {argument} must be a recurrent layer not built yet, received {given!r}"
                )
        if merge_mode not in ("concat", "sum", "mul", "ave", None):
            raise ValueError(
                f"Bidirectional: merge_mode must be concat, sum, mul, ave or None, received {merge_mode!r}"
            )
        kwargs.setdefault("dtype", layer.dtype)
        kwargs.setdefault("input_shape", layer.declared_input_shape)
        super().__init__(**kwargs)
        self.layer, self.merge_mode = layer, merge_mode
        self.forward_layer = layer
        name = layer.name.removeprefix("forward_")
        layer.name = f"forward_{name}"
        if backward_layer is None:
            backward_layer = copy.deepcopy(layer)
            _draw_anew(backward_layer)
            backward_layer.go_backwards = not layer.go_backwards
            backward_layer.name = f"backward_{name}"
        elif backward_layer.go_backwards == layer.go_backwards:
            raise ValueError(f"{self.name}: layer and backward_layer must differ in go_backwards")
        self.backward_layer = backward_layer
        for half in (layer, backward_layer):
            half.zero_output_for_mask = half.return_sequences
        self._first, self._watch = weights, Watch()

    def call_inputs(self, x: Any, initial_state: Any = None) -> Any:
        """initial_state: those of the forward layer, then those of the backward layer; zeros by default."""
        return as_inputs(x, tuple(initial_state or ()))

    def sublayers(self) -> dict[str, Layer]:
        return {"forward": self.forward_layer, "backward": self.backward_layer}

    @property
    def weights(self) -> list[Parameter]:
        return [*self.forward_layer.weights, *self.backward_layer.weights]

    def build(self, input_shape: Any) -> None:
        for layer, shape in zip(self._layers, self._halves(input_shape), strict=True):
            layer.build_once(shape)
        if self._first is not None:
            self.built = True
            self.set_weights(self._first)

    def compute_output_shape(self, input_shape: Any) -> Any:
        ours, theirs = (
            _as_list(la.compute_output_shape(shape))
            for la, shape in zip(self._layers, self._halves(input_shape), strict=True)
        )
        shape, *states = ours
        other = theirs[0]
        outputs = [shape]
        if self.merge_mode is None:
            outputs = [shape, other]
        elif self.merge_mode == "concat":
            outputs = [(*shape[:-1], (shape[-1] or 0) + (other[-1] or 0))]
        elif shape != other:
            raise ValueError(
                f"{self.name} (Bidirectional): merge_mode {self.merge_mode!r} needs outputs of one shape, received "
                f"{shape} and {other}"
            )
        return _one_or_list([*outputs, *states, *theirs[1:]])

    def flops(self) -> int:
        return self.forward_layer.flops() + self.backward_layer.flops()

    @property
    def _layers(self) -> tuple[Recurrent | RNN, Recurrent | RNN]:
        return self.forward_layer, self.backward_layer

    def _halves(self, inputs: Any) -> tuple[Any, Any]:
        """[x, *initial states], arrays or shapes, as what each of the two layers takes."""
        if not isinstance(inputs, list):
            return inputs, inputs
        x, *states = inputs
        if len(states) % 2:
            raise ValueError(f"{self.name}: the initial states must be those of both layers, received {len(states)}")
        half = len(states) // 2
        return _one_or_list([x, *states[:half]]), _one_or_list([x, *states[half:]])

    def _in_order(self, y: Array) -> Array:
        """What the backward layer returns, in the forward layer's order (or back)."""
        return np.ascontiguousarray(y[:, ::-1]) if self.forward_layer.return_sequences else y

    def _merge(self, a: Array, b: Array, step: Step) -> Any:
        mode = self.merge_mode
        if mode is None:
            return [a, b]
        if mode == "concat":
            *rows, columns = a.shape
            return np.concatenate((a, b), -1, step.empty((*rows, columns + b.shape[-1]), a.dtype))
        y = step.empty(a.shape, a.dtype)
        (np.multiply if mode == "mul" else np.add)(a, b, y)
        if mode == "ave":
            y *= 0.5
        return y

    def make_way(self, shape: Shape) -> _Way:
        layers: Any = self._layers
        # A pair's outputs are in the order of time: those of two layers, in the order of the forward layer.
        if self.merge_mode is None or self.forward_layer.go_backwards or not all(map(_pairs, layers)):
            return _Way(None, (), (), False)
        shapes = [one.native_shape(shape, in_time=True) for one in layers]
        pair = native.RnnPair(shapes[0], shapes[1], self.merge_mode)  # type: ignore[arg-type]
        return _Way(pair, pair.tape, pair.output, layers[0].drops or layers[1].drops)

    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        if type(x) is list:
            return self._forward_apart(x, step)
        if self._watch.changed():
            self._ways.clear()
        pair, tape_shape, output, drops = self._ways.get(x.shape) or self.new_way(x.shape)
        if pair is None:
            return self._forward_apart(x, step)
        ours: Any = self.forward_layer
        theirs: Any = self.backward_layer
        mask = step.mask
        extras: tuple[Any, ...] = ()
        drops = drops and step.training
        if drops or mask is not None:
            extras = tuple((mask, None, None, one.numbers() if drops and one.drops else None) for one in (ours, theirs))
            step.mask = mask if ours.return_sequences else None
        tape = step.empty(tape_shape, x.dtype) if step.keeps else None
        y = step.empty(output, x.dtype)
        native.rnn_pair_forward(pair, x, (ours.arrays(), theirs.arrays()), tape, y, extras)
        return y, (pair, x, tape, extras)

    def bind(self, x: Any, step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        way = None if isinstance(x, list) else self.make_way(x.shape)
        if way is None or way.pair is None:
            return None
        layers: Any = self._layers
        pair, y, arrays = way.pair, step.empty(way.output, x.dtype), tuple(one.arrays() for one in layers)
        return y, [partial(native.rnn_pair_forward, pair, x, arrays, None, y)]

    def _forward_apart(self, x: Any, step: Step) -> tuple[Any, Any]:
        mask = step.mask[0] if type(step.mask) is list else step.mask
        ours, theirs = self._halves(x)
        first, states = self.forward_layer, []
        step.mask = mask
        a, saved_a = unit_of(first).forward(ours, step)
        output_mask, step.mask = step.mask, mask
        b, saved_b = unit_of(self.backward_layer).forward(theirs, step)
        if type(a) is list:
            a, *states = a
        if type(b) is list:
            b, *more = b
            states += more
        step.mask = output_mask
        y = self._merge(a, self._in_order(b), step)
        if states:
            y = [*_as_list(y), *states]
        return y, (None, saved_a, saved_b, a, b)

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        if saved[0] is None:
            return self._backward_apart(dy, saved, step, input_gradient)
        pair, x, tape, extras = saved
        ours: Any = self.forward_layer
        theirs: Any = self.backward_layer
        dx = step.empty(x.shape, x.dtype) if input_gradient else None
        gradients = ours.gradients(), theirs.gradients()
        native.rnn_pair_backward(pair, x, (ours.arrays(), theirs.arrays()), gradients, tape, dy, dx, extras)
        return dx

    def _backward_apart(self, dy: Any, saved: Any, step: Step, input_gradient: bool) -> Any:
        _, saved_a, saved_b, a, b = saved
        d_outputs = _as_list(dy)
        count = 2 if self.merge_mode is None else 1
        d_states = d_outputs[count:]
        half = len(d_states) // 2
        da, db = step.empty(a.shape, a.dtype), step.empty(b.shape, b.dtype)
        dy = d_outputs[0]
        if self.merge_mode is None:
            da[...], db[...] = dy, self._in_order(d_outputs[1])
        elif self.merge_mode == "concat":
            da[...], db[...] = dy[..., : a.shape[-1]], self._in_order(dy[..., a.shape[-1] :])
        elif self.merge_mode == "mul":
            da[...], db[...] = dy * b, self._in_order(dy * a)
        else:
            scale = 0.5 if self.merge_mode == "ave" else 1.0
            da[...], db[...] = dy * scale, self._in_order(dy * scale)
        ours = unit_of(self.forward_layer).backward(_one_or_list([da, *d_states[:half]]), saved_a, step, input_gradient)
        theirs = unit_of(self.backward_layer).backward(
            _one_or_list([db, *d_states[half:]]), saved_b, step, input_gradient
        )
        (dx, *d_initial), (other, *d_others) = _as_list(ours), _as_list(theirs)
        if dx is not None and other is not None:
            dx += other
        return _one_or_list([dx, *d_initial, *d_others])


def _draw_anew(layer: Any) -> None:
    """Random numbers of its own to a copy of a layer, and to those inside it."""
    if hasattr(layer, "stream"):
        layer.stream = Stream(None)
    for inner in layer.sublayers().values():
        _draw_anew(inner)


def _as_list(x: Any) -> list[Any]:
    return x if isinstance(x, list) else [x]


def _one_or_list(x: list[Any]) -> Any:
    return x[0] if len(x) == 1 else x


def _normalizes_batches(layer: Layer) -> bool:
    """Whether the layer, or one inside it, takes statistics of the batch in training."""
    return isinstance(layer, BatchNormalization) or any(map(_normalizes_batches, layer.sublayers().values()))


class TimeDistributed(Layer):
    """Applies a layer to every step: (batch, steps, ...) is (batch * steps, ...) to it."""

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        if not isinstance(layer, Layer):
            raise TypeError(f"TimeDistributed: expected a layer, received {layer!r}")
        super().__init__(**{"dtype": layer.dtype, **kwargs})
        self.layer, self._watch = layer, Watch()

    def sublayers(self) -> dict[str, Layer]:
        return {"layer": self.layer}

    @property
    def weights(self) -> list[Parameter]:
        return self.layer.weights

    def build(self, input_shape: BatchShape) -> None:
        self.layer.build_once((None, *input_shape[2:]))

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        if len(input_shape) < 3:
            raise ValueError(f"{self.name} (TimeDistributed) takes (batch, steps, ...), received shape {input_shape}")
        return (*input_shape[:2], *self.layer.compute_output_shape((None, *input_shape[2:]))[1:])

    def flops(self) -> int:
        return ((self.input_shape or (None, 1))[1] or 1) * self.layer.flops()

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if self._watch.changed():
            self._ways.clear()
        shape, output, apart = self._ways.get(x.shape) or self.new_way(x.shape)
        if shape is None:
            y, saved = self.layer.forward(x, step)
            return y, (saved, None)
        layer, steps = self.layer, x.shape[1]
        mask, step.mask = step.mask, None  # of (batch, steps), which the layer does not see
        if apart and step.training:
            unit = unit_of(layer)
            each = [unit.forward(np.ascontiguousarray(x[:, t]), step) for t in range(steps)]
            step.mask = mask
            return np.stack([y for y, _ in each], axis=1), [saved for _, saved in each]
        y, saved = unit_of(layer, steps).forward(x.reshape(shape), step)
        step.mask = mask
        return y.reshape(output), (saved, x.shape)

    def make_way(self, shape: Shape) -> tuple[Shape | None, Shape, bool]:
        """What the layer gets (None: x as it is, it minds only the last axis and no mask), the shape of what comes
        out, and whether in training each step is a batch of its own.
        """
        inner = (shape[0] * shape[1], *shape[2:])
        output = (*shape[:2], *(size or 0 for size in self.layer.compute_output_shape(inner)[1:]))
        layer = self.layer
        by_row = type(layer) is Dense and runs_as_written(layer) and not isinstance(layer.activation, Layer)
        whole = by_row and layer.activity_regularizer is None
        return None if whole else inner, output, _normalizes_batches(layer)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if isinstance(saved, list):
            unit = unit_of(self.layer)
            each = [
                unit.backward(np.ascontiguousarray(dy[:, t]), saved[t], step, input_gradient) for t in range(len(saved))
            ]
            return np.stack(each, axis=1) if input_gradient else None
        inner, shape = saved
        if shape is None:
            return self.layer.backward(dy, inner, step, input_gradient)
        dx = unit_of(self.layer, shape[1]).backward(dy.reshape(-1, *dy.shape[2:]), inner, step, input_gradient)
        return None if dx is None else dx.reshape(shape)
