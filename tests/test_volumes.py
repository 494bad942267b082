"""Volumes, merged arrays and margins at every ISA level, against plain NumPy."""

from __future__ import annotations

from itertools import product
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from helpers import integers

BOXES = [
    ((2, 4, 4, 6, 5), [[(0, 2), (2, 4)], [(0, 2), (2, 4)], [(0, 2), (2, 4), (4, 6)]]),
    ((1, 3, 5, 4, 17), [[(0, 2), (1, 3)], [(1, 3), (2, 5)], [(0, 1), (3, 4)]]),  # overlaps, and gaps
    ((1, 7, 8, 9, 1), [[(0, 7)], [(0, 8)], [(0, 8), (1, 9)]]),  # more than 256 elements
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "windows"), BOXES, ids=str)
def test_pooling(core: ModuleType, shape: Any, windows: Any, dtype: str, rng: np.random.Generator) -> None:
    geometry = core.Pool3DShape(shape, windows)
    x, dy = integers(rng, shape, dtype), integers(rng, geometry.output, dtype)
    top, mean, dtop, dmean = (np.zeros(s, dtype) for s in (dy.shape, dy.shape, x.shape, x.shape))
    for z, p, q in product(*(range(len(axis)) for axis in windows)):
        box = (slice(None), *(slice(*axis[i]) for axis, i in zip(windows, (z, p, q), strict=True)))
        flat = x[box].reshape(shape[0], -1, shape[-1])
        top[:, z, p, q], mean[:, z, p, q] = flat.max(1), flat.mean(1)
        wins = np.arange(flat.shape[1])[None, :, None] == flat.argmax(1)[:, None]
        dtop[box] += (wins * dy[:, z, p, q][:, None]).reshape(x[box].shape)
        dmean[box] += (dy[:, z, p, q] / flat.shape[1])[:, None, None, None]
    kind = np.uint8 if geometry.largest <= 256 else np.uint32
    y, positions, dx = np.empty(dy.shape, dtype), np.empty(dy.shape, kind), np.empty(shape, dtype)
    core.max_pool3d_forward(geometry, x, y, positions)
    np.testing.assert_array_equal(y, top)
    core.max_pool3d_backward(geometry, dy, positions, dx)
    np.testing.assert_array_equal(dx, dtop)
    core.average_pool3d_forward(geometry, x, y)
    np.testing.assert_allclose(y, mean, rtol=1e-6, atol=1e-7)
    core.average_pool3d_backward(geometry, dy, dx)
    np.testing.assert_allclose(dx, dmean, rtol=1e-6, atol=1e-6)
    with pytest.raises(TypeError, match=f"max_pool3d_forward: positions must be {np.dtype(kind)}"):
        core.max_pool3d_forward(geometry, x, y, positions.astype(np.int16))


