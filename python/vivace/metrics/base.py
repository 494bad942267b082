"""What every metric is: `update_state`, `result`, `reset_state`; and those that are means or sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._config import Configurable
from .._naming import snake_case
from .._typing import Array


class Metric(Configurable):
    """Base of all metrics: something accumulated over all batches since the last `reset_state`.

    A subclass defines `reset_state`, `result`, and `update_state(y_true, y_pred, sample_weight)`, whose arrays have
    the batch as their first axis; weights have its length, or the shape of what is weighted. An argument `dtype` is
    without effect: sums are float64.
    """

    family = "metrics"

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        self.name = name or snake_case(type(self).__name__)
        self.reset_state()

    def reset_state(self) -> None:
        """Forget everything."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch: targets, predictions, and perhaps weights."""
        raise TypeError(f"{type(self).__name__} must define update_state(y_true, y_pred, sample_weight)")

    def result(self) -> Any:
        """The value for everything since the last reset."""
        raise TypeError(f"{type(self).__name__} must define result()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Add a batch; returns the value so far."""
        self.update_state(*args, **kwargs)
        return self.result()


def weights_like(owner: str, sample_weight: Any, values: Array) -> Array:
    """Weights, (samples,) or with more axes, broadcast to the shape of what they weigh."""
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.ndim == values.ndim + 1 and weights.shape[-1] == 1:
        weights = weights[..., 0]
    if weights.ndim and weights.shape != values.shape[: weights.ndim]:
        raise ValueError(f"{owner}: sample_weight has shape {weights.shape}, the values have {values.shape}")
    return np.broadcast_to(weights.reshape(*weights.shape, *(1,) * (values.ndim - weights.ndim)), values.shape)


class Mean(Metric):
    """The weighted mean of given values; 0 before the first."""

    def reset_state(self) -> None:
        self.total = 0.0
        self.count = 0.0

    def add(self, total: float, count: float) -> None:
        """Add `count` values that sum to `total`."""
        self.total += total
        self.count += count

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        values = np.asarray(values)
        if sample_weight is None:
            self.add(float(values.sum(dtype=np.float64)), values.size)
        else:
            weights = weights_like(self.name, sample_weight, values)
            self.add(float((values * weights).sum(dtype=np.float64)), float(weights.sum()))

    def result(self) -> float:
        return self.total / self.count if self.count else 0.0


class Sum(Metric):
    """The weighted sum of given values."""

    def reset_state(self) -> None:
        self.total = 0.0

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        values = np.asarray(values)
        weights = 1 if sample_weight is None else weights_like(self.name, sample_weight, values)
        self.total += float((values * weights).sum(dtype=np.float64))

    def result(self) -> float:
        return self.total


class MeanOf(Mean):
    """The mean of `values(y_true, y_pred)`, which a subclass defines: one for each row or element."""

    def values(self, y_true: Array, y_pred: Array) -> Array:
        raise TypeError(f"{type(self).__name__} must define values(y_true, y_pred)")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        super().update_state(self.values(np.asarray(y_true), np.asarray(y_pred)), sample_weight)


class MeanMetricWrapper(MeanOf):
    """The mean of a function's values.

    Args:
        fn: fn(y_true, y_pred, **kwargs) returns one value for each row or element.
        name: fn's name.
    """

    def __init__(self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(name or getattr(fn, "__name__", None))
        self.fn, self.kwargs = fn, kwargs

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return np.asarray(self.fn(y_true, y_pred, **self.kwargs))


def same_shape(owner: str, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
    """Both in one shape: a last axis of 1 may be missing from either."""
    if y_true.shape == y_pred.shape:
        return y_true, y_pred
    if y_true.size == y_pred.size and (*y_true.shape, 1) == y_pred.shape:
        return y_true.reshape(y_pred.shape), y_pred
    if y_true.size == y_pred.size and y_true.shape == (*y_pred.shape, 1):
        return y_true, y_pred.reshape(y_true.shape)
    raise ValueError(f"{owner}: the targets have shape {y_true.shape}, the predictions {y_pred.shape}")
