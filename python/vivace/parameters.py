"""Parameters, and the flat blocks they live in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._typing import Array, Shape
from .regularizers import L1L2


def aligned_empty(shape: Shape, dtype: Any) -> Array:
    """Uninitialised memory that starts on a cache line (64 bytes)."""
    dtype = np.dtype(dtype)
    raw = np.empty(math.prod(shape) * dtype.itemsize + 64, np.uint8)
    start = -raw.__array_interface__["data"][0] % 64  # half the time that raw.ctypes.data takes
    return np.ndarray(shape, dtype, raw, start)


class Parameter:
    """A named array with its gradient.

    value: the weights, shape as the layer documents it.
    regularizer: a penalty on the value, or None.
    constraint: a function that projects the value after each update, or None.
    gradient: same shape; backward passes add to it, the optimizer consumes it and leaves it zero.
    """

    __slots__ = ("constraint", "gradient", "name", "regularizer", "trainable", "value")

    def __init__(
        self,
        name: str,
        value: Array,
        trainable: bool = True,
        regularizer: L1L2 | None = None,
        constraint: Callable[[Array], Array] | None = None,
    ) -> None:
        self.name = name
        self.value = value
        self.gradient = np.zeros_like(value)
        self.trainable = trainable
        self.regularizer = regularizer
        self.constraint = constraint

    @property
    def shape(self) -> Shape:
        return self.value.shape

    @property
    def size(self) -> int:
        return self.value.size

    def assign(self, value: Any) -> None:
        """Overwrite the value in place. Raises ValueError if the shape differs."""
        array = np.asarray(value)
        if array.shape != self.shape:
            raise ValueError(f"{self.name}: the weight has shape {self.shape}, received shape {array.shape}")
        self.value[...] = array

    def constrain(self) -> None:
        """Project the value onto what its constraint allows."""
        if self.constraint is not None:
            self.value[...] = self.constraint(self.value)

    def __repr__(self) -> str:
        return f"<Parameter {self.name}, shape={self.shape}, dtype={self.value.dtype}>"


class FlatParameters:
    """Moves parameters into one contiguous block and their gradients into another; the parameters become views.

    So an optimizer is one pass over `values` and `gradients`, each of shape (size,). Every parameter starts on a cache
    line; the few elements between two of them stay zero, which no optimizer changes.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        dtype = parameters[0].value.dtype if parameters else np.dtype(np.float32)
        offsets, size = self.layout(parameters)
        self.parameters = tuple(parameters)
        self.constrained = [p for p in parameters if p.constraint is not None]
        self.values = aligned_empty((size,), dtype)
        self.gradients = aligned_empty((size,), dtype)
        self.values[:] = 0
        self.gradients[:] = 0
        for parameter, start in zip(parameters, offsets, strict=True):
            part = slice(start, start + parameter.size)
            self.values[part] = parameter.value.ravel()
            parameter.value = self.values[part].reshape(parameter.shape)
            parameter.gradient = self.gradients[part].reshape(parameter.shape)

    @staticmethod
    def layout(parameters: Sequence[Parameter]) -> tuple[list[int], int]:
        """Where each of the parameters starts in such a block, and its size."""
        offsets, size = [], 0
        for parameter in parameters:
            line = 64 // parameter.value.itemsize
            offsets.append(size)
            size += -(-parameter.size // line) * line
        return offsets, size
