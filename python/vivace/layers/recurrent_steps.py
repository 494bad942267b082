"""Recurrent layers one time step at a time, in NumPy: the general path, for what the fused kernels do not cover.

The fused kernels know all activations that take each element by itself. Those that see all units together, as softmax
does, run here: the same formulas (see `layers.recurrent`), one Python loop over time, many times slower.

What meets a kernel, inputs or states, is one array for all gates, or has a first axis with one for each gate.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import activations
from .._typing import Array, Shape
from ..step import Step
from .core import keep_mask


class Kind(NamedTuple):
    """What a recurrent layer computes."""

    cell: str  # "simple", "lstm", "gru" or "output_gated"
    reverse: bool
    activation: str
    recurrent_activation: str
    reset_after: bool = True


class Weights(NamedTuple):
    """Of a layer, or their gradients."""

    kernel: Array
    recurrent_kernel: Array
    bias: Array | None


class Squashed(NamedTuple):
    """An activation's input and output."""

    name: str
    z: Array
    y: Array

    def backward(self, dy: Array) -> Array:
        return activations.pair(self.name)[1](self.z, self.y, np.ascontiguousarray(dy))


def _squash(name: str, z: Array) -> Squashed:
    z = np.ascontiguousarray(z)
    return Squashed(name, z, activations.pair(name)[0](z))


def _biases(kind: Kind, bias: Array | None) -> tuple[Any, Any]:
    """(of the input's product, of the state's), zeros where there is none."""
    if bias is None:
        return 0, 0
    return (bias[0], bias[1]) if kind.cell == "gru" and kind.reset_after else (bias, 0)


def _product(a: Array, kernel: Array, by_gate: bool) -> Array:
    """a @ kernel; by gate, each part of a with the kernel's columns of its gate."""
    if not by_gate:
        return a @ kernel
    return np.concatenate([part @ columns for part, columns in zip(a, np.split(kernel, len(a), 1), strict=True)], -1)


def _product_back(a: Array, dz: Array, kernel: Array, dkernel: Array, by_gate: bool) -> Array:
    """The gradient of a, from that of its product; adds the kernel's to dkernel."""
    if not by_gate:
        dkernel += a.reshape(-1, a.shape[-1]).T @ dz.reshape(-1, dz.shape[-1])
        return dz @ kernel.T
    da, n = np.empty_like(a), len(a)
    split = (np.split(dz, n, -1), np.split(kernel, n, 1), np.split(dkernel, n, 1))  # views
    for part, dpart, d, columns, into in zip(a, da, *split, strict=True):
        dpart[...] = _product_back(part, d, columns, into, False)
    return da


def _step(kind: Kind, zx: Array, hk: Array, h: Array, c: Array, u: Array, bias: Any) -> tuple[Any, Any, Any, Any]:
    """(output, state, memory, saved) from the input's product zx, the state hk that U sees, and h and c."""
    n, by_gate = h.shape[1], hk.ndim == 3

    def gate(z: Array, k: int) -> Array:
        return z[:, k * n : (k + 1) * n]

    f, s = kind.activation, kind.recurrent_activation
    if kind.cell == "gru" and not kind.reset_after:
        gates, own = (hk[:2], hk[2]) if by_gate else (hk, hk)
        z = zx[:, : 2 * n] + _product(gates, u[:, : 2 * n], by_gate)
        update, reset = _squash(s, gate(z, 0)), _squash(s, gate(z, 1))
        g = _squash(f, gate(zx, 2) + (reset.y * own) @ u[:, 2 * n :])
        h = update.y * h + (1 - update.y) * g.y
        return h, h, c, (update, reset, g, None)
    through = _product(hk, u, by_gate) + bias
    if kind.cell == "gru":
        update, reset = _squash(s, gate(zx + through, 0)), _squash(s, gate(zx + through, 1))
        own = gate(through, 2)
        g = _squash(f, gate(zx, 2) + reset.y * own)
        h = update.y * h + (1 - update.y) * g.y
        return h, h, c, (update, reset, g, own)
    z = zx + through
    if kind.cell == "simple":
        y = _squash(f, z)
        return y.y, y.y, c, (y,)
    if kind.cell == "output_gated":
        a, o = _squash(s, gate(z, 0)), _squash(s, gate(z, 1))
        new = _squash(f, a.y)
        return o.y, new.y, c, (a, o, new)
    i, forget, g, o = _squash(s, gate(z, 0)), _squash(s, gate(z, 1)), _squash(f, gate(z, 2)), _squash(s, gate(z, 3))
    memory = _squash(f, forget.y * c + i.y * g.y)
    h = o.y * memory.y
    return h, h, memory.z, (i, forget, g, o, memory)


