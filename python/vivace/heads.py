"""The outputs of a model in training: each with a loss, its weight in the total, and metrics of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import data, losses, metrics
from ._naming import made
from ._typing import Array, BatchShape
from .step import Step

_KEPT_SHAPES = 8  # of batches, whose plain mean is kept as an array


class Head:
    """One output. Without a loss it does not train, but it may have metrics.

    weight: of the loss in the model's total.
    metrics: first those that know nothing of sample weights, then the weighted ones; None before the first targets,
        which decide what names like "accuracy" mean.
    """

    def __init__(self, owner: str, name: str, loss: Any, weight: float, plain: list[Any], weighted: list[Any]) -> None:
        self.owner, self.name, self.weight = owner, name, weight
        self.mean = metrics.Mean(f"{name}_loss")
        self.trains = loss is not None
        self.loss: losses.Loss | None = None
        if self.trains and not _is_crossentropy(loss):
            self._set_loss(loss)
        self.identifiers, self._plain = [*plain, *weighted], len(plain)
        self.labels: list[str] = []  # what the metrics are called in logs
        self.metrics: list[metrics.Metric] | None = None
        self._means: dict[tuple[int, ...], Array] = {}

    def _set_loss(self, identifier: Any) -> None:
        self.loss = losses.get(identifier)
        if self.loss.reduction in ("none", None):
            raise ValueError(f"{self.owner}: training needs one number, so the loss of {self.name!r} needs a reduction")

    def prepare(self, owner: str, y: Any, output_shape: BatchShape, dtype: str) -> Array | None:
        """The targets as the loss and the metrics take them."""
        if y is None:
            if self.trains:
                raise ValueError(f"{owner}: the targets y are missing")
            return None
        array = data.as_array(y)
        # An axis of unknown size, such as the steps of sequences, has in the output the size that the targets have.
        output_shape = tuple(
            array.shape[i] if n is None and 0 < i < array.ndim else n for i, n in enumerate(output_shape)
        )
        column = array.ndim == len(output_shape) and array.shape[-1] == 1
        rank = array.ndim - 1 if column else array.ndim
        if self.metrics is None:
            self.metrics = [metrics.get(identifier, rank, output_shape) for identifier in self.identifiers]
        if self.trains and self.loss is None:
            self._set_loss(_crossentropy_for(rank, output_shape))
        if self.loss is not None:
            return self.loss.prepare(array, output_shape, dtype)
        return np.ascontiguousarray(losses.base.numeric_targets(owner, array)) if self.identifiers else None

    # One batch

    def losses_of(self, y: Array, targets: Any, step: Step) -> Array | None:
        """The losses of the output's rows."""
        loss = self.loss
        if loss is None:
            return None
        return loss.forward_logits(y, targets, step)[0] if loss.from_logits else loss.forward(y, targets, step)

    def account(
        self, rows: Array | None, y: Array, targets: Any, weights: Array | None, mask: Any
    ) -> tuple[float, Array | None]:
        """Add a batch to the running loss and metrics; returns its loss and each row's factor in it, times `weight`.

        Where the output has steps and a mask, only the steps that count enter the loss and the metrics.
        """
        if mask is not None:
            mask = mask.astype(bool) if mask.shape == y.shape[:-1] else None
        value, scale = 0.0, None
        if rows is not None:
            assert self.loss is not None
            fitting = mask if mask is not None and mask.shape == rows.shape else None
            value, scale = self.loss.reduce(rows, targets, weights, fitting)
            self.mean.add(value * len(y), len(y))
            if scale is None:
                scale = self._plain_mean(rows)
            elif self.weight != 1:
                scale = np.ascontiguousarray(scale * rows.dtype.type(self.weight))
        if self.metrics and targets is not None:
            self._measure(y, targets, weights, mask)
        return value * self.weight, scale

    def _plain_mean(self, rows: Array) -> Array:
        scale = self._means.get(rows.shape)
        if scale is None:
            if len(self._means) >= _KEPT_SHAPES:
                self._means.clear()
            scale = self._means[rows.shape] = np.full(rows.shape, self.weight / max(1, rows.size), rows.dtype)
        return scale

    def _measure(self, y: Array, targets: Array, weights: Array | None, mask: Array | None) -> None:
        if mask is not None:
            if weights is not None:
                weights = np.broadcast_to(
                    weights.reshape(*weights.shape, *(1,) * (mask.ndim - weights.ndim)), mask.shape
                )
                weights = weights[mask]
            targets, y = targets[mask], y[mask]
        for i, metric in enumerate(self.metrics or ()):
            if i < self._plain or weights is None:
                metric.update_state(targets, y)
            else:
                metric.update_state(targets, y, weights)

    def gradient(self, y: Array, targets: Any, scale: Array | None, step: Step) -> Array:
        """Of the loss with respect to the output; zeros without a loss."""
        loss = self.loss
        if loss is None or scale is None:
            zeros = step.empty(y.shape, y.dtype)
            zeros.fill(0)
            return zeros
        if not loss.from_logits:
            return loss.backward(y, targets, scale, step)
        return loss.backward_logits(loss.forward_logits(y, targets, step)[1], targets, scale, step)

    def reset(self) -> None:
        self.mean.reset_state()
        for metric in self.metrics or ():
            metric.reset_state()


