"""Losses that are plain functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._typing import Array, BatchShape
from .base import Loss


class LossFunctionWrapper(Loss):
    """The loss that a function of (y_true, y_pred) computes; what `compile(loss=function)` makes of it.

    Args:
        fn: fn(y_true, y_pred, **kwargs) returns one loss for each sample or row, or one for all. It computes with
            `autograd.numpy`, and the autograd library (the extra `autograd`) derives its gradient.
        reduction, name, dtype: as of `Loss`; name: the function's.
        kwargs: further arguments of the function.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name or getattr(fn, "__name__", None), reduction, dtype)
        self.fn, self.kwargs = fn, kwargs

    def prepare(self, y: Any, output_shape: BatchShape, dtype: Any) -> Array:
        """Targets of one axis less than the output, (batch, ..., 1), get that axis."""
        targets = super().prepare(y, output_shape, dtype)
        if targets.dtype.kind == "f" and targets.ndim == len(output_shape) - 1 and output_shape[-1] == 1:
            return np.ascontiguousarray(targets[..., None])
        return targets

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.fn(y_true, y_pred, **self.kwargs)
