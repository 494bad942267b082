"""What layers check of their arguments and inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._typing import FLOATS, Array, BatchShape
from .symbolic import is_symbolic


def data_array(owner: str, x: Any, dtype: str) -> Array:
    """x as a C-contiguous array of numbers. Raises TypeError for anything else."""
    if type(x) is np.ndarray and (x.dtype is FLOATS.get(dtype) or x.dtype == dtype) and x.flags.c_contiguous:
        return x
    if dtype == "string":
        from .preparing import strings

        return strings(owner, x)
    array = np.asarray(x)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{owner}: expected numbers, received dtype {array.dtype}")
    return np.ascontiguousarray(array, dtype=dtype)


def step_masks(mask: Any, several: bool) -> Any:
    """Masks as a step has them: of bytes; of several inputs a list."""
    if several and isinstance(mask, (list, tuple)):
        return [None if m is None else np.ascontiguousarray(m, np.uint8) for m in mask]
    return np.ascontiguousarray(mask, np.uint8)


def positive(owner: str, argument: str, value: int) -> int:
    """An integer of Python or NumPy that is at least 1. Raises ValueError naming the layer and the argument."""
    if not isinstance(value, (int, np.integer)) or value < 1:
        hint = "; a layer is made first and called then, as in Dense(8)(x)" * is_symbolic(value)
        raise ValueError(f"{owner}: {argument} must be an integer >= 1, received {value!r}{hint}")
    return int(value)


def only_off(owner: str, **arguments: Any) -> None:
    """Raise ValueError if one of Keras's arguments that vivace does not support is not None or False."""
    for argument, value in arguments.items():
        if not (value is None or value is False):
            raise ValueError(f"{owner}: {argument} is not supported, received {value!r}")


def check_rank(owner: str, input_shape: BatchShape, rank: int, axes: str, hint: str = "") -> None:
    """Raise ValueError unless the shape has `rank` axes."""
    if len(input_shape) != rank:
        raise ValueError(f"{owner} takes inputs of rank {rank}, {axes}; received shape {input_shape}{hint}")
