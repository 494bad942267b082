"""Checks that every layer must pass."""

from __future__ import annotations

import numpy as np

from helpers import numeric_gradient
from vivace.layers import Layer
from vivace.step import Step


def check_gradients(
    layer: Layer, x: np.ndarray, rng: np.random.Generator, mask: np.ndarray | None = None, training: bool = True
) -> None:
    """Compare backward with central differences of sum(y * dy) for the input and every trainable weight."""
    layer.build_once((None, *x.shape[1:]))
    for parameter in layer.trainable_weights:  # no zeros: a bias at 0 would hide mistakes
        parameter.value[...] = rng.standard_normal(parameter.shape) * 0.5

    def forward(step: Step) -> tuple[np.ndarray, object]:
        step.mask = mask
        return layer.forward(x, step)

    step = Step(training)
    y, saved = forward(step.start())
    dy = rng.standard_normal(y.shape)
    dx = layer.backward(dy.copy(), saved, step)
    assert dx is not None
    assert dx.flags.c_contiguous
    gradients = [dx.copy(), *(p.gradient.copy() for p in layer.trainable_weights)]

    def loss() -> float:
        return float((forward(Step(training))[0] * dy).sum())

    for array, gradient in zip([x, *(p.value for p in layer.trainable_weights)], gradients, strict=True):
        np.testing.assert_allclose(gradient, numeric_gradient(loss, array), rtol=2e-5, atol=1e-7)
    assert layer.backward(dy.copy(), forward(step.start())[1], step, input_gradient=False) is None or not gradients[1:]


def output(layer: Layer, x: np.ndarray, training: bool = False, mask: np.ndarray | None = None) -> np.ndarray:
    """What the layer makes of x, built for it on the first call; checks the announced shape."""
    shape = layer.build_once((None, *x.shape[1:]))
    step = Step(training)
    step.mask = mask
    y, _ = layer.forward(x, step)
    assert y.shape[1:] == tuple(size if size is not None else y.shape[i + 1] for i, size in enumerate(shape[1:]))
    assert y.flags.c_contiguous
    return y.copy()
