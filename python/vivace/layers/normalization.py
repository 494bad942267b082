"""Normalization layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np

from .. import constraints, initializers, regularizers
from .._core import native
from .._typing import Array, BatchShape, Initializer, Shape
from ..constraints import Constraint
from ..parameters import Parameter
from ..regularizers import L1L2
from ..step import Step
from .base import Layer
from .checks import only_off


class _Normalization(Layer):
    """A layer with a scale gamma and an offset beta, both optional, along some axes of its input."""

    gamma_is_called = "gamma"

    def __init__(
        self,
        axis: int | Sequence[int],
        epsilon: float,
        center: bool,
        scale: bool,
        beta_initializer: str | Initializer,
        gamma_initializer: str | Initializer,
        beta_regularizer: str | L1L2 | None,
        gamma_regularizer: str | L1L2 | None,
        beta_constraint: str | Constraint | None,
        gamma_constraint: str | Constraint | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        numbers = [axis] if isinstance(axis, (int, np.integer)) else list(axis)
        if not numbers or not all(isinstance(a, (int, np.integer)) for a in numbers):
            raise ValueError(f"{self.name}: axis must be an integer or several, received {axis!r}")
        self.axis = axis
        self._axes = [int(a) for a in numbers]
        self._last = self._axes == [-1]  # as of most layers: nothing has to be moved
        if not epsilon >= 0:
            raise ValueError(f"{self.name}: epsilon must not be negative, received {epsilon!r}")
        self.epsilon = float(epsilon)
        self.center, self.scale = center, scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)

    def axes(self, input_shape: BatchShape | Shape) -> list[int]:
        """The axes as numbers from 0, in order. Raises ValueError for one that the input lacks."""
        rank = len(input_shape)
        for axis in self._axes:
            if not -rank <= axis < rank:
                raise ValueError(
                    f"{self.name} ({type(self).__name__}): axis {axis} is out of bounds for shape {input_shape}"
                )
        return sorted({axis % rank for axis in self._axes})

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        sizes = [input_shape[axis] for axis in self.axes(input_shape)]
        if any(size is None for size in sizes):
            raise ValueError(
                f"{self.name} ({type(self).__name__}): the axes {self.axis} must have known sizes, received shape "
                f"{input_shape}"
            )
        weights = self.parameters[0].shape if self.parameters else tuple(sizes)
        if self.built and weights != tuple(sizes):
            raise ValueError(
                f"{self.name} ({type(self).__name__}) was built for sizes {weights} of the axes {self.axis}, "
                f"received shape {input_shape}"
            )
        return input_shape

    def build(self, input_shape: BatchShape) -> None:
        shape = tuple(input_shape[axis] or 0 for axis in self.axes(input_shape))
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight(
                self.gamma_is_called, shape, self.gamma_initializer, True, self.gamma_regularizer, self.gamma_constraint
            )
        if self.center:
            self.beta = self.add_weight(
                "beta", shape, self.beta_initializer, True, self.beta_regularizer, self.beta_constraint
            )

    def moved(self, x: Array, step: Step) -> Array:
        """x with the axes of gamma and beta behind all others; a copy unless they are there already."""
        order = self._order(x.ndim)
        return x if order == sorted(order) else step.copy(x.transpose(order))

    def moved_back(self, y: Array, step: Step) -> Array:
        order = self._order(y.ndim)
        return y if order == sorted(order) else step.copy(y.transpose(np.argsort(order)))

    def _order(self, rank: int) -> list[int]:
        last = sorted(axis % rank for axis in self._axes)
        return [axis for axis in range(rank) if axis not in last] + last


def _value(parameter: Parameter | None) -> Array | None:
    return None if parameter is None else parameter.array


def _gradient(parameter: Parameter | None) -> Array | None:
    return None if parameter is None else parameter.gradient


class BatchNormalization(_Normalization):
    """Normalizes each channel over the batch and all other axes.

    y = (x - mean) / sqrt(variance + epsilon) * gamma + beta

    In training, with the mean and variance (divided by the count) of the batch, which also move the running statistics:
    moving = moving * momentum + batch * (1 - momentum). In inference, and when the layer is frozen (`trainable` is
    False), with the running ones. Steps that a mask takes out do not enter the statistics; they are normalized like all
    others. S. Ioffe, C. Szegedy, "Batch Normalization", 2015.

    Any shape. Weights: gamma, beta (trainable), moving_mean, moving_variance (not), each (channels,).

    Args:
        axis: that of the channels, -1. Any other is moved to the end and back, which costs two copies.
        momentum: how much of the running statistics a step keeps, 0.99.
        epsilon: 0.001.
        center, scale: whether to have beta and gamma (True).
        beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer: "zeros", "ones",
            "zeros" and "ones".
        beta_regularizer, gamma_regularizer: penalties of `vivace.regularizers`, none by default.
        beta_constraint, gamma_constraint: of `vivace.constraints`, none by default.
        renorm, renorm_clipping: not supported. renorm_momentum, synchronized: without effect.
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str | Initializer = "zeros",
        gamma_initializer: str | Initializer = "ones",
        moving_mean_initializer: str | Initializer = "zeros",
        moving_variance_initializer: str | Initializer = "ones",
        beta_regularizer: str | L1L2 | None = None,
        gamma_regularizer: str | L1L2 | None = None,
        beta_constraint: str | Constraint | None = None,
        gamma_constraint: str | Constraint | None = None,
        renorm: bool = False,
        renorm_clipping: Any = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer,
            beta_constraint, gamma_constraint, **kwargs,
        )  # fmt: skip
        if len(self._axes) != 1:
            raise ValueError(f"{self.name}: axis must be one integer, received {axis!r}")
        only_off(self.name, renorm=renorm, renorm_clipping=renorm_clipping)
        self.momentum = float(momentum)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)

    def build(self, input_shape: BatchShape) -> None:
        super().build(input_shape)
        shape = (input_shape[self._axes[0]] or 0,)
        self.moving_mean = self.add_weight("moving_mean", shape, self.moving_mean_initializer, trainable=False)
        self.moving_variance = self.add_weight(
            "moving_variance", shape, self.moving_variance_initializer, trainable=False
        )

    def make_way(self, shape: Shape) -> tuple[int, int, int, int]:
        """What normalizes each channel over all else: (samples, rows, channels, groups)."""
        channels = shape[-1]
        return (1, math.prod(shape) // channels or 1, channels, channels) if channels else (1, 1, 0, 0)

    def forward(self, x: Array, step: Step, residual: Array | None = None, relu: bool = False) -> tuple[Array, Any]:
        """To the output a residual may be added and a ReLU applied, both only with the channels last."""
        if not self._last:
            x = self.moved(x, step)
        shape = self._ways.get(x.shape) or self.new_way(x.shape)
        mean, variance, mask = self.moving_mean.array, self.moving_variance.array, None
        learns = step.training and self.trainable
        if learns:
            mask = None if step.mask is None else self._mask(x, step.mask)
            statistics: Any = step.empty((2, shape[2]), x.dtype)
        y = step.empty(x.shape, x.dtype)
        gamma, beta = self.gamma.array if self.gamma else None, self.beta.array if self.beta else None
        if learns:
            native.group_norm_train(
                shape, x, mask, statistics, self.epsilon, gamma, beta, y, residual, relu, mean, variance, self.momentum
            )
        else:
            statistics = mean, variance
            native.group_norm_forward(shape, x, mean, variance, self.epsilon, gamma, beta, y, residual, relu)
        saved = (x, shape, mask, statistics, not learns, y if relu else None)
        return y if self._last else self.moved_back(y, step), saved

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        return self.bind_normalize(x, step) if self.axes(x.shape) == [x.ndim - 1] else None

    def bind_normalize(
        self, x: Array, step: Step, residual: Array | None = None, relu: bool = False
    ) -> tuple[Array, list[Any]]:
        y, mean, variance = step.empty(x.shape, x.dtype), self.moving_mean.array, self.moving_variance.array
        gamma, beta, shape = _value(self.gamma), _value(self.beta), self._ways.get(x.shape) or self.new_way(x.shape)
        call = native.group_norm_forward
        return y, [partial(call, shape, x, mean, variance, self.epsilon, gamma, beta, y, residual, relu)]

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        dy = dy if self._last else self.moved(dy, step)
        dx = self.normalize_backward(dy, saved, dy if input_gradient else None)
        return dx if dx is None or self._last else self.moved_back(dx, step)

    def normalize_backward(self, dy: Array, saved: Any, dx: Array | None) -> Array | None:
        """Fills dx, which may be dy. dy becomes the residual's gradient unless it is overwritten."""
        x, shape, mask, (mean, variance), constant, y = saved
        native.group_norm_backward(
            shape, x, mask, mean, variance, self.epsilon, _value(self.gamma), dy, constant, dx,
            _gradient(self.gamma), _gradient(self.beta), y,
        )  # fmt: skip
        return dx

    def _mask(self, x: Array, mask: Array) -> Array:
        if mask.ndim > x.ndim - 1 or mask.shape != x.shape[: mask.ndim]:
            raise ValueError(f"{self.name}: the mask of shape {mask.shape} does not fit an input of shape {x.shape}")
        wide = np.broadcast_to(mask.reshape(*mask.shape, *(1,) * (x.ndim - 1 - mask.ndim)), x.shape[:-1])
        return np.ascontiguousarray(wide, np.uint8)


class GroupNormalization(_Normalization):
    """Normalizes groups of channels, each sample by itself. Y. Wu, K. He, "Group Normalization", 2018.

    Any shape (batch, ..., channels). Weights: gamma, beta, each (channels,).

    Args:
        groups: into how many equal groups the channels are split, 32; -1: each by itself (instance normalization).
        axis: that of the channels, -1. Any other is moved to the end and back, which costs two copies.
        epsilon: 0.001.
        center, scale: whether to have beta and gamma (True).
        beta_initializer, gamma_initializer: "zeros" and "ones".
        beta_regularizer, gamma_regularizer: penalties of `vivace.regularizers`, none by default.
        beta_constraint, gamma_constraint: of `vivace.constraints`, none by default.
    """

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str | Initializer = "zeros",
        gamma_initializer: str | Initializer = "ones",
        beta_regularizer: str | L1L2 | None = None,
        gamma_regularizer: str | L1L2 | None = None,
        beta_constraint: str | Constraint | None = None,
        gamma_constraint: str | Constraint | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer,
            beta_constraint, gamma_constraint, **kwargs,
        )  # fmt: skip
        if len(self._axes) != 1:
            raise ValueError(f"{self.name}: axis must be one integer, received {axis!r}")
        if not isinstance(groups, (int, np.integer)) or (groups < 1 and groups != -1):
            raise ValueError(f"{self.name}: groups must be an integer >= 1, or -1, received {groups!r}")
        self.groups = int(groups)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        super().compute_output_shape(input_shape)
        channels = input_shape[self._axes[0]] or 0
        if self.axes(input_shape) == [0]:
            raise ValueError(f"{self.name} (GroupNormalization): axis must not be that of the batch")
        if self.groups > 0 and channels % self.groups:
            raise ValueError(
                f"{self.name} (GroupNormalization): groups={self.groups} must divide the input's {channels} channels"
            )
        return input_shape

    def make_way(self, shape: Shape) -> tuple[int, int, int, int]:
        """(samples, rows, channels, groups)."""
        channels = shape[-1]
        return shape[0], math.prod(shape[1:-1]), channels, channels if self.groups == -1 else self.groups

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if not self._last:
            x = self.moved(x, step)
        shape = self._ways.get(x.shape) or self.new_way(x.shape)
        statistics = step.empty((2, shape[0], shape[3]), x.dtype)
        y = step.empty(x.shape, x.dtype)
        gamma, beta = self.gamma.array if self.gamma else None, self.beta.array if self.beta else None
        native.group_norm_train(shape, x, None, statistics, self.epsilon, gamma, beta, y)
        return y if self._last else self.moved_back(y, step), (x, shape, statistics)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        x, shape, (mean, variance) = saved
        dy = dy if self._last else self.moved(dy, step)
        dx = dy if input_gradient else None
        native.group_norm_backward(
            shape, x, None, mean, variance, self.epsilon, _value(self.gamma), dy, False, dx,
            _gradient(self.gamma), _gradient(self.beta),
        )  # fmt: skip
        return dx if dx is None or self._last else self.moved_back(dx, step)


