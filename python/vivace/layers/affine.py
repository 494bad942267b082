"""What a `call` most often computes with weights, x @ w and x + b, without autograd and by the kernels of Dense."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._core import native
from .._typing import Array, BatchShape
from ..parameters import Parameter
from ..step import Step
from .base import Layer
from .core import product_backward


class Affine(Layer):
    """A layer in a graph that computes with a weight of the layer whose `call` it is a part of."""

    def __init__(self, weight: Parameter, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parameters = [weight]

    def get_config(self) -> dict[str, Any]:
        raise not_told(self.name, "it")

    @property
    def _weight(self) -> Parameter:
        return self.parameters[0]


def not_told(name: str, what: str) -> TypeError:
    """The error for the configuration of what computes with another layer's weight."""
    return TypeError(
        f"{name}: {what} computes with a weight of another layer, so it cannot be written down; make it part of a "
        "Layer with a `call`, whose class is given in custom_objects"
    )


class Product(Affine):
    """x @ w, for a weight (n, m)."""

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        rows, columns = self._weight.shape
        if input_shape[-1] not in (None, rows):
            raise ValueError(
                f"ops.matmul of shapes {tuple(input_shape)} and {self._weight.shape}: {rows} rows do not fit"
            )
        return (*input_shape[:-1], columns)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        step.mask = None
        kernel = self._weight.array
        y = step.empty((*x.shape[:-1], kernel.shape[1]), x.dtype)
        native.dense_forward(x, kernel, None, y, "linear")
        return y, x

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return product_backward(self._weight, None, saved, dy, step, input_gradient)


class Shift(Affine):
    """x + b, for a weight (n,)."""

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        step.mask = None
        return np.add(x, self._weight.array, out=step.empty(x.shape, x.dtype)), None

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        self._weight.gradient += dy.reshape(-1, dy.shape[-1]).sum(0)
        return dy
