"""Helpers with Keras's names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .._config import (
    custom_object_scope,
    deserialize_keras_object,
    get_custom_objects,
    register_keras_serializable,
    serialize,
)
from .._naming import reset_names
from .._typing import Array
from ..random import set_random_seed
from .model_plot import model_to_dot, plot_model
from .py_dataset import PyDataset
from .timeseries import timeseries_dataset_from_array


def to_categorical(x: Any, num_classes: int | None = None) -> Array:
    """Integer labels (...) as one-hot rows (..., num_classes), float32. num_classes defaults to the largest + 1.

    A last axis of size 1 gives way to the rows.
    """
    labels = np.asarray(x)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.dtype.kind in "bf" and (labels == np.trunc(labels)).all():
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"to_categorical: labels must be integers, received dtype {labels.dtype}")
    classes = int(labels.max()) + 1 if num_classes is None else num_classes
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"to_categorical: labels must lie in [0, {classes}), received {labels.min()}..{labels.max()}")
    return np.eye(classes, dtype=np.float32)[labels]


def pad_sequences(
    sequences: Sequence[Sequence[Any]],
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: float = 0.0,
) -> Array:
    """Sequences of different lengths as one array (sequences, maxlen, ...), padded and cut.

    Args:
        sequences: a list of lists or arrays; elements beyond the first axis must have one shape.
        maxlen: length of every row; default that of the longest sequence.
        padding, truncating: "pre" or "post": where `value` is added, and where too long sequences are cut.
    """
    for argument, where in (("padding", padding), ("truncating", truncating)):
        if where not in ("pre", "post"):
            raise ValueError(f"pad_sequences: {argument} must be 'pre' or 'post', received {where!r}")
    if not isinstance(sequences, Iterable) or any(not isinstance(sequence, Iterable) for sequence in sequences):
        raise ValueError(f"pad_sequences: sequences must be a list of lists or arrays, received {sequences!r}")
    arrays = [np.asarray(sequence, dtype=dtype) for sequence in sequences]
    length = max((len(a) for a in arrays), default=0) if maxlen is None else maxlen
    rest = next((a.shape[1:] for a in arrays if len(a)), ())
    if any(len(a) and a.shape[1:] != rest for a in arrays):
        raise ValueError(f"pad_sequences: elements must have one shape, received {[a.shape[1:] for a in arrays]}")
    out = np.full((len(arrays), length, *rest), value, dtype)
    for row, array in zip(out, arrays, strict=True):
        kept = array[:length] if truncating == "post" else array[max(0, len(array) - length) :]
        if len(kept):
            row[slice(0, len(kept)) if padding == "post" else slice(length - len(kept), None)] = kept
    return out


def normalize(x: Any, axis: int = -1, order: int = 2) -> Array:
    """x divided by its norm of that order along the axis; zeros stay zeros.

    Of a vector, an array gives a row, as in Keras; what is not an array becomes one of float32 in its shape.
    """
    if not isinstance(x, np.ndarray):
        x = np.asarray(x, np.float32)
        norms = np.linalg.norm(x, order, axis, keepdims=True)
        return np.asarray(x / np.where(norms == 0, 1, norms))
    norms = np.atleast_1d(np.linalg.norm(x, order, axis))
    return np.asarray(x / np.expand_dims(np.where(norms == 0, 1, norms), axis))


clear_session = reset_names
CustomObjectScope = custom_object_scope
serialize_keras_object = serialize

__all__ = [
    "CustomObjectScope",
    "PyDataset",
    "clear_session",
    "custom_object_scope",
    "deserialize_keras_object",
    "get_custom_objects",
    "model_to_dot",
    "normalize",
    "pad_sequences",
    "plot_model",
    "register_keras_serializable",
    "reset_names",
    "serialize_keras_object",
    "set_random_seed",
    "timeseries_dataset_from_array",
    "to_categorical",
]
