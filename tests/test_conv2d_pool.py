"""The fused convolution, ReLU and max pooling against the three ops one after the other."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from helpers import integers, rounding

CASES = [
    # input, kernel, strides, padding, dilation, window
    ((3, 28, 28, 1), (3, 3, 1, 32), (1, 1), (0, 0, 0, 0), (1, 1), (2, 2)),  # the reference CNN
    ((3, 13, 13, 32), (3, 3, 32, 64), (1, 1), (0, 0, 0, 0), (1, 1), (2, 2)),
    ((2, 23, 22, 33), (3, 3, 33, 47), (1, 1), (1, 1, 1, 0), (1, 1), (2, 2)),  # Winograd, ragged
    ((2, 9, 9, 1), (3, 3, 1, 16), (1, 1), (1, 1, 1, 1), (1, 1), (2, 2)),
    ((1, 9, 8, 1), (3, 3, 1, 17), (1, 1), (1, 1, 1, 1), (1, 1), (2, 2)),
    ((1, 5, 151, 1), (3, 3, 1, 41), (1, 1), (1, 0, 1, 1), (1, 1), (2, 2)),  # several runs of windows in a row
    ((2, 12, 10, 16), (3, 3, 16, 20), (1, 1), (1, 1, 1, 1), (1, 1), (2, 2)),
    ((2, 12, 12, 16), (5, 5, 16, 33), (1, 1), (2, 2, 2, 2), (1, 1), (3, 3)),
    ((1, 14, 13, 48), (1, 3, 48, 5), (1, 1), (0, 0, 0, 1), (1, 1), (2, 3)),
    ((2, 13, 13, 80), (2, 2, 80, 16), (2, 1), (0, 0, 0, 0), (1, 1), (2, 1)),
    ((1, 14, 14, 16), (3, 3, 16, 7), (1, 1), (0, 0, 0, 0), (2, 1), (2, 2)),
    ((1, 14, 14, 16), (3, 3, 16, 7), (1, 1), (2, 2, 2, 2), (1, 2), (2, 2)),
    ((2, 10, 10, 3), (3, 3, 3, 8), (1, 1), (0, 0, 0, 0), (1, 1), (2, 2)),
    ((1, 24, 24, 4), (3, 3, 4, 8), (1, 1), (0, 0, 0, 0), (1, 1), (5, 5)),  # a window larger than a tile
    ((1, 6, 6, 17), (3, 3, 17, 4), (1, 1), (0, 0, 0, 0), (1, 1), (2, 2)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_separate_ops(
    core: ModuleType, case: Any, activation: str, dtype: str, rng: np.random.Generator
) -> None:
    *arguments, window = case
    s = core.Conv2DShape(*arguments)
    pool = core.Pool2DShape(s.output, window, window)
    x, kernel = integers(rng, s.input, dtype), integers(rng, s.kernel, dtype)
    bias, dy = integers(rng, s.output[3], dtype), integers(rng, pool.output, dtype)

    full, expected, where = np.empty(s.output, dtype), np.empty(pool.output, dtype), np.empty(pool.output, np.uint8)
    core.conv2d_forward(s, x, kernel, bias, full, activation)
    core.max_pool2d_forward(pool, full, expected, where)
    y, positions = np.full(pool.output, 7, dtype), np.full(pool.output, 77, np.uint8)
    op = core.Conv2DPool(s, pool, activation)
    core.conv2d_pool_forward(op, x, kernel, bias, y, positions)
    near = rounding(core, s, "forward", dtype)
    np.testing.assert_allclose(y, expected, rtol=0, atol=near)
    counts = (y > 0) if activation == "relu" else np.ones(expected.shape, bool)
    if near:  # where sums are rounded, any that is as large may win
        images, rows, columns, filters = np.indices(positions.shape, sparse=True)
        down, across = rows * window[0] + positions // window[1], columns * window[1] + positions % window[1]
        np.testing.assert_allclose(full[images, down, across, filters], expected, rtol=0, atol=near)
        where = np.where(counts, positions, where)
    np.testing.assert_array_equal(positions[counts], where[counts])  # a dead window's winner does not matter

    form = np.empty(core.kernel_form_size(s, pool, kernel), dtype)
    if core.kernel_form(s, pool) != "original":
        core.prepare_kernel(s, pool, kernel, form)
        prepared = np.full(pool.output, 7, dtype)
        core.conv2d_pool_forward_prepared(op, x, np.zeros_like(kernel), form, bias, prepared)
        np.testing.assert_array_equal(prepared, y)

    dfull = np.empty(s.output, dtype)
    core.max_pool2d_backward(pool, dy * counts, where, dfull)
    dx, dkernel, dbias = np.full(s.input, 7, dtype), np.ones(s.kernel, dtype), np.ones(s.output[3], dtype)
    got_dx, got_dkernel, got_dbias = dx.copy(), dkernel.copy(), dbias.copy()
    core.conv2d_input_gradient(s, dfull, kernel, dx)
    core.conv2d_weight_gradient(s, x, dfull, dkernel, dbias)
    core.conv2d_pool_input_gradient(op, dy, (y, positions), kernel, got_dx)
    core.conv2d_pool_weight_gradient(op, x, dy, (y, positions), got_dkernel, got_dbias)
    np.testing.assert_allclose(got_dx, dx, rtol=0, atol=rounding(core, s, "input_gradient", dtype))
    np.testing.assert_allclose(got_dkernel, dkernel, rtol=0, atol=rounding(core, s, "weight_gradient", dtype))
    np.testing.assert_array_equal(got_dbias, dbias)
    core.conv2d_pool_forward_prepared(op, x, kernel, None, None, y)
    core.conv2d_forward(s, x, kernel, None, full, activation)
    core.max_pool2d_forward(pool, full, expected, None)
    np.testing.assert_allclose(y, expected, rtol=0, atol=near)


@pytest.mark.parametrize("channels", [1, 3, 16])
def test_nan_comes_through(core: ModuleType, channels: int, rng: np.random.Generator) -> None:
    s = core.Conv2DShape((2, 14, 79, channels), (3, 3, channels, 21))
    pool = core.Pool2DShape(s.output, (2, 2), (2, 2))
    x, kernel = integers(rng, s.input, "float32"), integers(rng, s.kernel, "float32")
    x[1, 5, 70, -1] = np.nan
    y, positions = np.empty(pool.output, "float32"), np.full(pool.output, 77, np.uint8)
    core.conv2d_pool_forward(core.Conv2DPool(s, pool, "linear"), x, kernel, None, y, positions)
    touched = np.zeros(pool.output, bool)
    touched[1, 1:3, 34:36] = True
    assert np.isnan(y)[touched].all()
    if channels < 16:  # a Winograd tile of four reaches further
        np.testing.assert_array_equal(np.isnan(y), touched)
    assert positions.max() < 4


@pytest.mark.parametrize("case", CASES[:2], ids=str)
def test_same_bits_for_every_thread_count(core: ModuleType, case: Any, rng: np.random.Generator) -> None:
    *arguments, window = case
    s = core.Conv2DShape((32, *arguments[0][1:]), *arguments[1:])
    pool = core.Pool2DShape(s.output, window, window)
    x, kernel = (rng.standard_normal(n).astype("f4") for n in (s.input, s.kernel))
    dy, y, positions = (
        rng.standard_normal(pool.output).astype("f4"),
        np.empty(pool.output, "f4"),
        np.empty(pool.output, "u1"),
    )
    op, threads, results = core.Conv2DPool(s, pool, "relu"), core.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            core.set_num_threads(count)
            dx, dkernel, dbias = np.empty_like(x), np.zeros_like(kernel), np.zeros(s.output[3], "f4")
            core.conv2d_pool_forward(op, x, kernel, None, y, positions)
            core.conv2d_pool_input_gradient(op, dy, (y, positions), kernel, dx)
            core.conv2d_pool_weight_gradient(op, x, dy, (y, positions), dkernel, dbias)
            results.append(b"".join(a.tobytes() for a in (y, positions, dx, dkernel, dbias)))
    finally:
        core.set_num_threads(threads)
    assert results[0] == results[1] == results[2]


def test_what_does_not_fit_is_refused(core: ModuleType) -> None:
    s = core.Conv2DShape((1, 8, 8, 2), (3, 3, 2, 4))
    for window, strides, message in (
        ((2, 2), (1, 1), "the pool's strides must equal its window"),
        ((2, 2), (2, 2), "activation must be linear or relu, received tanh"),
    ):
        pool = core.Pool2DShape(s.output, window, strides)
        with pytest.raises(ValueError, match=message):
            core.Conv2DPool(s, pool, "tanh" if "tanh" in message else "relu")
    with pytest.raises(ValueError, match="the pool's input must be the convolution's output"):
        core.Conv2DPool(s, core.Pool2DShape((1, 4, 4, 4), (2, 2), (2, 2)), "relu")
