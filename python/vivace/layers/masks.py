"""Masks as tensors of a graph, for a `call` that computes with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._typing import Array, BatchShape
from ..step import Step
from .base import Layer


class MaskOf(Layer):
    """The mask that its input carries: (batch, steps), true where a step counts; all true where there is none."""

    takes_any = True
    output_dtype = "bool"

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        return tuple(input_shape[:2])

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        y = np.ones(x.shape[:2], bool) if step.mask is None else step.mask.astype(bool)
        step.mask = None
        return y, None

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return None


class PassingFirst(Layer):
    """A layer that passes the first of its inputs on, and does something with the others."""

    several_inputs = True
    takes_any = True

    def compute_output_shape(self, input_shape: Any) -> BatchShape:
        return tuple(input_shape[0])


class Masked(PassingFirst):
    """Its first input, with the second one as its mask."""

    def forward(self, x: Any, step: Step) -> tuple[Array, Any]:
        step.mask = np.ascontiguousarray(x[1], np.uint8)
        return x[0], None

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        return [dy, None]


def mask_of(given: Any) -> Any:
    """The masks of tensors of a graph, in their structure; None for one that has no steps."""
    if isinstance(given, dict):
        return {name: mask_of(one) for name, one in given.items()}
    if isinstance(given, (list, tuple)):
        return [mask_of(one) for one in given]
    return MaskOf(dtype=given.dtype_of_layers)(given) if given.ndim > 2 else None  # (batch, steps, ...)


def masked(given: Any, masks: Any) -> Any:
    """Tensors of a graph with these masks, None for those that keep theirs."""
    if isinstance(given, (list, tuple)):
        pairs = zip(given, masks if isinstance(masks, (list, tuple)) else [masks] * len(given), strict=False)
        return type(given)([masked(one, mask) for one, mask in pairs])
    return given if masks is None else Masked(dtype=given.dtype_of_layers)([given, masks])
