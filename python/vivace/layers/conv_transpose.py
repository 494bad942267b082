"""Transposed convolution: the input gradient of a convolution, used forwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import constraints, initializers, regularizers
from .._core import native
from .._typing import Array, BatchShape, Initializer, Shape
from ..constraints import Constraint
from ..regularizers import L1L2
from .checks import positive
from .conv import OneKernel, Way
from .geometry import last_shape, sizes

_SHARED = """
        strides, dilation_rate: 1; an integer or one for each axis. Strides spread the input: the output is about that
            many times as large.
        padding: "valid": an axis has (size - 1) * stride + max(window, stride) outputs; "same": size * stride.
        output_padding: where given, the number of outputs is (size - 1) * stride + this, plus the window for "valid",
            plus 1 for "same" with an odd window.
        data_format: "channels_last" (None, the default), or "channels_first", which is transposed to it and back: two
            copies each way.
        activation: a name or a function of `vivace.activations`; None, the default, is "linear".
        use_bias: add a bias (True).
        kernel_initializer, bias_initializer: names or callables; "glorot_uniform" and "zeros".
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties of `vivace.regularizers` on the weights
            and on the output, none by default.
        kernel_constraint, bias_constraint: of `vivace.constraints`, none by default."""


class _ConvTranspose(OneKernel):
    ops = "conv3d_transpose_forward", "conv3d_transpose_weight_gradient", "conv3d_forward"

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        output_padding: int | Sequence[int] | None = None,
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        activation: str | Callable[[Any], Array] | None = None,
        use_bias: bool = True,
        kernel_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        kernel_regularizer: str | L1L2 | None = None,
        bias_regularizer: str | L1L2 | None = None,
        activity_regularizer: str | L1L2 | None = None,
        kernel_constraint: str | Constraint | None = None,
        bias_constraint: str | Constraint | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer,
            bias_regularizer, bias_constraint, activity_regularizer=activity_regularizer, **kwargs,
        )  # fmt: skip
        self.filters = positive(self.name, "filters", filters)
        self.output_padding = (
            None if output_padding is None else sizes(self.name, "output_padding", output_padding, self.rank, 0)
        )
        if any(p >= s for p, s in zip(self.output_padding or (), self.strides, strict=False)):
            raise ValueError(
                f"{self.name}: output_padding must be smaller than strides {self.strides}, received {output_padding!r}"
            )
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)

    def op_input_gradient(self, shape: native.Conv3DShape, dz: Array, dx: Array) -> None:
        native.conv3d_forward(shape, dz, self.kernel.array, None, dx)

    def build(self, input_shape: BatchShape) -> None:
        shape = (*self.kernel_size, self.filters, self.channels(input_shape))
        self.kernel = self.add_weight(
            "kernel", shape, self.kernel_initializer, True, self.kernel_regularizer, self.kernel_constraint
        )
        self.add_bias(self.filters)

    def output_size(self, axis: int, size: int) -> int:
        stride = self.strides[axis]
        window = (self.kernel_size[axis] - 1) * self.dilation_rate[axis] + 1
        extra = None if self.output_padding is None else self.output_padding[axis]
        if self.padding == "valid":
            return (size - 1) * stride + (max(window, stride) if extra is None else window + extra)
        return size * stride if extra is None else (size - 1) * stride + window % 2 + extra

    def pads(self, input_sizes: Sequence[int]) -> list[tuple[int, int]]:
        """What is cut off each axis of the whole output, (size - 1) * stride + window elements, as Keras shares it."""
        return [self._cut(axis) if self.padding == "same" else (0, 0) for axis in range(self.rank)]

    def _cut(self, axis: int) -> tuple[int, int]:
        window = (self.kernel_size[axis] - 1) * self.dilation_rate[axis] + 1
        extra = None if self.output_padding is None else self.output_padding[axis]
        kept = self.strides[axis] + window - 2 if extra is None else window + window % 2 - 2 + extra
        before = min(kept // 2 + kept % 2, window - 1)
        return window - 1 - before, max(0, window - 1 - (kept - before))

    def geometry(self, x_shape: Shape) -> native.Conv3DShape:
        """The convolution that leads from this layer's output back to its input."""
        outputs = [self.output_size(axis, size) for axis, size in enumerate(x_shape[1:-1])]
        kernel = (*self.kernel_size, self.filters, x_shape[-1])
        shape = self.volume_shape((x_shape[0], *outputs, self.filters), kernel, 1)
        if shape.output[4 - self.rank :] != x_shape[1:]:
            raise ValueError(f"output_padding {self.output_padding} leaves an output that no input {x_shape} covers")
        return shape

    def make_way(self, shape: Shape) -> Way:
        geometry = self.geometry(shape)
        return Way(geometry, (shape[0], *geometry.input[4 - self.rank :]), "original")

    def output_shape_of(self, shape: BatchShape) -> BatchShape:
        return (shape[0], *self.shape_for((1, *(size or 0 for size in shape[1:]))).input[4 - self.rank :])

    def flops(self) -> int:
        assert self.input_shape is not None
        flops: int = self.shape_for(self.sample(last_shape(self.channels_first, self.input_shape))).flops
        return flops


class Conv1DTranspose(_ConvTranspose):
    __doc__ = f"""Transposed convolution of sequences.

    Input (batch, steps, channels); output (batch, q, filters). Weights: kernel (kernel_size, filters, channels), bias
    (filters,).

    Args:
        filters: number of output channels.
        kernel_size: steps in a window.{_SHARED}
    """

    rank = 1
    bind = OneKernel.bind


class Conv2DTranspose(_ConvTranspose):
    __doc__ = f"""Transposed convolution of images.

    Input (batch, height, width, channels); output (batch, p, q, filters). Weights: kernel (height, width, filters,
    channels), bias (filters,).

    Args:
        filters: number of output channels.
        kernel_size: an integer or (height, width).{_SHARED}
    """

    bind = OneKernel.bind


class Conv3DTranspose(_ConvTranspose):
    __doc__ = f"""Transposed convolution of volumes.

    Input (batch, depth, height, width, channels); output (batch, o, p, q, filters). Weights: kernel (depth, height,
    width, filters, channels), bias (filters,).

    Args:
        filters: number of output channels.
        kernel_size: an integer or (depth, height, width).{_SHARED}
    """

    rank = 3
    bind = OneKernel.bind

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        output_padding: int | Sequence[int] | None = None,
        dilation_rate: int | Sequence[int] = 1,
        activation: str | Callable[[Any], Array] | None = None,
        use_bias: bool = True,
        kernel_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        kernel_regularizer: str | L1L2 | None = None,
        bias_regularizer: str | L1L2 | None = None,
        activity_regularizer: str | L1L2 | None = None,
        kernel_constraint: str | Constraint | None = None,
        bias_constraint: str | Constraint | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            output_padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            activity_regularizer,
            kernel_constraint,
            bias_constraint,
            **kwargs,
        )  # fmt: skip  (Keras has these two in this order here)


Convolution1DTranspose, Convolution2DTranspose = Conv1DTranspose, Conv2DTranspose
Convolution3DTranspose = Conv3DTranspose
__all__ = [
    "Conv1DTranspose",
    "Conv2DTranspose",
    "Conv3DTranspose",
    "Convolution1DTranspose",
    "Convolution2DTranspose",
    "Convolution3DTranspose",
]
