"""The losses as functions of (y_true, y_pred): the loss of each row, before any reduction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._typing import Array
from . import crossentropy, regions, regression
from .similarity import Circle
from .temporal import CTC


def mean_squared_error(y_true: Any, y_pred: Any) -> Array:
    """See `MeanSquaredError`. Returns (rows,)."""
    return regression.MeanSquaredError().by_row(y_true, y_pred)[0]


def mean_absolute_error(y_true: Any, y_pred: Any) -> Array:
    """See `MeanAbsoluteError`. Returns (rows,)."""
    return regression.MeanAbsoluteError().by_row(y_true, y_pred)[0]


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Array:
    """See `MeanAbsolutePercentageError`. Returns (rows,)."""
    return regression.MeanAbsolutePercentageError().by_row(y_true, y_pred)[0]


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Array:
    """See `MeanSquaredLogarithmicError`. Returns (rows,)."""
    return regression.MeanSquaredLogarithmicError().by_row(y_true, y_pred)[0]


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Array:
    """See `Huber`. Returns (rows,)."""
    return regression.Huber(delta).by_row(y_true, y_pred)[0]


def log_cosh(y_true: Any, y_pred: Any) -> Array:
    """See `LogCosh`. Returns (rows,)."""
    return regression.LogCosh().by_row(y_true, y_pred)[0]


def poisson(y_true: Any, y_pred: Any) -> Array:
    """See `Poisson`. Returns (rows,)."""
    return regression.Poisson().by_row(y_true, y_pred)[0]


def hinge(y_true: Any, y_pred: Any) -> Array:
    """See `Hinge`. Returns (rows,)."""
    return regression.Hinge().by_row(y_true, y_pred)[0]


def squared_hinge(y_true: Any, y_pred: Any) -> Array:
    """See `SquaredHinge`. Returns (rows,)."""
    return regression.SquaredHinge().by_row(y_true, y_pred)[0]


def categorical_hinge(y_true: Any, y_pred: Any) -> Array:
    """See `CategoricalHinge`. Returns (rows,)."""
    return regression.CategoricalHinge().by_row(y_true, y_pred)[0]


def kl_divergence(y_true: Any, y_pred: Any) -> Array:
    """See `KLDivergence`. Returns (rows,)."""
    return regression.KLDivergence().by_row(y_true, y_pred)[0]


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """See `CosineSimilarity`. Returns the shape without `axis`."""
    return regression.CosineSimilarity(axis).by_row(y_true, y_pred)[0]


def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Array:
    """See `BinaryCrossentropy`. Returns (rows,)."""
    return crossentropy.BinaryCrossentropy(from_logits, label_smoothing, axis).by_row(y_true, y_pred)[0]


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Array:
    """For one-hot or soft targets. See `CategoricalCrossentropy`. Returns (rows,)."""
    return crossentropy.CategoricalCrossentropy(from_logits, label_smoothing, axis).by_row(y_true, y_pred)[0]


def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Array:
    """For integer labels. See `SparseCategoricalCrossentropy`. Returns (rows,)."""
    return crossentropy.SparseCategoricalCrossentropy(from_logits, ignore_class, axis=axis).by_row(y_true, y_pred)[0]


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """See `BinaryFocalCrossentropy`. Returns (rows,)."""
    loss = crossentropy.BinaryFocalCrossentropy(apply_class_balancing, alpha, gamma, from_logits, label_smoothing, axis)
    return loss.by_row(y_true, y_pred)[0]


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: float | Sequence[float] = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """See `CategoricalFocalCrossentropy`. Returns (rows,)."""
    loss = crossentropy.CategoricalFocalCrossentropy(alpha, gamma, from_logits, label_smoothing, axis)
    return loss.by_row(y_true, y_pred)[0]


def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float = 0.5) -> Array:
    """See `CategoricalGeneralizedCrossEntropy`. Returns (rows,)."""
    return crossentropy.CategoricalGeneralizedCrossEntropy(q).by_row(y_true, y_pred)[0]


def dice(y_true: Any, y_pred: Any, axis: int | Sequence[int] | None = None) -> Array:
    """See `Dice`. Returns the shape without `axis`."""
    return regions.Dice(axis=axis).by_row(y_true, y_pred)[0]


def tversky(
    y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: int | Sequence[int] | None = None
) -> Array:
    """See `Tversky`. Returns the shape without `axis`."""
    return regions.Tversky(alpha, beta, axis=axis).by_row(y_true, y_pred)[0]


def ctc(y_true: Any, y_pred: Any) -> Array:
    """See `CTC`. Returns (samples,)."""
    return CTC().by_row(y_true, y_pred)[0]


def circle(
    y_true: Any,
    y_pred: Any,
    ref_labels: Any = None,
    ref_embeddings: Any = None,
    remove_diagonal: bool = True,
    gamma: float = 80,
    margin: float = 0.4,
) -> Array:
    """See `Circle`. Returns (samples,).

    ref_labels, ref_embeddings: those to compare with; by default y_true and y_pred themselves.
    """
    loss = Circle(gamma, margin, remove_diagonal)
    y = np.asarray(y_pred)
    others = y if ref_embeddings is None else np.asarray(ref_embeddings, y.dtype)
    labels = loss.prepare(y_true, y.shape, y.dtype)
    known = labels if ref_labels is None else loss.prepare(ref_labels, others.shape, y.dtype)
    return loss.between(y, labels, others, known)
