"""Metrics, with Keras's names. A metric accumulates over batches: `update_state`, `result`, `reset_state`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._core import native
from ._naming import lookup
from ._typing import Array, BatchShape


class Metric:
    """A mean over everything seen since the last reset. Subclasses define `batch_sum`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reset_state()

    def reset_state(self) -> None:
        """Forget everything."""
        self.total = 0.0
        self.count = 0

    def batch_sum(self, y_true: Array, y_pred: Array) -> tuple[float, int]:
        """(sum, number of values) of one batch."""
        raise TypeError(f"{type(self).__name__} must define batch_sum(y_true, y_pred)")

    def update_state(self, y_true: Any, y_pred: Any) -> None:
        """Add a batch: targets and predictions with equal first axes."""
        total, count = self.batch_sum(np.asarray(y_true), np.asarray(y_pred))
        self.total += total
        self.count += count

    def result(self) -> float:
        """The mean so far; 0 before the first batch."""
        return self.total / self.count if self.count else 0.0


class Mean(Metric):
    """The mean of given values: the training loop's loss."""

    def __init__(self, name: str = "mean") -> None:
        super().__init__(name)

    def add(self, total: float, count: int) -> None:
        """Add `count` values that sum to `total`."""
        self.total += total
        self.count += count


def _floats(y: Array) -> Array:
    return np.ascontiguousarray(y, dtype=y.dtype if y.dtype in (np.float32, np.float64) else np.float32)


class SparseCategoricalAccuracy(Metric):
    """Fraction of rows whose largest prediction is at the label. y_true (rows,), y_pred (rows, classes)."""

    def __init__(self, name: str = "sparse_categorical_accuracy") -> None:
        super().__init__(name)

    def batch_sum(self, y_true: Array, y_pred: Array) -> tuple[float, int]:
        labels = y_true.astype(np.int64, copy=False)
        return float(native.count_correct(_floats(y_pred), np.ascontiguousarray(labels))), labels.size


class CategoricalAccuracy(Metric):
    """Fraction of rows whose largest prediction is where the target is largest. Both (rows, classes)."""

    def __init__(self, name: str = "categorical_accuracy") -> None:
        super().__init__(name)

    def batch_sum(self, y_true: Array, y_pred: Array) -> tuple[float, int]:
        labels = y_true.argmax(-1)
        return float(native.count_correct(_floats(y_pred), labels)), labels.size


class BinaryAccuracy(Metric):
    """Fraction of predictions on the target's side of `threshold`."""

    def __init__(self, name: str = "binary_accuracy", threshold: float = 0.5) -> None:
        super().__init__(name)
        self.threshold = threshold

    def batch_sum(self, y_true: Array, y_pred: Array) -> tuple[float, int]:
        hits = (y_pred > self.threshold) == y_true.reshape(y_pred.shape)
        return float(np.count_nonzero(hits)), hits.size


class MeanSquaredError(Metric):
    """Mean squared difference."""

    def __init__(self, name: str = "mean_squared_error") -> None:
        super().__init__(name)

    def batch_sum(self, y_true: Array, y_pred: Array) -> tuple[float, int]:
        difference = y_pred - y_true.reshape(y_pred.shape)
        return float(np.square(difference).sum()), difference.size


class MeanAbsoluteError(Metric):
    """Mean absolute difference."""

    def __init__(self, name: str = "mean_absolute_error") -> None:
        super().__init__(name)

    def batch_sum(self, y_true: Array, y_pred: Array) -> tuple[float, int]:
        difference = y_pred - y_true.reshape(y_pred.shape)
        return float(np.abs(difference).sum()), difference.size


_BY_NAME: dict[str, Callable[[str], Metric]] = {
    "sparse_categorical_accuracy": SparseCategoricalAccuracy,
    "categorical_accuracy": CategoricalAccuracy,
    "binary_accuracy": BinaryAccuracy,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "mae": MeanAbsoluteError,
}


def get(identifier: str | Metric, target_rank: int, output_shape: BatchShape) -> Metric:
    """The metric of that name, or the metric itself.

    "accuracy" (or "acc") is resolved as Keras does: binary for a single output, sparse for targets with one axis less
    than the output (or a last axis of 1), categorical otherwise. The name stays as the user wrote it.
    """
    if isinstance(identifier, Metric):
        return identifier
    if not isinstance(identifier, str):
        raise TypeError(f"metrics must be names or vivace.metrics.Metric, received {identifier!r}")
    if identifier.lower() not in ("accuracy", "acc"):
        return lookup("metric", identifier, _BY_NAME)(identifier)
    if output_shape[-1] == 1:
        return BinaryAccuracy(identifier)
    if target_rank < len(output_shape):
        return SparseCategoricalAccuracy(identifier)
    return CategoricalAccuracy(identifier)
