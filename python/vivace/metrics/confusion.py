"""Metrics of decisions: counts of true and false positives and negatives at thresholds, and rates made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import activations
from .._typing import Array
from .base import Metric, same_shape, weights_like

_NEVER = -1e10  # below every prediction: what is not among the top k


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)


def _scalar(values: Array) -> Any:
    return float(values[0]) if values.shape == (1,) else values


def _even(count: int) -> Array:
    return np.linspace(0, 1, count) if count > 1 else np.array([0.5])


class Confusion(Metric):
    """Counts at every threshold: a prediction above it is positive; a target other than 0 is.

    Args:
        thresholds: a number or several, in [0, 1].
        top_k: only the k largest predictions of a row may be positive.
        class_id: only this column counts.
    """

    by_label = False  # whether every column has counts of its own

    def __init__(
        self,
        thresholds: float | Sequence[float] | Array | None = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        default = 0.5 if top_k is None else _NEVER
        given = np.atleast_1d(np.asarray(default if thresholds is None else thresholds, np.float64))
        if thresholds is not None and not ((given >= 0) & (given <= 1)).all():
            raise ValueError(f"{type(self).__name__}: thresholds must lie in [0, 1], received {thresholds!r}")
        self.levels, self.thresholds, self.top_k, self.class_id = given, thresholds, top_k, class_id
        super().__init__(dtype, name)
        self.reset_state()

    def reset_state(self) -> None:
        self.true_positives: Any = np.zeros(len(self.levels))
        self.false_positives: Any = np.zeros(len(self.levels))
        self.true_negatives: Any = np.zeros(len(self.levels))
        self.false_negatives: Any = np.zeros(len(self.levels))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        t, y = same_shape(self.name, np.asarray(y_true), np.asarray(y_pred))
        weights = weights_like(self.name, 1.0 if sample_weight is None else sample_weight, y)
        self.count(t != 0, y, weights)

    def count(self, t: Array, y: Array, weights: Array) -> None:
        if y.ndim < 2 and (self.class_id is not None or self.by_label):
            raise ValueError(
                f"{self.name}: class_id and multi_label need predictions (samples, classes), received shape {y.shape}"
            )
        if self.top_k is not None:
            best = np.argsort(-y, axis=-1, kind="stable")[..., : self.top_k]
            kept = np.full(y.shape, _NEVER)
            np.put_along_axis(kept, best, np.take_along_axis(y, best, -1), -1)
            y = kept
        if self.class_id is not None:
            t, y, weights = (a[..., self.class_id] for a in (t, y, weights))
        columns = y.shape[-1] if self.by_label else 1
        t, y, weights = (a.reshape(-1, columns) for a in (t, y, weights))
        order = np.argsort(self.levels)
        passed = np.searchsorted(self.levels[order].astype(y.dtype), y)  # thresholds below the prediction
        counts = np.empty((2, len(order), columns))
        for positive in (0, 1):
            for column in range(columns):
                w = weights[:, column] * (t[:, column] == positive)
                histogram = np.bincount(passed[:, column], w, len(order) + 1)
                counts[positive, order, column] = histogram[::-1].cumsum()[::-1][1:]
        totals = np.stack([(weights * (t == positive)).sum(0) for positive in (0, 1)])[:, None]
        above, below = (c if self.by_label else c[..., 0] for c in (counts, totals - counts))
        self.true_positives = self.true_positives + above[1]
        self.false_positives = self.false_positives + above[0]
        self.true_negatives = self.true_negatives + below[0]
        self.false_negatives = self.false_negatives + below[1]

    @property
    def precisions(self) -> Array:
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recalls(self) -> Array:
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificities(self) -> Array:
        return _ratio(self.true_negatives, self.true_negatives + self.false_positives)


class _Count(Confusion):
    def __init__(
        self, thresholds: float | Sequence[float] | None = None, name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(thresholds, name=name, dtype=dtype)


class TruePositives(_Count):
    """Weighted number of positives found."""

    def result(self) -> Any:
        return _scalar(self.true_positives)


class TrueNegatives(_Count):
    """Weighted number of negatives left alone."""

    def result(self) -> Any:
        return _scalar(self.true_negatives)


class FalsePositives(_Count):
    """Weighted number of negatives taken for positives."""

    def result(self) -> Any:
        return _scalar(self.false_positives)


class FalseNegatives(_Count):
    """Weighted number of positives missed."""

    def result(self) -> Any:
        return _scalar(self.false_negatives)


class Precision(Confusion):
    """Share of true ones among the predicted positives. See `Confusion` for the arguments; thresholds: 0.5."""

    def result(self) -> Any:
        return _scalar(self.precisions)


class Recall(Confusion):
    """Share of the positives that are found. See `Confusion` for the arguments; thresholds: 0.5."""

    def result(self) -> Any:
        return _scalar(self.recalls)


class _Best(Confusion):
    """The best of one rate among the thresholds where another reaches a value."""

    value: float
    rates: tuple[str, str]  # which to reach, which to report

    def __init__(self, num_thresholds: int, class_id: int | None, name: str | None, dtype: Any) -> None:
        if num_thresholds < 1:
            raise ValueError(f"{type(self).__name__}: num_thresholds must be positive, received {num_thresholds!r}")
        super().__init__(_even(num_thresholds), class_id=class_id, name=name, dtype=dtype)
        self.num_thresholds = num_thresholds

    @classmethod
    def check(cls, argument: str, value: float) -> float:
        if not 0 <= value <= 1:
            raise ValueError(f"{cls.__name__}: {argument} must lie in [0, 1], received {value!r}")
        return value

    def count(self, t: Array, y: Array, weights: Array) -> None:
        super().count(t, np.clip(y, 0, 1), weights)

    def result(self) -> float:
        reached, reported = (getattr(self, rate) for rate in self.rates)
        return float(np.where(reached >= self.value, reported, 0).max(initial=0))


class SensitivityAtSpecificity(_Best):
    """The best sensitivity (recall) at a specificity of at least `specificity`, among `num_thresholds` (200)."""

    rates = "specificities", "recalls"

    def __init__(
        self,
        specificity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.specificity = self.value = self.check("specificity", specificity)
        super().__init__(num_thresholds, class_id, name, dtype)


class SpecificityAtSensitivity(_Best):
    """The best specificity at a sensitivity (recall) of at least `sensitivity`, among `num_thresholds` (200)."""

    rates = "recalls", "specificities"

    def __init__(
        self,
        sensitivity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.sensitivity = self.value = self.check("sensitivity", sensitivity)
        super().__init__(num_thresholds, class_id, name, dtype)


class PrecisionAtRecall(_Best):
    """The best precision at a recall of at least `recall`, at one of num_thresholds (200) thresholds."""

    rates = "recalls", "precisions"

    def __init__(
        self,
        recall: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.recall = self.value = self.check("recall", recall)
        super().__init__(num_thresholds, class_id, name, dtype)


class RecallAtPrecision(_Best):
    """The best recall at a precision of at least `precision`, at one of num_thresholds (200) thresholds."""

    rates = "precisions", "recalls"

    def __init__(
        self,
        precision: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.precision = self.value = self.check("precision", precision)
        super().__init__(num_thresholds, class_id, name, dtype)


class AUC(Confusion):
    """Area under a curve of rates, at evenly spaced thresholds.

    Args:
        num_thresholds: 200.
        curve: "ROC" (true over false positive rate) or "PR" (precision over recall).
        summation_method: "interpolation" (for PR as Davis & Goadrich 2006), "minoring" or "majoring".
        thresholds: thresholds in (0, 1) of one's own; the ends are added.
        multi_label: a curve for each column, whose areas are averaged.
        num_labels: ignored; the predictions tell.
        label_weights: weights of the columns.
        from_logits: the predictions are logits.
    """

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Sequence[float] | None = None,
        from_logits: bool = False,
    ) -> None:
        if curve not in ("ROC", "PR"):
            raise ValueError(f"AUC: curve must be ROC or PR, received {curve!r}")
        if summation_method not in ("interpolation", "minoring", "majoring"):
            raise ValueError(
                f"AUC: summation_method must be interpolation, minoring or majoring, received {summation_method!r}"
            )
        if num_thresholds < 2:
            raise ValueError(f"AUC: num_thresholds must be at least 2, received {num_thresholds!r}")
        self.by_label = multi_label
        own = _even(num_thresholds) if thresholds is None else np.array([0.0, *sorted(thresholds), 1.0])
        super().__init__(own, name=name, dtype=dtype)
        self.thresholds = thresholds
        self.levels[[0, -1]] = -1e-7, 1 + 1e-7
        if multi_label:
            self.reset_state()
        self.num_thresholds = num_thresholds
        self.curve, self.summation_method, self.from_logits = curve, summation_method, from_logits
        self.label_weights = None if label_weights is None else np.asarray(label_weights, np.float64)

    def reset_state(self) -> None:
        super().reset_state()
        if self.by_label:
            for counts in ("true_positives", "false_positives", "true_negatives", "false_negatives"):
                setattr(self, counts, np.zeros((len(self.levels), 1)))

    def count(self, t: Array, y: Array, weights: Array) -> None:
        if self.label_weights is not None and not self.by_label:
            weights = weights * self.label_weights
        super().count(t, np.clip(activations.sigmoid(y) if self.from_logits else y, 0, 1), weights)

    def result(self) -> float:
        areas = (self._interpolated() if self._interpolates() else self._trapezia()).sum(0)
        if not self.by_label:
            return float(areas)
        weights = self.label_weights if areas.size > 1 else None  # a single one: how many labels is not known yet
        return float(np.average(areas, weights=weights))

    def _interpolates(self) -> bool:
        return self.curve == "PR" and self.summation_method == "interpolation"

    def _trapezia(self) -> Array:
        false_rate = _ratio(self.false_positives, self.false_positives + self.true_negatives)
        x, y = (false_rate, self.recalls) if self.curve == "ROC" else (self.recalls, self.precisions)
        if self.summation_method == "interpolation":
            height = (y[:-1] + y[1:]) / 2
        else:
            height = (np.minimum if self.summation_method == "minoring" else np.maximum)(y[:-1], y[1:])
        return (x[:-1] - x[1:]) * height

    def _interpolated(self) -> Array:
        tp, p = self.true_positives, self.true_positives + self.false_positives
        slope = _ratio(tp[:-1] - tp[1:], np.maximum(p[:-1] - p[1:], 0))
        ratio = np.where((p[:-1] > 0) & (p[1:] > 0), _ratio(p[:-1], p[1:]), 1)
        steps = slope * (tp[:-1] - tp[1:] + (tp[1:] - slope * p[1:]) * np.log(np.where(ratio > 0, ratio, 1)))
        return _ratio(steps, (tp + self.false_negatives)[1:])


class FBetaScore(Metric):
    """(1 + beta^2) precision * recall / (beta^2 precision + recall), for predictions (samples, classes).

    Args:
        average: None (one score for each class), "micro", "macro" or "weighted" (by the classes' targets).
        beta: positive, 1.
        threshold: a prediction above it is positive; None: the largest of each row is.
    """

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str = "fbeta_score",
        dtype: Any = None,
    ) -> None:
        if average not in (None, "micro", "macro", "weighted"):
            raise ValueError(f"{name}: average must be None, micro, macro or weighted, received {average!r}")
        if not beta > 0:
            raise ValueError(f"{name}: beta must be positive, received {beta!r}")
        if threshold is not None and not 0 < threshold <= 1:
            raise ValueError(f"{name}: threshold must lie in (0, 1], received {threshold!r}")
        self.average, self.beta, self.threshold = average, beta, threshold
        super().__init__(dtype, name)
        self.reset_state()

    def reset_state(self) -> None:
        # true positives, predicted positives, targets, by class
        self.sums: Any = np.zeros_like(getattr(self, "sums", np.zeros((3, 1))))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        t, y = same_shape(self.name, np.asarray(y_true, np.float64), np.asarray(y_pred))
        if y.ndim != 2:
            raise ValueError(f"{self.name}: takes predictions (samples, classes), received shape {y.shape}")
        weights = weights_like(self.name, 1.0 if sample_weight is None else sample_weight, y)
        largest = (y >= y.max(-1, keepdims=True)) & (np.abs(y) > 1e-9)
        chosen = largest if self.threshold is None else y > self.threshold
        parts = np.stack([(part * weights).sum(0) for part in (chosen * t, chosen, t)])
        self.sums = self.sums + (parts.sum(-1, keepdims=True) if self.average == "micro" else parts)

    def result(self) -> Any:
        true, chosen, targets = self.sums
        precision, recall = true / (chosen + 1e-7), true / (targets + 1e-7)
        scores = (1 + self.beta**2) * precision * recall / (self.beta**2 * precision + recall + 1e-7)
        if self.average is None:
            return scores
        if self.average == "weighted":
            return float((scores * targets / (targets.sum() + 1e-7)).sum())
        return float(scores.mean())


class F1Score(FBetaScore):
    """2 precision * recall / (precision + recall). See `FBetaScore`."""

    def __init__(
        self, average: str | None = None, threshold: float | None = None, name: str = "f1_score", dtype: Any = None
    ) -> None:
        super().__init__(average, 1.0, threshold, name, dtype)