def _step_back(
    kind: Kind, saved: Any, dy: Array, dh: Array, dc: Array, hk: Array, h: Array, c: Array, u: Array, du: Array
) -> tuple[Array, Array, Array, Any, Array]:
    """(dzx, dthrough, dh, dhk, dc): gradients of the products with W and U, of the state before directly and through U,
    and of the memory before; adds U's own to du."""
    by_gate = hk.ndim == 3
    if kind.cell == "gru":
        update, reset, g, own = saved
        dh = dh + dy
        dupdate = update.backward(dh * (h - g.y))
        dg = g.backward(dh * (1 - update.y))
        if own is None:
            n = h.shape[1]
            gates, third = (hk[:2], hk[2]) if by_gate else (hk, hk)
            dproduct = _product_back(reset.y * third, dg, u[:, 2 * n :], du[:, 2 * n :], False)
            dz = np.hstack([dupdate, reset.backward(dproduct * third), dg])
            dhk = _product_back(gates, dz[:, : 2 * n], u[:, : 2 * n], du[:, : 2 * n], by_gate)
            dthird = dproduct * reset.y
            return dz, dz, dh * update.y, np.concatenate([dhk, dthird[None]]) if by_gate else dhk + dthird, dc
        dreset = reset.backward(dg * own)
        dzx, dthrough = np.hstack([dupdate, dreset, dg]), np.hstack([dupdate, dreset, dg * reset.y])
        direct = dh * update.y
    elif kind.cell == "simple":
        (y,) = saved
        dzx = dthrough = y.backward(dh + dy)
        direct = np.zeros_like(dh)
    elif kind.cell == "output_gated":
        a, o, new = saved
        dzx = dthrough = np.hstack([a.backward(new.backward(dh)), o.backward(dy)])
        direct = np.zeros_like(dh)
    else:
        i, forget, g, o, memory = saved
        dh = dh + dy
        dmemory = dc + memory.backward(dh * o.y)
        before_o = (i.backward(dmemory * g.y), forget.backward(dmemory * c), g.backward(dmemory * i.y))
        dzx = dthrough = np.hstack([*before_o, o.backward(dh * memory.y)])
        direct, dc = np.zeros_like(dh), dmemory * forget.y
    return dzx, dthrough, direct, _product_back(hk, dthrough, u, du, by_gate), dc


def forward(
    kind: Kind,
    x: Array,
    weights: Weights,
    mask: Array | None,
    initial: tuple[Array | None, Array | None],
    keep: Array | None,
) -> tuple[Array, Array, Array, Any]:
    """(outputs, states, memories, tape) of all sequences, each (batch, steps, units) in the order computed.

    x (batch, steps, inputs), or by gate; mask (batch, steps) or None; initial h and c (batch, units) or None for zeros;
    keep (batch, units), or by gate: what of the state its product with U sees (recurrent dropout), or None.
    """
    batch, steps, _ = x.shape[-3:]
    n = weights.recurrent_kernel.shape[0]
    bias, recurrent_bias = _biases(kind, weights.bias)
    zx = _product(x, weights.kernel, x.ndim == 4) + bias
    h, c = (np.zeros((batch, n), x.dtype) if state is None else state for state in initial)
    outputs, states, memories, tape = [], [], [], []
    for t in range(steps)[:: -1 if kind.reverse else 1]:
        hk = h if keep is None else h * keep
        y, new_h, new_c, saved = _step(kind, zx[:, t], hk, h, c, weights.recurrent_kernel, recurrent_bias)
        tape.append((t, hk, h, c, saved))
        if mask is not None:
            counts = mask[:, t, None] != 0
            new_h, new_c = np.where(counts, new_h, h), np.where(counts, new_c, c)
        h, c = new_h, new_c
        outputs.append(y if kind.cell == "output_gated" else h)
        states.append(h)
        memories.append(c)
    return np.stack(outputs, 1), np.stack(states, 1), np.stack(memories, 1), tape


