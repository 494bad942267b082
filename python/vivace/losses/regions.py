"""Losses of overlapping regions: Dice and Tversky."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._typing import Array
from ..step import Step
from .base import EPSILON, Loss


class Tversky(Loss):
    """1 - I / (I + alpha P + beta N + 1e-7), where I = sum(t y), P = sum(t (1 - y)), N = sum((1 - t) y).

    (Salehi et al. 2017; alpha and beta stand where Keras has them.)

    Args:
        alpha, beta: 0.5 each.
        axis: what the sums run over; None, all: the whole batch has one loss.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "tversky",
        axis: int | Sequence[int] | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.alpha, self.beta = alpha, beta
        self.axis = axis if axis is None or isinstance(axis, int) else tuple(axis)

    def _parts(self, y: Array, t: Array) -> tuple[Array, Array]:
        """Numerator and denominator of the index, with the summed axes kept."""

        def total(x: Array) -> Array:
            return np.asarray(x.sum(self.axis, keepdims=True))

        both = total(t * y)
        return both, both + total((1 - y) * t) * self.alpha + total(y * (1 - t)) * self.beta + EPSILON

    def _slopes(self, t: Array) -> tuple[Any, Any]:
        """Derivatives of numerator and denominator by the prediction."""
        return t, t - t * self.alpha + (1 - t) * self.beta

    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        above, below = self._parts(y, targets)
        return np.asarray((1 - above / below).squeeze(self.axis))

    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        above, below = self._parts(y, targets)
        up, down = self._slopes(targets)
        dy = step.empty(y.shape, y.dtype)
        dy[...] = (above * down - up * below) / np.square(below) * scale.reshape(below.shape)
        return dy


class Dice(Tversky):
    """1 - 2 sum(t y) / (sum(t) + sum(y) + 1e-7) (Milletari et al. 2016).

    axis: what the sums run over; None, all: the whole batch has one loss.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "dice",
        axis: int | Sequence[int] | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(reduction=reduction, name=name, axis=axis, dtype=dtype)

    def _parts(self, y: Array, t: Array) -> tuple[Array, Array]:
        both = 2 * np.asarray((t * y).sum(self.axis, keepdims=True))
        return both, t.sum(self.axis, keepdims=True) + y.sum(self.axis, keepdims=True) + EPSILON

    def _slopes(self, t: Array) -> tuple[Any, Any]:
        return 2 * t, 1
