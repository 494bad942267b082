"""Pooling layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._core import native
from .._typing import Array, BatchShape, Shape
from ..step import Step
from .base import Layer, check_rank, pair, same_padding
from .conv import check_data_format, check_padding


class _Pooling2D(Layer):
    """Input (batch, height, width, channels); output (batch, p, q, channels).

    Args:
        pool_size: the window, an integer or (height, width).
        strides: the step from window to window; None, the default, means pool_size.
        padding: "valid", or "same" (so that p = ceil(height / stride)); padding never wins and is never counted.
        data_format: "channels_last" only (None means that).
    """

    def __init__(
        self,
        pool_size: int | Sequence[int] = (2, 2),
        strides: int | Sequence[int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = pair(self.name, "pool_size", pool_size)
        self.strides = self.pool_size if strides is None else pair(self.name, "strides", strides)
        self.padding = check_padding(self.name, padding)
        check_data_format(self.name, data_format)
        self._shapes: dict[Shape, native.Pool2DShape] = {}

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        check_rank(f"{self.name} ({type(self).__name__})", input_shape, 4, "(batch, height, width, channels)")
        return (input_shape[0], *self.shape_for((1, *(size or 0 for size in input_shape[1:]))).output[1:])

    def shape_for(self, x_shape: Shape) -> native.Pool2DShape:
        shape = self._shapes.get(x_shape)
        if shape is None:
            (kh, kw), (sh, sw) = self.pool_size, self.strides
            n, h, w, c = x_shape
            padding = (0, 0, 0, 0)
            if self.padding == "same":
                padding = (*same_padding(h, kh, sh), *same_padding(w, kw, sw))
            try:
                shape = native.Pool2DShape((n, h, w, c), (kh, kw), (sh, sw), padding)
            except ValueError as error:
                raise ValueError(f"{self.name} ({type(self).__name__}): {error}") from None
            if len(self._shapes) >= 16:
                self._shapes.clear()
            self._shapes[x_shape] = shape
        return shape


class MaxPooling2D(_Pooling2D):
    __doc__ = f"The maximum of each window. {_Pooling2D.__doc__}"

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        shape = self.shape_for(x.shape)
        y = step.empty(shape.output, x.dtype)
        positions = None
        if step.training:
            small = self.pool_size[0] * self.pool_size[1] <= 256
            positions = step.empty(shape.output, np.uint8 if small else np.uint32)
        native.max_pool2d_forward(shape, x, y, positions)
        return y, (shape, positions)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if not input_gradient:
            return None
        shape, positions = saved
        dx = step.empty(shape.input, dy.dtype)
        native.max_pool2d_backward(shape, dy, positions, dx)
        return dx


class AveragePooling2D(_Pooling2D):
    __doc__ = f"The mean of each window. {_Pooling2D.__doc__}"

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        shape = self.shape_for(x.shape)
        y = step.empty(shape.output, x.dtype)
        native.average_pool2d_forward(shape, x, y)
        return y, shape

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if not input_gradient:
            return None
        dx = step.empty(saved.input, dy.dtype)
        native.average_pool2d_backward(saved, dy, dx)
        return dx


MaxPool2D = MaxPooling2D
AvgPool2D = AveragePooling2D