class _RowNormalization(_Normalization):
    """Normalizes each sample (or step, or pixel) over some axes, each by itself."""

    kind: Literal["layer", "rms", "deviation"] = "layer"

    def make_way(self, shape: Shape) -> tuple[int, Shape]:
        """The length of the rows to normalize, and the shape of their statistics."""
        first = len(shape) - len(self.axes(shape))
        return math.prod(shape[first:]), (2, math.prod(shape[:first]))

    def scale_and_offset(self, x: Array) -> tuple[Array | None, Array | None]:
        return self.gamma.array if self.gamma else None, self.beta.array if self.beta else None

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if not self._last:
            x = self.moved(x, step)
        columns, statistics_shape = self._ways.get(x.shape) or self.new_way(x.shape)
        statistics = step.empty(statistics_shape, x.dtype) if step.training else None
        y = step.empty(x.shape, x.dtype)
        gamma, beta = self.scale_and_offset(x)
        native.row_norm_forward(self.kind, columns, x, gamma, beta, self.epsilon, y, statistics)
        return y if self._last else self.moved_back(y, step), (columns, x, statistics, gamma)

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        order = self._order(x.ndim)
        if order != sorted(order):
            return None
        columns, _ = self._ways.get(x.shape) or self.new_way(x.shape)
        y, (gamma, beta) = step.empty(x.shape, x.dtype), self.scale_and_offset(x)
        return y, [partial(native.row_norm_forward, self.kind, columns, x, gamma, beta, self.epsilon, y, None)]

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        columns, x, statistics, gamma = saved
        dy = dy if self._last else self.moved(dy, step)
        dx = dy if input_gradient else None
        native.row_norm_backward(
            self.kind, columns, x, gamma, statistics, dy, dx, _gradient(self.gamma), _gradient(self.beta)
        )
        return dx if dx is None or self._last else self.moved_back(dx, step)


