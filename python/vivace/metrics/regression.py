"""Errors of numbers, the losses as metrics, and the coefficient of determination."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import losses
from .._typing import Array
from .base import MeanOf, Metric, same_shape, weights_like


class _OfLoss(MeanOf):
    """The mean of a loss's rows."""

    def __init__(self, loss: losses.Loss, name: str, dtype: Any) -> None:
        super().__init__(name, dtype)
        self.loss = loss

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return self.loss.by_row(y_true, y_pred)[0]


class MeanSquaredError(_OfLoss):
    """Mean squared difference."""

    def __init__(self, name: str = "mean_squared_error", dtype: Any = None) -> None:
        super().__init__(losses.MeanSquaredError(), name, dtype)


class MeanAbsoluteError(_OfLoss):
    """Mean absolute difference."""

    def __init__(self, name: str = "mean_absolute_error", dtype: Any = None) -> None:
        super().__init__(losses.MeanAbsoluteError(), name, dtype)


class MeanAbsolutePercentageError(_OfLoss):
    """Mean difference in percent of the target."""

    def __init__(self, name: str = "mean_absolute_percentage_error", dtype: Any = None) -> None:
        super().__init__(losses.MeanAbsolutePercentageError(), name, dtype)


class MeanSquaredLogarithmicError(_OfLoss):
    """Mean squared difference of log(1 + value)."""

    def __init__(self, name: str = "mean_squared_logarithmic_error", dtype: Any = None) -> None:
        super().__init__(losses.MeanSquaredLogarithmicError(), name, dtype)


class LogCoshError(_OfLoss):
    """Mean log(cosh(difference))."""

    def __init__(self, name: str = "logcosh", dtype: Any = None) -> None:
        super().__init__(losses.LogCosh(), name, dtype)


class Hinge(_OfLoss):
    """See `vivace.losses.Hinge`."""

    def __init__(self, name: str = "hinge", dtype: Any = None) -> None:
        super().__init__(losses.Hinge(), name, dtype)


class SquaredHinge(_OfLoss):
    """See `vivace.losses.SquaredHinge`."""

    def __init__(self, name: str = "squared_hinge", dtype: Any = None) -> None:
        super().__init__(losses.SquaredHinge(), name, dtype)


class CategoricalHinge(_OfLoss):
    """See `vivace.losses.CategoricalHinge`."""

    def __init__(self, name: str = "categorical_hinge", dtype: Any = None) -> None:
        super().__init__(losses.CategoricalHinge(), name, dtype)


class KLDivergence(_OfLoss):
    """See `vivace.losses.KLDivergence`."""

    def __init__(self, name: str = "kl_divergence", dtype: Any = None) -> None:
        super().__init__(losses.KLDivergence(), name, dtype)


class Poisson(_OfLoss):
    """See `vivace.losses.Poisson`."""

    def __init__(self, name: str = "poisson", dtype: Any = None) -> None:
        super().__init__(losses.Poisson(), name, dtype)


