"""Small tools for the tests."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np


def integers(rng: np.random.Generator, shape: Any, dtype: Any) -> np.ndarray:
    """Small integers, whose sums of products are exact in float32: results can be compared without tolerance."""
    return rng.integers(-3, 4, shape).astype(dtype)


def distinct(rng: np.random.Generator, shape: Any, dtype: Any) -> np.ndarray:
    """All values different and at least 0.01 apart, so that no maximum changes under a small step."""
    size = int(np.prod(shape))
    return ((rng.permutation(size) - size / 2 + 0.25) * 0.01).reshape(shape).astype(dtype)


def numeric_gradient(f: Callable[[], float], array: np.ndarray, h: float = 1e-5) -> np.ndarray:
    """Central differences of f with respect to every element of a float64 array that f reads."""
    gradient = np.empty_like(array)
    flat, out = array.reshape(-1), gradient.reshape(-1)
    for i in range(flat.size):
        kept = flat[i]
        flat[i] = kept + h
        above = f()
        flat[i] = kept - h
        below = f()
        flat[i] = kept
        out[i] = (above - below) / (2 * h)
    return gradient


def rounding(core: ModuleType, shape: Any, direction: str, dtype: str) -> float:
    """How far a convolution of small integers may be from the exact one: not at all, but for Winograd's tiles of four
    outputs, which multiply by fractions."""
    if core.conv2d_method(shape, direction) != "winograd":
        return 0.0
    if direction == "weight_gradient":
        terms = np.prod(shape.output[:3])
    else:
        terms = np.prod(shape.kernel[:2]) * shape.kernel[2 if direction == "forward" else 3]
    return float(400 * np.finfo(dtype).eps * terms**0.5)
