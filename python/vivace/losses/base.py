"""What every loss is: targets made ready once, losses and their gradient, and the reduction to one number."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import config
from .._config import Configurable
from .._core import native
from .._typing import Array, BatchShape
from ..differentiation import pullback
from ..step import Step

EPSILON = 1e-7  # probabilities are clipped to [EPSILON, 1 - EPSILON], as in Keras
REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None)


class Loss(Configurable):
    """Base of all losses. A subclass defines `forward` and `backward`; its arguments are attributes.

    Or it defines `call(y_true, y_pred)`, which returns the losses and computes with `vivace.ops` or `autograd.numpy`:
    then the autograd library (the extra `autograd`) derives the gradient.

    Args:
        name: the class's name by default.
        reduction: of the losses, times their weights, to one number: "sum_over_batch_size" (or "mean") divides their
            sum by their number, "mean_with_sample_weight" by the sum of the weights, "sum" by nothing; "none" (None)
            does not add them up, which is not for training.
        dtype: "float32" or "float64", into which predictions are converted when the loss is called; None: as they are.

    fused_activation: the activation whose input the loss can take instead of its output, or None.
    from_logits: the loss expects that input, and computes it with `forward_logits`.
    """

    family = "losses"
    fused_activation: str | None = None
    from_logits = False

    def __init__(
        self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: str | None = None
    ) -> None:
        self.name = name or type(self).__name__
        self.dtype = None if dtype is None else config.check_dtype(self.name, dtype)
        if reduction not in REDUCTIONS:
            raise ValueError(f"{self.name}: reduction must be one of {REDUCTIONS}, received {reduction!r}")
        self.reduction = reduction

    def prepare(self, y: Any, output_shape: BatchShape, dtype: Any) -> Array:
        """Convert and check a whole data set's targets once. Raises ValueError or TypeError saying what fits."""
        targets = numeric_targets(self.name, y)
        if type(self).call is not Loss.call:  # whose targets are its own affair
            return targets if targets.dtype.kind in "iu" else np.ascontiguousarray(targets, dtype=dtype)
        if targets.ndim == len(output_shape) - 1 and output_shape[-1] == 1:
            targets = targets[..., None]
        if not fits(targets.shape[1:], output_shape[1:]):
            hint = ""
            if targets.ndim == len(output_shape) - 1 and self.fused_activation == "softmax":
                hint = "; for integer labels use loss='sparse_categorical_crossentropy'"
            raise ValueError(
                f"{self.name}: the targets must have the output's shape {tuple(output_shape)}, "
                f"received shape {targets.shape}{hint}"
            )
        return np.ascontiguousarray(targets, dtype=dtype)

    def forward_logits(self, z: Array, targets: Array, step: Step) -> tuple[Array, Array]:
        """(losses, probabilities) from the fused activation's input."""
        raise TypeError(f"{self.name} takes no logits")

    def backward_logits(self, p: Array, targets: Array, scale: Array, step: Step) -> Array:
        raise TypeError(f"{self.name} takes no logits")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The losses before the reduction: one for each sample or row, or one for all.

        A subclass that leaves its gradient to autograd defines it.
        """
        if type(self).forward is Loss.forward:
            raise TypeError(f"{self.name} must define call(y_true, y_pred), or forward and backward")
        return self.by_row(y_true, y_pred)[0]

    def forward(self, y: Array, targets: Array, step: Step) -> Array:
        """Losses, most often one per row, from the model's output."""
        return np.asarray(self.call(targets, y), y.dtype)

    def backward(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        """Gradient of sum(scale * losses) with respect to the output."""
        _, pull = pullback(self.name, lambda y: self.call(targets, y), [y])
        return pull(scale)[0]

    def counted(self, targets: Array, losses: Array) -> Array | None:
        """Which of the losses count (bool, of their shape); None: all."""
        return None

    def scale(self, losses: Array, targets: Array, weights: Array | None, mask: Array | None) -> Array | None:
        """Each loss's factor in the reduced loss; None for the plain mean.

        weights: (samples,) or of the losses' shape; mask: nonzero where a loss counts, of the losses' shape.
        """
        for part in (mask, self.counted(targets, losses)):
            if part is not None and part.shape == losses.shape:
                weights = part * (1 if weights is None else _like(self.name, weights, losses))
                if self.reduction in ("sum_over_batch_size", "mean"):
                    weights = weights * (part.size / max(1, int(np.count_nonzero(part))))
        if weights is None:
            if self.reduction != "sum":
                return None
            weights = np.ones(losses.shape)
        factor = _like(self.name, weights, losses)
        if self.reduction == "mean_with_sample_weight":
            divisor = float(np.sum(weights, dtype=np.float64))  # as given: one that counts for many losses counts once
            if divisor == 0:
                return np.zeros(losses.shape, losses.dtype)
        else:
            count = losses.size if losses.ndim else np.size(weights)
            divisor = 1 if self.reduction == "sum" else max(1, count)
        return np.ascontiguousarray(factor / divisor, dtype=losses.dtype)

    def reduce(
        self, losses: Array, targets: Array, weights: Array | None, mask: Array | None
    ) -> tuple[float, Array | None]:
        """The reduced loss, and each loss's factor in it as `scale` returns it."""
        scale = self.scale(losses, targets, weights, mask)
        if scale is None:
            return native.total(losses) / max(1, losses.size), None
        return float((losses * scale).sum(dtype=np.float64)), scale

    def by_row(self, y_true: Any, y_pred: Any) -> tuple[Array, Array]:
        """The losses of predictions before the reduction, and the prepared targets."""
        y = np.asarray(y_pred) if hasattr(y_pred, "dtype") else np.asarray(y_pred, np.float32)
        if y.ndim == 1 and np.shape(y_true) == (*y.shape, 1):
            y = y[:, None]
        kept = y.dtype if y.dtype in (np.float32, np.float64) else np.dtype(np.float32)
        y = np.ascontiguousarray(y, dtype=self.dtype or kept)
        targets = self.prepare(y_true, y.shape, y.dtype)
        if len(targets) != len(y):
            raise ValueError(f"{self.name}: {len(targets)} targets for {len(y)} predictions")
        step = Step(training=False)  # its buffers live as long as the result: nobody else gets them
        losses = self.forward_logits(y, targets, step)[0] if self.from_logits else self.forward(y, targets, step)
        return np.asarray(losses), targets

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss of predictions (rows, ...), optionally weighted: a float, or an array without a reduction.

        Of tensors of a graph, a tensor, for `add_loss` in a layer's `call`.
        """
        if hasattr(y_pred, "judged"):
            return y_pred.judged(self, y_true, sample_weight)
        losses, targets = self.by_row(y_true, y_pred)
        weights = None if sample_weight is None else np.asarray(sample_weight, np.float64)
        if self.reduction in ("none", None):
            if weights is None:
                return losses
            factor = _like(self.name, weights, losses) if losses.ndim else weights
            weighted = np.asarray(losses * factor, losses.dtype)
            return weighted[:, None] if losses.ndim == 1 and weights.ndim == 2 else weighted
        scale = self.scale(losses.astype(np.float64), targets, weights, None)
        return float(losses.mean(dtype=np.float64) if scale is None else (losses * scale).sum(dtype=np.float64))


def _like(owner: str, weights: Array, losses: Array) -> Array:
    """Weights of samples, or of losses, broadcast to the losses' shape."""
    if weights.ndim == 0:
        return np.broadcast_to(weights, losses.shape)
    if losses.ndim == 0:  # one loss for the whole batch counts once for every sample
        return weights.sum()
    if weights.shape == (*losses.shape, 1):
        weights = weights[..., 0]
    if weights.shape == losses.shape:
        return weights
    if weights.size == len(losses):
        return np.broadcast_to(weights.reshape(-1, *(1,) * (losses.ndim - 1)), losses.shape)
    raise ValueError(f"{owner}: sample_weight must have {losses.size} entries, received {weights.size}")


def fits(shape: tuple[int, ...], expected: BatchShape) -> bool:
    return len(shape) == len(expected) and all(b in (None, a) for a, b in zip(shape, expected, strict=True))


def numeric_targets(owner: str, y: Any) -> Array:
    targets = np.asarray(y)
    if targets.dtype.kind not in "biuf":
        hint = "; np.unique(y, return_inverse=True)[1] makes integers of labels" if targets.dtype.kind in "USO" else ""
        raise TypeError(f"{owner}: the targets must be numbers, received dtype {targets.dtype}{hint}")
    if targets.dtype.kind == "f" and not np.isfinite(targets).all():
        bad = int(np.flatnonzero(~np.isfinite(targets))[0])
        raise ValueError(f"{owner}: the targets must be finite, received {targets.flat[bad]} at position {bad}")
    return targets


def rows_of(y: Array, step: Step) -> Array:
    """A buffer for one loss per row: a row is everything but the last axis."""
    return step.empty(y.shape[:-1], y.dtype)
