"""Layers around layers: Bidirectional and TimeDistributed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from .._typing import Array, BatchShape
from ..parameters import Parameter
from ..step import Step, Stream
from .base import Layer
from .recurrent import Recurrent


class Bidirectional(Layer):
    """Runs a recurrent layer forwards and a copy of it backwards through time, and merges the two outputs.

    With return_sequences, both outputs stand in the input's order.

    Args:
        layer: a recurrent layer that is not built yet.
        merge_mode: "concat" (the default; 2 * units outputs), "sum", "mul" or "ave".
    """

    def __init__(self, layer: Recurrent, merge_mode: str = "concat", **kwargs: Any) -> None:
        if not isinstance(layer, Recurrent) or layer.built:
            raise ValueError(f"Bidirectional: layer must be a recurrent layer not built yet, received {layer!r}")
        if merge_mode not in ("concat", "sum", "mul", "ave"):
            raise ValueError(f"Bidirectional: merge_mode must be concat, sum, mul or ave, received {merge_mode!r}")
        super().__init__(dtype=layer.dtype, input_shape=layer.declared_input_shape, **kwargs)
        self.merge_mode = merge_mode
        self.forward_layer, self.backward_layer = layer, copy.deepcopy(layer)
        self.backward_layer.stream = Stream(None)
        self.backward_layer.go_backwards = not layer.go_backwards
        self.forward_layer.name, self.backward_layer.name = f"forward_{layer.name}", f"backward_{layer.name}"

    def sublayers(self) -> dict[str, Layer]:
        return {"forward": self.forward_layer, "backward": self.backward_layer}

    @property
    def weights(self) -> list[Parameter]:
        return [*self.forward_layer.weights, *self.backward_layer.weights]

    def build(self, input_shape: BatchShape) -> None:
        self.forward_layer.build_once(input_shape)
        self.backward_layer.build_once(input_shape)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        shape = self.forward_layer.compute_output_shape(input_shape)
        return (*shape[:-1], 2 * (shape[-1] or 0)) if self.merge_mode == "concat" else shape

    def flops(self) -> int:
        return self.forward_layer.flops() + self.backward_layer.flops()

    def _in_order(self, y: Array) -> Array:
        """What the backward layer returns, in the input's order (or back)."""
        return y[:, ::-1] if self.forward_layer.return_sequences else y

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        mask = step.mask
        a, saved_a = self.forward_layer.forward(x, step)
        step.mask = mask
        b, saved_b = self.backward_layer.forward(x, step)
        step.mask = mask if self.forward_layer.return_sequences else None
        b = self._in_order(b)
        if self.merge_mode == "concat":
            y = step.empty((*a.shape[:-1], a.shape[-1] + b.shape[-1]), x.dtype)
            y[..., : a.shape[-1]], y[..., a.shape[-1] :] = a, b
        else:
            y = step.empty(a.shape, x.dtype)
            (np.multiply if self.merge_mode == "mul" else np.add)(a, b, out=y)
            if self.merge_mode == "ave":
                y *= 0.5
        return y, (saved_a, saved_b, a, b)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        saved_a, saved_b, a, b = saved
        da, db = step.empty(a.shape, a.dtype), step.empty(b.shape, b.dtype)
        if self.merge_mode == "concat":
            da[...], db[...] = dy[..., : a.shape[-1]], self._in_order(dy[..., a.shape[-1] :])
        elif self.merge_mode == "mul":
            da[...], db[...] = dy * b, self._in_order(dy * a)
        else:
            scale = 0.5 if self.merge_mode == "ave" else 1.0
            da[...], db[...] = dy * scale, self._in_order(dy * scale)
        dx = self.forward_layer.backward(da, saved_a, step, input_gradient)
        other = self.backward_layer.backward(db, saved_b, step, input_gradient)
        if dx is None or other is None:
            return None
        dx += other
        return dx


class TimeDistributed(Layer):
    """Applies a layer to every step: (batch, steps, ...) is (batch * steps, ...) to it."""

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        if not isinstance(layer, Layer):
            raise TypeError(f"TimeDistributed: expected a layer, received {layer!r}")
        super().__init__(dtype=layer.dtype, **kwargs)
        self.layer = layer

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
        mask, step.mask = step.mask, None  # of (batch, steps), which the layer does not see
        y, saved = self.layer.forward(x.reshape(-1, *x.shape[2:]), step)
        step.mask = mask
        return y.reshape(*x.shape[:2], *y.shape[1:]), (saved, x.shape)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        inner, shape = saved
        dx = self.layer.backward(dy.reshape(-1, *dy.shape[2:]), inner, step, input_gradient)
        return None if dx is None else dx.reshape(shape)
