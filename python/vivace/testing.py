"""Checks for layers of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._typing import Array
from .layers import Layer
from .layers.checks import step_masks
from .step import Step


def check_gradients(
    layer: Layer,
    inputs: Any,
    *,
    training: bool = True,
    mask: Any = None,
    seed: int = 0,
    rtol: float = 1e-5,
    atol: float = 1e-7,
) -> None:
    """Compare `backward` with central differences of `forward`, for the inputs and every trainable weight of a layer.

    The weights are drawn anew for the check, since zeros hide mistakes, and are afterwards what they were.

    Args:
        layer: made with dtype="float64"; it is built for the inputs unless it is built already.
        inputs: an array (batch, ...) or a list of several; or the shape of one sample, (steps, features) say, or a list
            of shapes: then inputs are drawn, for a batch of 3.
        training: run the layer as in training. Random layers are checked with False, or not at all.
        mask: as of a call of the layer.
        seed: of the numbers drawn.
        rtol, atol: how far the gradients may be apart, relative to the expected one and absolute.

    Raises:
        AssertionError: naming the input or weight, the index in it, the gradient expected there and the one received;
            or what else of the contract of a layer does not hold: an announced shape, a gradient that is overwritten
            where it should be added to, outputs that differ from pass to pass.
        ValueError: the layer is not of dtype float64.
    """
    if layer.dtype != "float64":
        raise ValueError(f"check_gradients: {layer.name} must be of dtype float64, made with dtype='float64'")
    rng = np.random.default_rng(seed)
    xs, several = _inputs(inputs, layer, rng)
    shapes: Any = [(None, *x.shape[1:]) for x in xs]
    announced = layer.build_once(shapes if several else shapes[0])
    weights = layer.trainable_weights
    kept = [(p, p.value.copy()) for p in layer.weights]
    for parameter in weights:
        parameter.value[...] = rng.standard_normal(parameter.shape) * 0.5
    try:
        _check(_Pass(layer, xs, several, training, mask), announced, weights, rng, rtol, atol)
    finally:
        for parameter, value in kept:
            parameter.value[...] = value
            parameter.gradient.fill(0)


def _inputs(given: Any, layer: Layer, rng: np.random.Generator) -> tuple[list[Array], bool]:
    def one(x: Any) -> Array:
        if isinstance(x, tuple):
            return rng.standard_normal((3, *x))
        return np.array(x, layer.input_dtype or "float64", order="C")

    several = isinstance(given, list) and all(isinstance(x, (tuple, np.ndarray)) for x in given)
    return [one(x) for x in given] if several else [one(given)], several


class _Pass:
    """Forward passes of one layer over one set of inputs."""

    def __init__(self, layer: Layer, xs: list[Array], several: bool, training: bool, mask: Any) -> None:
        self.layer, self.xs, self.several, self.training, self.mask = layer, xs, several, training, mask

    def forward(self, step: Step | None = None) -> tuple[list[Array], Any, float, bool]:
        """(outputs, saved, penalty, whether the outputs came as a list); copies of the outputs."""
        step = step or Step(self.training)
        step.mask = None if self.mask is None else step_masks(self.mask, self.several)
        x: Any = list(self.xs) if self.several else self.xs[0]
        y: Any
        y, saved = self.layer.forward(x, step)
        ys = y if isinstance(y, list) else [y]
        return [np.array(one) for one in ys], saved, step.penalty, isinstance(y, list)

    def backward(self, dys: Sequence[Array]) -> list[Array] | None:
        """Copies of the inputs' gradients; None for integers."""
        step = Step(self.training)
        _, saved, _, listed = self.forward(step)
        dy: Any = [d.copy() for d in dys]
        dx: Any = self.layer.backward(dy if listed else dy[0], saved, step)
        return None if dx is None else [np.array(d) for d in (dx if isinstance(dx, list) else [dx])]


def _check(run: _Pass, announced: Any, weights: list[Any], rng: np.random.Generator, rtol: float, atol: float) -> None:
    name, (ys, _, _, listed) = run.layer.name, run.forward()
    again = run.forward()[0]
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(ys, again, strict=True)), (
        f"{name}: two passes over the same input differ; a layer that draws numbers is checked with training=False"
    )
    for y, shape in zip(ys, announced if listed else [announced], strict=True):
        fits = len(shape) == y.ndim and all(a in (None, b) for a, b in zip(shape, y.shape, strict=True))
        assert fits, f"{name}: compute_output_shape announces {tuple(shape)}, forward returns shape {y.shape}"
    dys: list[Array] = [np.asarray(rng.standard_normal(y.shape)) for y in ys]

    def loss() -> float:
        outputs, _, penalty, _ = run.forward()
        return sum(float((y * d).sum()) for y, d in zip(outputs, dys, strict=True)) + penalty

    for parameter in weights:
        parameter.gradient.fill(0)
    dxs = run.backward(dys)
    once = [p.gradient.copy() for p in weights]
    if run.layer.input_dtype is None:
        assert dxs is not None, f"{name}: backward returns None, it must return the gradient of the input"
        for k, (x, dx) in enumerate(zip(run.xs, dxs, strict=True)):
            what = f"input {k}" if run.several else "the input"
            assert dx.shape == x.shape, f"{name}: {what} has shape {x.shape}, its gradient {dx.shape}"
            _compare(f"{name}: the gradient of {what}", x, dx, loss, rtol, atol)
    for parameter, gradient in zip(weights, once, strict=True):
        _compare(f"{name}: the gradient of {parameter.path!r}", parameter.value, gradient, loss, rtol, atol)
    run.backward(dys)
    for parameter, gradient in zip(weights, once, strict=True):
        assert np.allclose(parameter.gradient, 2 * gradient), (
            f"{name}: backward overwrites the gradient of {parameter.path!r}, it must add to it"
        )


def _compare(what: str, array: Array, received: Array, loss: Callable[[], float], rtol: float, atol: float) -> None:
    """Differences of the loss for every element of an array that it reads."""
    flat = array.reshape(-1)
    for i, got in enumerate(received.reshape(-1)):
        kept = flat[i]
        h = 1e-6 * max(1.0, abs(float(kept)))
        flat[i] = kept + h
        above = loss()
        flat[i] = kept - h
        below = loss()
        flat[i] = kept
        expected = (above - below) / (2 * h)
        if not abs(got - expected) <= atol + rtol * max(abs(expected), 1.0):
            index = tuple(int(k) for k in np.unravel_index(i, array.shape))
            raise AssertionError(f"{what} at {index}: expected {expected:.9g}, received {float(got):.9g}")