CONVOLUTIONS = [  # input, kernel, strides, padding, dilation, groups
    ((2, 5, 7, 6, 3), (3, 3, 2, 3, 5), (1, 1, 1), (0, 0, 0, 0, 0, 0), (1, 1, 1), 1),
    ((1, 6, 7, 8, 4), (3, 2, 3, 2, 18), (2, 2, 1), (1, 0, 1, 1, 0, 2), (1, 1, 1), 2),
    ((1, 7, 6, 6, 2), (2, 2, 2, 2, 3), (1, 1, 2), (2, 3, 0, 1, 1, 0), (3, 2, 1), 1),
    ((3, 1, 9, 8, 4), (1, 3, 3, 4, 6), (1, 1, 1), (0, 0, 1, 1, 1, 1), (1, 1, 1), 1),  # images
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("arguments", CONVOLUTIONS, ids=str)
def test_convolution(core: ModuleType, arguments: Any, dtype: str, rng: np.random.Generator) -> None:
    shape = core.Conv3DShape(*arguments)
    input_shape, kernel_shape, strides, padding, dilation, groups = arguments
    x, w, b = (
        integers(rng, input_shape, dtype),
        integers(rng, kernel_shape, dtype),
        integers(rng, kernel_shape[-1:], dtype),
    )
    dy, c = integers(rng, shape.output, dtype), input_shape[-1] // groups
    wide = np.pad(x, ((0, 0), *zip(padding[::2], padding[1::2], strict=True), (0, 0)))
    y, dwide, dw = np.zeros(dy.shape, dtype), np.zeros_like(wide), np.zeros_like(w)
    for at in product(*map(range, kernel_shape[:3])):
        starts = [i * d for i, d in zip(at, dilation, strict=True)]
        seen = (slice(None), *(slice(i, i + (n - 1) * s + 1, s) for i, n, s in zip(starts, dy.shape[1:4], strides)))  # noqa: B905
        for g in range(groups):
            ins, outs = slice(g * c, (g + 1) * c), slice(g * len(b) // groups, (g + 1) * len(b) // groups)
            y[..., outs] += wide[seen][..., ins] @ w[at][:, outs]
            dwide[seen][..., ins] += dy[..., outs] @ w[at][:, outs].T
            dw[at][:, outs] = np.einsum("ndhwc,ndhwo->co", wide[seen][..., ins], dy[..., outs])
    axes = zip(padding[::2], padding[1::2], wide.shape[1:4], strict=True)
    dx = dwide[(slice(None), *(slice(before, size - behind) for before, behind, size in axes))]
    got, back, dkernel, dbias = np.empty_like(y), np.empty_like(x), w.copy(), b.copy()
    core.conv3d_forward(shape, x, w, b, got, "relu")
    np.testing.assert_array_equal(got, np.maximum(y + b, 0))
    core.conv3d_input_gradient(shape, dy, w, back)
    np.testing.assert_array_equal(back, dx)
    core.conv3d_weight_gradient(shape, x, dy, dkernel, dbias)
    np.testing.assert_array_equal(dkernel, w + dw)
    np.testing.assert_array_equal(dbias, b + dy.sum((0, 1, 2, 3)))
    bias = integers(rng, input_shape[-1:], dtype)
    core.conv3d_transpose_forward(shape, dy, w, bias, back, "relu")
    np.testing.assert_array_equal(back, np.maximum(dx + bias, 0))
    dkernel, dbias = w.copy(), bias.copy()
    core.conv3d_transpose_weight_gradient(shape, dy, x, dkernel, dbias)
    np.testing.assert_array_equal(dkernel, w + dw)
    np.testing.assert_array_equal(dbias, bias + x.sum((0, 1, 2, 3)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 15, 17, 40_000])
def test_merging(core: ModuleType, size: int, dtype: str, rng: np.random.Generator) -> None:
    x, dy = [integers(rng, (size,), dtype) for _ in range(3)], integers(rng, (size,), dtype)
    a, b, c = x
    two = {"subtract": (a - b, [dy, -dy])}
    three = {
        "add": (a + b + c, [dy] * 3),
        "multiply": (a * b * c, [dy * b * c, dy * a * c, dy * a * b]),
        "average": ((a + b + c) / 3, [dy / 3] * 3),
        "maximum": (np.maximum(np.maximum(a, b), c), None),
        "minimum": (np.minimum(np.minimum(a, b), c), None),
    }
    for inputs, table in ((x[:2], two), (x, three)):
        for merge, (expected, gradients) in table.items():
            y, dx = np.empty_like(a), [dy.copy(), *(np.empty_like(a) for _ in inputs[1:])]
            core.merge_forward(merge, inputs, y)
            np.testing.assert_allclose(y, expected, rtol=1e-6)
            core.merge_backward(merge, inputs, dx[0], dx)
            np.testing.assert_allclose(sum(dx), sum(gradients) if gradients else dy, rtol=1e-5, atol=1e-5)
            for got, wanted in zip(dx, gradients or (), strict=gradients is not None):
                np.testing.assert_allclose(got, wanted, rtol=1e-6)
    with pytest.raises(ValueError, match="merge_forward: x must have"):
        core.merge_forward("add", [a, np.zeros(size + 1, dtype)], y)
    with pytest.raises(ValueError, match="merge must be add, subtract"):
        core.merge_forward("divide", x, y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_joining_and_margins(core: ModuleType, dtype: str, rng: np.random.Generator) -> None:
    parts = [integers(rng, (3, 2, n), dtype) for n in (1, 4, 20)]
    whole, back = np.empty((3, 2, 25), dtype), [np.empty_like(part) for part in parts]
    core.concatenate(6, parts, whole)
    np.testing.assert_array_equal(whole, np.concatenate(parts, -1))
    core.split(6, whole, back)
    for part, copy in zip(parts, back, strict=True):
        np.testing.assert_array_equal(copy, part)
    with pytest.raises(ValueError, match="whole must have the 150 elements of all parts"):
        core.concatenate(6, parts, whole[:2])
    x = integers(rng, (2, 3, 4, 5, 3), dtype)
    margins = ((0, 1), (2, 0), (1, 3))
    shape, wide, inner = core.Margins(x.shape, margins), np.empty((2, 4, 6, 9, 3), dtype), np.empty_like(x)
    core.pad(shape, x, wide)
    np.testing.assert_array_equal(wide, np.pad(x, ((0, 0), *margins, (0, 0))))
    core.crop(shape, wide, inner)
    np.testing.assert_array_equal(inner, x)
    with pytest.raises(ValueError, match=r"margins must not be negative, received \(-1, 0\)"):
        core.Margins(x.shape, ((0, 1), (2, 0), (-1, 0)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3, 17])
def test_resampling(core: ModuleType, channels: int, dtype: str, rng: np.random.Generator) -> None:
    x, expected, matrices = integers(rng, (2, 5, 4, 6, channels), dtype), None, []
    expected = x
    for axis, outputs in ((1, 3), (2, 7), (3, 4)):
        inputs, width = x.shape[axis], 3
        first, weights = (
            rng.integers(0, inputs - width + 1, outputs).astype("i4"),
            integers(rng, (outputs, width), "f8"),
        )
        matrix = np.zeros((outputs, inputs), dtype)
        np.put_along_axis(matrix, first[:, None] + np.arange(width), weights.astype(dtype), 1)
        expected = np.moveaxis(np.moveaxis(expected, axis, -1) @ matrix.T, -1, axis)
        matrices.append((inputs, first, weights))
    y = np.empty(expected.shape, dtype)
    core.resample(core.Resampling(2, matrices, channels), x, y)
    np.testing.assert_array_equal(y, expected)
    with pytest.raises(ValueError, match="first must leave room for 3 weights in 2 inputs"):
        core.Resampling(2, [(2, *matrices[0][1:])], 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_penalty(core: ModuleType, dtype: str, rng: np.random.Generator) -> None:
    w, gradient = integers(rng, (90, 100), dtype), np.ones((90, 100), dtype)
    assert core.penalty(w, 0.5, 0.25) == 0.5 * np.abs(w).sum() + 0.25 * np.square(w).sum()
    core.add_penalty_gradient(w, 0.5, 0.25, gradient)
    np.testing.assert_array_equal(gradient, 1 + 0.5 * np.sign(w) + 0.5 * w)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_penalties_of_infinite_and_missing_numbers(core: ModuleType, dtype: str) -> None:
    """What has no factor is no part of it: 0 times infinity would be NaN."""
    w = np.array([np.inf, -np.inf, 2.0], dtype)
    for l1, l2, expected in ((0.5, 0, [0.5, -0.5, 0.5]), (0, 0.5, [np.inf, -np.inf, 2]), (0, 0, [0, 0, 0])):
        gradient = np.zeros(3, dtype)
        core.add_penalty_gradient(w, l1, l2, gradient)
        np.testing.assert_array_equal(gradient, expected)
        assert core.penalty(w, l1, l2) == (np.inf if l1 or l2 else 0)
        w[1] = np.nan
        core.add_penalty_gradient(w, l1, l2, gradient)
        assert np.isnan(gradient[1]) == bool(l1 or l2)
        w[1] = -np.inf
