"""The metrics that are means, as functions of (y_true, y_pred): the values they are the mean of."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._typing import Array
from . import accuracy, regression


def _values(metric: Any, y_true: Any, y_pred: Any) -> Array:
    values = metric.values(np.asarray(y_true), np.asarray(y_pred))
    return values.astype(np.float32) if values.dtype == bool else values


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Array:
    """See `BinaryAccuracy`. 0 or 1 for each element."""
    return _values(accuracy.BinaryAccuracy(threshold=threshold), y_true, y_pred)


def categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """See `CategoricalAccuracy`. 0 or 1 for each row."""
    return _values(accuracy.CategoricalAccuracy(), y_true, y_pred)


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """See `SparseCategoricalAccuracy`. 0 or 1 for each label; without one last axis of 1."""
    values = _values(accuracy.SparseCategoricalAccuracy(), y_true, y_pred)
    if np.ndim(y_true) == np.ndim(y_pred):
        values = values.reshape(np.shape(y_true))
    return values[..., 0] if values.ndim > 1 and values.shape[-1] == 1 else values


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Array:
    """See `TopKCategoricalAccuracy`. 0 or 1 for each row."""
    return _values(accuracy.TopKCategoricalAccuracy(k), y_true, y_pred)


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False) -> Array:
    """See `SparseTopKCategoricalAccuracy`. 0 or 1 for each label."""
    values = _values(accuracy.SparseTopKCategoricalAccuracy(k, from_sorted_ids=from_sorted_ids), y_true, y_pred)
    return values.reshape(np.shape(y_true))


def pearson_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """See `PearsonCorrelation`. Returns the shape without `axis`."""
    return _values(regression.PearsonCorrelation(axis=axis), y_true, y_pred)


def concordance_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """See `ConcordanceCorrelation`. Returns the shape without `axis`."""
    return _values(regression.ConcordanceCorrelation(axis=axis), y_true, y_pred)
