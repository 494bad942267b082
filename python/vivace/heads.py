"""Several outputs: each with a loss, a weight and metrics of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import data, losses, metrics
from ._typing import Array, BatchShape
from .step import Step


class Head:
    """One output's loss, its weight in the total, and its metrics. An output without a loss does not train."""

    def __init__(self, name: str, loss: losses.Loss | None, weight: float, identifiers: list[Any]) -> None:
        self.name, self.loss, self.weight, self.identifiers = name, loss, weight, identifiers
        self.mean = metrics.Mean(f"{name}_loss")
        self.metrics: list[Any] | None = None  # resolved with the first targets

    def prepare(self, y: Any, output_shape: BatchShape, dtype: str) -> Array | None:
        if self.metrics is None:
            shape = np.shape(y)
            column = len(shape) == len(output_shape) and shape[-1:] == (1,)
            rank = len(shape) - 1 if column else len(shape)
            self.metrics = [metrics.get(identifier, rank, output_shape) for identifier in self.identifiers]
        return None if self.loss is None else self.loss.prepare(y, output_shape, dtype)

    def names(self) -> list[str]:
        return [f"{self.name}_{metrics.name_of(identifier)}" for identifier in self.identifiers]

    def losses_of(self, y: Array, targets: Array, step: Step) -> Array:
        assert self.loss is not None
        return (
            self.loss.forward_logits(y, targets, step)[0]
            if self.loss.from_logits
            else self.loss.forward(y, targets, step)
        )

    def account(
        self, y: Array, targets: Array | None, weights: Array | None, mask: Array | None, step: Step
    ) -> tuple[float, Array | None]:
        """Add a batch; returns its weighted loss and, in training, the gradient of that."""
        if self.loss is None or targets is None:
            return 0.0, None
        rows = self.losses_of(y, targets, step)
        mask = mask.astype(bool) if mask is not None and mask.shape == rows.shape else None
        value, scale = self.loss.reduce(rows, targets, weights, mask)
        self.mean.add(value * len(y), len(y))
        for metric in self.metrics or ():
            if mask is None:
                metric.update_state(targets, y)
            else:
                metric.update_state(targets[mask], y[mask])
        if not step.training:
            return value * self.weight, None
        if scale is None:
            scale = np.full(rows.shape, 1 / max(1, rows.size), rows.dtype)
        scale = np.ascontiguousarray(scale * rows.dtype.type(self.weight))
        if not self.loss.from_logits:
            return value * self.weight, self.loss.backward(y, targets, scale, step)
        p = self.loss.forward_logits(y, targets, step)[1]
        return value * self.weight, self.loss.backward_logits(p, targets, scale, step)


class Heads:
    """The heads of a model of several outputs; losses, weights and metrics are lists, or dicts by output name.

    Raises ValueError for a list of another length, or a name that no output has.
    """

    def __init__(self, owner: str, names: list[str], loss: Any, loss_weights: Any, metrics_: Any) -> None:
        self.output_names = names
        if isinstance(loss, (list, tuple)) or data.by_name(loss):
            given = data.in_order(f"{owner}: loss", "output", loss, names, missing=None)
        else:
            given = [loss] * len(names)
        weights: list[Any] = [1.0] * len(names)
        if loss_weights is not None:
            weights = data.in_order(f"{owner}: loss_weights", "output", loss_weights, names, missing=1.0)
        identifiers: list[Any] = [()] * len(names)
        if metrics_:
            identifiers = data.in_order(f"{owner}: metrics", "output", metrics_, names, missing=())
        self.heads = [
            Head(name, None if one is None else losses.get(one), float(weight), _as_list(identifier))
            for name, one, weight, identifier in zip(names, given, weights, identifiers, strict=True)
        ]
        for head in self.heads:
            if head.loss is not None and head.loss.reduction in ("none", None):
                raise ValueError(f"{owner}: training needs one number, so the loss of {head.name!r} needs a reduction")
        if all(head.loss is None for head in self.heads):
            raise ValueError(f"{owner}: no output has a loss")

    def prepare(
        self, owner: str, y: Any, sample_weight: Any, shapes: Sequence[BatchShape], dtype: str
    ) -> tuple[list[Array | None], list[Array | None] | None]:
        """Targets and weights of the outputs, in their order."""
        names = self.output_names
        needed = [head.loss is not None for head in self.heads]
        given = data.in_order(f"{owner}: y", "output", y, names, missing=None)
        for name, needs, one in zip(names, needed, given, strict=True):
            if needs and one is None:
                raise ValueError(f"{owner}: the targets y of output {name!r} are missing")
        targets = [head.prepare(one, shape, dtype) for head, one, shape in zip(self.heads, given, shapes, strict=True)]
        if sample_weight is None:
            return targets, None
        several = data.by_name(sample_weight) or (
            isinstance(sample_weight, (list, tuple)) and not np.isscalar(sample_weight[0])
        )
        weights: list[Any] = [sample_weight] * len(names)
        if several:
            weights = data.in_order(f"{owner}: sample_weight", "output", sample_weight, names, missing=None)
        return targets, [
            None if one is None or t is None else data.row_weights(f"{owner}: {name}", t, None, one, dtype)
            for name, one, t in zip(names, weights, targets, strict=True)
        ]

    def account(
        self, y: list[Array], targets: list[Array | None], weights: list[Array | None] | None, step: Step
    ) -> tuple[float, list[Array | None]]:
        """Add a batch; returns the total loss and, in training, each output's gradient."""
        count = len(self.heads)
        masks: list[Any] = step.mask if isinstance(step.mask, list) else [step.mask] * count
        total, gradients = 0.0, []
        for i, head in enumerate(self.heads):
            value, dy = head.account(y[i], targets[i], weights[i] if weights else None, masks[i], step)
            total += value
            gradients.append(dy)
        return total, gradients

    def reset(self) -> None:
        for head in self.heads:
            head.mean.reset_state()
            for metric in head.metrics or ():
                metric.reset_state()

    def names(self) -> list[str]:
        """What `logs` is keyed by: losses first, then metrics."""
        trained = [head.mean.name for head in self.heads if head.loss is not None]
        return trained + [name for head in self.heads for name in head.names()]

    def logs(self) -> dict[str, Any]:
        found = {head.mean.name: head.mean.result() for head in self.heads if head.loss is not None}
        for head in self.heads:
            found |= {f"{head.name}_{metric.name}": metric.result() for metric in head.metrics or ()}
        return found


def _as_list(identifiers: Any) -> list[Any]:
    if identifiers is None:
        return []
    return list(identifiers) if isinstance(identifiers, (list, tuple)) else [identifiers]
