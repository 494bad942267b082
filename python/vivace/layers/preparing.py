"""What layers share that prepare data of any kind, strings too, before a model or as its first layers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .._typing import Array, BatchShape
from ..step import Step
from .base import Layer
from .symbolic import as_inputs, is_symbolic

MODES = ("int", "one_hot", "multi_hot", "count")


class Preparing(Layer):
    """A layer that makes numbers of what it is given. It has no weights that train and no gradient.

    Called on arrays or lists, it returns an array. In a model it runs on every batch; an `Input` of strings before it
    has dtype="string".
    """

    def __init__(self, dtype: Any = None, **kwargs: Any) -> None:
        integers = dtype is not None and (dtype == "string" or np.dtype(dtype).kind in "iu")
        super().__init__(dtype=None if integers else dtype, **kwargs)
        self.built = True

    def prepared(self, data: Array) -> Array:
        """What the layer makes of an array."""
        raise TypeError(f"{type(self).__name__} must define prepared(data)")

    def call_inputs(self, x: Any, *more: Any) -> Any:
        return as_inputs(x, more) if more or is_symbolic(x) else x

    def _accept(self, inputs: Any) -> Any:
        if self.input_dtype == "string":
            return strings(self.name, inputs)
        array = np.asarray(inputs)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{self.name}: expected numbers, received dtype {array.dtype}")
        return array

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        step.mask = None
        return self.prepared(x), None

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return None


def strings(owner: str, x: Any) -> Array:
    """x as an array of Python strings; bytes are UTF-8. Raises TypeError if it holds anything else."""
    if isinstance(x, Iterator):
        x = list(x)
    array = np.asarray(x, object) if isinstance(x, (list, tuple)) else np.asarray(x)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    texts = [one.decode() if isinstance(one, bytes) else one for one in array.ravel().tolist()]
    for one in texts:
        if not isinstance(one, str):
            raise TypeError(f"{owner}: expected strings, received {one!r} ({type(one).__name__})")
    found = np.empty(len(texts), object)
    found[:] = texts
    return found.reshape(array.shape)


def gathered(data: Any, steps: int | None = None) -> Any:
    """What `adapt` is given: an array or list as it is; of an iterable of batches all, or `steps`, as one array."""
    if isinstance(data, (list, tuple)) or hasattr(data, "__array__") or not isinstance(data, Iterable):
        return data
    return np.concatenate([np.asarray(batch) for batch in itertools.islice(data, steps)])


def check_mode(owner: str, mode: str, modes: Iterable[str] = MODES) -> str:
    """An output mode, by its name of today."""
    mode = {"binary": "multi_hot", "tf-idf": "tf_idf"}.get(mode, mode)
    if mode not in modes:
        raise ValueError(f"{owner}: output_mode must be {', '.join(modes)}, received {mode!r}")
    return mode


def encoded_shape(input_shape: BatchShape, depth: int, mode: str) -> BatchShape:
    """The shape of what `encode` makes of integers of this shape."""
    if mode == "int":
        return input_shape
    each = mode == "one_hot" and not (len(input_shape) > 1 and input_shape[-1] == 1)
    return (*(input_shape if each else input_shape[:-1]), depth)


def encode(owner: str, numbers: Array, depth: int, mode: str, dtype: Any = "float32", weights: Any = None) -> Array:
    """Integers in [0, depth) as they are, or as vectors of length `depth`; negative ones stand for nothing.

    "one_hot": (..., depth), a last axis of size 1 gives way; "multi_hot" and "count": the last axis is one sample. A
    single number is a sample of one.
    """
    if mode == "int":
        return numbers
    numbers = np.atleast_1d(numbers)
    if numbers.size and numbers.max() >= depth:
        raise ValueError(f"{owner}: integers must lie below {depth}, received {numbers.max()}")
    vectors: Array = np.zeros(encoded_shape(numbers.shape, depth, mode), dtype)
    rows: Array = vectors.reshape(-1, depth)
    flat = np.asarray(numbers, np.int64).reshape(len(rows), -1) if len(rows) else np.zeros((0, 1), np.int64)
    row, column = np.nonzero(flat >= 0)
    found = flat[row, column]
    if mode == "count":
        heavy = np.ones(flat.shape) if weights is None else np.broadcast_to(weights, numbers.shape).reshape(flat.shape)
        np.add.at(rows, (row, found), heavy[row, column])
    else:
        rows[row, found] = 1
    return vectors
