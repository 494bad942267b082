"""Convolution layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import regularizers
from .._core import native
from .._typing import Array, BatchShape, Initializer, Shape
from ..regularizers import L1L2
from ..step import Step
from .base import check_rank, pair, positive, same_padding
from .core import Activated


class Conv2D(Activated):
    """2-D convolution over images.

        y(n,p,q,o) = activation(bias(o)
                     + sum_{i,j,c} x(n, p*stride + i*dilation, q*stride + j*dilation, c) kernel(i,j,c,o))

    Input (batch, height, width, channels); output (batch, p, q, filters). Weights: kernel
    (height, width, channels / groups, filters), bias (filters,).

    Args:
        filters: number of output channels.
        kernel_size, strides, dilation_rate: an integer or (height, width).
        padding: "valid" (none), or "same" (zeros, so that p = ceil(height / stride)).
        data_format: "channels_last" only (None means that).
        groups: channels are convolved in this many separate groups.
        activation: "linear" (None, the default), "relu", "sigmoid", "tanh" or "softmax".
        use_bias: add a bias (True).
        kernel_initializer, bias_initializer: names or callables; "glorot_uniform" and "zeros".
        kernel_regularizer, bias_regularizer: penalties of `vivace.regularizers`, none by default.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = (1, 1),
        groups: int = 1,
        activation: str | Callable[[Any], Array] | None = None,
        use_bias: bool = True,
        kernel_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        kernel_regularizer: str | L1L2 | None = None,
        bias_regularizer: str | L1L2 | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activation, **kwargs)
        self.filters = positive(self.name, "filters", filters)
        self.groups = positive(self.name, "groups", groups)
        if self.filters % self.groups:
            raise ValueError(f"{self.name}: groups must divide filters ({filters}), received {groups!r}")
        self.kernel_size = pair(self.name, "kernel_size", kernel_size)
        self.strides = pair(self.name, "strides", strides)
        self.dilation_rate = pair(self.name, "dilation_rate", dilation_rate)
        self.padding = check_padding(self.name, padding)
        check_data_format(self.name, data_format)
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self._shapes: dict[Shape, native.Conv2DShape] = {}

    def build(self, input_shape: BatchShape) -> None:
        kernel = (*self.kernel_size, (input_shape[-1] or 0) // self.groups, self.filters)
        self.kernel = self.add_weight("kernel", kernel, self.kernel_initializer, regularizer=self.kernel_regularizer)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                "bias", (self.filters,), self.bias_initializer, regularizer=self.bias_regularizer
            )

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        hint = "; add the channel axis with x[..., None]" if len(input_shape) == 3 else ""
        check_rank(f"{self.name} (Conv2D)", input_shape, 4, "(batch, height, width, channels)", hint)
        channels = input_shape[3] or 0
        if channels % self.groups:
            raise ValueError(f"{self.name} (Conv2D): groups={self.groups} must divide the input's {channels} channels")
        if self.built and channels != self.kernel.shape[2] * self.groups:
            raise ValueError(
                f"{self.name} (Conv2D) was built for {self.kernel.shape[2] * self.groups} channels, "
                f"received shape {input_shape}"
            )
        sample = (1, *(size or 0 for size in input_shape[1:]))
        return (input_shape[0], *self.shape_for(sample).output[1:])

    def shape_for(self, x_shape: Shape) -> native.Conv2DShape:
        """The convolution's geometry for inputs of this shape; validated once for each."""
        shape = self._shapes.get(x_shape)
        if shape is None:
            (kh, kw), (sh, sw), (dh, dw) = self.kernel_size, self.strides, self.dilation_rate
            n, h, w, c = x_shape
            padding = (0, 0, 0, 0)
            if self.padding == "same":
                padding = (*same_padding(h, kh, sh, dh), *same_padding(w, kw, sw, dw))
            kernel = (kh, kw, c // self.groups, self.filters)
            try:
                shape = native.Conv2DShape((n, h, w, c), kernel, (sh, sw), padding, (dh, dw), self.groups)
            except ValueError as error:
                raise ValueError(f"{self.name} (Conv2D): {error}") from None
            if len(self._shapes) >= 16:  # as many batch sizes as are ever in use together
                self._shapes.clear()
            self._shapes[x_shape] = shape
        return shape

    def flops(self) -> int:
        assert self.input_shape is not None
        return self.shape_for((1, *(size or 0 for size in self.input_shape[1:]))).flops

    def forward_linear(self, x: Array, step: Step, activation: Any = "linear") -> tuple[Array, Any]:
        shape = self.shape_for(x.shape)
        y = step.empty(shape.output, x.dtype)
        native.conv2d_forward(shape, x, self.kernel.value, self.bias.value if self.bias else None, y, activation)
        return y, (x, shape)

    def backward_linear(self, dz: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        x, shape = saved
        native.conv2d_weight_gradient(shape, x, dz, self.kernel.gradient, self.bias.gradient if self.bias else None)
        if not input_gradient:
            return None
        dx = step.empty(x.shape, x.dtype)
        native.conv2d_input_gradient(shape, dz, self.kernel.value, dx)
        return dx


def check_padding(owner: str, padding: str) -> str:
    if not isinstance(padding, str) or padding.lower() not in ("valid", "same"):
        raise ValueError(f"{owner}: padding must be 'valid' or 'same', received {padding!r}")
    return padding.lower()


def check_data_format(owner: str, data_format: str | None) -> None:
    if data_format not in (None, "channels_last"):
        raise ValueError(
            f"{owner}: data_format must be 'channels_last', received {data_format!r}; move the channels to the last "
            "axis with x.transpose(0, 2, 3, 1)"
        )


Convolution2D = Conv2D
