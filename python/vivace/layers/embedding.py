"""Where sequences begin: integers to vectors, and masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import constraints, initializers, regularizers
from .._config import take_former
from .._core import native
from .._typing import Array, BatchShape, Initializer
from ..constraints import Constraint
from ..regularizers import L1L2
from ..step import Step
from .base import Layer
from .checks import check_rank, positive

_BYTE = np.dtype(np.uint8)
_INT64 = np.dtype(np.int64)


class Embedding(Layer):
    """Integers (batch, ...) to vectors (batch, ..., output_dim): rows of the weight `embeddings`.

    Args:
        input_dim: number of different integers, 0 ... input_dim - 1.
        output_dim: size of a vector.
        embeddings_initializer: "uniform" in [-0.05, 0.05].
        embeddings_regularizer: a penalty of `vivace.regularizers`, none by default.
        embeddings_constraint: of `vivace.constraints`, none by default.
        mask_zero: 0 is padding; the layers behind skip it.
        weights: the embeddings to start from, (input_dim, output_dim) or a list of it; None: the initializer's.
    """

    input_dtype = "int64"
    former = ("input_length",)

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: str | Initializer = "uniform",
        embeddings_regularizer: str | L1L2 | None = None,
        embeddings_constraint: str | Constraint | None = None,
        mask_zero: bool = False,
        weights: Any = None,
        **kwargs: Any,
    ) -> None:
        take_former(kwargs, "input_length", "leave it out, sequences may have any length")
        super().__init__(**kwargs)
        self.input_dim = positive(self.name, "input_dim", input_dim)
        self.output_dim = positive(self.name, "output_dim", output_dim)
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = constraints.get(embeddings_constraint)
        self.mask_zero = mask_zero
        self._first = weights[0] if isinstance(weights, list) else weights

    def build(self, input_shape: BatchShape) -> None:
        shape = (self.input_dim, self.output_dim)
        self.embeddings = self.add_weight(
            "embeddings", shape, self.embeddings_initializer, True, self.embeddings_regularizer,
            self.embeddings_constraint,
        )  # fmt: skip
        if self._first is not None:
            self.embeddings.assign(self._first)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        return (*input_shape, self.output_dim)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        table = self.embeddings.array
        ids = x if x.dtype == _INT64 else x.astype(_INT64)  # of a layer in front, which makes floats
        mask = step.empty(x.shape, _BYTE) if self.mask_zero else None
        y = step.empty((*x.shape, self.output_dim), table.dtype)
        try:
            native.gather_rows(table, ids, y, mask)
        except IndexError:
            bad = ids[(ids < 0) | (ids >= self.input_dim)][0]
            raise ValueError(
                f"{self.name} (Embedding): integers must lie in [0, {self.input_dim}), received {bad}"
            ) from None
        if mask is not None:
            step.mask = mask
        return y, (ids, ids is not x)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        ids, floats = saved
        native.scatter_add_rows(dy, ids, self.embeddings.gradient)
        if not (floats and input_gradient):
            return None
        dx = step.empty(ids.shape, dy.dtype)
        dx.fill(0)
        return dx


class Masking(Layer):
    """Masks the steps of (batch, steps, features) whose features all equal mask_value, and makes them 0."""

    def __init__(self, mask_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask_value = mask_value

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        check_rank(f"{self.name} (Masking)", (input_shape[0], 1, *input_shape[2:]), 3, "(batch, steps, features)")
        return input_shape

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        value = self.mask_value
        step.mask = mask = step.empty(x.shape[:-1], _BYTE)
        if value == 0:  # what is masked is 0 already
            native.mask_rows(x, value, mask, None)
            return x, mask
        y = step.empty(x.shape, x.dtype)
        native.mask_rows(x, value, mask, y)
        return y, mask

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        native.clear_masked_rows(saved, dy)
        return dy
