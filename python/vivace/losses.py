"""Losses, with Keras's names, defaults and numbers.

A loss has one value per row (a row is everything but the last axis of the output) and the training loop averages the
rows: sum(weight * loss) / rows, which is Keras's "sum_over_batch_size".

Cross-entropies are computed from logits whenever possible: where `from_logits=True`, and also where the model ends in
the matching activation (`fused_activation`), which training then leaves to the loss. That is exact where the
probabilities would have rounded to 0, and cheaper.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._core import native
from ._naming import lookup
from ._typing import Array, BatchShape
from .step import Step

EPSILON = 1e-7  # probabilities are clipped to [EPSILON, 1 - EPSILON], as in Keras


class Loss:
    """Base of all losses.

    fused_activation: the activation whose input the loss can take instead of its output, or None.
    """

    fused_activation: str | None = None

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0, name: str | None = None) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"{type(self).__name__}: label_smoothing must lie in [0, 1), received {label_smoothing!r}")
        self.from_logits = from_logits
        self.label_smoothing = label_smoothing
        self.name = name or type(self).__name__

    def prepare(self, y: Any, output_shape: BatchShape, dtype: Any) -> Array:
        """Convert and check a whole data set's targets once. Raises ValueError or TypeError saying what fits."""
        targets = numeric_targets(self.name, y)
        if targets.ndim == len(output_shape) - 1 and output_shape[-1] == 1:
            targets = targets[..., None]
        if targets.shape[1:] != tuple(output_shape[1:]):
            hint = ""
            if targets.ndim == len(output_shape) - 1 and self.fused_activation == "softmax":
                hint = "; for integer labels use loss='sparse_categorical_crossentropy'"
            raise ValueError(
                f"{self.name}: the targets must have the output's shape {tuple(output_shape)}, "
                f"received shape {targets.shape}{hint}"
            )
        return np.ascontiguousarray(targets, dtype=dtype)

    def smooth(self, targets: Array, step: Step) -> Array:
        """The targets after label smoothing."""
        return targets

    def forward_logits(self, z: Array, targets: Array, step: Step) -> tuple[Array, Array]:
        """(losses, probabilities) from the fused activation's input."""
        raise TypeError(f"{self.name} takes no logits")

    def backward_logits(self, p: Array, targets: Array, scale: Array, step: Step) -> Array:
        raise TypeError(f"{self.name} takes no logits")

    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        """Losses (one per row) from the model's output."""
        raise TypeError(f"{self.name} must define forward")

    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        """Gradient of sum(scale * losses) with respect to the output."""
        raise TypeError(f"{self.name} must define backward")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """The mean loss of predictions (rows, ...), optionally weighted by row."""
        y = np.asarray(y_pred)
        y = np.ascontiguousarray(y, dtype=y.dtype if y.dtype in (np.float32, np.float64) else np.float32)
        targets = self.prepare(y_true, y.shape, y.dtype)
        check_lengths(self.name, targets, y)
        step = Step(training=False)
        losses = self.forward_logits(y, targets, step)[0] if self.from_logits else self.forward(y, targets, step)
        weights = np.ones(losses.size) if sample_weight is None else np.asarray(sample_weight, np.float64).ravel()
        if weights.size != losses.size:
            raise ValueError(f"{self.name}: sample_weight must have {losses.size} entries, received {weights.size}")
        return float((losses.ravel() * weights).mean())


def numeric_targets(owner: str, y: Any) -> Array:
    targets = np.asarray(y)
    if targets.dtype.kind not in "biuf":
        raise TypeError(f"{owner}: the targets must be numbers, received dtype {targets.dtype}")
    if targets.dtype.kind == "f" and not np.isfinite(targets).all():
        bad = int(np.flatnonzero(~np.isfinite(targets))[0])
        raise ValueError(f"{owner}: the targets must be finite, received {targets.flat[bad]} at position {bad}")
    return targets


def check_lengths(owner: str, targets: Array, y: Array) -> None:
    if len(targets) != len(y):
        raise ValueError(f"{owner}: {len(targets)} targets for {len(y)} predictions")


def _rows(y: Array, step: Step) -> Array:
    return step.empty(y.shape[:-1], y.dtype)


