"""Checks that every layer must pass."""

from __future__ import annotations

import numpy as np

from vivace import testing
from vivace.layers import Layer
from vivace.step import Step


def check_gradients(
    layer: Layer, x: np.ndarray, rng: np.random.Generator, mask: np.ndarray | None = None, training: bool = True
) -> None:
    """Those of the input and every trainable weight are central differences, and dense; without the former, none."""
    testing.check_gradients(layer, x, mask=mask, training=training, seed=int(rng.integers(1000)), rtol=2e-5)
    step = Step(training)
    step.mask = mask
    y, saved = layer.forward(x, step)
    dx = layer.backward(y.copy(), saved, step)
    assert dx is not None
    assert dx.flags.c_contiguous
    step.start().mask = mask
    y, saved = layer.forward(x, step)
    assert layer.backward(y.copy(), saved, step, input_gradient=False) is None or not layer.trainable_weights
    for parameter in layer.weights:
        parameter.gradient.fill(0)


def output(layer: Layer, x: np.ndarray, training: bool = False, mask: np.ndarray | None = None) -> np.ndarray:
    """What the layer makes of x, built for it on the first call; checks the announced shape."""
    shape = layer.build_once((None, *x.shape[1:]))
    step = Step(training)
    step.mask = mask
    y, _ = layer.forward(x, step)
    assert y.shape[1:] == tuple(size if size is not None else y.shape[i + 1] for i, size in enumerate(shape[1:]))
    assert y.flags.c_contiguous
    return y.copy()
