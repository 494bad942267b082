"""Losses of numbers: squared, absolute, logarithmic and relative errors, hinges, divergences, angles."""

from __future__ import annotations

import numpy as np

from .._core import native
from .._typing import Array
from ..step import Step
from .base import EPSILON, Loss, rows_of

MEAN = "sum_over_batch_size"


class MeanSquaredError(Loss):
    """(prediction - target)^2, averaged over the last axis."""

    def __init__(
        self, reduction: str | None = MEAN, name: str = "mean_squared_error", dtype: str | None = None
    ) -> None:
        super().__init__(name, reduction, dtype)

    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        losses = rows_of(y, step)
        native.mean_squared_error_forward(y, targets, losses)
        return losses

    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        dy = step.empty(y.shape, y.dtype)
        native.mean_squared_error_backward(y, targets, scale, dy)
        return dy


class _Elementwise(Loss):
    """The mean over the last axis of a loss of every element, `of`, whose derivative by the prediction is `slope`."""

    def of(self, y: Array, t: Array) -> Array:
        raise TypeError(f"{self.name} must define of(y, t)")

    def slope(self, y: Array, t: Array) -> Array:
        raise TypeError(f"{self.name} must define slope(y, t)")

    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        return self.of(y, targets).mean(-1, out=rows_of(y, step))

    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        dy = step.empty(y.shape, y.dtype)
        return np.multiply(self.slope(y, targets), scale[..., None] / y.dtype.type(y.shape[-1]), out=dy)


class MeanAbsoluteError(_Elementwise):
    """|prediction - target|, averaged over the last axis."""

    def __init__(
        self, reduction: str | None = MEAN, name: str = "mean_absolute_error", dtype: str | None = None
    ) -> None:
        super().__init__(name, reduction, dtype)

    def of(self, y: Array, t: Array) -> Array:
        return np.abs(y - t)

    def slope(self, y: Array, t: Array) -> Array:
        return np.sign(y - t)


class MeanAbsolutePercentageError(_Elementwise):
    """100 |prediction - target| / max(|target|, 1e-7), averaged over the last axis."""

    def __init__(
        self, reduction: str | None = MEAN, name: str = "mean_absolute_percentage_error", dtype: str | None = None
    ) -> None:
        super().__init__(name, reduction, dtype)

    def of(self, y: Array, t: Array) -> Array:
        return 100 * np.abs(y - t) / np.maximum(np.abs(t), EPSILON)

    def slope(self, y: Array, t: Array) -> Array:
        return 100 * np.sign(y - t) / np.maximum(np.abs(t), EPSILON)


class MeanSquaredLogarithmicError(_Elementwise):
    """(log(1 + prediction) - log(1 + target))^2 of values raised to at least 1e-7, averaged over the last axis."""

    def __init__(
        self, reduction: str | None = MEAN, name: str = "mean_squared_logarithmic_error", dtype: str | None = None
    ) -> None:
        super().__init__(name, reduction, dtype)

    def _difference(self, y: Array, t: Array) -> Array:
        return np.log(np.maximum(y, EPSILON) + 1) - np.log(np.maximum(t, EPSILON) + 1)

    def of(self, y: Array, t: Array) -> Array:
        return np.square(self._difference(y, t))

    def slope(self, y: Array, t: Array) -> Array:
        return np.where(y >= EPSILON, 2 * self._difference(y, t) / (np.maximum(y, EPSILON) + 1), 0)


class Huber(_Elementwise):
    """e^2 / 2 for errors e up to delta, delta |e| - delta^2 / 2 beyond, averaged over the last axis (Huber 1964).

    delta: positive, 1.
    """

    def __init__(
        self, delta: float = 1.0, reduction: str | None = MEAN, name: str = "huber_loss", dtype: str | None = None
    ) -> None:
        super().__init__(name, reduction, dtype)
        if not delta > 0:
            raise ValueError(f"Huber: delta must be positive, received {delta!r}")
        self.delta = float(delta)

    def of(self, y: Array, t: Array) -> Array:
        inside = np.minimum(np.abs(y - t), self.delta)
        return inside * (np.abs(y - t) - inside / 2)

    def slope(self, y: Array, t: Array) -> Array:
        return np.clip(y - t, -self.delta, self.delta)


class LogCosh(_Elementwise):
    """log(cosh(prediction - target)), averaged over the last axis: squared error near 0, absolute error far out."""

    def __init__(self, reduction: str | None = MEAN, name: str = "log_cosh", dtype: str | None = None) -> None:
        super().__init__(name, reduction, dtype)

    def of(self, y: Array, t: Array) -> Array:
        size = np.abs(y - t)
        return size + np.log1p(np.exp(-2 * size)) - y.dtype.type(np.log(2))

    def slope(self, y: Array, t: Array) -> Array:
        return np.tanh(y - t)