class SparseCategoricalCrossentropy(Loss):
    """-log(probability of the label), with integer labels 0 ... classes-1.

    Args:
        from_logits: the predictions are logits, not probabilities.
    """

    fused_activation = "softmax"

    def __init__(self, from_logits: bool = False, name: str = "sparse_categorical_crossentropy") -> None:
        super().__init__(from_logits, 0.0, name)

    def prepare(self, y: Any, output_shape: BatchShape, dtype: Any) -> Array:
        labels = numeric_targets(self.name, y)
        classes = output_shape[-1] or 0
        if labels.ndim == len(output_shape) and labels.shape[-1] == 1:
            labels = labels[..., 0]
        if labels.shape[1:] != tuple(output_shape[1:-1]) or labels.ndim == 0:
            hint = ""
            if labels.ndim == len(output_shape) and labels.shape[-1] == classes:
                hint = "; one-hot targets go with loss='categorical_crossentropy'"
            raise ValueError(
                f"{self.name}: the labels must be integers of shape {('batch', *output_shape[1:-1])}, "
                f"received shape {labels.shape}{hint}"
            )
        if labels.dtype.kind == "f" and not (labels == np.floor(labels)).all():
            bad = labels[labels != np.floor(labels)].flat[0]
            raise ValueError(f"{self.name}: the labels must be integers, received {bad}")
        integers = np.ascontiguousarray(labels, dtype=np.int64)
        if integers.size and (integers.min() < 0 or integers.max() >= classes):
            bad = integers.min() if integers.min() < 0 else integers.max()
            raise ValueError(
                f"{self.name}: labels must lie in [0, {classes}), the classes of the output; received label {bad}"
            )
        return integers

    def forward_logits(self, z: Array, targets: Array, step: Step) -> tuple[Array, Array]:
        losses, p = _rows(z, step), step.empty(z.shape, z.dtype)
        native.sparse_softmax_crossentropy_forward(z, targets, p, losses)
        return losses, p

    def backward_logits(self, p: Array, targets: Array, scale: Array, step: Step) -> Array:
        dz = step.empty(p.shape, p.dtype)
        native.sparse_softmax_crossentropy_backward(p, targets, scale, dz)
        return dz

    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        picked = np.take_along_axis(y, targets[..., None], -1)[..., 0]
        return -np.log(np.clip(picked, EPSILON, 1 - EPSILON))

    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        picked = np.take_along_axis(y, targets[..., None], -1)
        inside = (picked > EPSILON) & (picked < 1 - EPSILON)
        gradient = np.where(inside, -scale[..., None] / np.where(inside, picked, 1), 0)
        dy = step.empty(y.shape, y.dtype)
        dy[...] = 0
        np.put_along_axis(dy, targets[..., None], gradient.astype(y.dtype), -1)
        return dy


class CategoricalCrossentropy(Loss):
    """-sum(target * log(probability)) over the classes, with one-hot or soft targets.

    Args:
        from_logits: the predictions are logits, not probabilities.
        label_smoothing: targets become target * (1 - s) + s / classes.
    """

    fused_activation = "softmax"

    def __init__(
        self, from_logits: bool = False, label_smoothing: float = 0.0, name: str = "categorical_crossentropy"
    ) -> None:
        super().__init__(from_logits, label_smoothing, name)

    def smooth(self, targets: Array, step: Step) -> Array:
        if not self.label_smoothing:
            return targets
        s = self.label_smoothing
        return (targets * (1 - s) + s / targets.shape[-1]).astype(targets.dtype, copy=False)

    def forward_logits(self, z: Array, targets: Array, step: Step) -> tuple[Array, Array]:
        losses, p = _rows(z, step), step.empty(z.shape, z.dtype)
        native.softmax_crossentropy_forward(z, self.smooth(targets, step), p, losses)
        return losses, p

    def backward_logits(self, p: Array, targets: Array, scale: Array, step: Step) -> Array:
        dz = step.empty(p.shape, p.dtype)
        native.softmax_crossentropy_backward(p, self.smooth(targets, step), scale, dz)
        return dz

    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        p = y / y.sum(-1, keepdims=True)  # Keras normalises what it is given
        losses: Array = -(self.smooth(targets, step) * np.log(np.clip(p, EPSILON, 1 - EPSILON))).sum(-1)
        return losses

    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        total = y.sum(-1, keepdims=True)
        p = y / total
        inside = (p > EPSILON) & (p < 1 - EPSILON)
        dp = np.where(inside, -self.smooth(targets, step) / np.where(inside, p, 1), 0) * scale[..., None]
        dy = step.empty(y.shape, y.dtype)
        dy[...] = (dp - (dp * p).sum(-1, keepdims=True)) / total
        return dy


