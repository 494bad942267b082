"""From what users hand over to arrays that the kernels take: converted and checked once, before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._typing import Array, BatchShape


def as_input(owner: str, x: Any, dtype: str) -> Array:
    """x as a C-contiguous array of the model's dtype: the one conversion, made before training starts.

    Integers and booleans are converted without scaling. Raises TypeError for what holds no real numbers, ValueError
    for a ragged nest of lists or no samples.
    """
    try:
        array = np.asarray(x)
    except ValueError as error:  # ragged lists
        raise ValueError(f"{owner}: the input is not a rectangular array: {error}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{owner}: the input must hold real numbers, received dtype {array.dtype}")
    if np.dtype(dtype).kind == "i" and array.dtype.kind == "f" and not (array == np.floor(array)).all():
        raise ValueError(f"{owner}: the input must hold integers, received {array[array != np.floor(array)].flat[0]}")
    if array.ndim == 0 or array.shape[0] == 0:
        raise ValueError(f"{owner}: the input must hold at least one sample, received shape {array.shape}")
    return np.ascontiguousarray(array, dtype=dtype)


def check_sample_shape(owner: str, x: Array, input_shape: BatchShape) -> None:
    """Raise ValueError, with a suggestion, unless x's samples have the shape the model was built for."""
    expected = input_shape[1:]
    if x.shape[1:] == expected:
        return
    if x.ndim == len(input_shape) and all(want in (None, got) for want, got in zip(expected, x.shape[1:], strict=True)):
        return  # an axis of unknown size, such as a sequence's steps
    hint = ""
    if (*x.shape[1:], 1) == expected:
        hint = "; add the channel axis with x[..., None]"
    elif x.shape == expected:
        hint = "; a batch axis is missing: x[None, ...] makes a batch of one"
    elif len(expected) == 3 and x.ndim == 4 and (*x.shape[2:], x.shape[1]) == expected:
        hint = "; the channels come last here: x.transpose(0, 2, 3, 1)"
    raise ValueError(f"{owner}: expected input of shape {('batch', *expected)}, received {x.shape}{hint}")


def row_weights(
    owner: str, targets: Array, class_weight: Mapping[int, float] | None, sample_weight: Any, dtype: str
) -> Array | None:
    """One weight per sample from class_weight (label -> weight; 1 for others) times sample_weight; None for all 1."""
    weights = None
    if sample_weight is not None:
        given = np.asarray(sample_weight, dtype=dtype)
        if given.ndim == 0 or given.size != len(given) or len(given) != len(targets):
            raise ValueError(
                f"{owner}: sample_weight must have one entry per sample ({len(targets)}), "
                f"received {given.size} in shape {given.shape}"
            )
        if not np.isfinite(given).all():
            raise ValueError(f"{owner}: sample_weight must be finite, received {given[~np.isfinite(given)][0]}")
        weights = np.ascontiguousarray(given.ravel())
    if class_weight is not None:
        labels = targets.argmax(-1) if targets.dtype.kind == "f" and targets.shape[-1] > 1 else targets
        of_class = np.ones(len(targets), dtype)
        flat = labels.reshape(len(targets), -1)[:, 0]
        for label, weight in class_weight.items():
            of_class[flat == label] = weight
        weights = of_class if weights is None else weights * of_class
    return weights


def split_validation(
    owner: str, arrays: Sequence[Array | None], fraction: float
) -> tuple[list[Array | None], list[Array | None]]:
    """The first part and the last `fraction` of the samples, before any shuffling, as Keras does."""
    if not 0 < fraction < 1:
        raise ValueError(f"{owner}: validation_split must lie in (0, 1), received {fraction!r}")
    first = arrays[0]
    assert first is not None
    cut = int(len(first) * (1 - fraction))
    if not 0 < cut < len(first):
        raise ValueError(f"{owner}: validation_split={fraction} leaves no samples on one side of {len(first)} samples")
    return [a if a is None else a[:cut] for a in arrays], [a if a is None else a[cut:] for a in arrays]
