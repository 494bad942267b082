"""Fractions of right predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._core import native
from .._typing import Array
from .base import MeanOf, same_shape


class Accuracy(MeanOf):
    """Fraction of predictions that equal the targets."""

    def values(self, y_true: Array, y_pred: Array) -> Array:
        y_true, y_pred = same_shape(self.name, y_true, y_pred)
        return y_true == y_pred


class BinaryAccuracy(MeanOf):
    """Fraction of predictions on the target's side of `threshold`, 0.5."""

    def __init__(self, name: str = "binary_accuracy", dtype: Any = None, threshold: float = 0.5) -> None:
        super().__init__(name, dtype)
        self.threshold = threshold

    def values(self, y_true: Array, y_pred: Array) -> Array:
        y_true, y_pred = same_shape(self.name, y_true, y_pred)
        return (y_pred > self.threshold) == y_true


class SparseCategoricalAccuracy(MeanOf):
    """Fraction of rows whose largest prediction is at the label. y_true (rows,), y_pred (rows, classes)."""

    def labels(self, y_true: Array, y_pred: Array) -> Array:
        column = y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1
        return (y_true[..., 0] if column else y_true).astype(np.int64, copy=False)

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return y_pred.argmax(-1) == self.labels(y_true, y_pred)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        y = np.asarray(y_pred)
        if sample_weight is not None or y.dtype not in (np.float32, np.float64):
            super().update_state(y_true, y, sample_weight)
            return
        labels = np.ascontiguousarray(self.labels(np.asarray(y_true), y))
        each = max(1, labels.size // max(1, len(labels)))
        self.add(native.count_correct(np.ascontiguousarray(y), labels) / each, labels.size / each)


class CategoricalAccuracy(SparseCategoricalAccuracy):
    """Fraction of rows whose largest prediction is where the target is largest. Both (rows, classes)."""

    def labels(self, y_true: Array, y_pred: Array) -> Array:
        return y_true.argmax(-1)


class SparseTopKCategoricalAccuracy(SparseCategoricalAccuracy):
    """Fraction of rows whose label is among the k (5) largest predictions.

    from_sorted_ids: y_pred holds class numbers, the best first, instead of predictions.
    """

    def __init__(
        self,
        k: int = 5,
        name: str = "sparse_top_k_categorical_accuracy",
        dtype: Any = None,
        from_sorted_ids: bool = False,
    ) -> None:
        super().__init__(name, dtype)
        if k < 1:
            raise ValueError(f"{type(self).__name__}: k must be at least 1, received {k!r}")
        self.k, self.from_sorted_ids = k, from_sorted_ids

    def values(self, y_true: Array, y_pred: Array) -> Array:
        labels = self.labels(y_true, y_pred)[..., None]
        if self.from_sorted_ids:
            return (y_pred[..., : self.k] == labels).any(-1)
        larger = y_pred > np.take_along_axis(y_pred, labels, -1)
        return np.count_nonzero(larger, axis=-1) < self.k

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        MeanOf.update_state(self, y_true, y_pred, sample_weight)


class TopKCategoricalAccuracy(SparseTopKCategoricalAccuracy):
    """Fraction of rows whose largest target is among the k (5) largest predictions. Both (rows, classes)."""

    def __init__(self, k: int = 5, name: str = "top_k_categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(k, name, dtype)

    def labels(self, y_true: Array, y_pred: Array) -> Array:
        return y_true.argmax(-1)
