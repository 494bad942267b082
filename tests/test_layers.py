"""Layers and models: gradients by finite differences in float64, shapes, weights and names as in Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import distinct, numeric_gradient
from vivace import initializers, layers
from vivace.layers import (
    Activation,
    AveragePooling2D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    Layer,
    MaxPooling2D,
)
from vivace.models import Sequential
from vivace.step import Step

F64: dict[str, Any] = {"dtype": "float64"}


def check_gradients(layer: Layer, x: np.ndarray, rng: np.random.Generator) -> None:
    """Compare backward with central differences of sum(y * dy) for the input and every weight."""
    layer.build_once((None, *x.shape[1:]))
    for parameter in layer.weights:  # no zeros: a bias at 0 would hide mistakes
        parameter.value[...] = rng.standard_normal(parameter.shape) * 0.5
    step = Step(training=True)
    y, saved = layer.forward(x, step.start())
    dy = rng.standard_normal(y.shape)
    dx = layer.backward(dy.copy(), saved, step)
    assert dx is not None
    gradients = [dx.copy(), *(p.gradient.copy() for p in layer.weights)]

    def loss() -> float:
        return float((layer.forward(x, Step(training=True))[0] * dy).sum())

    for array, gradient in zip([x, *(p.value for p in layer.weights)], gradients, strict=True):
        np.testing.assert_allclose(gradient, numeric_gradient(loss, array), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: Dense(4, "tanh", **F64), (3, 5)),
        (lambda: Dense(3, "softmax", use_bias=False, **F64), (4, 6)),
        (lambda: Dense(2, "sigmoid", **F64), (2, 3, 4)),
        (lambda: Conv2D(3, 3, activation="relu", **F64), (2, 5, 6, 2)),
        (lambda: Conv2D(4, (2, 3), (2, 1), "same", groups=2, activation="softmax", **F64), (2, 5, 5, 2)),
        (lambda: Conv2D(2, 2, dilation_rate=2, use_bias=False, padding="same", **F64), (1, 6, 5, 3)),
        (lambda: MaxPooling2D(2, **F64), (2, 5, 5, 2)),
        (lambda: MaxPooling2D(3, 2, "same", **F64), (1, 6, 7, 3)),
        (lambda: AveragePooling2D((2, 3), 1, "same", **F64), (1, 4, 5, 2)),
        (lambda: Flatten(**F64), (2, 3, 2)),
        (lambda: Activation("sigmoid", **F64), (2, 7)),
        (lambda: Activation("softmax", **F64), (3, 4)),
        (
            lambda: Sequential(
                [Conv2D(3, 2, activation="relu", **F64), MaxPooling2D(2, **F64), Flatten(**F64),
                 Sequential([Dense(5, "tanh", **F64), Dense(3, "softmax", **F64)], **F64)], **F64,
            ),
            (2, 5, 5, 2),
        ),
    ],
)  # fmt: skip
def test_gradients(layer: Any, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    check_gradients(layer(), distinct(rng, shape, "float64") * 10, rng)


def test_the_gradient_check_can_fail(rng: np.random.Generator) -> None:
    class Wrong(Dense):
        def backward_linear(self, dz: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
            dx = super().backward_linear(dz, saved, step, input_gradient)
            return None if dx is None else dx * 1.001

    with pytest.raises(AssertionError):
        check_gradients(Wrong(3, **F64), distinct(rng, (2, 4), "float64"), rng)


def test_dropout_drops_only_in_training_and_backward_repeats_the_mask(rng: np.random.Generator) -> None:
    layer, x = Dropout(0.4, seed=3), np.ones((50, 40), "float32")
    assert layer.forward(x, Step(training=False))[0] is x
    step = Step(training=True)
    y, saved = layer.forward(x, step)
    first = y.copy()
    dx = layer.backward(np.ones_like(x), saved, step)
    np.testing.assert_array_equal(dx, first)
    assert (layer.forward(x, Step(training=True))[0] != first).any()  # a new mask for every call
    again = Dropout(0.4, seed=3)
    np.testing.assert_array_equal(again.forward(x, Step(training=True))[0], first)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [5, 6, 7])
def test_output_sizes_follow_keras(padding: str, stride: int, size: int) -> None:
    expected = -(-size // stride) if padding == "same" else -(-(size - 2) // stride)
    for layer in (
        Conv2D(4, 3, stride, padding),
        MaxPooling2D(3, stride, padding),
        AveragePooling2D(3, stride, padding),
    ):
        assert layer.compute_output_shape((None, size, size, 2))[1:3] == (expected, expected)


def test_same_padding_puts_the_odd_element_last() -> None:
    layer = Conv2D(1, 2, padding="same", use_bias=False, kernel_initializer="ones")
    y = Sequential([layer])(np.arange(1, 4, dtype="float32").reshape(1, 1, 3, 1))
    np.testing.assert_array_equal(y.ravel(), [3, 5, 3])


def test_weights_have_kerass_names_order_and_shapes() -> None:
    model = Sequential([Input((9, 9, 3)), Conv2D(8, (3, 2)), Flatten(), Dense(5), Dense(2, use_bias=False)])
    assert [p.shape for p in model.weights] == [(3, 2, 3, 8), (8,), (7 * 8 * 8, 5), (5,), (5, 2)]
    assert [p.name for p in model.weights] == ["kernel", "bias", "kernel", "bias", "kernel"]


def test_names_count_up_per_class() -> None:
    a, b = Dense(1), Dense(1)
    number = int(a.name.removeprefix("dense").removeprefix("_") or 0)
    assert b.name == f"dense_{number + 1}"
    assert layers.MaxPooling2D().name.startswith("max_pooling2d")


@pytest.mark.parametrize(
    ("name", "variance"),
    [("glorot_uniform", 2 / 500), ("glorot_normal", 2 / 500), ("he_uniform", 2 / 300), ("he_normal", 2 / 300),
     ("lecun_uniform", 1 / 300), ("lecun_normal", 1 / 300)],
)  # fmt: skip
def test_initializers_have_their_variance(name: str, variance: float) -> None:
    values = initializers.get(name)((300, 200), "float64")
    assert abs(values.mean()) < 4 * np.sqrt(variance / values.size)
    assert abs(values.var() / variance - 1) < 0.03


def test_initializer_seeds() -> None:
    fixed = initializers.GlorotUniform(seed=5)
    np.testing.assert_array_equal(fixed((4, 4)), fixed((4, 4)))
    drawn = initializers.GlorotUniform()
    assert (drawn((4, 4)) != drawn((4, 4))).any()
    assert np.abs(initializers.TruncatedNormal(stddev=1.0)((10000,))).max() <= 2
    q = initializers.Orthogonal()((3, 3, 2, 5), "float64").reshape(18, 5)
    np.testing.assert_allclose(q.T @ q, np.eye(5), atol=1e-12)
    assert initializers.fans((3, 3, 16, 32)) == (144, 288)