class LayerNormalization(_RowNormalization):
    """y = (x - mean) / sqrt(variance + epsilon) * gamma + beta over the last axis. J. Ba et al., 2016.

    Any shape. Weights: gamma, beta, each of the shape of the normalized axes.

    Args:
        axis: the axis or axes to normalize over, -1. Axes that are not the last ones are moved to the end and back,
            which costs two copies.
        epsilon: 0.001.
        center, scale: whether to have beta and gamma (True).
        beta_initializer, gamma_initializer: "zeros" and "ones".
        beta_regularizer, gamma_regularizer: penalties of `vivace.regularizers`, none by default.
        beta_constraint, gamma_constraint: of `vivace.constraints`, none by default.
        rms_scaling: y = x / sqrt(variance + epsilon) * gamma, which Keras keeps for old models; new ones take
            `RMSNormalization`.
    """

    bind = _RowNormalization.bind

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str | Initializer = "zeros",
        gamma_initializer: str | Initializer = "ones",
        beta_regularizer: str | L1L2 | None = None,
        gamma_regularizer: str | L1L2 | None = None,
        beta_constraint: str | Constraint | None = None,
        gamma_constraint: str | Constraint | None = None,
        rms_scaling: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            axis, epsilon, center and not rms_scaling, scale or rms_scaling, beta_initializer, gamma_initializer,
            beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint, **kwargs,
        )  # fmt: skip
        self.kind = "deviation" if rms_scaling else "layer"


