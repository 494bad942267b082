"""The recurrent kernels at every ISA level: against a plain NumPy loop, and by finite differences."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from helpers import numeric_gradient

# gates, and the tape's
CELLS = {"simple": (1, 1), "lstm": (4, 4), "gru": (3, 4), "gru_reset_before": (3, 3), "output_gated": (2, 2)}


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def step(cell: str, x: Any, w: Any, u: Any, b: Any, h: Any, c: Any) -> tuple[Any, Any, Any]:
    """(output, state, memory) of one step, written from the formulas."""
    n = h.shape[-1]
    if cell == "gru":
        zx, zh = x @ w + b[0], h @ u + b[1]
        z, r = sigmoid(zx[:, :n] + zh[:, :n]), sigmoid(zx[:, n : 2 * n] + zh[:, n : 2 * n])
        g = np.tanh(zx[:, 2 * n :] + r * zh[:, 2 * n :])
        h = z * h + (1 - z) * g
        return h, h, c
    if cell == "gru_reset_before":
        z, r = (sigmoid(x @ w[:, k : k + n] + b[k : k + n] + h @ u[:, k : k + n]) for k in (0, n))
        g = np.tanh(x @ w[:, 2 * n :] + b[2 * n :] + (r * h) @ u[:, 2 * n :])
        h = z * h + (1 - z) * g
        return h, h, c
    z = x @ w + h @ u + b
    if cell == "simple":
        h = np.tanh(z)
        return h, h, c
    if cell == "output_gated":
        return sigmoid(z[:, n:]), np.tanh(sigmoid(z[:, :n])), c
    i, f, g, o = sigmoid(z[:, :n]), sigmoid(z[:, n : 2 * n]), np.tanh(z[:, 2 * n : 3 * n]), sigmoid(z[:, 3 * n :])
    c = f * c + i * g
    h = o * np.tanh(c)
    return h, h, c


def loop(cell: str, reverse: bool, x: Any, w: Any, u: Any, b: Any, mask: Any, h: Any, c: Any) -> tuple[Any, Any, Any]:
    outputs, states, memories = [], [], []
    for t in range(x.shape[1])[:: -1 if reverse else 1]:
        y, new_h, new_c = step(cell, x[:, t], w, u, b, h, c)
        keep = np.ones((len(x), 1), bool) if mask is None else mask[:, t, None].astype(bool)
        h, c = np.where(keep, new_h, h), np.where(keep, new_c, c)
        outputs.append(y if cell == "output_gated" else h)
        states.append(h)
        memories.append(c)
    return tuple(np.stack(a, 1) for a in (outputs, states, memories))


class Problem:
    """One recurrent layer with data; runs the native kernels on it."""

    def __init__(
        self, core: Any, cell: str, sizes: tuple[int, int, int, int], dtype: str = "float64",
        reverse: bool = False, mask: Any = None, initial: bool = True, seed: int = 0,
        activations: tuple[Any, Any] = ("tanh", "sigmoid"), rates: tuple[float, float] = (0.0, 0.0),
    ) -> None:  # fmt: skip
        rng = np.random.default_rng(seed)
        batch, steps, inputs, units = sizes
        gates = CELLS[cell][0] * units
        self.core, self.cell, self.mask, self.reverse = core, cell, mask, reverse
        kind = (*sizes, cell, reverse, *activations, *rates)
        outputs = units + 2 if cell == "output_gated" else units
        self.shape, self.last = (
            core.RnnShape(*kind, outputs=outputs),
            core.RnnShape(*kind, sequences=False, outputs=outputs),
        )
        self.numbers = (3, 1, 2) if any(rates) else None

        def normal(*shape: int) -> Any:
            return (rng.standard_normal(shape) * 0.6).astype(dtype)

        self.x, self.w, self.u = normal(batch, steps, inputs), normal(inputs, gates), normal(units, gates)
        self.u *= min(1, 4 / units**0.5)  # not chaotic: rounding errors must not grow from step to step
        self.b = normal(2, gates) if cell == "gru" else normal(gates)
        self.h0, self.c0 = normal(batch, units), normal(batch, units)
        if not initial:
            self.h0[...] = self.c0[...] = 0
        self.initial = initial
        self.dy, self.dh, self.dc = normal(batch, steps, outputs), normal(batch, units), normal(batch, units)
        self.r = normal(units, outputs)  # the read-out of an output-gated cell
        if cell == "output_gated" and mask is not None:
            self.dy *= self.mask[:, :: -1 if reverse else 1, None]
        self.dtype = dtype

    @property
    def lstm(self) -> bool:
        return self.cell == "lstm"

    @property
    def weights(self) -> Any:
        return self.w, self.u, self.b, self.r

    @property
    def extras(self) -> Any:
        h0, c0 = (self.h0, self.c0 if self.lstm else None) if self.initial else (None, None)
        return self.mask, h0, c0, self.numbers

    def run(self, shape: Any) -> tuple[Any, Any, Any, Any]:
        tape, y = np.full(shape.tape, 9, self.dtype), np.full(shape.output, 9, self.dtype)
        h, c = np.full(self.h0.shape, 9, self.dtype), np.full(self.h0.shape, 9, self.dtype)
        self.core.rnn_forward(shape, self.x, self.weights, tape, y, (*self.extras, h, c))
        return y, tape, h, c

    def forward(self) -> tuple[Any, Any, Any, Any]:
        """Outputs, states and memories of all steps, and the tape."""
        y, tape, h, c = self.run(self.shape)
        last, _, *final = self.run(self.last)
        single, read_out = self.dtype == "float32", self.cell == "output_gated"  # which sums one row in another order
        rtol, atol = 1e-6 if single else 1e-14, (1e-5 if single else 1e-13) if read_out else 0.0
        np.testing.assert_allclose(last, y[:, -1], rtol=rtol, atol=atol)
        np.testing.assert_array_equal(final, [h, c])
        states = (*y.shape[:2], len(self.u))
        size = int(np.prod(states))
        behind = tape[size * CELLS[self.cell][1] :][:size]  # the gates
        behind = behind.reshape(states) if self.cell in ("lstm", "output_gated") else y
        hs, cs = (behind, y) if self.cell == "output_gated" else (y, behind)
        np.testing.assert_array_equal(h, hs[:, -1])
        if self.lstm:
            np.testing.assert_array_equal(c, cs[:, -1])
        return y, hs, cs, tape

    def backward(self) -> dict[str, Any]:
        y, _, _, tape = self.forward()
        got = {name: np.zeros_like(getattr(self, name)) for name in ("x", "w", "u", "b", "r")}
        got["h0"], got["c0"] = self.dh.copy(), self.dc.copy()
        self.core.rnn_backward(
            self.shape, self.x, self.weights, tuple(got[name] for name in "wubr"), tape, y, self.dy, got["x"],
            got["h0"], got["c0"] if self.lstm else None, self.extras,
        )  # fmt: skip
        return got

    def loss(self) -> float:
        y, h, c, _ = self.forward()
        total = (y * self.dy).sum() + (h[:, -1] * self.dh).sum()
        return float(total + (c[:, -1] * self.dc).sum() if self.lstm else total)

    def check_gradients(self, atol: float) -> None:
        for name, gradient in self.backward().items():
            if (name != "c0" or self.lstm) and (name != "r" or self.cell == "output_gated"):
                expected = numeric_gradient(self.loss, getattr(self, name))
                np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=atol, err_msg=name)


def random_mask(batch: int, steps: int) -> Any:
    """Left, right and interior padding, a row with nothing and a row with everything."""
    mask = (np.random.default_rng(5).random((batch, steps)) > 0.4).astype(np.uint8)
    mask[0], mask[-1] = 0, 1
    return mask


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (3, 5, 4, 7), (17, 6, 3, 16), (5, 9, 20, 33), (2, 7, 3, 301)])
def test_forward_equals_the_loop(core: ModuleType, cell: str, reverse: bool, masked: bool, sizes: Any) -> None:
    mask = random_mask(*sizes[:2]) if masked and sizes[0] > 1 else None
    for initial in (True, False):
        p = Problem(core, cell, sizes, "float64", reverse, mask, initial)
        expected_y, expected_h, expected_c = loop(cell, reverse, p.x, p.w, p.u, p.b, mask, p.h0, p.c0)
        y, h, c, _ = p.forward()
        np.testing.assert_allclose(h, expected_h, rtol=1e-11, atol=1e-13)
        if cell == "output_gated":
            expected_y = expected_y @ p.r
        if mask is None or cell != "output_gated":
            np.testing.assert_allclose(y, expected_y, rtol=1e-11, atol=1e-13)
        if cell == "lstm":
            np.testing.assert_allclose(c, expected_c, rtol=1e-11, atol=1e-13)
        single = Problem(core, cell, sizes, "float32", reverse, mask, initial)
        np.testing.assert_allclose(single.forward()[1], expected_h, rtol=0, atol=2e-5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients(core: ModuleType, cell: str, reverse: bool, masked: bool) -> None:
    for sizes in ((1, 1, 2, 3), (4, 5, 3, 5)):
        mask = random_mask(*sizes[:2]) if masked and sizes[0] > 1 else None
        Problem(core, cell, sizes, "float64", reverse, mask).check_gradients(1e-8)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "activations",
    [("relu", "sigmoid"), ("linear", "tanh"), ("sigmoid", "linear"), (("silu", 0, 0, 0), ("gelu", 0, 0, 0))],
)
@pytest.mark.parametrize("rates", [(0.0, 0.5), (0.5, 0.5), (0.5, 0.0)])
def test_gradients_with_dropout_and_other_activations(
    core: ModuleType, cell: str, activations: tuple[Any, Any], rates: tuple[float, float]
) -> None:
    for batch in (1, 3):
        Problem(core, cell, (batch, 4, 2, 5), activations=activations, rates=rates).check_gradients(1e-7)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("rates", [(0.0, 0.5), (0.5, 0.5), (0.5, 0.0)])
@pytest.mark.parametrize("batch", [2, 20])
def test_dropout_equals_the_loop(core: ModuleType, cell: str, rates: tuple[float, float], batch: int) -> None:
    """Every gate by itself, with the masks that the tape ends in on its inputs and states."""
    p = Problem(core, cell, (batch, 3, 4, 19), mask=random_mask(batch, 3), rates=rates)
    _, states, _, tape = p.forward()
    gates = CELLS[cell][0] if rates[1] and cell not in ("simple", "output_gated") else 1
    sizes = [gates * batch * n if rate else 0 for n, rate in zip((4, 19), rates, strict=True)]
    inputs, kept = np.split(tape[tape.size - sum(sizes) :], [sizes[0]])
    if rates[0]:
        assert sorted(set(inputs)) == [0, 2]
    if rates[1]:
        assert sorted(set(kept)) == [0, 2]
    inputs = np.broadcast_to(inputs.reshape(-1, batch, 1, 4) if rates[0] else 1.0, (gates, batch, 3, 4))
    kept = np.broadcast_to(kept.reshape(-1, batch, 19) if rates[1] else 1.0, (gates, batch, 19))
    # The inputs of all gates side by side, and weights that lead each gate's to it alone, do the same without masks.
    w = np.zeros((gates, 4, gates, p.w.shape[1] // gates))
    u = np.zeros((gates, 19, gates, p.u.shape[1] // gates))
    for k in range(gates):
        w[k, :, k], u[k, :, k] = np.split(p.w, gates, 1)[k], np.split(p.u, gates, 1)[k]
    wide_x = np.concatenate([p.x * mask for mask in inputs], -1)
    h, c, expected = p.h0, p.c0, []
    for t in range(3):
        h, c = masked_step(p, wide_x[:, t], w.reshape(4 * gates, -1), u, kept, h, c, p.mask[:, t, None] != 0)
        expected.append(h)
    np.testing.assert_allclose(states, np.stack(expected, 1), rtol=1e-11, atol=1e-13)


def masked_step(p: Problem, x: Any, w: Any, u: Any, kept: Any, h: Any, c: Any, counts: Any) -> tuple[Any, Any]:
    """The states after a step in which each gate sees its own part of them: one unit of the batch after the other."""
    after, memory = [], []
    for b in range(len(h)):
        # u with its rows scaled is what the masks do to the state
        seen = sum(kept[k, b][:, None] * u[k].reshape(h.shape[1], -1) for k in range(len(kept)))
        _, new_h, new_c = step(p.cell, x[b : b + 1], w, seen, p.b, h[b : b + 1], c[b : b + 1])
        after.append(new_h if counts[b, 0] else h[b : b + 1])
        memory.append(new_c if counts[b, 0] else c[b : b + 1])
    return np.concatenate(after), np.concatenate(memory)


@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave"])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rates", [((0, 0), (0, 0)), ((0.5, 0), (0.3, 0.5)), ((0, 0), (0, 0.5))])
def test_a_pair_is_two_layers(core: ModuleType, merge: str, sequences: bool, masked: bool, rates: Any) -> None:
    sizes = [(5, 4, 3, 6), (5, 4, 3, 9 if merge == "concat" else 6)]
    mask = random_mask(5, 4) if masked else None
    ours, theirs = (Problem(core, cell, sizes[k], mask=mask, seed=k) for k, cell in enumerate(("lstm", "gru")))
    flags = {"sequences": sequences, "in_time": True, "zero_masked": True}
    shapes = [
        core.RnnShape(*size, cell, reverse, dropout=rate, recurrent_dropout=recurrent, **flags)
        for size, cell, reverse, (rate, recurrent) in zip(sizes, ("lstm", "gru"), (False, True), rates, strict=True)
    ]
    pair = core.RnnPair(*shapes, merge)
    weights = ours.weights[:3], theirs.weights[:3]
    numbers = [(7 + k, 2 * k, 2 * k + 1) if any(rate) else None for k, rate in enumerate(rates)]
    extras = tuple((mask, None, None, own) for own in numbers)
    tape, y = np.full(pair.tape, 9.0), np.full(pair.output, 9.0)
    core.rnn_pair_forward(pair, ours.x, weights, tape, y, extras)
    apart = []
    for shape, own, given in zip(shapes, weights, extras, strict=True):
        out = np.full(shape.output, 9.0), np.full(shape.tape, 9.0)
        core.rnn_forward(shape, ours.x, own, out[1], out[0], given)
        apart.append(out)
    a, b = apart[0][0], apart[1][0]
    merged: Any = {"sum": np.add, "mul": np.multiply, "ave": lambda a, b: (a + b) / 2}
    together = np.concatenate([a, b], -1) if merge == "concat" else merged[merge](a, b)
    np.testing.assert_allclose(y, together, rtol=1e-14)
    if sequences and not any(rates[1]):  # in the order of time, 0 where masked
        zeros = np.zeros_like(theirs.h0)
        expected = loop("gru", True, ours.x, *theirs.weights[:3], mask, zeros, zeros)[0][:, ::-1]
        np.testing.assert_allclose(b, expected * (1 if mask is None else mask[..., None]), rtol=1e-11, atol=1e-13)

    dy = np.random.default_rng(3).standard_normal(y.shape)
    gradients = [tuple(np.zeros_like(one) for one in own) for own in weights]
    dx, expected_dx = np.full_like(ours.x, 9), np.zeros_like(ours.x)
    core.rnn_pair_backward(pair, ours.x, weights, tuple(gradients), tape, dy.copy(), dx, extras)
    factors = {"sum": (1, 1), "mul": (b, a), "ave": (0.5, 0.5)}.get(merge)
    parts = [dy * factor for factor in factors] if factors else np.split(dy, [6], -1)
    for k, shape in enumerate(shapes):
        own, d = tuple(np.zeros_like(one) for one in weights[k]), np.empty_like(dx)
        core.rnn_backward(
            shape,
            ours.x,
            weights[k],
            own,
            apart[k][1],
            apart[k][0],
            np.ascontiguousarray(parts[k]),
            d,
            None,
            None,
            extras[k],
        )
        expected_dx += d
        for got, want in zip(gradients[k], own, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "sizes", [(33, 12, 24, 48), (1, 60, 5, 203), (2, 30, 8, 256)]
)  # the last: units are shared out
@pytest.mark.parametrize("rates", [(0.0, 0.0), (0.3, 0.3)])
def test_same_bits_for_every_thread_count(core: ModuleType, cell: str, sizes: Any, rates: Any) -> None:
    p = Problem(core, cell, sizes, "float32", mask=random_mask(*sizes[:2]), rates=rates)
    threads, results = core.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            core.set_num_threads(count)
            results.append(b"".join(a.tobytes() for a in (*p.forward()[:2], *p.backward().values())))
    finally:
        core.set_num_threads(threads)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("cell", CELLS)
def test_a_thousand_steps(core: ModuleType, cell: str) -> None:
    p = Problem(core, cell, (2, 1000, 3, 20), "float64")
    p.u *= 0.3  # contracting: rounding errors must not grow from step to step
    np.testing.assert_allclose(p.forward()[1], loop(cell, False, p.x, p.w, p.u, p.b, None, p.h0, p.c0)[1], atol=1e-8)
    assert all(np.isfinite(g).all() for g in p.backward().values())


def test_bad_arguments_are_refused(core: ModuleType) -> None:
    with pytest.raises(
        ValueError, match="cell must be simple, lstm, gru, gru_reset_before or output_gated, received rnn"
    ):
        core.RnnShape(1, 1, 1, 1, "rnn")
    with pytest.raises(ValueError, match="every size must be at least 1, received 0"):
        core.RnnShape(1, 0, 1, 1, "gru")
    p = Problem(core, "lstm", (2, 3, 4, 5), "float32")
    p.c0 = None
    with pytest.raises(ValueError, match="rnn_forward: c must come with h, received h alone"):
        p.forward()
    p = Problem(core, "gru", (2, 3, 4, 5), "float32")
    p.b = p.b[0].copy()
    with pytest.raises(ValueError, match=r"rnn_forward: bias must have shape \(2, 15\), received shape \(15,\)"):
        p.forward()
