"""Intersection over union of classes: true positives / (true positives + false positives + false negatives)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._typing import Array
from .base import Metric, weights_like


class IoU(Metric):
    """Mean intersection over union of `target_class_ids`, those of them that occur.

    Args:
        num_classes: number of classes; other numbers do not count.
        target_class_ids: the classes to average.
        ignore_class: targets of this class do not count.
        dtype: "int" (None), which cuts weights to integers, as Keras does, or "float32".
        sparse_y_true, sparse_y_pred: class numbers; otherwise the largest entry along `axis` is the class.
    """

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        outside = [c for c in target_class_ids if not 0 <= c < num_classes]
        if outside:
            raise ValueError(
                f"{type(self).__name__}: target_class_ids must lie in [0, {num_classes}), received {outside[0]}"
            )
        self.num_classes, self.target_class_ids, self.ignore_class = num_classes, list(target_class_ids), ignore_class
        self.sparse_y_true, self.sparse_y_pred, self.axis = sparse_y_true, sparse_y_pred, axis
        super().__init__(dtype or "int", name)
        self.reset_state()

    def reset_state(self) -> None:
        self.counts = np.zeros((self.num_classes, self.num_classes))  # target, prediction

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        t, y = np.asarray(y_true), np.asarray(y_pred)
        t = t if self.sparse_y_true else t.argmax(self.axis)
        y = y if self.sparse_y_pred else y.argmax(self.axis)
        if t.size != y.size:
            raise ValueError(f"{self.name}: the targets have shape {t.shape}, the predictions {y.shape}")
        weights = weights_like(self.name, 1.0 if sample_weight is None else sample_weight, t).ravel()
        if np.dtype(self.dtype).kind in "iu":
            if (weights != np.trunc(weights)).any():
                warnings.warn(
                    f"{self.name} counts, so its weights are cut to integers; dtype='float32' keeps them", stacklevel=2
                )
            weights = np.trunc(weights)
        t, y = t.ravel().astype(np.int64), y.ravel().astype(np.int64)
        fits = (t >= 0) & (t < self.num_classes) & (y >= 0) & (y < self.num_classes)
        if self.ignore_class is not None:
            fits &= t != self.ignore_class
        flat = np.bincount(t[fits] * self.num_classes + y[fits], weights[fits], self.num_classes**2)
        self.counts += flat.reshape(self.counts.shape)

    def result(self) -> float:
        both: Array = np.diag(self.counts)[self.target_class_ids]
        either = (self.counts.sum(0) + self.counts.sum(1))[self.target_class_ids] - both
        seen = either > 0
        return float((both[seen] / either[seen]).mean()) if seen.any() else 0.0


class MeanIoU(IoU):
    """Mean intersection over union of all classes that occur. See `IoU`."""

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        super().__init__(num_classes, range(num_classes), name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis)


class BinaryIoU(IoU):
    """Intersection over union of the classes 0 and 1 (`target_class_ids`); a prediction >= `threshold` (0.5) is 1."""

    def __init__(
        self,
        target_class_ids: Sequence[int] = (0, 1),
        threshold: float = 0.5,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = threshold

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        super().update_state(y_true, np.asarray(y_pred) >= self.threshold, sample_weight)


class OneHotIoU(IoU):
    """`IoU` of one-hot targets and, unless `sparse_y_pred`, predictions by class."""

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis)


class OneHotMeanIoU(MeanIoU):
    """`MeanIoU` of one-hot targets and, unless `sparse_y_pred`, predictions by class."""

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)
