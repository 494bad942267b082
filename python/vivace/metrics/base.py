"""What every metric is: `update_state`, `result`, `reset_state`; and those that are means or sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import initializers
from .._config import Configurable
from .._naming import snake_case, unique_name
from .._typing import Array


class Variable(np.ndarray[Any, np.dtype[Any]]):
    """An array of a metric's state: NumPy's, with Keras's ways to change it."""

    def assign(self, value: Any) -> Variable:
        """Overwrite it."""
        self[...] = value
        return self

    def assign_add(self, value: Any) -> Variable:
        """Add to it."""
        self[...] += value
        return self

    def assign_sub(self, value: Any) -> Variable:
        """Subtract from it."""
        self[...] -= value
        return self

    @property
    def value(self) -> Array:
        """A copy."""
        return np.array(self)


class Metric(Configurable):
    """Base of all metrics: something accumulated over all batches since the last `reset_state`.

    A subclass defines `result`, and `update_state(y_true, y_pred, sample_weight)`, whose arrays have the batch as their
    first axis; weights have its length, or the shape of what is weighted. What it accumulates it makes by `add_weight`,
    or it defines `reset_state` too and calls it in `__init__`.

    Args:
        dtype: of what `add_weight` makes, "float64" by default. The metrics here always sum in float64.
        name: by default the class's name in snake_case, with a number from the second one on ("auc", "auc_1").
    """

    family = "metrics"

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        self.name = name or unique_name(type(self).__name__)
        self.dtype = dtype
        self.variables: list[Variable] = []

    def add_variable(
        self, shape: Any = (), initializer: Any = "zeros", dtype: Any = None, name: str | None = None
    ) -> Variable:
        """An array of state, which `reset_state` sets to 0; `assign` and `assign_add` change it.

        Args:
            shape: (), a number, by default.
            initializer: what it starts from, a name or a function of `vivace.initializers`; "zeros".
        """
        kind = dtype or self.dtype or "float64"
        variable = np.array(initializers.get(initializer)(tuple(shape), kind), kind).view(Variable)
        self.variables.append(variable)
        return variable

    def add_weight(
        self, shape: Any = (), initializer: Any = None, dtype: Any = None, name: str | None = None
    ) -> Variable:
        """As `add_variable`."""
        return self.add_variable(shape, initializer or "zeros", dtype, name)

    def reset_state(self) -> None:
        """Forget everything."""
        for variable in self.variables:
            variable.assign(0)

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
    """Weights, (samples,) or with more axes (of which some may have size 1), in the shape of what they weigh."""
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.ndim == values.ndim + 1 and weights.shape[-1] == 1:
        weights = weights[..., 0]
    wide = weights.reshape((*weights.shape, *(1,) * (values.ndim - weights.ndim)))
    fits = wide.ndim == values.ndim and wide.shape[:1] in ((), values.shape[:1], () if weights.ndim else (1,))
    if not fits or any(a not in (1, b) for a, b in zip(wide.shape, values.shape, strict=True)):
        raise ValueError(f"{owner}: sample_weight has shape {weights.shape}, the values have {values.shape}")
    return np.broadcast_to(wide, values.shape)


class Mean(Metric):
    """The weighted mean of given values; 0 before the first.

    Values (samples, ...) count once for each sample, however many a sample has; a single weight is that of the batch.
    """

    def __init__(self, name: str | None = "mean", dtype: Any = None) -> None:
        super().__init__(dtype, name)
        self.reset_state()

    def reset_state(self) -> None:
        self.total = 0.0
        self.count = 0.0

    def add(self, total: float, count: float) -> None:
        """Add `count` values that sum to `total`."""
        self.total += total
        self.count += count

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        values = np.asarray(values)
        samples = len(values) if values.ndim else 1
        each = max(1, values.size // max(1, samples))
        if sample_weight is None:
            self.add(float(values.sum(dtype=np.float64)) / each, samples)
            return
        weights = weights_like(self.name, sample_weight, values)
        if np.ndim(sample_weight) == 0:
            each = max(1, values.size)
        self.add(float((values * weights).sum(dtype=np.float64)) / each, float(weights.sum()) / each)

    def result(self) -> float:
        return self.total / self.count if self.count else 0.0


class Sum(Metric):
    """The weighted sum of given values."""

    def __init__(self, name: str | None = "sum", dtype: Any = None) -> None:
        super().__init__(dtype, name)
        self.reset_state()

    def reset_state(self) -> None:
        self.total = 0.0

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        values = np.asarray(values)
        weights = 1 if sample_weight is None else weights_like(self.name, sample_weight, values)
        self.total += float((values * weights).sum(dtype=np.float64))

    def result(self) -> float:
        return self.total


class MeanOf(Mean):
    """The mean of `values(y_true, y_pred)`, which a subclass defines: one for each row or element.

    name: the class's name in snake_case by default.
    """

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name or snake_case(type(self).__name__), dtype)

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
        super().__init__(name or getattr(fn, "__name__", None), dtype)
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