def backward(
    kind: Kind, x: Array, weights: Weights, gradients: Weights, mask: Array | None, keep: Array | None, tape: Any,
    dy: Array, dh: Array, dc: Array,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """(dx, dh0, dc0) from the gradients of all outputs and of the final states; adds to `gradients`."""
    dzx = np.zeros((*x.shape[-3:-1], weights.kernel.shape[1]), x.dtype)
    for step in range(len(tape) - 1, -1, -1):
        t, hk, h, c, saved = tape[step]
        d_out = dy[:, step]
        carried_h, carried_c = 0, 0
        if mask is not None:
            counts = (mask[:, t, None] != 0).astype(x.dtype)
            # Where a step does not count, its output was the carried state.
            carried_h = (dh + (0 if kind.cell == "output_gated" else d_out)) * (1 - counts)
            carried_c = dc * (1 - counts)
            dh, dc, d_out = dh * counts, dc * counts, d_out * counts
        dz, dthrough, direct, dhk, dc = _step_back(
            kind, saved, d_out, dh, dc, hk, h, c, weights.recurrent_kernel, gradients.recurrent_kernel
        )
        dzx[:, t] = dz
        if gradients.bias is not None and gradients.bias.ndim == 2:
            gradients.bias[1] += dthrough.sum(0)
        seen = dhk if keep is None else dhk * keep
        dh = direct + (seen.sum(0) if seen.ndim == 3 else seen) + carried_h
        dc = dc + carried_c
    if gradients.bias is not None:
        (gradients.bias[0] if gradients.bias.ndim == 2 else gradients.bias)[...] += dzx.sum((0, 1))
    return _product_back(x, dzx, weights.kernel, gradients.kernel, x.ndim == 4), dh, dc


class LayerTape(NamedTuple):
    """What the backward pass of a layer needs."""

    kept: tuple[Array | None, Array | None]  # what dropout left of inputs and states
    x: Array  # what is left of the inputs
    outputs: Array  # before the read-out of an output-gated layer
    zeroed: Array | None  # which outputs are not zeroed
    steps: Any


def _kind(layer: Any) -> Kind:
    return Kind(layer.cell, layer.go_backwards, layer.activation, layer.recurrent_activation, layer.reset_after)


def _masks(layer: Any, x: Array, step: Step) -> tuple[Array | None, Array | None]:
    """What dropout leaves of the inputs and of the states, or None."""
    if not (step.training and layer.drops):
        return None, None
    batch, _, features = x.shape
    gates: Shape = (layer.gates,) if layer.recurrent_dropout and layer.cell in ("lstm", "gru") else ()
    seed, *numbers = layer.numbers()
    shapes: tuple[Shape, Shape] = (*gates, batch, 1, features), (*gates, batch, layer.units)
    kept, kept_state = (
        keep_mask(shape, rate, seed, number, x.dtype, step) if rate else None
        for shape, rate, number in zip(shapes, (layer.dropout, layer.recurrent_dropout), numbers, strict=True)
    )
    return kept, kept_state


def layer_forward(
    layer: Any, x: Array, mask: Array | None, initial: tuple[Array | None, Array | None], step: Step
) -> tuple[Array, list[Array], LayerTape]:
    """(output, final states, tape) of a whole layer; x (batch, steps, inputs), or (batch, inputs) for a single step."""
    x = x[:, None] if x.ndim == 2 else x
    kept, kept_state = _masks(layer, x, step)
    left = x if kept is None else x * kept
    kernel, recurrent, bias, *readout = layer.arrays()
    weights = Weights(kernel, recurrent, bias)
    outputs, h, c, tape = forward(_kind(layer), left, weights, mask, initial, kept_state)
    zeroed = None
    if mask is not None and layer.zero_output_for_mask and layer.return_sequences:
        zeroed = (mask[:, :: -1 if layer.go_backwards else 1] != 0)[..., None]
        outputs = outputs * zeroed
    outputs = outputs if layer.return_sequences else np.ascontiguousarray(outputs[:, -1])
    final = [np.ascontiguousarray(states[:, -1]) for states in ([h, c] if layer.cell == "lstm" else [h])]
    y = outputs @ readout[0] if readout else outputs
    return y, final, LayerTape((kept, kept_state), left, outputs, zeroed, tape)


def layer_backward(
    layer: Any, dy: Array, dh: Array, dc: Array | None, x: Array, mask: Array | None, tape: LayerTape
) -> tuple[Array, Array, Array | None]:
    """(dx, dh, dc): the gradients of the inputs and of the initial states; adds those of the weights."""
    (kept, kept_state), left, outputs, zeroed, steps = tape
    kernel, recurrent, bias, *readout = layer.arrays()
    into = Weights(*layer.gradients()[:3])
    if readout:
        dflat = dy.reshape(-1, dy.shape[-1])
        layer.gradients()[3][...] += outputs.reshape(-1, outputs.shape[-1]).T @ dflat
        dy = dy @ readout[0].T
    if not layer.return_sequences:  # of all outputs only the last counts
        last, dy = dy, np.zeros((*left.shape[-3:-1], layer.units), x.dtype)
        dy[:, -1] = last
    elif zeroed is not None:
        dy = dy * zeroed
    memory = np.zeros_like(dh) if dc is None else dc
    weights = Weights(kernel, recurrent, bias)
    dx, dh, memory = backward(_kind(layer), left, weights, into, mask, kept_state, steps, dy, dh, memory)
    if kept is not None:
        dx = dx * kept
        dx = dx.sum(0) if dx.ndim == 4 else dx
    return dx.reshape(x.shape), dh, None if dc is None else memory
