"""Helpers with Keras's names."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._naming import reset_names
from .._typing import Array
from ..random import set_random_seed


def to_categorical(x: Any, num_classes: int | None = None) -> Array:
    """Integer labels (...) as one-hot rows (..., num_classes), float32. num_classes defaults to the largest + 1."""
    labels = np.asarray(x)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"to_categorical: labels must be integers, received dtype {labels.dtype}")
    classes = int(labels.max()) + 1 if num_classes is None else num_classes
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"to_categorical: labels must lie in [0, {classes}), received {labels.min()}..{labels.max()}")
    return np.eye(classes, dtype=np.float32)[labels]


__all__ = ["reset_names", "set_random_seed", "to_categorical"]
