"""Losses of embeddings: which samples are alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._typing import Array, BatchShape
from ..step import Step
from .base import Loss, numeric_targets


class Circle(Loss):
    """Draws embeddings of one label together and others apart, the more the worse they lie (Sun et al. 2020).

    From the cosine distances d = max(1 - y y^T, 0) of a batch's embeddings, which should have length 1, a sample's
    loss is softplus(log sum exp p + log sum exp n), where p = -gamma (margin + d) (margin - d) for the samples of its
    label and n = gamma max(1 + margin - d, 0) (1 - margin - d) for the others. A sample that lacks either has no loss,
    and does not count.

    Args:
        gamma: 80.
        margin: 0.4.
        remove_diagonal: a sample is not one of its own label's (True).
    """

    def __init__(
        self,
        gamma: float = 80.0,
        margin: float = 0.4,
        remove_diagonal: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "circle",
        dtype: str | None = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.gamma, self.margin, self.remove_diagonal = gamma, margin, remove_diagonal

    def prepare(self, y: Any, output_shape: BatchShape, dtype: Any) -> Array:
        labels = numeric_targets(self.name, y)
        if labels.ndim not in (1, 2) or labels[:1].size > 1 or len(output_shape) != 2:
            raise ValueError(
                f"{self.name}: the labels must have shape (batch,) and the embeddings (batch, size), "
                f"received shapes {labels.shape} and {tuple(output_shape)}"
            )
        return np.ascontiguousarray(labels.reshape(len(labels)), np.int64)

    def counted(self, targets: Array, losses: Array) -> Array | None:
        return losses > 0

    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        return self._parts(y, targets, y, targets)[0]

    def between(self, y: Array, labels: Array, others: Array, labels_of_others: Array) -> Array:
        """The losses of embeddings among others, instead of among themselves."""
        return self._parts(y, labels, others, labels_of_others)[0]

    def _parts(self, y: Array, labels: Array, others: Array, labels_of_others: Array) -> tuple[Array, Any]:
        raw = 1 - y @ others.T
        d = np.maximum(raw, 0)
        alike = labels[:, None] == labels_of_others
        unlike = ~alike
        if self.remove_diagonal:
            np.fill_diagonal(alike, False)
        gamma, margin, room = self.gamma, self.margin, np.maximum(1 + self.margin - d, 0)
        p, shares_p = _log_sum_exp(np.where(alike, -gamma * (margin + d) * (margin - d), -np.inf))
        n, shares_n = _log_sum_exp(np.where(unlike, gamma * room * (1 - margin - d), -np.inf))
        slope = shares_p * (2 * gamma * d) + shares_n * np.where(room > 0, 2 * gamma * (d - 1), 0)
        z = p + n
        return np.logaddexp(z, 0).astype(y.dtype, copy=False), (z, slope * (raw > 0))

    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        _, (z, slope) = self._parts(y, targets, y, targets)
        slope *= (scale * np.exp(-np.logaddexp(-z, 0)))[:, None]  # the sigmoid of z, 0 at -inf
        dy = step.empty(y.shape, y.dtype)
        dy[...] = -((slope + slope.T) @ y)
        return dy


def _log_sum_exp(x: Array) -> tuple[Array, Array]:
    """Of each row, -inf where all of it is; and each element's share in the sum."""
    top = x.max(1, keepdims=True, initial=-np.inf)
    part = np.exp(x - np.where(np.isfinite(top), top, 0))
    total = part.sum(1, keepdims=True)
    shares = np.divide(part, total, out=np.zeros_like(part), where=total > 0)
    with np.errstate(divide="ignore"):
        return (top + np.log(np.where(total > 0, total, 1)))[:, 0], shares