class BinaryCrossentropy(_OfLoss):
    """See `vivace.losses.BinaryCrossentropy`."""

    def __init__(
        self,
        name: str = "binary_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(losses.BinaryCrossentropy(from_logits, label_smoothing), name, dtype)


class CategoricalCrossentropy(_OfLoss):
    """See `vivace.losses.CategoricalCrossentropy`."""

    def __init__(
        self,
        name: str = "categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
    ) -> None:
        super().__init__(losses.CategoricalCrossentropy(from_logits, label_smoothing, axis), name, dtype)


class SparseCategoricalCrossentropy(_OfLoss):
    """See `vivace.losses.SparseCategoricalCrossentropy`.

    As in Keras, rows with the ignored class count as losses of 0, unless there are weights.
    """

    def __init__(
        self,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
    ) -> None:
        super().__init__(losses.SparseCategoricalCrossentropy(from_logits, ignore_class, axis=axis), name, dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
        values, targets = self.loss.by_row(y_true, y_pred)
        counted = self.loss.counted(targets, values)
        if counted is not None and sample_weight is not None:
            sample_weight = counted * weights_like(self.name, sample_weight, values)
        super(MeanOf, self).update_state(values, sample_weight)


class CosineSimilarity(_OfLoss):
    """Mean cosine of the angle between prediction and target along `axis` (-1)."""

    def __init__(self, name: str = "cosine_similarity", dtype: Any = None, axis: int = -1) -> None:
        super().__init__(losses.CosineSimilarity(axis), name, dtype)

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return -super().values(y_true, y_pred)


class RootMeanSquaredError(MeanOf):
    """Root of the mean squared difference."""

    def values(self, y_true: Array, y_pred: Array) -> Array:
        y_true, y_pred = same_shape(self.name, y_true, y_pred)
        return np.square(y_pred - y_true)

    def result(self) -> float:
        return math.sqrt(super().result())


class MeanRelativeError(MeanOf):
    """Mean of |difference| / normalizer, 0 where the normalizer is 0."""

    def __init__(self, normalizer: Any, name: str = "mean_relative_error", dtype: Any = None) -> None:
        super().__init__(name, dtype)
        self.normalizer = np.asarray(normalizer)

    def values(self, y_true: Array, y_pred: Array) -> Array:
        y_true, y_pred = same_shape(self.name, y_true, y_pred)
        size = np.broadcast_to(self.normalizer, y_pred.shape)
        return np.where(size == 0, 0, np.abs(y_true - y_pred) / np.where(size == 0, 1, size))


class PearsonCorrelation(MeanOf):
    """Mean correlation of predictions and targets along `axis` (-1)."""

    def __init__(self, name: str = "pearson_correlation", dtype: Any = None, axis: int = -1) -> None:
        super().__init__(name, dtype)
        self.axis = axis

    def values(self, y_true: Array, y_pred: Array) -> Array:
        t, y = (a - a.mean(self.axis, keepdims=True) for a in same_shape(self.name, y_true, y_pred))
        return (t / t.std(self.axis, keepdims=True) * (y / y.std(self.axis, keepdims=True))).mean(self.axis)


class ConcordanceCorrelation(MeanOf):
    """Mean of 2 c / (var(t) + var(y) + (mean(t) - mean(y))^2) along `axis` (-1).

    c is the mean of (t - mean(y)) (y - mean(y)), in Keras's form: the first mean is the predictions' too.
    """

    def __init__(self, name: str = "concordance_correlation", dtype: Any = None, axis: int = -1) -> None:
        super().__init__(name, dtype)
        self.axis = axis

    def values(self, y_true: Array, y_pred: Array) -> Array:
        t, y = same_shape(self.name, y_true, y_pred)
        t_mean, y_mean = t.mean(self.axis, keepdims=True), y.mean(self.axis, keepdims=True)
        norm = t.var(self.axis, keepdims=True) + y.var(self.axis, keepdims=True) + np.square(t_mean - y_mean)
        return (2 * (t - y_mean) * (y - y_mean) / (norm + losses.EPSILON)).mean(self.axis)


class R2Score(Metric):
    """1 - the squared error's share of the targets' variance, for predictions (samples, outputs).

    Args:
        class_aggregation: "uniform_average" of the outputs, "variance_weighted_average", or None: one for each output.
        num_regressors: above 0, the score is adjusted for so many independent predictors.
    """

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str = "r2_score",
        dtype: Any = None,
    ) -> None:
        if class_aggregation not in (None, "uniform_average", "variance_weighted_average"):
            raise ValueError(
                "R2Score: class_aggregation must be None, uniform_average or variance_weighted_average, "
                f"received {class_aggregation!r}"
            )
        if num_regressors < 0:
            raise ValueError(f"R2Score: num_regressors must not be negative, received {num_regressors!r}")
        self.class_aggregation, self.num_regressors = class_aggregation, num_regressors
        super().__init__(dtype, name)
        self.reset_state()

    def reset_state(self) -> None:
        # of t, t^2, (t - y)^2 and 1, by output
        self.sums: Any = np.zeros_like(getattr(self, "sums", np.zeros((4, 1))))
        self.elements = 0

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        t, y = same_shape(self.name, np.asarray(y_true, np.float64), np.asarray(y_pred, np.float64))
        if y.ndim != 2:
            raise ValueError(f"{self.name}: takes predictions (samples, outputs), received shape {y.shape}")
        weights = weights_like(self.name, 1.0 if sample_weight is None else sample_weight, y)
        parts = [t * weights, t * t * weights, np.square(t - y) * weights, weights]
        self.sums = self.sums + np.stack([part.sum(0) for part in parts])
        self.elements += y.size

    def result(self) -> Any:
        total, squares, residual, count = self.sums
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = squares - total * (total / count)
            scores = 1 - residual / spread
        scores = np.where(np.isinf(scores), 0.0, scores)
        if self.class_aggregation == "uniform_average":
            scores = scores.mean()
        elif self.class_aggregation == "variance_weighted_average":
            scores = (spread * scores).sum() / spread.sum()
        if 0 < self.num_regressors < self.elements - 1:
            scores = 1 - (1 - scores) * (self.elements - 1) / (self.elements - self.num_regressors - 1)
        return float(scores) if np.ndim(scores) == 0 else scores