class Poisson(_Elementwise):
    """prediction - target * log(prediction + 1e-7), averaged over the last axis."""

    def __init__(self, reduction: str | None = MEAN, name: str = "poisson", dtype: str | None = None) -> None:
        super().__init__(name, reduction, dtype)

    def of(self, y: Array, t: Array) -> Array:
        return y - t * np.log(y + EPSILON)

    def slope(self, y: Array, t: Array) -> Array:
        return 1 - t / (y + EPSILON)


def signed(t: Array) -> Array:
    """Targets 0 and 1 as -1 and 1; others as they are."""
    return 2 * t - 1 if ((t == 0) | (t == 1)).all() else t


class Hinge(_Elementwise):
    """max(1 - target * prediction, 0), averaged over the last axis; targets -1 and 1, or 0 and 1."""

    def __init__(self, reduction: str | None = MEAN, name: str = "hinge", dtype: str | None = None) -> None:
        super().__init__(name, reduction, dtype)

    def of(self, y: Array, t: Array) -> Array:
        return np.maximum(1 - signed(t) * y, 0)

    def slope(self, y: Array, t: Array) -> Array:
        t = signed(t)
        return np.where(t * y < 1, -t, 0)


class SquaredHinge(_Elementwise):
    """max(1 - target * prediction, 0)^2, averaged over the last axis; targets -1 and 1, or 0 and 1."""

    def __init__(self, reduction: str | None = MEAN, name: str = "squared_hinge", dtype: str | None = None) -> None:
        super().__init__(name, reduction, dtype)

    def of(self, y: Array, t: Array) -> Array:
        return np.square(np.maximum(1 - signed(t) * y, 0))

    def slope(self, y: Array, t: Array) -> Array:
        t = signed(t)
        return -2 * t * np.maximum(1 - t * y, 0)


class CategoricalHinge(Loss):
    """max(0, 1 + the largest prediction of a wrong class - the prediction of the right one); one-hot targets."""

    def __init__(self, reduction: str | None = MEAN, name: str = "categorical_hinge", dtype: str | None = None) -> None:
        super().__init__(name, reduction, dtype)

    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        wrong = ((1 - targets) * y).max(-1)
        return np.maximum(wrong - (targets * y).sum(-1) + 1, 0)

    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        dy = step.empty(y.shape, y.dtype)
        np.negative(targets, out=dy)
        worst = ((1 - targets) * y).argmax(-1)[..., None]
        at_worst = np.take_along_axis(dy, worst, -1) + 1 - np.take_along_axis(targets, worst, -1)
        np.put_along_axis(dy, worst, at_worst, -1)
        dy *= (scale * (self.forward(y, targets, step) > 0))[..., None]
        return dy


class KLDivergence(Loss):
    """sum(target * log(target / prediction)) over the last axis, of values clipped to [1e-7, 1]."""

    def __init__(self, reduction: str | None = MEAN, name: str = "kl_divergence", dtype: str | None = None) -> None:
        super().__init__(name, reduction, dtype)

    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        t, p = np.clip(targets, EPSILON, 1), np.clip(y, EPSILON, 1)
        losses: Array = (t * np.log(t / p)).sum(-1)
        return losses

    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        p = np.clip(y, EPSILON, 1)
        dy = step.empty(y.shape, y.dtype)
        dy[...] = np.where(p == y, -np.clip(targets, EPSILON, 1) / p, 0) * scale[..., None]
        return dy


class CosineSimilarity(Loss):
    """-cos of the angle between prediction and target along `axis` (-1): -1 where they point the same way."""

    def __init__(
        self, axis: int = -1, reduction: str | None = MEAN, name: str = "cosine_similarity", dtype: str | None = None
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.axis = axis

    def _unit(self, x: Array) -> tuple[Array, Array]:
        norm = np.maximum(np.sqrt(np.square(x).sum(self.axis, keepdims=True)), EPSILON)
        return x / norm, norm

    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        losses: Array = -(self._unit(targets)[0] * self._unit(y)[0]).sum(self.axis)
        return losses

    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        (u, norm), t = self._unit(y), self._unit(targets)[0]
        along = np.where(norm > EPSILON, (t * u).sum(self.axis, keepdims=True), 0) * u
        dy = step.empty(y.shape, y.dtype)
        dy[...] = (along - t) / norm * np.expand_dims(scale, self.axis)
        return dy
