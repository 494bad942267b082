"""Neighbouring layers that run as one native op. The layers stay what they are; only how a chain runs them changes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from ._core import native
from ._typing import Array, Shape
from .layers.activation import ReLU
from .layers.base import Layer
from .layers.conv import Conv2D, KernelForms
from .layers.core import Activation
from .layers.merging import Add, either
from .layers.normalization import BatchNormalization
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
        self.layers = (conv, pool)
        self._ops: dict[Shape, tuple[native.Conv2DPool, Shape, str]] = {}
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
            and not watched(conv)
        )

    def op(self, x_shape: Shape) -> tuple[native.Conv2DPool, Shape, str]:
        """The op, the output's shape and the form of the kernel that inference reads."""
        found = self._ops.get(x_shape)
        if found is None:
            conv = self.conv.shape_for(x_shape)
            pool = self.pool.shape_for(conv.output)
            op = native.Conv2DPool(conv, pool, self.conv.activation)
            if len(self._ops) >= 16:
                self._ops.clear()
            found = self._ops[x_shape] = op, pool.output, native.kernel_form(conv, pool)
        return found

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if not step.training:
            y, [call] = self.bind(x, step)
            call()
            return y, None
        op, output, _ = self.op(x.shape)
        kernel, bias = self.conv.kernel.array, self.conv.bias.array if self.conv.bias else None
        winners = y, positions = step.empty(output, x.dtype), step.empty(output, np.uint8)
        native.conv2d_pool_forward(op, x, kernel, bias, y, positions)
        return y, (op, x, winners)

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]]:
        op, output, form_name = self.op(x.shape)
        kernel, bias = self.conv.kernel, self.conv.bias.array if self.conv.bias else None
        y, form = step.empty(output, x.dtype), self._forms.get(kernel, op.conv, op.pool, form_name)
        return y, [partial(native.conv2d_pool_forward_prepared, op, x, kernel.array, form, bias, y)]

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        op, x, winners = saved
        kernel, dbias = self.conv.kernel, self.conv.bias.gradient if self.conv.bias else None
        native.conv2d_pool_weight_gradient(op, x, dy, winners, kernel.gradient, dbias)
        if not input_gradient:
            return None
        dx = step.empty(x.shape, x.dtype)
        native.conv2d_pool_input_gradient(op, dy, winners, kernel.array, dx)
        return dx


class Normalized:
    """BatchNormalization and what stands behind it: the Add of another array of its shape, a ReLU, or both.

    Neither the normalized array nor the sum is stored. Backward, the gradient before the ReLU is made where it is first
    read, and is the other array's.
    """

    def __init__(self, norm: BatchNormalization, add: Add | None, relu: Layer | None) -> None:
        self.norm, self.add, self.relu = norm, add, relu
        self.layers = tuple(layer for layer in (norm, add, relu) if layer is not None)

    def forward(self, x: Any, step: Step) -> tuple[Array, Any]:
        if self.add is None:
            return self.norm.forward(x, step, relu=True)
        masks, (x, residual) = step.mask, x
        step.mask = masks[0] if isinstance(masks, list) else None
        y, saved = self.norm.forward(x, step, residual, self.relu is not None)
        step.mask = either(masks)
        return y, saved

    def bind(self, x: Any, step: Step) -> tuple[Array, list[Any]]:
        x, residual = (x, None) if self.add is None else x
        return self.norm.bind_normalize(x, step, residual, self.relu is not None)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        if self.add is None:
            return self.norm.normalize_backward(dy, saved, dy if input_gradient else None)
        dx = step.empty(dy.shape, dy.dtype) if input_gradient else None
        self.norm.normalize_backward(dy, saved, dx)
        return None if dx is None else [dx, dy]


def watched(layer: Layer) -> bool:
    """Whether the layer is watched for NaNs: it runs by itself."""
    return "forward" in vars(layer)


def _is_relu(layer: Any) -> bool:
    if type(layer) is ReLU:
        return layer.max_value is None and layer.negative_slope == 0 and layer.threshold == 0
    return type(layer) is Activation and layer.activation == "relu"


def fuse_pair(first: Any, second: Any, others: int = 0, alike: bool = True) -> Any:
    """The unit that runs two layers (or a unit and a layer), the second alone taking the first's output; or None.

    others: how many inputs the second has besides; alike: whether they have the shape of the first's output.
    """
    if isinstance(first, Layer) and ConvPool.fits(first, second):
        return ConvPool(first, second)  # type: ignore[arg-type]
    if type(first) is BatchNormalization:
        first = Normalized(first, None, None)
    if not isinstance(first, Normalized) or first.relu is not None:
        return None
    norm, rank = first.norm, len(first.norm.input_shape or ())
    last = norm.built and norm.axes(norm.input_shape or ()) == [rank - 1]
    if not last or any(layer.activity_regularizer is not None or watched(layer) for layer in (*first.layers, second)):
        return None
    if _is_relu(second):
        return Normalized(norm, first.add, second)
    if type(second) is Add and first.add is None and others == 1 and alike:
        return Normalized(norm, second, None)
    return None


def fuse(layers: Sequence[Layer]) -> list[Unit]:
    """The chain's units, in order."""
    units: list[Any] = []
    for layer in layers:
        unit = fuse_pair(units[-1], layer) if units else None
        if unit is None:
            units.append(layer)
        else:
            units[-1] = unit
    return [unit_of(unit) if isinstance(unit, Layer) else unit for unit in units]