class RMSNormalization(_RowNormalization):
    """y = x / sqrt(mean(x^2) + epsilon) * scale over the last axis. B. Zhang, R. Sennrich, 2019.

    Any shape. Weight: scale, of the shape of the normalized axes, 1 at first.

    Args:
        axis: the axis or axes to normalize over, -1; see `LayerNormalization`.
        epsilon: 1e-6.
    """

    kind = "rms"
    gamma_is_called = "scale"
    bind = _RowNormalization.bind

    def __init__(self, axis: int | Sequence[int] = -1, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(axis, epsilon, False, True, "zeros", "ones", None, None, None, None, **kwargs)


class UnitNormalization(_RowNormalization):
    """y = x / sqrt(sum(x^2)) over the last axis: every vector gets length 1; zeros stay zeros.

    Any shape; no weights.

    Args:
        axis: the axis or axes to normalize over, -1; see `LayerNormalization`.
    """

    kind = "rms"
    gamma_is_called = "scale"
    bind = _RowNormalization.bind

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any) -> None:
        # sqrt(1e-24) is the 1e-12 below which Keras takes a length for that
        super().__init__(axis, 1e-24, False, False, "zeros", "ones", None, None, None, None, **kwargs)

    def scale_and_offset(self, x: Array) -> tuple[Array | None, Array | None]:
        columns, _ = self._ways.get(x.shape) or self.new_way(x.shape)
        return _unit_scale(columns, x.dtype), None


@lru_cache(maxsize=64)
def _unit_scale(columns: int, dtype: Any) -> Array:
    """What gives rows length 1 instead of a mean square of 1."""
    return np.full(columns, columns**-0.5, dtype)


__all__ = [
    "BatchNormalization",
    "GroupNormalization",
    "LayerNormalization",
    "RMSNormalization",
    "UnitNormalization",
]
