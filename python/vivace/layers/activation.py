"""Activations as layers, for those that take arguments or have weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import activations, constraints, initializers, regularizers
from .._config import take_former
from .._core import native
from .._typing import Array, BatchShape, Initializer
from ..constraints import Constraint
from ..regularizers import L1L2
from ..step import Step
from .base import Layer


class ReLU(Layer):
    """y = x above the threshold, at most max_value; negative_slope * (x - threshold) below the threshold.

    Args:
        max_value: None: no limit.
        negative_slope: 0.
        threshold: 0.
    """

    def __init__(
        self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        for argument, value in (("max_value", max_value), ("negative_slope", negative_slope), ("threshold", threshold)):
            if (value is None and argument != "max_value") or (value is not None and not value >= 0):
                raise ValueError(f"{self.name}: {argument} must not be negative, received {value!r}")
        self.max_value = None if max_value is None else float(max_value)
        self.negative_slope, self.threshold = float(negative_slope), float(threshold)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        y = step.empty(x.shape, x.dtype)
        return activations.relu(x, self.negative_slope, self.max_value, self.threshold, out=y), x

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        if self.threshold or self.negative_slope or self.max_value is not None:
            return None
        y = step.empty(x.shape, x.dtype)
        return y, [partial(native.activation_forward, "relu", x, y)]

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        x: Array = saved
        return activations.relu_gradient(x, x, dy, self.negative_slope, self.max_value, self.threshold, out=dy)


class LeakyReLU(ReLU):
    """y = x where x >= 0, negative_slope * x below.

    Args:
        negative_slope: 0.3.
    """

    former = ("input_dim", "alpha")

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        alpha = take_former(kwargs, "alpha", "call it negative_slope")
        negative_slope = negative_slope if alpha is None else alpha
        super().__init__(None, negative_slope, **kwargs)


class PReLU(Layer):
    """y = x where x > 0, alpha * x below, with learned alpha. K. He et al., 2015.

    Weight: alpha, of the shape of a sample, with size 1 along the shared axes.

    Args:
        alpha_initializer: "zeros".
        alpha_regularizer: a penalty of `vivace.regularizers`, none by default.
        alpha_constraint: of `vivace.constraints`, none by default.
        shared_axes: axes along which all elements share one alpha; 1 is the first behind the batch. (1, 2) of images
            leaves one alpha a channel.
    """

    def __init__(
        self,
        alpha_initializer: str | Initializer = "zeros",
        alpha_regularizer: str | L1L2 | None = None,
        alpha_constraint: str | Constraint | None = None,
        shared_axes: int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alpha_initializer = initializers.get(alpha_initializer)
        self.alpha_regularizer = regularizers.get(alpha_regularizer)
        self.alpha_constraint = constraints.get(alpha_constraint)
        axes = [] if shared_axes is None else [shared_axes] if isinstance(shared_axes, int) else list(shared_axes)
        if any(axis < 1 for axis in axes):
            raise ValueError(f"{self.name}: shared_axes must be integers >= 1, received {shared_axes!r}")
        self.shared_axes = None if shared_axes is None else tuple(axes)
        self._shared = axes

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        if any(axis >= len(input_shape) for axis in self._shared):
            raise ValueError(f"{self.name} (PReLU): shared_axes {self.shared_axes} do not fit shape {input_shape}")
        if any(size is None for axis, size in enumerate(input_shape) if axis and axis not in self._shared):
            raise ValueError(f"{self.name} (PReLU): axes that are not shared must be known, received {input_shape}")
        return input_shape

    def build(self, input_shape: BatchShape) -> None:
        sample = enumerate(input_shape[1:], 1)
        shape = tuple(1 if axis in self._shared else size or 0 for axis, size in sample)
        self.alpha = self.add_weight(
            "alpha", shape, self.alpha_initializer, True, self.alpha_regularizer, self.alpha_constraint
        )
        # A sample holds alpha repeatedly, from the first axis on that does not share it; but for later ones that do.
        self._first = next((axis for axis, size in enumerate(shape) if size > 1), len(shape) - 1)
        rest = zip(shape[self._first :], input_shape[1 + self._first :], strict=True)
        self._copied = tuple(axis for axis, (own, size) in enumerate(rest) if own != size)

    def _row(self, x: Array, step: Step) -> Array:
        """alpha as a row that repeats in x."""
        if not self._copied:
            return self.alpha.array
        row = step.empty(x.shape[1 + self._first :], x.dtype)
        row[...] = self.alpha.array.reshape(self.alpha.shape[self._first :])
        return row

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        y = step.empty(x.shape, x.dtype)
        native.prelu_forward(x, self._row(x, step), y)
        return y, x

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        x: Array = saved
        alpha, dx = self._row(x, step), dy if input_gradient else None
        gradient = self.alpha.gradient
        if not self._copied:
            native.prelu_backward(x, alpha, dy, dx, gradient)
            return dx
        sums = step.empty(alpha.shape, x.dtype)
        sums.fill(0)
        native.prelu_backward(x, alpha, dy, dx, sums)
        gradient += sums.sum(self._copied, keepdims=True).reshape(gradient.shape)
        return dx


class ELU(Layer):
    """y = x where x > 0, alpha * (exp(x) - 1) below. D. Clevert et al., 2015.

    Args:
        alpha: 1.
    """

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = float(alpha)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        y = activations.elu(x, self.alpha, out=step.empty(x.shape, x.dtype))
        return y, (x, y)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        x, y = saved
        return activations.elu_gradient(x, y, dy, self.alpha, out=dy)


class Softmax(Layer):
    """y = exp(x) / sum(exp(x)) over one or several axes.

    Where a mask of the input's shape (or of shape (batch, steps), for the steps) is 0, y is 0, also where nothing is
    left.

    Args:
        axis: an integer or several, -1. Axes that are not the last ones are moved to the end and back, two copies.
    """

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis
        self._axes = [axis] if isinstance(axis, (int, np.integer)) else list(axis)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        if any(not -len(input_shape) <= axis < len(input_shape) for axis in self._axes):
            raise ValueError(f"{self.name} (Softmax): axis {self.axis} is out of bounds for shape {input_shape}")
        return input_shape

    def _order(self, rank: int) -> list[int]:
        last = sorted({axis % rank for axis in self._axes})
        return [axis for axis in range(rank) if axis not in last] + last

    def _rows(self, x: Array, step: Step) -> Array:
        """x as rows to normalize; a copy unless the axes are the last ones."""
        order = self._order(x.ndim)
        moved = x if order == sorted(order) else step.copy(x.transpose(order))
        return moved.reshape(*moved.shape[: x.ndim - len({axis % x.ndim for axis in self._axes})], -1)

    def _back(self, rows: Array, x: Array, step: Step) -> Array:
        order = self._order(x.ndim)
        moved = rows.reshape([x.shape[axis] for axis in order])
        return moved if order == sorted(order) else step.copy(moved.transpose(np.argsort(order)))

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if self.axis == -1 and step.mask is None:
            y = step.empty(x.shape, x.dtype)
            native.softmax_forward(x, y)
            return y, (y, None)
        keep = _broadcastable(self.name, step.mask, x)
        if keep is not None:
            z = step.empty(x.shape, x.dtype)
            z.fill(-1e9)
            np.copyto(z, x, where=keep)
            x = z
        rows = self._rows(x, step)
        y = step.empty(rows.shape, x.dtype)
        native.softmax_forward(rows, y)
        out = self._back(y, x, step)
        if keep is None:
            return out, (y, keep)
        return np.multiply(out, keep, out=step.empty(x.shape, x.dtype)), (y, keep)

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        if self.axis != -1:
            return None
        y = step.empty(x.shape, x.dtype)
        return y, [partial(native.softmax_forward, x, y)]

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        y, keep = saved
        if keep is not None:
            dy *= keep
        elif self.axis == -1:
            native.softmax_backward(y, dy, dy)
            return dy
        rows = self._rows(dy, step)
        native.softmax_backward(y, rows, rows)
        dx = self._back(rows, dy, step)
        if keep is not None:
            dx *= keep
        return dx


def _broadcastable(owner: str, mask: Array | None, x: Array) -> Array | None:
    """The mask as booleans that broadcast to x: of x's rank, or (batch, steps)."""
    if mask is None:
        return None
    if mask.ndim == x.ndim and all(m in (1, n) for m, n in zip(mask.shape, x.shape, strict=True)):
        return mask != 0
    if mask.shape == x.shape[: mask.ndim]:
        return (mask != 0).reshape(*mask.shape, *(1,) * (x.ndim - mask.ndim))
    raise ValueError(f"{owner}: the mask of shape {mask.shape} does not fit an input of shape {x.shape}")


__all__ = ["ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax"]
