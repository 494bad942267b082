"""Depthwise and separable convolution: every channel has filters of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from .. import constraints, initializers, regularizers
from .._core import native
from .._typing import Array, BatchShape, Initializer, Shape
from ..constraints import Constraint
from ..regularizers import L1L2
from ..step import Step
from .checks import positive
from .conv import OneKernel, Way, Windowed
from .geometry import last_shape

_SHARED = """
        kernel_size: size of the window; an integer or one for each axis.
        strides, dilation_rate: 1; an integer or one for each axis.
        padding: "valid" (none), or "same" (zeros, so that an axis has ceil(size / stride) outputs).
        depth_multiplier: filters of each channel, 1; channel c's outputs are c * depth_multiplier and those behind it.
        data_format: "channels_last" (None, the default), or "channels_first", which is transposed to it and back: two
            copies each way.
        activation: a name or a function of `vivace.activations`; None, the default, is "linear".
        use_bias: add a bias (True)."""


class _Depthwise(Windowed):
    """What depthwise layers share with the first half of separable ones."""

    depth_multiplier: int

    def depthwise_kernel_shape(self, input_shape: BatchShape) -> Shape:
        return (*self.kernel_size, self.channels(input_shape), self.depth_multiplier)

    def geometry(self, x_shape: Shape) -> native.Conv2DShape:
        channels = x_shape[-1]
        return self.image_shape(x_shape, (*self.kernel_size, 1, channels * self.depth_multiplier), channels)

    def depthwise_shape_of(self, shape: BatchShape) -> BatchShape:
        output = self.shape_for((1, *(size or 0 for size in shape[1:]))).output
        return (shape[0], *output[3 - self.rank :])

    def flops(self) -> int:
        assert self.input_shape is not None
        return self.shape_for(self.sample(last_shape(self.channels_first, self.input_shape))).flops


class _DepthwiseConv(_Depthwise, OneKernel):
    ops = "depthwise2d_forward", "depthwise2d_weight_gradient", "depthwise2d_input_gradient"

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        activation: str | Callable[[Any], Array] | None = None,
        use_bias: bool = True,
        depthwise_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        depthwise_regularizer: str | L1L2 | None = None,
        bias_regularizer: str | L1L2 | None = None,
        activity_regularizer: str | L1L2 | None = None,
        depthwise_constraint: str | Constraint | None = None,
        bias_constraint: str | Constraint | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer,
            bias_regularizer, bias_constraint, activity_regularizer=activity_regularizer, **kwargs,
        )  # fmt: skip
        self.depth_multiplier = positive(self.name, "depth_multiplier", depth_multiplier)
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer)
        self.depthwise_constraint = constraints.get(depthwise_constraint)

    def build(self, input_shape: BatchShape) -> None:
        shape = self.depthwise_kernel_shape(input_shape)
        self.kernel = self.add_weight(
            "kernel", shape, self.depthwise_initializer, True, self.depthwise_regularizer, self.depthwise_constraint
        )
        self.add_bias(shape[-2] * shape[-1])

    def output_shape_of(self, shape: BatchShape) -> BatchShape:
        return self.depthwise_shape_of(shape)

    def make_way(self, shape: Shape) -> Way:
        return super().make_way(shape)._replace(form="original")


class DepthwiseConv1D(_DepthwiseConv):
    __doc__ = f"""Convolves each channel of a sequence by itself.

    Input (batch, steps, channels); output (batch, q, channels * depth_multiplier). Weights: kernel (kernel_size,
    channels, depth_multiplier), bias (channels * depth_multiplier,).

    Args:{_SHARED}
        depthwise_initializer, bias_initializer: names or callables; "glorot_uniform" and "zeros".
        depthwise_regularizer, bias_regularizer, activity_regularizer: penalties of `vivace.regularizers` on the weights
            and on the output, none by default.
        depthwise_constraint, bias_constraint: of `vivace.constraints`, none by default.
    """

    rank = 1
    bind = OneKernel.bind


class DepthwiseConv2D(_DepthwiseConv):
    __doc__ = f"""Convolves each channel of an image by itself.

    Input (batch, height, width, channels); output (batch, p, q, channels * depth_multiplier). Weights: kernel (height,
    width, channels, depth_multiplier), bias (channels * depth_multiplier,).

    Args:{_SHARED}
        depthwise_initializer, bias_initializer: names or callables; "glorot_uniform" and "zeros".
        depthwise_regularizer, bias_regularizer, activity_regularizer: penalties of `vivace.regularizers` on the weights
            and on the output, none by default.
        depthwise_constraint, bias_constraint: of `vivace.constraints`, none by default.
    """

    bind = OneKernel.bind


class _Way(NamedTuple):
    """Of a separable layer."""

    shape: native.Conv2DShape  # of the depthwise convolution
    output: Shape
    between: Shape


class _SeparableConv(_Depthwise):
    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        depth_multiplier: int = 1,
        activation: str | Callable[[Any], Array] | None = None,
        use_bias: bool = True,
        depthwise_initializer: str | Initializer = "glorot_uniform",
        pointwise_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        depthwise_regularizer: str | L1L2 | None = None,
        pointwise_regularizer: str | L1L2 | None = None,
        bias_regularizer: str | L1L2 | None = None,
        activity_regularizer: str | L1L2 | None = None,
        depthwise_constraint: str | Constraint | None = None,
        pointwise_constraint: str | Constraint | None = None,
        bias_constraint: str | Constraint | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer,
            bias_regularizer, bias_constraint, activity_regularizer=activity_regularizer, **kwargs,
        )  # fmt: skip
        self.filters = positive(self.name, "filters", filters)
        self.depth_multiplier = positive(self.name, "depth_multiplier", depth_multiplier)
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.pointwise_initializer = initializers.get(pointwise_initializer)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer)
        self.pointwise_regularizer = regularizers.get(pointwise_regularizer)
        self.depthwise_constraint = constraints.get(depthwise_constraint)
        self.pointwise_constraint = constraints.get(pointwise_constraint)

    def build(self, input_shape: BatchShape) -> None:
        shape = self.depthwise_kernel_shape(input_shape)
        self.depthwise_kernel = self.add_weight(
            "depthwise_kernel",
            shape,
            self.depthwise_initializer,
            True,
            self.depthwise_regularizer,
            self.depthwise_constraint,
        )
        self.pointwise_kernel = self.add_weight(
            "pointwise_kernel",
            (*(1,) * self.rank, shape[-2] * shape[-1], self.filters),
            self.pointwise_initializer,
            regularizer=self.pointwise_regularizer,
            constraint=self.pointwise_constraint,
        )
        self.add_bias(self.filters)

    def output_shape_of(self, shape: BatchShape) -> BatchShape:
        return (*self.depthwise_shape_of(shape)[:-1], self.filters)

    def flops(self) -> int:
        assert self.input_shape is not None
        _, p, q, o = self.shape_for(self.sample(last_shape(self.channels_first, self.input_shape))).output
        return super().flops() + 2 * p * q * o * self.filters

    def convolve(self, x: Array, step: Step, activation: Any) -> tuple[Array, Any]:
        way = self._ways.get(x.shape) or self.new_way(x.shape)
        between = step.empty(way.between, x.dtype)
        native.depthwise2d_forward(way.shape, x, self.depthwise_kernel.array, None, between)
        y, kernel, bias = step.empty(way.output, x.dtype), self.pointwise_kernel.array, self.bias
        native.dense_forward(between, kernel, bias.array if bias else None, y, activation)
        return y, (x, between)

    def make_way(self, shape: Shape) -> _Way:  # type: ignore[override]
        geometry = self.geometry(shape)
        between = (shape[0], *geometry.output[3 - self.rank :])
        return _Way(geometry, (*between[:-1], self.filters), between)

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        if self.channels_first:
            return None
        way: _Way = self._ways.get(x.shape) or self.new_way(x.shape)
        between, y = step.empty(way.between, x.dtype), step.empty(way.output, x.dtype)
        first = partial(native.depthwise2d_forward, way.shape, x, self.depthwise_kernel.array, None, between)
        kernel, bias = self.pointwise_kernel.array, self.bias.array if self.bias else None
        second = partial(native.dense_forward, between, kernel, bias, y, self.fused_activation)
        return y, [first, second, *self.bound_activation(y)]

    def convolve_backward(self, dz: Array, saved: Any, step: Step, input_gradient: bool) -> Array | None:
        x, between = saved
        rows, dz = between.reshape(-1, between.shape[-1]), dz.reshape(-1, self.filters)
        dkernel = self.pointwise_kernel.gradient.reshape(-1, self.filters)
        native.dense_weight_gradient(rows, dz, dkernel, self.bias.gradient if self.bias else None)
        dbetween = step.empty(between.shape, x.dtype)
        kernel = self.pointwise_kernel.array.reshape(-1, self.filters)
        native.dense_input_gradient(dz, kernel, dbetween.reshape(rows.shape))
        shape = self.shape_for(x.shape)
        native.depthwise2d_weight_gradient(shape, x, dbetween, self.depthwise_kernel.gradient, None)
        if not input_gradient:
            return None
        dx = step.empty(x.shape, x.dtype)
        native.depthwise2d_input_gradient(shape, dbetween, self.depthwise_kernel.array, dx)
        return dx


class SeparableConv1D(_SeparableConv):
    __doc__ = f"""A depthwise convolution of sequences, then a matrix product over the channels of each step.

    Input (batch, steps, channels); output (batch, q, filters). Weights: depthwise_kernel (kernel_size, channels,
    depth_multiplier), pointwise_kernel (1, channels * depth_multiplier, filters), bias (filters,).

    Args:
        filters: number of output channels.{_SHARED}
        depthwise_initializer, pointwise_initializer: names or callables; "glorot_uniform".
        bias_initializer: "zeros".
        depthwise_regularizer, pointwise_regularizer, bias_regularizer, activity_regularizer: penalties of
            `vivace.regularizers` on the weights and on the output, none by default.
        depthwise_constraint, pointwise_constraint, bias_constraint: of `vivace.constraints`, none by default.
    """

    rank = 1
    bind = _SeparableConv.bind


class SeparableConv2D(_SeparableConv):
    __doc__ = f"""A depthwise convolution of images, then a matrix product over the channels of each pixel.

    Input (batch, height, width, channels); output (batch, p, q, filters). Weights: depthwise_kernel (height, width,
    channels, depth_multiplier), pointwise_kernel (1, 1, channels * depth_multiplier, filters), bias (filters,).

    Args:
        filters: number of output channels.{_SHARED}
        depthwise_initializer, pointwise_initializer: names or callables; "glorot_uniform".
        bias_initializer: "zeros".
        depthwise_regularizer, pointwise_regularizer, bias_regularizer, activity_regularizer: penalties of
            `vivace.regularizers` on the weights and on the output, none by default.
        depthwise_constraint, pointwise_constraint, bias_constraint: of `vivace.constraints`, none by default.
    """

    bind = _SeparableConv.bind


SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
__all__ = [
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "SeparableConv1D",
    "SeparableConv2D",
    "SeparableConvolution1D",
    "SeparableConvolution2D",
]
