"""The recurrent kernels at every ISA level: against a plain NumPy loop, and by finite differences."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from helpers import numeric_gradient

CELLS = {"simple": (1, 1), "lstm": (4, 4), "gru": (3, 4), "output_gated": (2, 2)}  # gates, width of the workspace


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
        activations: tuple[str, str] = ("tanh", "sigmoid"),
    ) -> None:  # fmt: skip
        rng = np.random.default_rng(seed)
        batch, steps, inputs, units = sizes
        gates = CELLS[cell][0] * units
        self.core, self.cell, self.mask, self.reverse = core, cell, mask, reverse
        self.shape = core.RnnShape(batch, steps, inputs, units, cell, reverse, *activations)

        def normal(*shape: int) -> Any:
            return (rng.standard_normal(shape) * 0.6).astype(dtype)

        self.x, self.w, self.u = normal(batch, steps, inputs), normal(inputs, gates), normal(units, gates)
        self.u *= min(1, 4 / units**0.5)  # not chaotic: rounding errors must not grow from step to step
        self.b = normal(2, gates) if cell == "gru" else normal(gates)
        self.h0, self.c0 = normal(batch, units), normal(batch, units)
        if not initial:
            self.h0[...] = self.c0[...] = 0
        self.initial = initial
        self.dy, self.dh, self.dc = normal(batch, steps, units), normal(batch, units), normal(batch, units)
        if cell == "output_gated" and mask is not None:
            self.dy *= self.mask[:, :: -1 if reverse else 1, None]
        self.dtype = dtype
        self.keep: Any = None

    @property
    def lstm(self) -> bool:
        return self.cell == "lstm"

    def forward(self) -> tuple[Any, Any, Any, Any]:
        work, h = np.full(self.shape.workspace, 9, self.dtype), np.full(self.shape.states, 9, self.dtype)
        last = np.full(self.h0.shape, 9, self.dtype)
        h0, c0 = (self.h0, self.c0 if self.lstm else None) if self.initial else (None, None)
        self.core.rnn_forward(self.shape, self.x, self.w, self.u, self.b, self.mask, h0, c0, self.keep, work, h, last)
        units = h.shape[-1]
        y = work[:, :: -1 if self.reverse else 1, units:] if self.cell == "output_gated" else h
        np.testing.assert_array_equal(last, y[:, -1])
        return y, h, work.ravel()[-h.size :].reshape(h.shape), work

    def backward(self) -> dict[str, Any]:
        _, h, _, work = self.forward()
        got = {name: np.zeros_like(getattr(self, name)) for name in ("x", "w", "u", "b")}
        got["h0"], got["c0"] = self.dh.copy(), self.dc.copy()
        h0, c0 = (self.h0, self.c0 if self.lstm else None) if self.initial else (None, None)
        self.core.rnn_backward(
            self.shape, self.x, self.w, self.u, self.mask, h0, c0, self.keep, work, h, self.dy,
            got["x"], got["w"], got["u"], got["b"], got["h0"], got["c0"] if self.lstm else None,
        )  # fmt: skip
        return got

    def loss(self) -> float:
        y, h, c, _ = self.forward()
        total = (y * self.dy).sum() + (h[:, -1] * self.dh).sum()
        return float(total + (c[:, -1] * self.dc).sum() if self.lstm else total)


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
        p = Problem(core, cell, sizes, "float64", reverse, mask)
        for name, gradient in p.backward().items():
            if name == "c0" and not p.lstm:
                continue
            expected = numeric_gradient(p.loss, getattr(p, name))
            np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("activations", [("relu", "sigmoid"), ("linear", "tanh"), ("sigmoid", "linear")])
def test_gradients_with_recurrent_dropout_and_other_activations(
    core: ModuleType, cell: str, activations: tuple[str, str]
) -> None:
    p = Problem(core, cell, (3, 4, 2, 5), "float64", activations=activations)
    p.keep = np.random.default_rng(1).choice([0.0, 2.0], (3, 5))
    for name, gradient in p.backward().items():
        if name != "c0" or p.lstm:
            expected = numeric_gradient(p.loss, getattr(p, name))
            np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "sizes", [(33, 12, 24, 48), (1, 60, 5, 203), (2, 30, 8, 256)]
)  # the last: units are shared out
def test_same_bits_for_every_thread_count(core: ModuleType, cell: str, sizes: Any) -> None:
    p = Problem(core, cell, sizes, "float32", mask=random_mask(*sizes[:2]))
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
    with pytest.raises(ValueError, match="cell must be simple, lstm, gru or output_gated, received rnn"):
        core.RnnShape(1, 1, 1, 1, "rnn")
    with pytest.raises(ValueError, match="every size must be at least 1, received 0"):
        core.RnnShape(1, 0, 1, 1, "gru")
    p = Problem(core, "gru", (2, 3, 4, 5), "float32")
    p.b = p.b[0].copy()
    with pytest.raises(ValueError, match=r"rnn_forward: bias must have shape \(2, 15\), received shape \(15,\)"):
        p.forward()