class BinaryCrossentropy(Loss):
    """-(t log p + (1 - t) log(1 - p)), averaged over the last axis.

    Args:
        from_logits: the predictions are logits, not probabilities.
        label_smoothing: targets become target * (1 - s) + s / 2.
    """

    fused_activation = "sigmoid"

    def __init__(
        self, from_logits: bool = False, label_smoothing: float = 0.0, name: str = "binary_crossentropy"
    ) -> None:
        super().__init__(from_logits, label_smoothing, name)

    def smooth(self, targets: Array, step: Step) -> Array:
        if not self.label_smoothing:
            return targets
        s = self.label_smoothing
        return (targets * (1 - s) + s / 2).astype(targets.dtype, copy=False)

    def forward_logits(self, z: Array, targets: Array, step: Step) -> tuple[Array, Array]:
        losses, p = _rows(z, step), step.empty(z.shape, z.dtype)
        native.sigmoid_crossentropy_forward(z, self.smooth(targets, step), p, losses)
        return losses, p

    def backward_logits(self, p: Array, targets: Array, scale: Array, step: Step) -> Array:
        dz = step.empty(p.shape, p.dtype)
        native.sigmoid_crossentropy_backward(p, self.smooth(targets, step), scale, dz)
        return dz

    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        p, t = np.clip(y, EPSILON, 1 - EPSILON), self.smooth(targets, step)
        losses: Array = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(-1)
        return losses

    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        inside = (y > EPSILON) & (y < 1 - EPSILON)
        p, t = np.where(inside, y, 0.5), self.smooth(targets, step)
        dy = step.empty(y.shape, y.dtype)
        dy[...] = np.where(inside, (p - t) / (p * (1 - p)), 0) * (scale[..., None] / y.shape[-1])
        return dy


class MeanSquaredError(Loss):
    """(prediction - target)^2, averaged over the last axis."""

    def __init__(self, name: str = "mean_squared_error") -> None:
        super().__init__(False, 0.0, name)

    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        losses = _rows(y, step)
        native.mean_squared_error_forward(y, targets, losses)
        return losses

    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        dy = step.empty(y.shape, y.dtype)
        native.mean_squared_error_backward(y, targets, scale, dy)
        return dy


def _by_row(loss: Loss, y_true: Any, y_pred: Any) -> Array:
    y = np.asarray(y_pred)
    y = np.ascontiguousarray(y, dtype=y.dtype if y.dtype in (np.float32, np.float64) else np.float32)
    targets = loss.prepare(y_true, y.shape, y.dtype)
    check_lengths(loss.name, targets, y)
    step = Step(training=False)  # its buffers live as long as the result: nobody else gets them
    return loss.forward_logits(y, targets, step)[0] if loss.from_logits else loss.forward(y, targets, step)


def sparse_categorical_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False) -> Array:
    """The loss of each row, (rows,), for integer labels. See `SparseCategoricalCrossentropy`."""
    return _by_row(SparseCategoricalCrossentropy(from_logits), y_true, y_pred)


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0
) -> Array:
    """The loss of each row, (rows,), for one-hot or soft targets. See `CategoricalCrossentropy`."""
    return _by_row(CategoricalCrossentropy(from_logits, label_smoothing), y_true, y_pred)


def binary_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0) -> Array:
    """The loss of each row, (rows,). See `BinaryCrossentropy`."""
    return _by_row(BinaryCrossentropy(from_logits, label_smoothing), y_true, y_pred)


def mean_squared_error(y_true: Any, y_pred: Any) -> Array:
    """The loss of each row, (rows,). See `MeanSquaredError`."""
    return _by_row(MeanSquaredError(), y_true, y_pred)


_BY_NAME: dict[str, Callable[[], Loss]] = {
    "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
    "categorical_crossentropy": CategoricalCrossentropy,
    "binary_crossentropy": BinaryCrossentropy,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
}


def get(identifier: str | Loss) -> Loss:
    """The loss of that name, or the loss itself."""
    if isinstance(identifier, Loss):
        return identifier
    if not isinstance(identifier, str):
        raise TypeError(f"loss must be a name or a vivace.losses.Loss, received {identifier!r}")
    return lookup("loss", identifier, _BY_NAME)()
