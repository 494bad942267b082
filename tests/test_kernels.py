"""GEMM, dense, pooling, element-wise ops, losses and optimizers at every ISA level, against plain NumPy."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from helpers import distinct, integers, numeric_gradient

WIDTH = 16  # lanes of the widest register; ragged sizes lie around it
RAGGED = [1, WIDTH - 1, WIDTH, WIDTH + 1, 2 * WIDTH + 3]


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gemm(core: ModuleType, transpose_a: bool, transpose_b: bool, dtype: str, rng: np.random.Generator) -> None:
    sizes = [(m, n, k) for m in RAGGED for n in RAGGED for k in (1, 17)]
    sizes += [(130, 100, 300), (97, 161, 513), (32, 128, 160), (160, 128, 32), (32, 160, 128), (200, 10, 128)]
    for m, n, k in sizes:
        a, b, c = integers(rng, (m, k), dtype), integers(rng, (k, n), dtype), integers(rng, (m, n), dtype)
        stored_a = np.ascontiguousarray(a.T) if transpose_a else a
        stored_b = np.ascontiguousarray(b.T) if transpose_b else b
        for accumulate in (False, True):
            out = c.copy()
            core.gemm(stored_a, stored_b, out, transpose_a, transpose_b, accumulate)
            np.testing.assert_array_equal(out, a @ b + (c if accumulate else 0), err_msg=f"{m} {n} {k}")
    reference = c.copy()
    core.reference.gemm(stored_a, stored_b, reference, transpose_a, transpose_b, False)
    np.testing.assert_array_equal(reference, a @ b)


@pytest.mark.parametrize(("n", "i", "o"), [(1, 1, 1), (32, 1600, 128), (32, 128, 10), (5, 17, 33), (128, 200, 100)])
def test_dense(core: ModuleType, n: int, i: int, o: int, rng: np.random.Generator) -> None:
    x, w, b, dy = (integers(rng, s, "float32") for s in ((n, i), (i, o), (o,), (n, o)))
    y, dx = np.empty((n, o), "f4"), np.empty((n, i), "f4")
    core.dense_forward(x, w, b, y, "relu")
    np.testing.assert_array_equal(y, np.maximum(x @ w + b, 0))
    core.dense_forward(x, w, None, y)
    np.testing.assert_array_equal(y, x @ w)
    core.dense_input_gradient(dy, w, dx)
    np.testing.assert_array_equal(dx, dy @ w.T)
    dw, db = np.ones((i, o), "f4"), np.ones(o, "f4")
    core.dense_weight_gradient(x, dy, dw, db)
    np.testing.assert_array_equal(dw, x.T @ dy + 1)
    np.testing.assert_array_equal(db, dy.sum(0) + 1)


def test_dense_takes_any_axes_in_front(core: ModuleType, rng: np.random.Generator) -> None:
    x, w, b = (integers(rng, s, "float32") for s in ((2, 3, 4), (1, 1, 4, 6), (6,)))
    y, dx, dw = np.empty((2, 3, 6), "f4"), np.empty_like(x), np.zeros_like(w)
    core.dense_forward(x, w, b, y)
    np.testing.assert_array_equal(y, x @ w[0, 0] + b)
    core.dense_input_gradient(y, w, dx)
    np.testing.assert_array_equal(dx, y @ w[0, 0].T)
    core.dense_weight_gradient(x, y, dw, None)
    np.testing.assert_array_equal(dw[0, 0], np.tensordot(x, y, ([0, 1], [0, 1])))
    with pytest.raises(ValueError, match="dense_forward: y must have 36 elements"):
        core.dense_forward(x, w, b, y[:1])
    with pytest.raises(ValueError, match="dense_forward: x must have a last axis of 4, received 3"):
        core.dense_forward(x[..., :3].copy(), w, b, y)


POOLS = [
    ((2, 26, 26, 32), (2, 2), (2, 2), (0, 0, 0, 0)),
    ((2, 11, 11, 64), (2, 2), (2, 2), (0, 0, 0, 0)),  # a last row and column that no window covers
    ((1, 7, 9, 1), (3, 2), (1, 2), (1, 1, 1, 0)),
    ((2, 8, 8, 5), (2, 2), (3, 3), (0, 0, 0, 0)),  # gaps between windows
    ((1, 9, 9, 17), (3, 3), (2, 2), (1, 1, 1, 1)),
    ((1, 20, 20, 3), (17, 17), (1, 1), (0, 0, 0, 0)),  # more than 256 positions
    *[((1, 4, 4, c), (2, 2), (2, 2), (0, 1, 1, 0)) for c in RAGGED],
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("arguments", POOLS, ids=str)
def test_pooling_equals_the_reference(core: ModuleType, arguments: tuple, dtype: str, rng: np.random.Generator) -> None:
    shape = core.Pool2DShape(*arguments)
    x, dy = integers(rng, shape.input, dtype), integers(rng, shape.output, dtype)  # many ties
    position_type = np.uint8 if np.prod(arguments[1]) <= 256 else np.uint32
    results = []
    for path in (core.reference, core):
        y, mean = np.full(shape.output, 9, dtype), np.full(shape.output, 9, dtype)
        positions = np.full(shape.output, 77, position_type)
        dx, dmean = np.full(shape.input, 9, dtype), np.full(shape.input, 9, dtype)
        path.max_pool2d_forward(shape, x, y, positions)
        path.max_pool2d_backward(shape, dy, positions, dx)
        path.average_pool2d_forward(shape, x, mean)
        path.average_pool2d_backward(shape, dy, dmean)
        results.append((y, positions, dx, mean, dmean))
    for expected, actual in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-6 if dtype == "float32" else 1e-14, atol=1e-6)
    without = np.empty_like(y)
    core.max_pool2d_forward(shape, x, without, None)
    np.testing.assert_array_equal(without, results[0][0])


def test_max_pooling_propagates_nan(core: ModuleType) -> None:
    x = np.zeros((1, 2, 2, 1), "f4")
    x[0, 0, 1, 0] = np.nan
    y, positions = np.zeros((1, 1, 1, 1), "f4"), np.zeros((1, 1, 1, 1), np.uint8)
    core.max_pool2d_forward(core.Pool2DShape(x.shape, (2, 2), (2, 2)), x, y, positions)
    assert np.isnan(y.item())
    assert positions.item() == 1


def test_pooling_gradients(rng: np.random.Generator) -> None:
    from vivace._core import native

    for arguments in POOLS[2:5]:
        shape = native.Pool2DShape(*arguments)
        x, dy = distinct(rng, shape.input, "f8"), rng.standard_normal(shape.output)
        y, dx, positions = np.empty(shape.output), np.empty(shape.input), np.empty(shape.output, np.uint8)

        def maximum(shape=shape, x=x, y=y, dy=dy) -> float:
            native.max_pool2d_forward(shape, x, y, None)
            return float((y * dy).sum())

        native.max_pool2d_forward(shape, x, y, positions)
        native.max_pool2d_backward(shape, dy, positions, dx)
        np.testing.assert_allclose(dx, numeric_gradient(maximum, x, 1e-4), rtol=1e-6, atol=1e-8)


def test_bad_pools_are_refused(core: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"pool2d: window \(3, 3\) does not fit the padded input \(2, 2\)"):
        core.Pool2DShape((1, 2, 2, 1), (3, 3), (1, 1))
    with pytest.raises(ValueError, match="smaller than the window, received padding 2"):
        core.Pool2DShape((1, 4, 4, 1), (2, 2), (1, 1), (2, 0, 0, 0))


FUNCTIONS = {
    "linear": (lambda x: x, lambda y: np.ones_like(y)),
    "relu": (lambda x: np.maximum(x, 0), lambda y: (y > 0).astype(y.dtype)),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda y: y * (1 - y)),
    "tanh": (np.tanh, lambda y: 1 - y * y),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [*RAGGED, 40000])
def test_activations(core: ModuleType, name: str, dtype: str, size: int, rng: np.random.Generator) -> None:
    function, derivative = FUNCTIONS[name]
    x, dy = rng.standard_normal(size) * 4, rng.standard_normal(size)
    y, dx = np.empty(size, dtype), np.empty(size, dtype)
    core.activation_forward(name, x.astype(dtype), y)
    tolerance = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(y, function(x.astype(dtype).astype("f8")), rtol=tolerance, atol=tolerance / 4)
    core.activation_backward(name, y, dy.astype(dtype), dx)
    np.testing.assert_allclose(dx, dy * derivative(y.astype("f8")), rtol=4 * tolerance, atol=4 * tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_at_the_ends(core: ModuleType, dtype: str) -> None:
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e30, -1e30, 120, -120], dtype)
    expected = {
        "relu": [np.inf, 0, np.nan, 0, 0, 1e30, 0, 120, 0],
        "sigmoid": [1, 0, np.nan, 0.5, 0.5, 1, 0, 1, 0],
        "tanh": [1, -1, np.nan, 0, -0.0, 1, -1, 1, -1],
    }
    for name, values in expected.items():
        y = np.empty_like(x)
        core.activation_forward(name, x, y)
        np.testing.assert_allclose(y, np.array(values, dtype), rtol=1e-7, atol=1e-30, err_msg=name)


@pytest.mark.parametrize("columns", [1, 2, 10, *RAGGED, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax(core: ModuleType, columns: int, dtype: str, rng: np.random.Generator) -> None:
    x = (rng.standard_normal((7, columns)) * 30).astype(dtype)
    x[0] += 1e4  # would overflow without subtracting the maximum
    y, dx, dy = np.empty_like(x), np.empty_like(x), rng.standard_normal((7, columns)).astype(dtype)
    core.softmax_forward(x, y)
    e = np.exp(x.astype("f8") - x.max(-1, keepdims=True))
    expected = e / e.sum(-1, keepdims=True)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(y, expected, rtol=30 * eps, atol=eps)
    core.softmax_backward(y, dy, dx)
    np.testing.assert_allclose(dx, y * (dy - (y * dy).sum(-1, keepdims=True)), rtol=1e-4, atol=50 * eps)


def test_dropout(core: ModuleType) -> None:
    x = np.ones(100_003, "f4")
    y, again, start = np.empty_like(x), np.empty_like(x), np.empty(1000, "f4")
    core.dropout(x, 0.3, 7, 1, y)
    kept = y != 0
    assert abs(kept.mean() - 0.7) < 4 * np.sqrt(0.21 / x.size)
    np.testing.assert_array_equal(y[kept], np.float32(1 / 0.7))
    core.dropout(x[:1000], 0.3, 7, 1, start)
    np.testing.assert_array_equal(start, y[:1000])  # an element's fate depends on its position alone
    core.dropout(x, 0.3, 7, 2, again)
    assert 0.35 < (again == y).mean() < 0.7  # another stream: agreement by chance, 0.58
    core.dropout(x.astype("f8"), 0.3, 7, 1, wide := np.empty(x.size))
    np.testing.assert_array_equal(wide != 0, kept)


def test_random_numbers_are_the_same_at_every_level() -> None:
    from conftest import LEVELS
    from vivace import _core

    made = []
    for level in LEVELS:
        core, bits = _core.load(level), b""
        for dtype in ("f4", "f8"):
            x = np.ones(5000, dtype)
            y, noisy, noisier = (np.empty_like(x) for _ in range(3))
            core.dropout(x, 0.5, 3, 9, y)
            core.add_noise(x, 0.5, 3, 9, noisy)
            core.multiply_noise(x, 0.3, 3, 9, noisier)
            bits += (y != 0).tobytes() + noisy.tobytes() + noisier.tobytes()
        made.append(bits)
    assert len(set(made)) == 1


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda n, x: n.dropout(x, 1.5, 0, 1, x), r"dropout: rate must lie in \[0, 1\], received 1.5"),
        (lambda n, x: n.alpha_dropout_forward(x, 1.0, 0, 1, x), r"rate must lie in \[0, 1\), received 1"),
        (lambda n, x: n.add_noise(x, -0.5, 0, 1, x), "add_noise: deviation must not be negative, received -0.5"),
        (lambda n, x: n.spatial_dropout(x[0, 0, 0], False, 0.5, 0, 1, x), "must have a batch and channels"),
        (
            lambda n, x: n.scale_channels(x, x[0, 0, 0], x[0, 0, 0], 7, x),
            "divide x into the channels of scale",
        ),
        (lambda n, x: n.random_flip(n.RandomFlip(True, True), 0, 1, x, x), "y must not be x"),
        (
            lambda n, x: n.random_flip(n.RandomFlip(True, True), 0, 1, x, x[:1].copy()),
            r"y must have shape \(2, 3, 4, 5\)",
        ),
        (lambda n, x: n.random_crop_forward(False, 0, 1, x[:, :2].copy(), x), "y must be a part of x of shape"),
        (
            lambda n, x: n.random_crop_forward(True, 0, 1, x, x.reshape(3, 2, 4, 5).copy()),  # samples, channels first
            "y must be a part of x of shape",
        ),
        (
            lambda n, x: n.RandomMovement("jump", (0, 1), None, "wrap", True),
            "must be turn, zoom, shift or shear",
        ),
        (
            lambda n, x: n.RandomMovement("turn", (0, 1), None, "mirror", True),
            "must be constant, nearest, reflect",
        ),
    ],
)
def test_random_kernels_refuse(call: Any, text: str, core: ModuleType) -> None:
    with pytest.raises(ValueError, match=text):
        call(core, np.ones((2, 3, 4, 5), "f4"))


def test_gather_rows(core: ModuleType, rng: np.random.Generator) -> None:
    for source in (
        rng.standard_normal((50, 3, 5)).astype("f4"),
        rng.integers(0, 255, (50, 28, 28), np.uint8),
        np.arange(50),
    ):
        rows = rng.integers(0, 50, 70)
        out = np.empty((70, *source.shape[1:]), source.dtype)
        core.gather_rows(source, rows, out)
        np.testing.assert_array_equal(out, source[rows])
    with pytest.raises(IndexError, match="row 50 is outside a source of 50 rows"):
        core.gather_rows(np.zeros((50, 2)), np.array([50]), np.zeros((1, 2)))


@pytest.mark.parametrize("columns", [1, 17, 64])
def test_scatter_add_rows(core: ModuleType, columns: int, rng: np.random.Generator) -> None:
    rows, table = rng.integers(0, 9, (6, 5)), integers(rng, (9, columns), "f4")  # many rows meet
    dy = integers(rng, (6, 5, columns), "f4")
    expected = table.copy()
    np.add.at(expected, rows, dy)
    core.scatter_add_rows(dy, rows, table)
    np.testing.assert_array_equal(table, expected)
    with pytest.raises(IndexError, match="row 9 is outside a table of 9 rows"):
        core.scatter_add_rows(dy[0, :1], np.array([9]), table)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 10), (33, 17), (600, 40)])
def test_crossentropies(core: ModuleType, rows: int, columns: int, rng: np.random.Generator) -> None:
    z = rng.standard_normal((rows, columns)) * 5
    labels, t = rng.integers(0, columns, rows), rng.random((rows, columns))
    scale = rng.random(rows)
    logsum = np.log(np.exp(z).sum(-1))
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    onehot = np.eye(columns)[labels]
    got_p, losses, dz = np.empty_like(z), np.empty(rows), np.empty_like(z)

    core.sparse_softmax_crossentropy_forward(z, labels, got_p, losses)
    np.testing.assert_allclose(losses, logsum - z[np.arange(rows), labels], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(got_p, p, rtol=1e-12)
    core.sparse_softmax_crossentropy_backward(p, labels, scale, dz)
    np.testing.assert_allclose(dz, (p - onehot) * scale[:, None], rtol=1e-12, atol=1e-15)

    core.softmax_crossentropy_forward(z, t, got_p, losses)
    np.testing.assert_allclose(losses, -(t * (z - logsum[:, None])).sum(-1), rtol=1e-11, atol=1e-12)
    core.softmax_crossentropy_backward(p, t, scale, dz)
    np.testing.assert_allclose(dz, (p * t.sum(-1, keepdims=True) - t) * scale[:, None], rtol=1e-11, atol=1e-13)

    s = 1 / (1 + np.exp(-z))
    core.sigmoid_crossentropy_forward(z, t, got_p, losses)
    np.testing.assert_allclose(losses, -(t * np.log(s) + (1 - t) * np.log(1 - s)).mean(-1), rtol=1e-9)
    np.testing.assert_allclose(got_p, s, rtol=1e-14)
    core.sigmoid_crossentropy_backward(s, t, scale, dz)
    np.testing.assert_allclose(dz, (s - t) * scale[:, None] / columns, rtol=1e-12, atol=1e-16)

    core.mean_squared_error_forward(z, t, losses)
    np.testing.assert_allclose(losses, ((z - t) ** 2).mean(-1), rtol=1e-12)
    core.mean_squared_error_backward(z, t, scale, dz)
    np.testing.assert_allclose(dz, 2 * (z - t) * scale[:, None] / columns, rtol=1e-12, atol=1e-16)
    assert core.count_correct(z, labels) == (z.argmax(-1) == labels).sum()
    assert core.total(z) == pytest.approx(z.sum(dtype=np.float64), rel=1e-12)


def test_crossentropy_of_saturated_logits_is_exact(core: ModuleType) -> None:
    z, p, losses = np.array([[200.0, -200.0]]), np.empty((1, 2)), np.empty(1)
    core.sparse_softmax_crossentropy_forward(z, np.array([1]), p, losses)
    assert losses[0] == 400
    with pytest.raises(ValueError, match=r"label 2 of row 0 is outside the 2 classes"):
        core.sparse_softmax_crossentropy_forward(z, np.array([2]), p, losses)


@pytest.mark.parametrize("size", [1, 15, 17, 40003])
@pytest.mark.parametrize("nesterov", [False, True])
def test_optimizers(core: ModuleType, size: int, nesterov: bool, rng: np.random.Generator) -> None:
    w, v, m, square = rng.standard_normal(size), np.zeros(size), np.zeros(size), np.zeros(size)
    sgd, adam, plain = w.copy(), w.copy(), w.copy()
    velocity, mean, variance = np.zeros(size), np.zeros(size), np.zeros(size)
    w2, w3 = w.copy(), w.copy()
    for t in (1, 2, 3):
        g = rng.standard_normal(size)
        v = 0.9 * v - 0.1 * g
        w = w + (0.9 * v - 0.1 * g if nesterov else v)
        m, square = 0.9 * m + 0.1 * g, 0.999 * square + 0.001 * g * g
        w2 = w2 - 0.01 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(square) + 1e-7)
        w3 = w3 - 0.1 * g
        for update in (
            lambda grad: core.sgd_update(sgd, grad, velocity, 0.1, 0.9, nesterov),
            lambda grad, t=t: core.adam_update(adam, grad, (mean, variance), 0.01, (0.9, 0.999, 1e-7), t),
            lambda grad: core.sgd_update(plain, grad, None, 0.1, 0.0, False),
        ):
            gradient = g.copy()
            update(gradient)
            assert not gradient.any()  # consumed
    np.testing.assert_allclose(sgd, w, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(adam, w2, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(plain, w3, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 15, 17, 40003])
def test_moving_average(core: ModuleType, size: int, dtype: str, rng: np.random.Generator) -> None:
    average, value = integers(rng, (size,), dtype), integers(rng, (size,), dtype)
    for momentum in (0.75, 1.0, 0.0):
        expected = momentum * average + (1 - momentum) * value
        core.moving_average_update(average, value, momentum)
        np.testing.assert_array_equal(average, expected)
    with pytest.raises(ValueError, match=f"moving_average_update: value must have {size} elements"):
        core.moving_average_update(average, np.zeros(size + 1, dtype), 0.5)
