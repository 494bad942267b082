"""Reshaping, activation and regularization layers: against NumPy, gradients, training and inference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import distinct, numeric_gradient
from layer_checks import check_gradients, output
from vivace.layers import (
    ELU,
    ActivityRegularization,
    AdaptiveAveragePooling1D,
    AdaptiveAveragePooling3D,
    AdaptiveMaxPooling2D,
    AdaptiveMaxPooling3D,
    AlphaDropout,
    Conv3D,
    Cropping1D,
    Cropping2D,
    Cropping3D,
    Dense,
    GaussianDropout,
    GaussianNoise,
    Identity,
    Input,
    Lambda,
    LeakyReLU,
    MaxPooling3D,
    Permute,
    PReLU,
    ReLU,
    Reshape,
    Softmax,
    SpatialDropout1D,
    SpatialDropout2D,
    UpSampling1D,
    UpSampling2D,
    UpSampling3D,
    ZeroPadding1D,
    ZeroPadding2D,
    ZeroPadding3D,
)
from vivace.models import Sequential
from vivace.optimizers import SGD
from vivace.step import Step

F64: dict[str, Any] = {"dtype": "float64"}


def square(x: np.ndarray, power: int = 2) -> np.ndarray:
    return x**power


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: Reshape((3, -1), **F64), (2, 6, 2)),
        (lambda: Permute((2, 3, 1), **F64), (2, 3, 4, 2)),
        (lambda: ZeroPadding1D((1, 2), **F64), (2, 3, 2)),
        (lambda: AdaptiveAveragePooling1D(3, **F64), (2, 7, 2)),
        (lambda: AdaptiveMaxPooling2D((2, 3), data_format="channels_first", **F64), (2, 2, 5, 4)),
        (lambda: AdaptiveAveragePooling3D(2, **F64), (1, 3, 2, 3, 2)),
        (lambda: AdaptiveMaxPooling3D((2, 1, 4), **F64), (1, 3, 2, 3, 2)),
        (lambda: ZeroPadding2D(((0, 1), (2, 1)), **F64), (2, 2, 3, 2)),
        (lambda: ZeroPadding2D((1, 2), data_format="channels_first", **F64), (2, 2, 3, 2)),
        (lambda: ZeroPadding3D(1, **F64), (1, 2, 1, 2, 2)),
        (lambda: Cropping1D(1, **F64), (2, 4, 2)),
        (lambda: Cropping2D(((0, 1), (2, 0)), data_format="channels_first", **F64), (2, 2, 3, 3)),
        (lambda: Cropping3D(((1, 0), (0, 0), (0, 1)), **F64), (1, 2, 2, 2, 2)),
        (lambda: UpSampling1D(3, **F64), (2, 3, 2)),
        (lambda: UpSampling2D((2, 3), **F64), (2, 2, 3, 2)),
        (lambda: UpSampling2D((2, 3), interpolation="bilinear", **F64), (2, 3, 2, 2)),
        (lambda: UpSampling2D(2, "channels_first", "bilinear", **F64), (1, 2, 1, 3)),
        (lambda: UpSampling3D((1, 2, 2), **F64), (1, 2, 2, 1, 2)),
        (lambda: ReLU(**F64), (3, 7)),
        (lambda: ReLU(0.2, 0.1, 0.05, **F64), (3, 20)),
        (lambda: LeakyReLU(**F64), (3, 7)),
        (lambda: PReLU(**F64), (3, 7)),
        (lambda: PReLU(shared_axes=[1, 2], **F64), (2, 3, 2, 4)),
        (lambda: PReLU(shared_axes=[2], **F64), (2, 3, 2, 4)),
        (lambda: PReLU(shared_axes=[1, 3], **F64), (2, 3, 2, 4)),
        (lambda: PReLU(shared_axes=[1, 2, 3], **F64), (2, 3, 2, 4)),
        (lambda: ELU(0.7, **F64), (3, 7)),
        (lambda: Softmax(**F64), (3, 7)),
        (lambda: Softmax(axis=1, **F64), (2, 4, 3)),
        (lambda: Softmax(axis=(1, 3), **F64), (2, 2, 3, 2)),
        (lambda: Identity(**F64), (2, 3)),
        (lambda: Lambda(square, gradient=lambda x, y, dy: 2 * x * dy, **F64), (2, 3)),
    ],
)
def test_gradients(layer: Any, shape: tuple[int, ...], rng: Any) -> None:
    check_gradients(layer(), distinct(rng, shape, "float64") * 3, rng)


def test_shapes_and_values(rng: Any) -> None:
    x = rng.standard_normal((2, 4, 6, 3)).astype("f4")
    first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    cases = [
        (Reshape((-1, 9)), x, x.reshape(2, 8, 9)),
        (Permute((3, 1, 2)), x, first),
        (ZeroPadding2D(((1, 0), (2, 3))), x, np.pad(x, ((0, 0), (1, 0), (2, 3), (0, 0)))),
        (ZeroPadding2D(2, "channels_first"), first, np.pad(first, ((0, 0), (0, 0), (2, 2), (2, 2)))),
        (ZeroPadding1D((2, 1)), x[0], np.pad(x[0], ((0, 0), (2, 1), (0, 0)))),
        (ZeroPadding3D((1, 0, 2)), x[None], np.pad(x[None], ((0, 0), (1, 1), (0, 0), (2, 2), (0, 0)))),
        (Cropping2D(((1, 2), (0, 3))), x, x[:, 1:2, :3]),
        (Cropping2D(1, "channels_first"), first, first[:, :, 1:-1, 1:-1]),
        (Cropping1D((1, 3)), x[0], x[0][:, 1:3]),
        (Cropping3D((0, 1, 2)), x[None], x[None][:, :, 1:-1, 2:-2]),
        (UpSampling1D(2), x[0], x[0].repeat(2, 1)),
        (UpSampling2D((3, 2)), x, x.repeat(3, 1).repeat(2, 2)),
        (UpSampling2D(2, "channels_first"), first, first.repeat(2, 2).repeat(2, 3)),
        (UpSampling3D((2, 1, 3)), x[None], x[None].repeat(2, 1).repeat(3, 3)),
        (Lambda(square, arguments={"power": 3}), x, x**3),
        (Lambda(lambda a: a.sum(-1)), x, x.sum(-1)),
    ]
    for layer, data, expected in cases:
        np.testing.assert_array_equal(output(layer, np.ascontiguousarray(data)), expected, err_msg=layer.name)


def test_bilinear_upsampling_interpolates_between_centres() -> None:
    y = output(UpSampling2D((1, 2), interpolation="bilinear"), np.array([0, 4, 8], "f4").reshape(1, 1, 3, 1))
    np.testing.assert_allclose(y.ravel(), [0, 1, 3, 5, 7, 8])


def test_activations() -> None:
    x = np.array([[-3, -1, -0.5, 0, 0.5, 2, 7, np.nan]], "f4")
    np.testing.assert_allclose(output(ReLU(6, 0.5, 1), x), [[-2, -1, -0.75, -0.5, -0.25, 2, 6, np.nan]])
    np.testing.assert_allclose(output(ReLU(), x), [[0, 0, 0, 0, 0.5, 2, 7, np.nan]])
    np.testing.assert_allclose(output(LeakyReLU(), x), [[-0.9, -0.3, -0.15, 0, 0.5, 2, 7, np.nan]], rtol=1e-6)
    np.testing.assert_allclose(
        output(ELU(2), x)[0, :4], [2 * np.expm1(-3), 2 * np.expm1(-1), 2 * np.expm1(-0.5), 0], rtol=1e-6
    )
    layer = PReLU("ones", shared_axes=1)
    np.testing.assert_array_equal(output(layer, x), x)
    assert [p.shape for p in layer.weights] == [(1,)]


def test_a_masked_softmax(rng: Any) -> None:
    x, mask = rng.standard_normal((2, 5)), np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0]], "u1")
    y = output(Softmax(**F64), x, mask=mask)
    e = np.exp(x[0]) * mask[0]
    np.testing.assert_allclose(y, [e / e.sum(), np.zeros(5)], rtol=1e-12)
    check_gradients(Softmax(**F64), x, rng, mask)


@pytest.mark.parametrize(("layer", "shape"), [(SpatialDropout1D, (40, 5, 30)), (SpatialDropout2D, (40, 2, 3, 30))])
def test_spatial_dropout_drops_whole_channels(layer: Any, shape: Any) -> None:
    drop, x = layer(0.4, seed=3), np.ones(shape, "f4")
    np.testing.assert_array_equal(output(drop, x), x)
    step = Step(True)
    y, saved = drop.forward(x, step)
    assert (y == y[(slice(None), *(slice(0, 1),) * (len(shape) - 2))]).all()
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.6], rtol=1e-6)
    assert abs((y != 0).mean() - 0.6) < 0.06
    np.testing.assert_array_equal(drop.backward(np.ones_like(x), saved, step), y)


def test_noise(rng: Any) -> None:
    x = np.full((300, 300), 2.0, "f4")
    for layer, mean, deviation in (
        (GaussianNoise(0.5, seed=1), 2, 0.5),
        (GaussianDropout(0.2, seed=1), 2, 2 * 0.5),
    ):
        np.testing.assert_array_equal(output(layer, x), x)
        y = output(layer, x, True)
        assert abs(y.mean() - mean) < 0.02
        assert abs(y.std() - deviation) < 0.02
    x = rng.standard_normal((300, 300)).astype("f4")
    y = output(AlphaDropout(0.3, seed=1), x, True)
    assert abs(y.mean()) < 0.02
    assert abs(y.std() - 1) < 0.02
    lowest = -1.6732632423543772 * 1.0507009873554805  # of selu
    scale = (0.7 * (1 + 0.3 * lowest**2)) ** -0.5
    dropped = np.isclose(y, scale * lowest * 0.7)
    assert abs(dropped.mean() - 0.3) < 0.01
    np.testing.assert_allclose(y[~dropped], scale * (x[~dropped] - lowest * 0.3), rtol=1e-4, atol=1e-5)
    for layer in (GaussianDropout(0.3), AlphaDropout(0.3)):  # y = slope * x + one of two constants
        step = Step(True)
        y, saved = layer.forward(x, step)
        slope = layer.backward(np.ones_like(x), saved, step)
        assert slope is not None
        assert len(np.unique((y - slope * x).round(3) + 0.0)) <= 2


def test_activity_regularization_enters_the_loss_and_the_gradient(rng: Any) -> None:
    x, y = rng.standard_normal((6, 4)), rng.standard_normal((6, 3))
    model = Sequential([Input((4,), **F64), Dense(3, **F64), ActivityRegularization(0.1, 0.2, **F64)])
    model.compile(SGD(0.5), "mse")
    kernel, bias = model.get_weights()

    def loss() -> float:
        z = x @ kernel + bias
        return float(((z - y) ** 2).mean() + (0.1 * np.abs(z).sum() + 0.2 * (z * z).sum()) / 6)

    assert model.evaluate(x, y, verbose=0) == pytest.approx(loss(), rel=1e-12)
    expected = kernel - 0.5 * numeric_gradient(loss, kernel)
    model.train_on_batch(x, y)
    np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Reshape((2, -1, -1)), "at most one -1"),
        (lambda: Reshape((4, 4)).build_once((None, 3, 5)), "does not fit the 15 elements"),
        (lambda: Permute((1, 3)), "dims must hold each of 1 ... 2 once"),
        (lambda: ZeroPadding2D((1, 2, 3)), "padding must be an integer >= 0, 2 of them or 2 pairs"),
        (lambda: Cropping1D((2, 2)).build_once((None, 4, 1)), "leaves nothing of shape"),
        (lambda: UpSampling2D(0), "size must be an integer >= 1"),
        (lambda: UpSampling2D(2, interpolation="cubic"), "lanczos3, lanczos5, received 'cubic'"),
        (lambda: ReLU(negative_slope=-1), "negative_slope must not be negative, received -1"),
        (lambda: Softmax(3).build_once((None, 2)), "is out of bounds"),
        (lambda: SpatialDropout1D(1.5), r"rate must lie in \[0, 1\], received 1.5"),
        (lambda: ActivityRegularization(-1.0), "l1 and l2 must not be negative"),
        (lambda: GaussianNoise(-1.0), "stddev must not be negative"),
    ],
)
def test_bad_input(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_ways_follow_attributes(rng: Any) -> None:
    """What a layer has worked out for a shape is worked out again after one of its attributes has changed."""
    x = rng.standard_normal((2, 6, 6, 6, 3)).astype("f4")
    for layer, name, value, shape in (
        (MaxPooling3D(2), "strides", (1, 1, 1), (2, 5, 5, 5, 3)),
        (AdaptiveMaxPooling3D(2), "output_size", (1, 2, 3), (2, 1, 2, 3, 3)),
        (Conv3D(2, 3), "padding", "same", (2, 6, 6, 6, 2)),
        (ZeroPadding3D(1), "padding", ((0, 0), (1, 0), (2, 2)), (2, 6, 7, 10, 3)),
        (UpSampling3D(2), "size", (1, 3, 1), (2, 6, 18, 6, 3)),
    ):
        layer(x)
        setattr(layer, name, value)
        assert layer(x).shape == shape, name
