"""Cross-entropies, from probabilities and from logits, and their focal forms."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from .. import activations
from .._core import native
from .._typing import Array, BatchShape
from ..step import Step
from .base import EPSILON, Loss, numeric_targets, rows_of

Method = TypeVar("Method", bound=Callable[..., Any])


def over_axis(method: Method) -> Method:
    """A method of arrays whose last axis is that of the classes, for arrays in which the loss's `axis` is.

    Of probabilities that are all 0 the loss is NaN, as in Keras, and NumPy says nothing.
    """

    def moved(self: Any, y: Array, targets: Array, *rest: Any) -> Any:
        if self.axis == -1 or self.axis == y.ndim - 1:
            return method(self, y, targets, *rest)
        result = method(self, np.ascontiguousarray(np.moveaxis(y, self.axis, -1)), targets, *rest)
        if isinstance(result, tuple):
            return result[0], self._moved_back(result[1])
        return self._moved_back(result) if result.ndim == y.ndim else result

    if not method.__name__.endswith("logits"):
        moved = np.errstate(divide="ignore", invalid="ignore")(moved)
    return functools.wraps(method)(moved)  # type: ignore[return-value]


class _OverClasses(Loss):
    """A loss over the classes along an axis; its targets are prepared with them at the end."""

    axis = -1

    def prepare(self, y: Any, output_shape: BatchShape, dtype: Any) -> Array:
        targets = super().prepare(y, output_shape, dtype)
        return targets if self.axis == -1 else np.ascontiguousarray(np.moveaxis(targets, self.axis, -1))

    def _moved_back(self, y: Array) -> Array:
        return np.ascontiguousarray(np.moveaxis(y, -1, self.axis))


class _Smoothed(_OverClasses):
    """A loss of probabilities, or of the logits that a model may give instead."""

    def __init__(
        self,
        from_logits: bool,
        label_smoothing: float,
        axis: int,
        reduction: str | None,
        name: str | None,
        dtype: str | None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.axis = axis
        if axis != -1:
            self.fused_activation = None  # which is over the last axis
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"{type(self).__name__}: label_smoothing must lie in [0, 1), received {label_smoothing!r}")
        self.from_logits, self.label_smoothing = from_logits, label_smoothing

    def smooth(self, targets: Array) -> Array:
        """The targets after label smoothing: towards 1 / classes, or towards 1/2 where each column is a question."""
        if not self.label_smoothing:
            return targets
        s = self.label_smoothing
        even = 1 / targets.shape[-1] if type(self).fused_activation == "softmax" else 0.5
        return (targets * (1 - s) + s * even).astype(targets.dtype, copy=False)


class SparseCategoricalCrossentropy(_OverClasses):
    """-log(probability of the label), with integer labels 0 ... classes-1.

    Args:
        from_logits: the predictions are logits, not probabilities.
        ignore_class: rows with this label, such as -1 or 255, do not count.
        axis: that of the classes, -1.
    """

    fused_activation: str | None = "softmax"

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str = "sparse_categorical_crossentropy",
        dtype: str | None = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.from_logits, self.ignore_class, self.axis = from_logits, ignore_class, axis
        if axis != -1:
            self.fused_activation = None  # which is over the last axis

    def counted(self, targets: Array, losses: Array) -> Array | None:
        return None if self.ignore_class is None else targets != self.ignore_class

    def _labels(self, targets: Array) -> Array:
        """Labels that are classes: an ignored one is taken for class 0, and its loss is left out of the sum."""
        return targets if self.ignore_class is None else np.where(targets == self.ignore_class, 0, targets)

    def _without_ignored(self, losses: Array, targets: Array) -> Array:
        if self.ignore_class is not None:
            losses[targets == self.ignore_class] = 0
        return losses

    def prepare(self, y: Any, output_shape: BatchShape, dtype: Any) -> Array:
        labels = numeric_targets(self.name, y)
        axis = self.axis % len(output_shape)
        classes, rest = output_shape[axis] or 0, output_shape[1:axis] + output_shape[axis + 1 :]
        if labels.ndim == len(output_shape) and labels.shape[axis] == 1:
            labels = labels.squeeze(axis)
        if labels.shape[1:] != tuple(rest) or labels.ndim == 0:
            hint = ""
            if labels.ndim == len(output_shape) and labels.shape[axis] == classes:
                hint = "; one-hot targets go with loss='categorical_crossentropy'"
            elif labels.ndim == 1 and rest:
                hint = "; Flatten or a global pooling layer before the last layer makes one output for each sample"
            raise ValueError(
                f"{self.name}: the labels must be integers of shape {('batch', *rest)}, "
                f"received shape {labels.shape}{hint}"
            )
        if labels.dtype.kind == "f" and not (labels == np.floor(labels)).all():
            bad = labels[labels != np.floor(labels)].flat[0]
            raise ValueError(f"{self.name}: the labels must be integers, received {bad}")
        integers = np.ascontiguousarray(labels, dtype=np.int64)
        outside = integers[((integers < 0) | (integers >= classes)) & (integers != self.ignore_class)]
        if outside.size:
            bad = outside.min() if outside.min() < 0 else outside.max()
            hint = "; the last layer needs one unit for each class" if classes == 1 else ""
            if bad == classes > 1:
                hint = f"; the first class is 0: labels from 1 to {classes} are y - 1"
            raise ValueError(
                f"{self.name}: labels must lie in [0, {classes}), the classes of the output; received label {bad}{hint}"
            )
        return integers

    @over_axis
    def forward_logits(self, z: Array, targets: Array, step: Step) -> tuple[Array, Array]:
        losses, p = rows_of(z, step), step.empty(z.shape, z.dtype)
        native.sparse_softmax_crossentropy_forward(z, self._labels(targets), p, losses)
        return self._without_ignored(losses, targets), p

    @over_axis
    def backward_logits(self, p: Array, targets: Array, scale: Array, step: Step) -> Array:
        dz = step.empty(p.shape, p.dtype)
        native.sparse_softmax_crossentropy_backward(p, self._labels(targets), scale, dz)
        return dz

    @over_axis
    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        p = self._picked(y, targets) / y.sum(-1)  # Keras normalises what it is given
        return self._without_ignored(-np.log(np.clip(p, EPSILON, 1 - EPSILON)), targets)

    @over_axis
    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        total = y.sum(-1)
        p = self._picked(y, targets) / total
        inside = (p > EPSILON) & (p < 1 - EPSILON)
        scale = np.where(inside, scale / total, 0)[..., None]
        dy = step.empty(y.shape, y.dtype)
        dy[...] = scale
        labels = self._labels(targets)[..., None]
        slope = scale * (1 - 1 / np.where(inside, p, 1))[..., None]
        np.put_along_axis(dy, labels, slope.astype(dy.dtype, copy=False), -1)
        return dy

    def _picked(self, y: Array, targets: Array) -> Array:
        """The predictions of the labels."""
        return np.take_along_axis(y, self._labels(targets)[..., None], -1)[..., 0]


class CategoricalCrossentropy(_Smoothed):
    """-sum(target * log(probability)) over the classes, with one-hot or soft targets.

    Args:
        from_logits: the predictions are logits, not probabilities.
        label_smoothing: targets become target * (1 - s) + s / classes.
        axis: that of the classes, -1.
    """

    fused_activation = "softmax"

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_crossentropy",
        dtype: str | None = None,
    ) -> None:
        super().__init__(from_logits, label_smoothing, axis, reduction, name, dtype)

    @over_axis
    def forward_logits(self, z: Array, targets: Array, step: Step) -> tuple[Array, Array]:
        losses, p = rows_of(z, step), step.empty(z.shape, z.dtype)
        native.softmax_crossentropy_forward(z, self.smooth(targets), p, losses)
        return losses, p

    @over_axis
    def backward_logits(self, p: Array, targets: Array, scale: Array, step: Step) -> Array:
        dz = step.empty(p.shape, p.dtype)
        native.softmax_crossentropy_backward(p, self.smooth(targets), scale, dz)
        return dz

    @over_axis
    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        p = y / y.sum(-1, keepdims=True)  # Keras normalises what it is given
        losses: Array = -(self.smooth(targets) * np.log(np.clip(p, EPSILON, 1 - EPSILON))).sum(-1)
        return losses

    @over_axis
    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        total = y.sum(-1, keepdims=True)
        p = y / total
        inside = (p > EPSILON) & (p < 1 - EPSILON)
        dp = np.where(inside, -self.smooth(targets) / np.where(inside, p, 1), 0) * scale[..., None]
        dy = step.empty(y.shape, y.dtype)
        dy[...] = (dp - (dp * p).sum(-1, keepdims=True)) / total
        return dy


class BinaryCrossentropy(_Smoothed):
    """-(t log p + (1 - t) log(1 - p)), averaged over the last axis.

    Args:
        from_logits: the predictions are logits, not probabilities.
        label_smoothing: targets become target * (1 - s) + s / 2.
        axis: what the losses are averaged over, -1.
    """

    fused_activation = "sigmoid"

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_crossentropy",
        dtype: str | None = None,
    ) -> None:
        super().__init__(from_logits, label_smoothing, axis, reduction, name, dtype)

    @over_axis
    def forward_logits(self, z: Array, targets: Array, step: Step) -> tuple[Array, Array]:
        losses, p = rows_of(z, step), step.empty(z.shape, z.dtype)
        native.sigmoid_crossentropy_forward(z, self.smooth(targets), p, losses)
        return losses, p

    @over_axis
    def backward_logits(self, p: Array, targets: Array, scale: Array, step: Step) -> Array:
        dz = step.empty(p.shape, p.dtype)
        native.sigmoid_crossentropy_backward(p, self.smooth(targets), scale, dz)
        return dz

    @over_axis
    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        p, t = np.clip(y, EPSILON, 1 - EPSILON), self.smooth(targets)
        losses: Array = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(-1)
        return losses

    @over_axis
    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        inside = (y > EPSILON) & (y < 1 - EPSILON)
        p, t = np.where(inside, y, 0.5), self.smooth(targets)
        dy = step.empty(y.shape, y.dtype)
        dy[...] = np.where(inside, (p - t) / (p * (1 - p)), 0) * (scale[..., None] / y.shape[-1])
        return dy


class BinaryFocalCrossentropy(_Smoothed):
    """(1 - p_t)^gamma times the binary cross-entropy, averaged over the last axis (Lin et al. 2017).

    p_t = t p + (1 - t)(1 - p): what counts is where the prediction is far from the target.

    Args:
        apply_class_balancing: weigh the class 1 by alpha and the class 0 by 1 - alpha.
        alpha: 0.25.
        gamma: 2.
        from_logits: the predictions are logits, not probabilities.
        label_smoothing: targets become target * (1 - s) + s / 2.
        axis: what the losses are averaged over, -1.
    """

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_focal_crossentropy",
        dtype: str | None = None,
    ) -> None:
        super().__init__(from_logits, label_smoothing, axis, reduction, name, dtype)
        self.apply_class_balancing, self.alpha, self.gamma = apply_class_balancing, alpha, gamma

    def forward_logits(self, z: Array, targets: Array, step: Step) -> tuple[Array, Array]:
        p = activations.sigmoid(z)
        return self.forward(p, targets, step), p

    def backward_logits(self, p: Array, targets: Array, scale: Array, step: Step) -> Array:
        dy = self.backward(p, targets, scale, step)
        dy *= p * (1 - p)
        return dy

    def _balance(self, t: Array) -> Any:
        return t * self.alpha + (1 - t) * (1 - self.alpha) if self.apply_class_balancing else 1

    @over_axis
    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        t, p = self.smooth(targets), np.clip(y, EPSILON, 1 - EPSILON)
        far = t + y - 2 * t * y  # 1 - p_t
        crossentropy = -(t * np.log(p) + (1 - t) * np.log(1 - p))
        losses: Array = (self._balance(t) * far**self.gamma * crossentropy).mean(-1)
        return losses

    @over_axis
    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        t, p = self.smooth(targets), np.clip(y, EPSILON, 1 - EPSILON)
        far = t + y - 2 * t * y
        crossentropy = -(t * np.log(p) + (1 - t) * np.log(1 - p))
        slope = np.where(p == y, (p - t) / (p * (1 - p)), 0) * far**self.gamma
        if self.gamma:
            slope += self.gamma * far ** (self.gamma - 1) * (1 - 2 * t) * crossentropy
        dy = step.empty(y.shape, y.dtype)
        dy[...] = slope * self._balance(t) * (scale[..., None] / y.shape[-1])
        return dy


class CategoricalFocalCrossentropy(_Smoothed):
    """-sum(alpha * (1 - p)^gamma * target * log(p)) over the classes (Lin et al. 2017).

    Args:
        alpha: a number, or one for each class; 0.25.
        gamma: 2.
        from_logits: the predictions are logits, not probabilities.
        label_smoothing: targets become target * (1 - s) + s / classes.
        axis: that of the classes, -1.
    """

    def __init__(
        self,
        alpha: float | Sequence[float] = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_focal_crossentropy",
        dtype: str | None = None,
    ) -> None:
        super().__init__(from_logits, label_smoothing, axis, reduction, name, dtype)
        self.alpha, self.gamma = alpha, gamma

    def smooth(self, targets: Array) -> Array:
        s = self.label_smoothing
        return (targets * (1 - s) + s / targets.shape[-1]).astype(targets.dtype, copy=False) if s else targets

    def forward_logits(self, z: Array, targets: Array, step: Step) -> tuple[Array, Array]:
        p = activations.softmax(z, self.axis)
        return self.forward(p, targets, step), p

    def backward_logits(self, p: Array, targets: Array, scale: Array, step: Step) -> Array:
        dp = self.backward(p, targets, scale, step)
        return np.ascontiguousarray(activations.softmax_gradient(p, p, dp, self.axis))

    @over_axis
    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        p = np.clip(y / y.sum(-1, keepdims=True), EPSILON, 1 - EPSILON)
        alpha = np.asarray(self.alpha, y.dtype)
        losses: Array = -(alpha * (1 - p) ** self.gamma * self.smooth(targets) * np.log(p)).sum(-1)
        return losses

    @over_axis
    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        total = y.sum(-1, keepdims=True)
        q = y / total
        p = np.clip(q, EPSILON, 1 - EPSILON)
        slope = (1 - p) ** self.gamma / p - self.gamma * (1 - p) ** (self.gamma - 1) * np.log(p)
        dq = np.where(p == q, -np.asarray(self.alpha, y.dtype) * self.smooth(targets) * slope, 0) * scale[..., None]
        dy = step.empty(y.shape, y.dtype)
        dy[...] = (dq - (dq * q).sum(-1, keepdims=True)) / total
        return dy


class CategoricalGeneralizedCrossEntropy(SparseCategoricalCrossentropy):
    """(1 - p^q) / q with p the probability of the integer label: between cross-entropy and absolute error.

    (Zhang & Sabuncu 2018, for labels some of which are wrong.) q: in (0, 1), 0.5.
    """

    fused_activation = None

    def __init__(
        self,
        q: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_generalized_cross_entropy",
        dtype: str | None = None,
    ) -> None:
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        if not 0 < q < 1:
            raise ValueError(f"CategoricalGeneralizedCrossEntropy: q must lie in (0, 1), received {q!r}")
        self.q = q

    @over_axis
    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        p = np.take_along_axis(y, targets[..., None], -1)[..., 0]
        return (1 - p**self.q) / self.q

    @over_axis
    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        dy = step.empty(y.shape, y.dtype)
        dy[...] = 0
        p = np.take_along_axis(y, targets[..., None], -1)
        np.put_along_axis(dy, targets[..., None], -(p ** (self.q - 1)) * scale[..., None], -1)
        return dy
