"""Einstein's sum as a native op: axes in any order, against NumPy's."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from vivace import config, layers
from vivace.step import Step

SIZES = {"a": 3, "b": 5, "c": 4, "d": 1, "e": 17, "f": 2}


def integers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return rng.integers(-3, 4, shape).astype(dtype)


def check(
    core: ModuleType, equation: str, sizes: dict[str, int], dtype: str, rng: Any, bias: int | None = None
) -> None:
    """Forward and backward, exactly. bias: from which of y's axes on there is one, the same along every other."""
    inputs, y_axes = equation.split("->")
    x_axes, w_axes = inputs.split(",")
    x, w = (integers(rng, tuple(sizes[a] for a in axes), dtype) for axes in (x_axes, w_axes))
    shape = () if bias is None else tuple(sizes[a] if i % 2 == 0 else 1 for i, a in enumerate(y_axes[bias:]))
    op = core.Einsum(x_axes, w_axes, y_axes, x.shape, w.shape, shape)
    expected = np.einsum(equation, x, w)
    assert op.output == expected.shape
    b = None if bias is None else integers(rng, shape, dtype)
    y = np.full(expected.shape, np.nan, dtype)
    core.einsum_forward(op, x, w, b, y)
    np.testing.assert_array_equal(y, expected if b is None else expected + b, equation)
    core.einsum_forward(op, x, w, b, y, "relu")
    np.testing.assert_array_equal(y, np.maximum(expected if b is None else expected + b, 0), equation)
    dy, dw, dx = integers(rng, y.shape, dtype), integers(rng, w.shape, dtype), np.full(x.shape, np.nan, dtype)
    db = None if b is None else integers(rng, b.shape, dtype)
    before, b_before = dw.copy(), None if db is None else db.copy()
    core.einsum_backward(op, x, w, dy, (dx, dw, db), True)
    of_x = np.einsum(f"{y_axes},{w_axes}->{''.join(a for a in x_axes if a in y_axes + w_axes)}", dy, w)
    alone = tuple(i for i, a in enumerate(x_axes) if a not in y_axes + w_axes)
    np.testing.assert_array_equal(dx, np.broadcast_to(np.expand_dims(of_x, alone), x.shape), equation)
    of_w = np.einsum(f"{x_axes},{y_axes}->{w_axes}", x, dy)
    np.testing.assert_array_equal(dw, before + of_w, equation)
    core.einsum_backward(op, x, w, dy, (None, dw, None), False)
    np.testing.assert_array_equal(dw, of_w, equation)
    if db is not None:
        wide = (1,) * (y.ndim - db.ndim) + db.shape
        over = tuple(i for i, size in enumerate(wide) if size == 1)
        np.testing.assert_array_equal(db, b_before + dy.sum(over, keepdims=True).reshape(db.shape), equation)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_axes_in_any_order(core: ModuleType, dtype: str, rng: Any) -> None:
    for _ in range(150):
        names = list("abcdef")
        rng.shuffle(names)
        count = rng.integers(2, 7)
        roles = {name: rng.integers(0, 5) for name in names[:count]}  # shared, row, summed, column, x's alone
        x, w, y = ([a for a, role in roles.items() if role in own] for own in ((0, 1, 2, 4), (0, 2, 3), (0, 1, 3)))
        for axes in (x, w, y):
            rng.shuffle(axes)
        equation = f"{''.join(x)},{''.join(w)}->{''.join(y)}"
        bias = int(rng.integers(0, len(y))) if y and rng.random() < 0.5 else None
        check(core, equation, SIZES, dtype, rng, bias)
        check(core, equation, dict.fromkeys(SIZES, 2), dtype, rng, bias)  # sizes do not tell axes apart


@pytest.mark.parametrize(
    "equation", ["abc,cd->abd", "abc,bcd->abd", "acb,abd->acd", "abc,cd->adb", "abc,bd->adc", "abc,dc->abd"]
)
def test_large_ones(core: ModuleType, equation: str, rng: Any) -> None:
    check(core, equation, {"a": 7, "b": 130, "c": 67, "d": 129}, "float32", rng, 2)
    check(core, equation, {"a": 70, "b": 13, "c": 19, "d": 9}, "float64", rng)
    check(core, equation, {"a": 0, "b": 3, "c": 2, "d": 2}, "float32", rng)
    check(core, equation, {"a": 2, "b": 3, "c": 0, "d": 2}, "float32", rng)


def test_threads_do_not_change_a_bit(rng: Any) -> None:
    x, y = (rng.standard_normal((40, 60, 50)).astype("f4") for _ in range(2))
    kept, results = config.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            config.set_num_threads(threads)
            results.append(layers.Dot(2)([x, y]).tobytes() + layers.Dot(1)([x, y]).tobytes())
            for layer in (layers.EinsumDense("abc,cd->abd", (60, 70)), layers.EinsumDense("abc,bd->adc", (70, 50))):
                layer.build(x.shape)
                layer.set_weights([np.full(p.shape, 0.3, "f4") for p in layer.weights])
                step = Step(True)
                out, saved = layer.forward(x, step)
                dx = layer.backward(out.copy(), saved, step)
                assert dx is not None
                results[-1] += dx.tobytes() + layer.kernel.gradient.tobytes()
    finally:
        config.set_num_threads(kept)
    assert results[0] == results[1] == results[2]


def test_an_empty_bias_is_none(core: ModuleType, rng: Any) -> None:
    x, w, nothing = integers(rng, (2, 3), "float64"), integers(rng, (3, 5), "float64"), np.empty(0)
    op, y, dw = core.Einsum("ab", "bc", "ac", x.shape, w.shape, ()), np.empty((2, 5)), np.zeros((3, 5))
    core.einsum_forward(op, x, w, nothing, y)
    np.testing.assert_array_equal(y, x @ w)
    core.einsum_backward(op, x, w, y, (None, dw, nothing), True)
    np.testing.assert_array_equal(dw, x.T @ y)


def test_what_does_not_fit(core: ModuleType) -> None:
    for arguments, message in [
        (("ab", "bc", "ac", (2, 3), (4, 5), ()), "an axis has size 3 and size 4"),
        (("ab", "bc", "ad", (2, 3), (3, 5), ()), "an axis of y is neither x's nor w's"),
        (("ab", "bc", "a", (2, 3), (3, 5), ()), "an axis of w is neither x's nor y's"),
        (("ab", "bc", "ac", (2, 3, 1), (3, 5), ()), "x must have 2 axes, received 3"),
        (("ab", "bc", "ac", (2, 3), (3, 5), (4,)), "the bias does not broadcast to y"),
    ]:
        with pytest.raises(ValueError, match=message):
            core.Einsum(*arguments)
    op = core.Einsum("ab", "bc", "ac", (2, 3), (3, 5), ())
    with pytest.raises(ValueError, match="einsum_forward: y must have 10 elements"):
        core.einsum_forward(op, np.zeros((2, 3)), np.zeros((3, 5)), None, np.zeros((2, 4)))
