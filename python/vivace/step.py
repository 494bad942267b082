"""The memory and the randomness of one pass through a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import random
from ._typing import Array, Shape
from .parameters import aligned_empty

_empty = np.empty
_SMALL = 4096  # bytes for which to begin on a cache line takes longer, 3 us, than it saves
_NONE: tuple[Any, Any, Any] = None, None, None


class Step:
    """What a forward or backward pass may need besides its arguments.

    training: whether layers behave as in training (dropout drops, max pooling remembers positions).
    mask: uint8 (batch, steps), nonzero where a step of a sequence counts; None: all do; of several inputs or outputs a
        list. A layer that makes a mask sets it, one whose output has no steps takes it away.
    keeps: whether a backward pass may follow, for which layers keep what it needs.
    penalty: what layers add to the loss of every row of this pass (ActivityRegularization); they add its gradient too.

    The step owns the buffers: the k-th `empty` of every pass gets the same memory, so that in steady state nothing is
    allocated and no page is touched for the first time. What a pass returns is therefore valid until the next pass.
    Gradients on their way back are given up as soon as nobody needs them, and their memory, still in cache, goes to the
    next ones.
    """

    keeps = True

    def __init__(self, training: bool) -> None:
        self.training = training
        self.mask: Any = None
        self.penalty = 0.0
        self._buffers: list[tuple[Shape, Any, Array]] = []
        self._next = 0
        self._places: dict[int, int] = {}  # which buffer an array is, by identity
        self._free: dict[Shape, list[Array]] = {}  # those given up in this pass

    def start(self) -> Step:
        """Begin a new pass: all buffers are free again."""
        self._next = 0
        self._free.clear()
        self.mask = None
        self.penalty = 0.0
        return self

    def empty(self, shape: Shape, dtype: Any) -> Array:
        """An uninitialised, 64-byte aligned array."""
        free = self._free
        if free and (given_up := free.get(shape)) and given_up[-1].dtype == dtype:
            return given_up.pop()
        k = self._next
        self._next = k + 1
        known: Any
        known, kind, buffer = self._buffers[k] if k < len(self._buffers) else _NONE
        if known != shape or (kind is not dtype and kind != dtype):
            self._places.pop(id(buffer), None)
            buffer = aligned_empty(shape, dtype)
            self._buffers[k : k + 1] = [(shape, dtype, buffer)]
            self._places[id(buffer)] = k
        return buffer

    def copy(self, x: Array) -> Array:
        """The elements of a view, say, as a dense array of the step's."""
        y = self.empty(x.shape, x.dtype)
        y[...] = x
        return y

    def own(self, outputs: list[Array]) -> list[Array]:
        """Several outputs, each made by the step and nobody else's."""
        return outputs

    def give_up(self, array: Array, result: Any = None) -> None:
        """Nobody reads the array any more: later calls of `empty` may have its memory.

        Without effect unless it is a buffer of this pass, or if it shares memory with the result (an array or several)
        of what was the last to read it.
        """
        if self._places.get(id(array), self._next) >= self._next:
            return
        for other in result if isinstance(result, (list, tuple)) else (result,):
            if other is not None and np.may_share_memory(array, other):
                return
        free = self._free.setdefault(array.shape, [])
        if not any(one is array for one in free):
            free.append(array)

    def owns(self, array: Array) -> bool:
        """Whether the array is one of the step's buffers."""
        return id(array) in self._places


class OneCall(Step):
    """The step of a layer that runs by itself: its memory is new, and what it makes is the caller's."""

    training = keeps = False
    mask: Any = None
    penalty = 0.0
    last: Any = None  # what `empty` has made last, or several outputs that the step has made

    __init__ = object.__init__  # nothing to set: that takes a third of the time

    def empty(self, shape: Shape, dtype: Any) -> Array:
        array = _empty(shape, dtype)
        if array.nbytes > _SMALL:
            array = aligned_empty(shape, dtype)
        self.last = array
        return array

    def copy(self, x: Array) -> Array:
        if x.nbytes > _SMALL:
            return super().copy(x)
        self.last = y = x.copy()
        return y

    def own(self, outputs: list[Array]) -> list[Array]:
        self.last = outputs
        return outputs

    def made(self, y: Any) -> bool:
        """Whether y is the memory that `empty` has made last, or a dense view of it."""
        last = self.last
        if last is None or type(y) is list or type(last) is list:
            return False
        return y.base is (last if last.base is None else last.base) and y.flags.c_contiguous

    def give_up(self, array: Array, result: Any = None) -> None:
        """Without effect: the memory is not used again."""


class Stream:
    """Numbers for a counter-based generator: a seed, and a new stream number for every call."""

    def __init__(self, seed: int | None) -> None:
        self.seed = random.next_seed() if seed is None else seed
        self.position = 0

    def next(self) -> int:
        self.position += 1
        return self.position

    def two(self) -> tuple[int, int, int]:
        """The seed, and two stream numbers."""
        self.position = second = self.position + 2
        return self.seed, second - 1, second
