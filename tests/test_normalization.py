"""Normalization: kernels against NumPy, gradients, running statistics, masks."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from layer_checks import check_gradients, output
from vivace import config
from vivace.layers import (
    BatchNormalization,
    Dense,
    Embedding,
    GroupNormalization,
    Input,
    LayerNormalization,
    RMSNormalization,
    TimeDistributed,
    UnitNormalization,
)
from vivace.models import Sequential
from vivace.step import Step

F64: dict[str, Any] = {"dtype": "float64"}
SHAPES = [
    (1, 1, 1, 1),
    (1, 37, 19, 19),
    (3, 25, 32, 8),
    (2, 600, 33, 11),
    (4, 1, 6, 1),
    (1, 5000, 7, 7),
    (2, 9, 40, 40),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_group_norm(core: ModuleType, shape: tuple[int, ...], masked: bool, dtype: str, rng: Any) -> None:
    samples, rows, channels, groups = shape
    x = rng.standard_normal((samples, rows, channels)) * 2 + 3
    mask = (rng.random((samples, rows)) < 0.6).astype("u1") if masked else None
    counts = np.ones((samples, rows)) if mask is None else mask.astype("f8")
    split = x.reshape(samples, rows, groups, -1)
    weight = counts[:, :, None, None]
    m = np.maximum(counts.sum(1) * (channels // groups), 1)[:, None]
    mean = (split * weight).sum((1, 3)) / m
    variance = (weight * (split - mean[:, None, :, None]) ** 2).sum((1, 3)) / m
    gamma, beta, dy = (rng.standard_normal(s) for s in (channels, channels, x.shape))
    scale = 1 / np.sqrt(variance + 0.1)
    n = ((split - mean[:, None, :, None]) * scale[:, None, :, None]).reshape(x.shape)
    xs, y = x.astype(dtype), np.empty(x.shape, dtype)
    args = [a.astype(dtype) for a in (mean, variance)]
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    core.group_norm_forward(shape, xs, *args, 0.1, gamma.astype(dtype), beta.astype(dtype), y)
    np.testing.assert_allclose(y, n * gamma + beta, rtol=20 * tolerance, atol=20 * tolerance)

    statistics, moving = np.empty((2, samples, groups), dtype), rng.standard_normal((2, samples, groups)).astype(dtype)
    residual, before = rng.standard_normal(x.shape).astype(dtype), moving.copy()
    core.group_norm_train(
        shape, xs, mask, statistics, 0.1, gamma.astype(dtype), beta.astype(dtype), y, residual, True, *moving, 0.9
    )
    np.testing.assert_allclose(y, np.maximum(n * gamma + beta + residual, 0), rtol=30 * tolerance, atol=30 * tolerance)
    for got, now, then, expected in zip(statistics, moving, before, (mean, variance), strict=True):
        np.testing.assert_allclose(got, expected, rtol=10 * tolerance, atol=tolerance)
        np.testing.assert_allclose(now, 0.9 * then + 0.1 * expected, rtol=10 * tolerance, atol=tolerance)
    core.group_norm_train(shape, xs, mask, statistics, 0.1, None, None, y)
    np.testing.assert_allclose(y, n, rtol=20 * tolerance, atol=20 * tolerance)

    g = (dy * gamma).reshape(split.shape)
    ns = n.reshape(split.shape)
    k = scale[:, None, :, None]
    pull = (g.sum((1, 3)) / m)[:, None, :, None] + ns * ((g * ns).sum((1, 3)) / m)[:, None, :, None]
    for constant in (False, True):
        dx, dgamma, dbeta = np.empty(x.shape, dtype), np.ones(channels, dtype), np.ones(channels, dtype)
        core.group_norm_backward(
            shape, xs, mask, *args, 0.1, gamma.astype(dtype), dy.astype(dtype), constant, dx, dgamma, dbeta
        )
        expected = (k * (g - (0 if constant else weight * pull))).reshape(x.shape)
        np.testing.assert_allclose(dx, expected, rtol=1e2 * tolerance, atol=1e2 * tolerance)
        np.testing.assert_allclose(dgamma, 1 + (dy * n).sum((0, 1)), rtol=1e2 * tolerance, atol=1e2 * tolerance)
        np.testing.assert_allclose(dbeta, 1 + dy.sum((0, 1)), rtol=1e2 * tolerance, atol=1e2 * tolerance)


def test_the_variance_does_not_cancel(core: ModuleType, rng: Any) -> None:
    """The mean square minus the squared mean would leave nothing of it."""
    x = (rng.standard_normal((20_000, 3)) * 0.01 + 100).astype("f4")
    statistics, y = np.empty((2, 1, 3), "f4"), np.empty_like(x)
    core.group_norm_train((1, 20_000, 3, 3), x, None, statistics, 0.0, None, None, y)
    np.testing.assert_allclose(statistics[1, 0], x.astype("f8").var(0), rtol=1e-3)


@pytest.mark.parametrize("kind", ["layer", "rms", "deviation"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 3), (7, 17), (3, 64), (90, 257), (2, 20_000)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_row_norm(core: ModuleType, kind: str, rows: int, columns: int, dtype: str, rng: Any) -> None:
    x, dy = rng.standard_normal((rows, columns)) + 1, rng.standard_normal((rows, columns))
    gamma, beta = rng.standard_normal(columns), rng.standard_normal(columns)
    mean = x.mean(1, keepdims=True) * (kind != "rms")
    scale = 1 / np.sqrt(((x - mean) ** 2).mean(1, keepdims=True) + 0.01)
    centre = mean * (kind == "layer")
    n, g = (x - centre) * scale, dy * gamma
    y, dx = np.empty(x.shape, dtype), np.empty(x.shape, dtype)
    statistics = np.empty((2, rows), dtype)
    xs, dys, gammas, betas = (a.astype(dtype) for a in (x, dy, gamma, beta))
    tolerance = 1e-4 if dtype == "float32" else 1e-11
    core.row_norm_forward(kind, columns, xs, gammas, betas, 0.01, y, statistics)
    np.testing.assert_allclose(y, n * gamma + beta, rtol=tolerance, atol=tolerance)
    core.row_norm_forward(kind, columns, xs, None, None, 0.01, y, statistics)
    np.testing.assert_allclose(y, n, rtol=tolerance, atol=tolerance)
    dgamma, dbeta = np.ones(columns, dtype), np.ones(columns, dtype)
    core.row_norm_backward(kind, columns, xs, gammas, statistics, dys, dx, dgamma, dbeta)
    pull = (x - mean) * scale**2 * (g * (x - centre)).mean(1, keepdims=True)
    expected = scale * (g - (g.mean(1, keepdims=True) if kind == "layer" else 0) - pull)
    np.testing.assert_allclose(dx, expected, rtol=tolerance, atol=10 * tolerance)
    np.testing.assert_allclose(dgamma, 1 + (dy * n).sum(0), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dbeta, 1 + dy.sum(0), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: BatchNormalization(**F64), (7, 3)),
        (lambda: BatchNormalization(**F64), (3, 4, 2, 3)),
        (lambda: BatchNormalization(axis=1, scale=False, epsilon=0.1, **F64), (3, 4, 2)),
        (lambda: BatchNormalization(center=False, **F64), (6, 2)),
        (lambda: LayerNormalization(**F64), (3, 5)),
        (lambda: LayerNormalization(axis=(1, 2), **F64), (2, 3, 4)),
        (lambda: LayerNormalization(axis=[1], center=False, **F64), (2, 3, 4)),
        (lambda: LayerNormalization(rms_scaling=True, **F64), (3, 5)),
        (lambda: RMSNormalization(**F64), (2, 3, 5)),
        (lambda: RMSNormalization(axis=(1, 3), **F64), (2, 3, 2, 2)),
        (lambda: GroupNormalization(2, **F64), (2, 3, 2, 4)),
        (lambda: GroupNormalization(-1, scale=False, **F64), (2, 5, 3)),
        (lambda: GroupNormalization(3, axis=1, **F64), (2, 6, 4)),
        (lambda: GroupNormalization(2, **F64), (3, 4)),
        (lambda: UnitNormalization(**F64), (3, 4)),
        (lambda: UnitNormalization(axis=1, **F64), (2, 3, 4)),
    ],
)
def test_gradients(layer: Any, shape: tuple[int, ...], rng: Any) -> None:
    check_gradients(layer(), rng.standard_normal(shape) + 0.3, rng)


def test_gradients_of_batch_normalization_behind_a_mask_and_frozen(rng: Any) -> None:
    mask = np.array([[1, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 0]], "u1")
    check_gradients(BatchNormalization(**F64), rng.standard_normal((3, 4, 5)), rng, mask)
    check_gradients(BatchNormalization(**F64), rng.standard_normal((3, 4, 5)), rng, training=False)


def test_running_statistics(rng: Any) -> None:
    layer, x = BatchNormalization(momentum=0.75, **F64), rng.standard_normal((50, 4)) * 3 + 1
    y = output(layer, x, training=True)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(0), x.var(0) / (x.var(0) + 1e-3), rtol=1e-10)
    np.testing.assert_allclose(layer.moving_mean.value, 0.25 * x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(layer.moving_variance.value, 0.75 + 0.25 * x.var(0), rtol=1e-12)
    expected = (x - layer.moving_mean.value) / np.sqrt(layer.moving_variance.value + 1e-3)
    np.testing.assert_allclose(output(layer, x), expected, rtol=1e-12)
    layer.trainable = False
    kept = layer.moving_mean.value.copy()
    np.testing.assert_allclose(output(layer, x, training=True), expected, rtol=1e-12)
    np.testing.assert_array_equal(layer.moving_mean.value, kept)


def test_masked_steps_do_not_enter_the_statistics(rng: Any) -> None:
    layer, x = BatchNormalization(momentum=0.0, **F64), rng.standard_normal((4, 6, 3))
    mask = (rng.random((4, 6)) < 0.5).astype("u1")
    output(layer, x, training=True, mask=mask)
    np.testing.assert_allclose(layer.moving_mean.value, x[mask == 1].mean(0), rtol=1e-12)
    np.testing.assert_allclose(layer.moving_variance.value, x[mask == 1].var(0), rtol=1e-12)


def test_zeros_have_no_direction() -> None:
    x = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 4.0]], "f4")
    np.testing.assert_allclose(output(UnitNormalization(), x), [[0, 0, 0], [0.6, 0, 0.8]], rtol=1e-6)


def test_weights_have_kerass_names_order_and_shapes() -> None:
    model = Sequential([Input((4, 6)), BatchNormalization(), LayerNormalization(axis=(1, 2)), RMSNormalization(),
                        GroupNormalization(3)])  # fmt: skip
    names = [p.name for p in model.weights]
    assert names == [
        "gamma", "beta", "moving_mean", "moving_variance", "gamma", "beta", "scale", "gamma", "beta"
    ]  # fmt: skip
    assert [p.shape for p in model.weights] == [(6,)] * 4 + [(4, 6)] * 2 + [(6,)] * 3
    assert len(model.trainable_weights) == 7


def test_training_moves_the_statistics_and_not_by_the_optimizer(rng: Any) -> None:
    model = Sequential([Input((5,)), Dense(8, "relu"), BatchNormalization(), Dense(2, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    x = rng.standard_normal((256, 5)).astype("f4")
    y = (x[:, 0] > 0).astype(int)
    model.fit(x, y, epochs=40, batch_size=32, verbose=0)
    hidden = model.layers[0].forward(x, Step(False))[0]
    bn = model.layers[1]
    assert isinstance(bn, BatchNormalization)
    np.testing.assert_allclose(bn.moving_mean.value, hidden.mean(0), atol=0.15)
    assert (model.predict(x, verbose=0).argmax(1) == y).mean() > 0.9


def test_a_layer_applied_to_every_step_does_not_see_the_mask_of_the_steps(rng: Any) -> None:
    model = Sequential([Input((6,)), Embedding(9, 4, mask_zero=True), TimeDistributed(BatchNormalization()), Dense(1)])
    model.compile("sgd", "mse")
    x = rng.integers(0, 9, (8, 6))
    model.fit(x, rng.standard_normal((8, 6, 1)), verbose=0)
    assert model.predict(x, verbose=0).shape == (8, 6, 1)


@pytest.mark.parametrize("shape", [(64, 28, 28, 19), (500, 64)])
def test_threads_do_not_change_a_bit(shape: tuple[int, ...], rng: Any) -> None:
    x, dy = rng.standard_normal(shape).astype("f4"), rng.standard_normal(shape).astype("f4")
    kept, results = config.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            config.set_num_threads(threads)
            bits = []
            for layer in (BatchNormalization(), LayerNormalization(), GroupNormalization(shape[-1])):
                layer.build_once(shape)
                step = Step(True)
                y, saved = layer.forward(x, step)
                bits.append(y.tobytes())
                bits.append(layer.backward(dy.copy(), saved, step).tobytes())  # type: ignore[union-attr]
                bits.extend(p.gradient.tobytes() for p in layer.weights)
            results.append(bits)
    finally:
        config.set_num_threads(kept)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: BatchNormalization(axis=4).build_once((None, 3)), "axis 4 is out of bounds for shape"),
        (lambda: BatchNormalization(epsilon=-1), "epsilon must not be negative, received -1"),
        (lambda: GroupNormalization(3).build_once((None, 4)), "groups=3 must divide the input's 4 channels"),
        (lambda: GroupNormalization(0), "groups must be an integer >= 1, or -1, received 0"),
        (lambda: LayerNormalization().build_once((None, None)), "must have known sizes"),
        (lambda: LayerNormalization(axis="x"), "axis must be an integer or several, received 'x'"),
    ],
)
def test_bad_input(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()
