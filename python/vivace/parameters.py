"""Parameters, and the flat blocks they live in."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from math import prod
from typing import Any

import numpy as np

from ._typing import Array, Shape
from .regularizers import L1L2

# The input of the `call` that is being run to find its graph.
TRACED: ContextVar[Any] = ContextVar("traced", default=None)

NUMBERS = (int, float, np.number, np.ndarray)


def aligned_empty(shape: Shape, dtype: Any) -> Array:
    """Uninitialised memory that starts on a cache line (64 bytes), unless it is too small for that to matter."""
    size = prod(shape)
    if size <= 64:  # the line's start costs ten times what the memory does
        return np.empty(shape, dtype)
    raw = np.empty(size * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -raw.__array_interface__["data"][0] % 64  # half the time that raw.ctypes.data takes
    return np.ndarray(shape, dtype, raw, start)


class Changes:
    """Counts what may have changed any parameter, or any layer's attributes: what inference has prepared from them is
    known to be current.
    """

    count = layers = 0
    _next = itertools.count(1).__next__  # one step, whatever the other threads do

    @classmethod
    def note(cls) -> None:
        cls.count = cls._next()

    @classmethod
    def note_layer(cls) -> None:
        cls.layers = cls._next()


class Watch:
    """Tells a layer when what it has worked out from the layers inside it may be out of date."""

    def __init__(self) -> None:
        self._seen = -1

    def changed(self) -> bool:
        """Whether an attribute of any layer was set since this was last asked."""
        if self._seen == Changes.layers:
            return False
        self._seen = Changes.layers
        return True


class Operators:
    """Operators as functions of `vivace.ops`, which in a layer's `call` become a part of the graph."""

    __slots__ = ()

    def _with(self, operation: str, *operands: Any) -> Any:
        return getattr(importlib.import_module("..ops", __name__), operation)(*operands)

    def __add__(self, other: Any) -> Any:
        return self._with("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return self._with("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return self._with("subtract", self, other)

    def __rsub__(self, other: Any) -> Any:
        return self._with("subtract", other, self)

    def __mul__(self, other: Any) -> Any:
        return self._with("multiply", self, other)

    def __rmul__(self, other: Any) -> Any:
        return self._with("multiply", other, self)

    def __truediv__(self, other: Any) -> Any:
        return self._with("divide", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._with("divide", other, self)

    def __floordiv__(self, other: Any) -> Any:
        return self._with("floor_divide", self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._with("floor_divide", other, self)

    def __mod__(self, other: Any) -> Any:
        return self._with("mod", self, other)

    def __rmod__(self, other: Any) -> Any:
        return self._with("mod", other, self)

    def __pow__(self, other: Any) -> Any:
        return self._with("power", self, other)

    def __rpow__(self, other: Any) -> Any:
        return self._with("power", other, self)

    def __matmul__(self, other: Any) -> Any:
        return self._with("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return self._with("matmul", other, self)

    def __and__(self, other: Any) -> Any:
        return self._with("logical_and", self, other)

    def __rand__(self, other: Any) -> Any:
        return self._with("logical_and", other, self)

    def __or__(self, other: Any) -> Any:
        return self._with("logical_or", self, other)

    def __ror__(self, other: Any) -> Any:
        return self._with("logical_or", other, self)

    def __lt__(self, other: Any) -> Any:
        return self._with("less", self, other)

    def __le__(self, other: Any) -> Any:
        return self._with("less_equal", self, other)

    def __gt__(self, other: Any) -> Any:
        return self._with("greater", self, other)

    def __ge__(self, other: Any) -> Any:
        return self._with("greater_equal", self, other)

    def __neg__(self) -> Any:
        return self._with("negative", self)

    def __abs__(self) -> Any:
        return self._with("absolute", self)

    def __invert__(self) -> Any:
        return self._with("logical_not", self)

    def __getitem__(self, key: Any) -> Any:
        return self._with("get_item", self, key)

    def __ne__(self, other: object) -> Any:
        return self._with("not_equal", self, other) if isinstance(other, (*NUMBERS, Operators)) else self is not other

    def __eq__(self, other: object) -> Any:
        """Of another tensor or weight whether it is the same object, as `in` asks; `ops.equal` compares values."""
        return self._with("equal", self, other) if isinstance(other, NUMBERS) else self is other

    __hash__ = object.__hash__


class Parameter(Operators):
    """A named array with its gradient.

    path: where it is in the model, "encoder/dense/kernel"; name: its last part, "kernel".
    key: its name among the layer's own weights, in files.
    value: the weights, shape as the layer documents it. Whoever takes the array may write to it until the model trains,
        which may move the weights: inference then prepares the kernel of a convolution anew in every call. `assign` and
        `Layer.get_weights` spare it that.
    trainable: whether it learns, if its layer does; may be set.
    array: the same array, for those that only read it.
    regularizer: a penalty on the value, or None.
    constraint: a function that projects the value after each update, or None.
    gradient: same shape; backward passes add to it, the optimizer consumes it and leaves it zero.
    """

    __slots__ = ("_trainable", "array", "constraint", "exposed", "gradient", "key", "path", "regularizer")

    def __init__(
        self,
        path: str,
        value: Array,
        trainable: bool = True,
        regularizer: L1L2 | None = None,
        constraint: Callable[[Array], Array] | None = None,
        key: str | None = None,
    ) -> None:
        self.path = path
        self.key = key or self.name
        self.array = value
        self.exposed = False  # whether `value` has been taken
        self.gradient = np.zeros_like(value)
        self._trainable = trainable
        self.regularizer = regularizer
        self.constraint = constraint

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = value
        Changes.note_layer()

    @property
    def value(self) -> Array:
        self._check_taken()
        if not self.exposed:
            self.exposed = True
            Changes.note()
        return self.array

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def dtype(self) -> str:
        return self.array.dtype.name

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def shape(self) -> Shape:
        return self.array.shape

    @property
    def size(self) -> int:
        return self.array.size

    def assign(self, value: Any) -> None:
        """Overwrite the value in place. Raises ValueError if the shape differs."""
        if (traced := TRACED.get()) is not None:  # in a layer's `call`: in every pass
            traced.assign_behind(self, value)
            return
        self.array[...] = self.fitting(value)
        Changes.note()

    def fitting(self, value: Any) -> Array:
        """A new value as an array. Raises ValueError if the shape differs."""
        array = np.asarray(value)
        if array.shape != self.shape:
            raise ValueError(f"{self.path}: the weight has shape {self.shape}, received shape {array.shape}")
        return array

    def assign_add(self, value: Any) -> None:
        """Add to the value in place."""
        self.assign(self + value)

    def assign_sub(self, value: Any) -> None:
        """Subtract from the value in place."""
        self.assign(self - value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__" and not kwargs and hasattr(importlib.import_module("..ops", __name__), ufunc.__name__):
            return self._with(ufunc.__name__, *inputs)
        self._check_taken()
        return getattr(ufunc, method)(*(p.array if isinstance(p, Parameter) else p for p in inputs), **kwargs)

    def numpy(self) -> Array:
        """A copy of the value."""
        self._check_taken()
        return self.array.copy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        self._check_taken()
        if copy is False:
            raise ValueError(f"{self.path}: an array of a weight is a copy; `value` is the array itself")
        return self.array.astype(dtype or self.array.dtype)

    def _check_taken(self) -> None:
        if TRACED.get() is not None:
            raise TypeError(
                f"{self.path}: while the graph of a `call` is made, the value of a weight would become a part of it "
                "that does not change; compute with the weight itself, by operators and functions of vivace.ops"
            )

    def constrain(self) -> None:
        """Project the value onto what its constraint allows."""
        if self.constraint is not None:
            self.array[...] = self.constraint(self.array)
            Changes.note()

    def __repr__(self) -> str:
        return f"<Parameter {self.path}, shape={self.shape}, dtype={self.array.dtype}>"


class FlatParameters:
    """Moves parameters into one contiguous block and their gradients into another; the parameters become views.

    So an optimizer is one pass over `values` and `gradients`, each of shape (size,). Every parameter starts on a cache
    line; the few elements between two of them stay zero, which no optimizer changes.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        Changes.note()  # the parameters' arrays are others from now on
        dtype = parameters[0].array.dtype if parameters else np.dtype(np.float32)
        offsets, size = self.layout(parameters)
        self.parameters = tuple(parameters)
        self.constrained = [p for p in parameters if p.constraint is not None]
        self._values = aligned_empty((size,), dtype)
        self.gradients = aligned_empty((size,), dtype)
        self._values[:] = 0
        self.gradients[:] = 0
        for parameter, start in zip(parameters, offsets, strict=True):
            part = slice(start, start + parameter.size)
            self._values[part] = parameter.array.ravel()
            parameter.array = self._values[part].reshape(parameter.shape)
            parameter.gradient = self.gradients[part].reshape(parameter.shape)

    def holds(self, parameters: Sequence[Parameter]) -> bool:
        """Whether it is the block that these parameters, and no others, live in."""
        return (
            len(parameters) == len(self.parameters)
            and all(a is b for a, b in zip(parameters, self.parameters, strict=True))
            and all(np.may_share_memory(p.array, self._values) for p in parameters if p.size)
        )

    @property
    def values(self) -> Array:
        """All values, to be written to."""
        Changes.note()
        return self._values

    @staticmethod
    def layout(parameters: Sequence[Parameter]) -> tuple[list[int], int]:
        """Where each of the parameters starts in such a block, and its size."""
        offsets, size = [], 0
        for parameter in parameters:
            line = 64 // parameter.array.itemsize
            offsets.append(size)
            size += -(-parameter.size // line) * line
        return offsets, size