class Heads:
    """All outputs of a model; losses, weights and metrics are lists, or dicts by output name, if there are several.

    only: the head of a model of one output, else None.
    Raises ValueError for a list of another length, a name that no output has, or metrics that are no list.
    """

    def __init__(
        self, owner: str, names: Sequence[str], loss: Any, loss_weights: Any, metrics_: Any, weighted_metrics: Any
    ) -> None:
        self.names = list(names) or ["output"]
        one = len(self.names) == 1
        given = [loss] * len(self.names)
        if isinstance(loss, (list, tuple)) or data.by_name(loss):
            given = data.in_order(f"{owner}: loss", "output", loss, self.names, missing=None)
        weights: list[Any] = [1.0] * len(self.names)
        if loss_weights is not None:
            alone = one and isinstance(loss_weights, (list, tuple)) and len(loss_weights) == 1
            loss_weights = loss_weights[0] if alone else loss_weights
            weights = data.in_order(f"{owner}: loss_weights", "output", loss_weights, self.names, missing=1.0)
        try:
            weights = [float(weight) for weight in weights]
        except (TypeError, ValueError):
            hint = f"{owner}: loss_weights must be numbers, received {loss_weights!r}; metrics go into metrics=[...]"
            raise ValueError(hint) from None
        plain = self._of_outputs(owner, "metrics", metrics_)
        weighted = self._of_outputs(owner, "weighted_metrics", weighted_metrics)
        self.heads = [Head(owner, *of_one) for of_one in zip(self.names, given, weights, plain, weighted, strict=True)]
        self.only = self.heads[0] if one else None
        trained = [head.mean for head in self.heads if head.trains]
        self.tracked = trained if len(trained) > 1 else []  # losses that have a name in logs, besides the total
        self._name_metrics(plain)
        labels = [label for head in self.heads for label in head.labels]
        self.log_names = ["loss", *(mean.name for mean in self.tracked), *(labels if one else sorted(labels))]

    def _of_outputs(self, owner: str, argument: str, given: Any) -> list[list[Any]]:
        """The metrics of each output, as lists."""
        if given is None:
            return [[] for _ in self.names]
        if not isinstance(given, (list, tuple)) and not data.by_name(given):
            raise ValueError(f"{owner}: {argument} must be a list or a dict by output name, received {given!r}")
        if len(self.names) == 1 and not data.by_name(given):
            nested = len(given) == 1 and isinstance(given[0], (list, tuple))
            return [list(map(made, given[0] if nested else given))]
        if not given:
            return [[] for _ in self.names]
        of_outputs = data.in_order(f"{owner}: {argument}", "output", given, self.names, missing=())
        lists = [list(m) if isinstance(m, (list, tuple)) else [] if m is None else [m] for m in of_outputs]
        return [list(map(made, mine)) for mine in lists]

    def _name_metrics(self, plain: list[list[Any]]) -> None:
        """As Keras does: an output's name first if there are several; a number, or "weighted_", for a second one."""
        used: Counter[str] = Counter()

        def label(head: Head, name: str, weighted: bool) -> str:
            prefix = "" if self.only else f"{head.name}_"
            if weighted and used[prefix + name]:
                name = f"weighted_{name}"
            used[prefix + name] += 1
            count = used[prefix + name] - 1
            return f"{prefix}{name}_{count}" if count else prefix + name

        for weighted in (False, True):
            for head, of_head in zip(self.heads, plain, strict=True):
                mine = head.identifiers[len(of_head) :] if weighted else of_head
                head.labels += [label(head, metrics.name_of(identifier), weighted) for identifier in mine]

    @property
    def trains(self) -> bool:
        """Whether any output has a loss."""
        return any(head.trains for head in self.heads)

    @property
    def ready(self) -> bool:
        """Whether the first targets have been seen, so that all losses and metrics are known."""
        return all(head.metrics is not None for head in self.heads)

    def metric(self, label: str) -> metrics.Metric | None:
        """The metric of that name in logs."""
        for head in self.heads:
            if label in head.labels and head.metrics is not None:
                return head.metrics[head.labels.index(label)]
        return None

    @property
    def metrics(self) -> list[metrics.Metric]:
        """All metric objects; those of names exist from the first targets on."""
        return [*self.tracked, *(metric for head in self.heads for metric in head.metrics or ())]

    def prepare(
        self, owner: str, y: Any, sample_weight: Any, class_weight: Mapping[int, float] | None, shape: Any, count: int,
        dtype: str,
    ) -> tuple[Any, Any]:  # fmt: skip
        """Targets and weights of `count` samples; of several outputs lists of them, with None where there is none."""
        if sample_weight is not None and class_weight is not None:
            raise ValueError(
                f"{owner}: class_weight and sample_weight cannot be given together; multiply the weights of the "
                "classes into sample_weight"
            )
        if self.only is not None:
            return self._prepare_one(owner, self.only, y, sample_weight, class_weight, shape, count, dtype)
        if class_weight is not None:
            raise ValueError(f"{owner}: class_weight is for a model of a single output; use sample_weight")
        given = data.in_order(
            f"{owner}: y", "output", [None] * len(self.names) if y is None else y, self.names, missing=None
        )
        several = data.by_name(sample_weight) or (
            isinstance(sample_weight, (list, tuple)) and not np.isscalar(sample_weight[0])
        )
        weights: list[Any] = [sample_weight] * len(self.names)
        if several:
            weights = data.in_order(f"{owner}: sample_weight", "output", sample_weight, self.names, missing=None)
        prepared = [
            self._prepare_one(f"{owner}: {head.name}", head, one, weight, None, of_one, count, dtype)
            for head, one, weight, of_one in zip(self.heads, given, weights, shape, strict=True)
        ]
        weights = [weight for _, weight in prepared]
        return [targets for targets, _ in prepared], None if all(w is None for w in weights) else weights

    def _prepare_one(
        self, owner: str, head: Head, y: Any, sample_weight: Any, class_weight: Mapping[int, float] | None,
        shape: BatchShape, count: int, dtype: str,
    ) -> tuple[Array | None, Array | None]:  # fmt: skip
        if self.only is not None and (
            data.by_name(y) or (isinstance(y, (list, tuple)) and len(y) == 1 and isinstance(y[0], np.ndarray))
        ):
            (y,) = data.in_order(f"{owner}: y", "output", y, self.names)
        targets = head.prepare(owner, y, shape, dtype)
        if targets is not None and len(targets) != count:
            raise ValueError(f"{owner}: x has {count} samples, y has {len(targets)}")
        if class_weight is not None and targets is not None:
            return targets, data.class_weights(owner, targets, class_weight, dtype)
        if sample_weight is None or targets is None:
            return targets, None
        if self.only is not None and data.by_name(sample_weight):
            (sample_weight,) = data.in_order(f"{owner}: sample_weight", "output", sample_weight, self.names)
        return targets, data.row_weights(owner, count, shape, sample_weight, dtype)

    def account(
        self, y: list[Array], targets: list[Any], weights: list[Any] | None, step: Step
    ) -> tuple[float, list[Array | None]]:
        """Add a batch of several outputs; returns the total loss and, in training, each output's gradient."""
        count = len(self.heads)
        masks: list[Any] = step.mask if isinstance(step.mask, list) else [step.mask] * count
        total, gradients = 0.0, []
        for i, head in enumerate(self.heads):
            rows = head.losses_of(y[i], targets[i], step)
            value, scale = head.account(rows, y[i], targets[i], weights[i] if weights else None, masks[i])
            total += value
            trains = step.training and (scale is not None or step.penalty)
            gradients.append(head.gradient(y[i], targets[i], scale, step) if trains else None)
        return total, gradients

    def reset(self) -> None:
        for head in self.heads:
            head.reset()

    def logs(self) -> dict[str, Any]:
        """All values but the total loss, by their names."""
        found: dict[str, Any] = {mean.name: mean.result() for mean in self.tracked}
        for head in self.heads:
            found |= {label: m.result() for label, m in zip(head.labels, head.metrics or (), strict=False)}
        logs: dict[str, Any] = {}
        for name in self.log_names[1:]:
            value = found.get(name)
            if isinstance(value, dict):  # a metric may have several values
                logs |= value
            elif value is not None:
                logs[name] = value
        return logs


def _is_crossentropy(identifier: Any) -> bool:
    return isinstance(identifier, str) and identifier.lower() in ("crossentropy", "ce")


def _crossentropy_for(target_rank: int, output_shape: BatchShape) -> str:
    """What "crossentropy" means, by the same rule as "accuracy"."""
    if output_shape[-1] == 1:
        return "binary_crossentropy"
    return "sparse_categorical_crossentropy" if target_rank < len(output_shape) else "categorical_crossentropy"
