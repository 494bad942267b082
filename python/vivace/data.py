"""From what users hand over to arrays that the kernels take: converted and checked once, before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from ._core import native
from ._typing import Array, BatchShape, Shape
from .layers import checks
from .layers.preparing import strings
from .step import Step


def as_array(x: Any) -> Array:
    """x as NumPy sees it: arrays as they are, anything else by `__array__`, the buffer protocol, DLPack, or as a nest
    of numbers. Columns of different numeric types (a table's, say) become one array of float64.
    """
    if isinstance(x, np.ndarray):
        return x
    if not hasattr(x, "__array__") and hasattr(x, "__dlpack__"):
        return np.from_dlpack(x)
    array = np.asarray(x)
    if array.dtype.kind == "O" and all(isinstance(value, (Real, np.bool_)) for value in array.flat):
        array = array.astype(np.float64)
    return array


def as_arrays(given: Any, count: int) -> Any:
    """An array; or those of `count` inputs or outputs, if they come as a list or as a dict by name. None stays None."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        return {name: None if one is None else as_array(one) for name, one in given.items()}
    several = isinstance(given, (list, tuple)) and len(given) == count and not np.isscalar(given[0])
    if several and (count > 1 or isinstance(given[0], np.ndarray)):
        return [None if one is None else as_array(one) for one in given]
    return as_array(given)


def as_input(owner: str, x: Any, dtype: str) -> Array:
    """x as a C-contiguous array of the model's dtype, or of strings: the one conversion, made before training starts.

    Integers and booleans are converted without scaling. Bytes (images, say) for a float32 model stay what they are, a
    quarter of the memory: `batch_of` and `gather` convert them batch by batch. Raises TypeError for what holds no real
    numbers, ValueError for a ragged nest of lists or no samples.
    """
    array = strings(owner, x) if dtype == "string" else _numbers(owner, x, dtype)
    if array.ndim == 0 or array.shape[0] == 0:
        raise ValueError(f"{owner}: the input must hold at least one sample, received shape {array.shape}")
    if dtype == "string":
        return array
    return np.ascontiguousarray(array, dtype=array.dtype if _are_bytes(array) and dtype == "float32" else dtype)


def _numbers(owner: str, x: Any, dtype: str) -> Array:
    """x as an array of real numbers; of integers, if the dtype is one of those."""
    try:
        array = as_array(x)
    except ValueError as error:  # ragged lists
        raise ValueError(f"{owner}: the input is not a rectangular array: {error}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{owner}: the input must hold real numbers, received dtype {array.dtype}{_no_numbers(array)}")
    if np.dtype(dtype).kind == "i" and array.dtype.kind == "f" and not (array == np.floor(array)).all():
        raise ValueError(f"{owner}: the input must hold integers, received {array[array != np.floor(array)].flat[0]}")
    return array


def _no_numbers(array: Array) -> str:
    """What a message adds about an array that does not hold numbers."""
    first = next((one for one in array.ravel().tolist() if not isinstance(one, (Real, np.bool_))), None)
    if isinstance(first, (str, bytes)):
        return f" with {first!r}; StringLookup and TextVectorization make numbers of strings, in a model too"
    return f" with {first!r}"


def _are_bytes(array: Array) -> bool:
    return array.dtype == np.uint8


def by_name(given: Any) -> bool:
    """Whether it is a dict by name; one with a "class_name" is an object's description."""
    return isinstance(given, Mapping) and "class_name" not in given


_REQUIRED = object()


def in_order(owner: str, kind: str, given: Any, names: Sequence[str], missing: Any = _REQUIRED) -> list[Any]:
    """What is given for each of the named inputs or outputs, as a list, a dict by name or, for one, by itself.

    missing: what stands for a name that a dict does not have. Raises ValueError for another number or other names.
    """
    if by_name(given):
        unknown = [name for name in given if name not in names]
        absent = [name for name in names if name not in given]
        if unknown or (absent and missing is _REQUIRED):
            raise ValueError(f"{owner}: expected a dict with the {kind}s {list(names)}, received {list(given)}")
        return [given.get(name, missing) for name in names]
    if len(names) == 1:
        scalars = (list, tuple, int, float, str, bytes)
        alone = isinstance(given, (list, tuple)) and len(given) == 1 and not isinstance(given[0], scalars)
        return [given[0] if alone else given]
    if not isinstance(given, (list, tuple)) or len(given) != len(names):
        count = f"{len(given)}" if isinstance(given, (list, tuple)) else f"one {type(given).__name__}"
        raise ValueError(f"{owner}: expected a list of {len(names)}, for the {kind}s {list(names)}; received {count}")
    return list(given)


def samples(x: Any) -> int:
    """How many samples an input, or each of a list or dict of inputs, has."""
    if isinstance(x, Mapping):
        return len(next(iter(x.values())))
    return len(x[0]) if isinstance(x, list) else len(x)


def rows_of(arrays: Any, rows: slice) -> Any:
    """Some samples of an array, or of each in a list or dict; None stays None."""
    if isinstance(arrays, list):
        return [None if array is None else array[rows] for array in arrays]
    if isinstance(arrays, Mapping):
        return {name: None if array is None else array[rows] for name, array in arrays.items()}
    return None if arrays is None else arrays[rows]


def batch_of(x: Any, rows: slice = slice(None)) -> Any:
    """Some samples of an input, or of each in a list, as the layers take them."""
    if isinstance(x, list):
        return [batch_of(part, rows) for part in x]
    return x[rows].astype(np.float32) if _are_bytes(x) else x[rows]


def gather(source: Any, rows: Array, buffers: Step) -> Any:
    """The samples of those numbers, of an array or of each in a list, in the step's memory; None stays None."""
    if isinstance(source, list):
        return [gather(part, rows, buffers) for part in source]
    if source is None:
        return None
    if source.dtype.kind == "O":  # strings
        return source[rows]
    out = buffers.empty((len(rows), *source.shape[1:]), np.float32 if _are_bytes(source) else source.dtype)
    native.gather_rows(source, rows, out)
    return out


def positive(owner: str, argument: str, value: int | None, default: int) -> int:
    """As `layers.checks.positive`; None stands for the default."""
    return default if value is None else checks.positive(owner, argument, value)


def of_samples(owner: str, x: Array, input_shape: BatchShape) -> Array:
    """x with samples of the shape the model was built for; a last axis of size 1 may be there or not.

    Raises ValueError, with a suggestion, if they do not. An axis may be of unknown size, such as a sequence's steps.
    """
    expected = input_shape[1:]
    if x.shape[1:] == expected or _fits(x.shape, input_shape):
        return x
    if x.shape[-1] == 1 and _fits(x.shape[:-1], input_shape):
        return x[..., 0]
    if expected and expected[-1] == 1 and _fits((*x.shape, 1), input_shape):
        return x[..., None]
    hint = ""
    if x.shape == expected:
        hint = "; a batch axis is missing: x[None, ...] makes a batch of one"
    elif len(expected) == 3 and x.ndim == 4 and (*x.shape[2:], x.shape[1]) == expected:
        hint = "; the channels come last here: x.transpose(0, 2, 3, 1)"
    raise ValueError(f"{owner}: expected input of shape {('batch', *expected)}, received {x.shape}{hint}")


def _fits(shape: Shape, expected: BatchShape) -> bool:
    return len(shape) == len(expected) and all(a in (None, b) for a, b in zip(expected[1:], shape[1:], strict=True))


def row_weights(owner: str, count: int, output_shape: BatchShape, sample_weight: Any, dtype: str) -> Array:
    """The weights of `count` samples (samples,), or of their steps (samples, steps, ...), checked."""
    given = as_array(sample_weight)
    if given.dtype.kind not in "biuf":
        raise TypeError(f"{owner}: sample_weight must hold numbers, received dtype {given.dtype}")
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    rows = (count, *output_shape[1:-1])
    steps = given.ndim <= len(rows) and all(b in (None, a) for a, b in zip(given.shape, rows, strict=False))
    if given.ndim == 0 or not steps:
        more = f" or one per step {rows}" if rows[1:] else ""
        raise ValueError(
            f"{owner}: sample_weight must have one entry per sample ({count}){more}, "
            f"received {given.size} in shape {given.shape}"
        )
    if not np.isfinite(given).all():
        raise ValueError(f"{owner}: sample_weight must be finite, received {given[~np.isfinite(given)][0]}")
    return np.ascontiguousarray(given, dtype=dtype)


def class_weights(owner: str, targets: Array, class_weight: Mapping[int, float], dtype: str) -> Array:
    """The weight of each label among the targets (1 where none is given); of one-hot targets, of the largest entry."""
    if not isinstance(class_weight, Mapping):
        raise TypeError(f"{owner}: class_weight must be a dict from label to weight, received {class_weight!r}")
    labels = targets
    if targets.dtype.kind == "f":
        labels = targets.argmax(-1) if targets.shape[-1] > 1 else np.round(targets[..., 0])
    weights = np.ones(labels.shape, dtype)
    for label, weight in class_weight.items():
        weights[labels == label] = weight
    return weights


def split_validation(owner: str, parts: Sequence[Any], fraction: float) -> tuple[list[Any], list[Any]]:
    """The first part and the last `fraction` of the samples, before any shuffling, as Keras does."""
    if not 0 < fraction < 1:
        raise ValueError(f"{owner}: validation_split must lie in (0, 1), received {fraction!r}")
    count = samples(parts[0])
    cut = int(count * (1 - fraction))
    if not 0 < cut < count:
        raise ValueError(f"{owner}: validation_split={fraction} leaves no samples on one side of {count} samples")
    return [rows_of(part, slice(cut)) for part in parts], [rows_of(part, slice(cut, None)) for part in parts]
