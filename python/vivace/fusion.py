"""Neighbouring layers that run as one native op. The layers stay what they are; only how a chain runs them changes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from ._core import native
from ._typing import Array, Shape
from .layers.base import Layer
from .layers.conv import Conv2D, KernelForms
from .layers.pooling import MaxPooling2D
from .layers.regularization import unit_of
from .step import Step


class Unit(Protocol):
    """What a chain runs: a layer, or several fused."""

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]: ...
    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None: ...


class ConvPool:
    """Conv2D with ReLU (or no activation) and the MaxPooling2D behind it.

    Forward, the convolution's output is pooled where it is computed and never stored. Backward, its two gradients are
    computed from the pooled gradient and the winners' positions; no array of zeros with a gradient here and there.
    """

    def __init__(self, conv: Conv2D, pool: MaxPooling2D) -> None:
        self.conv, self.pool = conv, pool
        self.activation: Any = conv.activation
        self._shapes: dict[Shape, tuple[native.Conv2DShape, native.Pool2DShape, Shape, str]] = {}
        self._forms = KernelForms()

    @staticmethod
    def fits(conv: Layer, pool: Layer) -> bool:
        """Whether the two layers can run as one: windows that tile the output, one group, a foldable activation."""
        return (
            type(conv) is Conv2D
            and type(pool) is MaxPooling2D
            and conv.activation in ("linear", "relu")
            and conv.groups == 1
            and conv.activity_regularizer is None
            and not (conv.channels_first or pool.channels_first)
            and pool.strides == pool.pool_size
            and pool.padding == "valid"
            and pool.pool_size[0] * pool.pool_size[1] <= 256
            and "forward" not in vars(conv)  # watched for NaNs: it runs by itself
        )

    def shapes(self, x_shape: Shape) -> tuple[native.Conv2DShape, native.Pool2DShape, Shape, str]:
        """The geometries, the output's shape and the form of the kernel that inference reads."""
        shapes = self._shapes.get(x_shape)
        if shapes is None:
            conv = self.conv.shape_for(x_shape)
            pool = self.pool.shape_for(conv.output)
            if len(self._shapes) >= 16:
                self._shapes.clear()
            shapes = self._shapes[x_shape] = (conv, pool, pool.output, native.kernel_form(conv, pool))
        return shapes

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        conv, pool, output, form_name = self.shapes(x.shape)
        layer = self.conv
        kernel, bias = layer.kernel, layer.bias.array if layer.bias else None
        y = step.empty(output, x.dtype)
        if not step.training:
            form = self._forms.get(kernel, conv, pool, form_name)
            native.conv2d_pool_forward(conv, pool, x, kernel.array, bias, self.activation, y, None, form)
            return y, (conv, pool, x, y, None)
        positions = step.empty(output, np.uint8)
        native.conv2d_pool_forward(conv, pool, x, kernel.array, bias, self.activation, y, positions)
        return y, (conv, pool, x, y, positions)

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]]:
        conv, pool, output, form_name = self.shapes(x.shape)
        kernel, bias = self.conv.kernel, self.conv.bias.array if self.conv.bias else None
        y, form = step.empty(output, x.dtype), self._forms.get(kernel, conv, pool, form_name)
        call = partial(native.conv2d_pool_forward, conv, pool, x, kernel.array, bias, self.activation, y, None, form)
        return y, [call]

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        conv, pool, x, y, positions = saved
        layer = self.conv
        dbias = layer.bias.gradient if layer.bias else None
        native.conv2d_pool_weight_gradient(
            conv, pool, x, dy, y, positions, self.activation, layer.kernel.gradient, dbias
        )
        if not input_gradient:
            return None
        dx = step.empty(x.shape, x.dtype)
        native.conv2d_pool_input_gradient(conv, pool, dy, y, positions, self.activation, layer.kernel.array, dx)
        return dx


def fuse(layers: Sequence[Layer]) -> list[Unit]:
    """The chain's units, in order."""
    units: list[Unit] = []
    i = 0
    while i < len(layers):
        if i + 1 < len(layers) and ConvPool.fits(layers[i], layers[i + 1]):
            conv, pool = layers[i], layers[i + 1]
            assert isinstance(conv, Conv2D)
            assert isinstance(pool, MaxPooling2D)
            units.append(ConvPool(conv, pool))
            i += 2
        else:
            units.append(unit_of(layers[i]))
            i += 1
    return units
