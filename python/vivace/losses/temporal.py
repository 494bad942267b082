"""Connectionist temporal classification: labels without positions for a longer sequence (Graves et al. 2006)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._typing import Array, BatchShape
from ..step import Step
from .base import Loss, numeric_targets


class CTC(Loss):
    """-log of the probability that the outputs, without repetitions and blanks, spell the labels.

    Outputs are logits (batch, steps, classes); class 0 is the blank. Targets are integers (batch, length), padded with
    0 at the end. One loss per sample; where the labels cannot fit into the steps it is infinite, and its gradient 0.
    """

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "ctc", dtype: str | None = None
    ) -> None:
        super().__init__(name, reduction, dtype)

    def prepare(self, y: Any, output_shape: BatchShape, dtype: Any) -> Array:
        labels = numeric_targets(self.name, y)
        if len(output_shape) != 3 or labels.ndim != 2:
            raise ValueError(
                f"{self.name}: takes outputs (batch, steps, classes) and targets (batch, length), "
                f"received shapes {tuple(output_shape)} and {labels.shape}"
            )
        classes = output_shape[-1] or 0
        integers = np.ascontiguousarray(labels, dtype=np.int64)
        if (integers != labels).any() or integers.min(initial=0) < 0 or integers.max(initial=0) >= classes:
            raise ValueError(
                f"{self.name}: labels must be integers in [1, {classes}), padded with 0; received values from "
                f"{labels.min()} to {labels.max()}"
            )
        return integers

    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        return -self._log_forward(y, targets)[0].astype(y.dtype)

    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        log_total, log_p, path, before = self._log_forward(y, targets)
        after = self._log_backward(log_p, path, targets)
        possible = np.isfinite(log_total)
        share = np.where(possible, log_total, 0)[:, None, None]
        # the probability that the labelling stands at each of its places, gathered by class
        there = np.exp(before + after - np.take_along_axis(log_p, _at_steps(path, log_p), 2) - share)
        dy = step.empty(y.shape, y.dtype)
        np.exp(log_p, out=dy, casting="same_kind")
        samples = np.arange(len(y))
        for place in range(path.shape[1]):
            dy[samples, :, path[:, place]] -= there[:, :, place]
        dy *= (scale * possible)[:, None, None]
        dy[~possible] = 0
        return dy

    def _log_forward(self, y: Array, labels: Array) -> tuple[Array, Array, Array, Array]:
        """log P of the labels, log softmax of the outputs, the labels with blanks, log alpha (batch, steps, places)."""
        shifted = y.astype(np.float64) - y.max(-1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        path = np.zeros((len(labels), 2 * labels.shape[1] + 1), np.int64)
        path[:, 1::2] = labels
        alpha = np.full((*log_p.shape[:2], path.shape[1]), -np.inf)
        emitted = np.take_along_axis(log_p, _at_steps(path, log_p), 2)
        alpha[:, 0, :2] = emitted[:, 0, :2]
        skips = _skips(path)
        for t in range(1, alpha.shape[1]):
            alpha[:, t] = _arrivals(alpha[:, t - 1], skips) + emitted[:, t]
        last = 2 * (labels != 0).sum(1)
        samples = np.arange(len(labels))
        ends = np.where(last > 0, alpha[samples, -1, np.maximum(last - 1, 0)], -np.inf)
        return np.logaddexp(alpha[samples, -1, last], ends), log_p, path, alpha

    def _log_backward(self, log_p: Array, path: Array, labels: Array) -> Array:
        """log beta: as alpha, from the end, on the path turned round."""
        beta = np.full((*log_p.shape[:2], path.shape[1]), -np.inf)
        emitted = np.take_along_axis(log_p, _at_steps(path, log_p), 2)
        last = 2 * (labels != 0).sum(1)
        samples = np.arange(len(labels))
        beta[samples, -1, last] = emitted[samples, -1, last]
        nonempty = last > 0
        beta[samples[nonempty], -1, last[nonempty] - 1] = emitted[samples[nonempty], -1, last[nonempty] - 1]
        skips = _skips(path[:, ::-1])
        for t in range(beta.shape[1] - 2, -1, -1):
            beta[:, t] = _arrivals(beta[:, t + 1, ::-1], skips)[:, ::-1] + emitted[:, t]
        return beta


def _at_steps(path: Array, log_p: Array) -> Array:
    return np.broadcast_to(path[:, None, :], (*log_p.shape[:2], path.shape[1]))


def _skips(path: Array) -> Array:
    """Where a step may leave out the blank before a label: 0 where it may, -inf where it may not."""
    skips = np.full(path.shape, -np.inf)
    skips[:, 2:][(path[:, 2:] != 0) & (path[:, 2:] != path[:, :-2])] = 0
    return skips


def _arrivals(before: Array, skips: Array) -> Array:
    """log of the probability of coming to each place from itself, from the one before, or from two before."""
    total = before.copy()
    total[:, 1:] = np.logaddexp(total[:, 1:], before[:, :-1])
    total[:, 2:] = np.logaddexp(total[:, 2:], before[:, :-2] + skips[:, 2:])
    return total
