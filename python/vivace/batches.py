"""Batches, pass after pass: slices of arrays, or what a generator or a data set of the user's hands out.

A source has `steps`, the batches of a pass (None where nobody knows), and `batches(rng, start)`, which makes a pass
from batch `start` on, in an order drawn from `rng` (None: as they come). `Feed` cuts passes into epochs.
"""

from __future__ import annotations

import itertools
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import data, random
from ._typing import Array
from .step import Step

if TYPE_CHECKING:
    from concurrent.futures import Executor

Batch = tuple[Any, Any, Any]  # inputs, targets, weights
State = dict[str, Any]


class Arrays:
    """Batches of `size` samples from arrays in memory, converted beforehand; the last one may be smaller."""

    def __init__(self, prepared: Batch, size: int, in_chunks: bool = False) -> None:
        self.prepared, self.size, self.in_chunks = prepared, size, in_chunks
        self.count = data.samples(prepared[0])
        self.steps: int | None = -(-self.count // size)
        self._buffers = Step(training=True)  # what is gathered is valid until the next batch

    def batches(self, rng: np.random.Generator | None, start: int) -> Iterator[Batch]:
        x, targets, weights = self.prepared
        order = None if rng is None else self._order(rng)
        for begin in range(start * self.size, self.count, self.size):
            rows = slice(begin, min(begin + self.size, self.count))
            if order is None:
                yield data.batch_of(x, rows), data.rows_of(targets, rows), data.rows_of(weights, rows)
            else:
                picked, buffers = order[rows], self._buffers.start()
                yield (
                    data.gather(x, picked, buffers),
                    data.gather(targets, picked, buffers),
                    data.gather(weights, picked, buffers),
                )

    def _order(self, rng: np.random.Generator) -> Array:
        if not self.in_chunks:
            return random.permutation(rng, self.count)
        starts = range(0, self.count, self.size)
        return np.concatenate([s + random.permutation(rng, min(self.size, self.count - s)) for s in starts])


class Dataset:
    """Batches by number: `PyDataset`, or anything with `__len__` and `__getitem__`."""

    def __init__(self, source: Any, prepare: Callable[[Any], Batch]) -> None:
        self.source, self.prepare = source, prepare
        if self.steps == 0:
            raise ValueError(f"{type(source).__name__} has no batches")

    @property
    def steps(self) -> int | None:
        """As the data set says now: it may grow from epoch to epoch."""
        return self.source.num_batches if hasattr(self.source, "num_batches") else len(self.source)

    def batches(self, rng: np.random.Generator | None, start: int) -> Iterator[Batch]:
        count = self.steps
        order: Iterator[int] = itertools.count(start) if count is None else iter(range(start, count))
        if count is not None and rng is not None:
            order = iter(random.permutation(rng, count)[start:].tolist())
        workers = getattr(self.source, "workers", 1)
        if workers == 1 and not getattr(self.source, "use_multiprocessing", False):
            return (self.prepare(self.source[i]) for i in order)
        return map(self.prepare, self._made_ahead(order, workers))

    def _made_ahead(self, order: Iterator[int], workers: int) -> Iterator[Any]:
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

        ahead = getattr(self.source, "max_queue_size", 10)
        pool: Executor
        make: Callable[[int], Any]
        if getattr(self.source, "use_multiprocessing", False):
            pool, make = ProcessPoolExecutor(workers, initializer=_adopt, initargs=(self.source,)), _item
        else:
            pool, make = ThreadPoolExecutor(workers), self.source.__getitem__
        try:
            pending = deque(pool.submit(make, i) for i in itertools.islice(order, ahead))
            while pending:
                yield pending.popleft().result()
                pending.extend(pool.submit(make, i) for i in itertools.islice(order, 1))
        finally:
            pool.shutdown(cancel_futures=True)


_adopted: Any = None  # the data set that a worker process makes batches of


def _adopt(source: Any) -> None:
    global _adopted
    _adopted = source


def _item(index: int) -> Any:
    return _adopted[index]


class Stream:
    """Batches of a generator, or of anything else that can be iterated over; each pass iterates anew."""

    def __init__(self, source: Any, prepare: Callable[[Any], Batch]) -> None:
        self.source, self.prepare = source, prepare
        try:
            self.steps: int | None = len(source)
        except TypeError:
            self.steps = None
        self._held: list[Any] = []  # looked at, but not handed out yet
        self._iterator: Iterator[Any] | None = None

    def peek(self) -> None:
        """Prepare the first batch, which may build the model."""
        self._iterator = iter(self.source)
        self._held = list(itertools.islice(self._iterator, 1))
        for batch in self._held:
            self.prepare(batch)

    def batches(self, rng: np.random.Generator | None, start: int) -> Iterator[Batch]:
        raw = itertools.chain(self._held, iter(self.source) if self._iterator is None else self._iterator)
        self._held, self._iterator = [], None
        return map(self.prepare, itertools.islice(raw, start, None))


class Feed:
    """The batches of one epoch after another.

    Args:
        owner: whom warnings name.
        source: Arrays, Dataset or Stream.
        steps: batches of an epoch. An epoch then goes on where the one before stopped, and a new pass begins when the
            source has no more; None: an epoch is a pass.
        shuffle: draw an order for each pass.
    """

    def __init__(self, owner: str, source: Arrays | Dataset | Stream, steps: int | None = None, shuffle: bool = False):
        self.owner, self.source, self.given = owner, source, steps
        self.rng = random.generator() if shuffle else None
        self._pass: Iterator[Batch] | None = None
        self._position = 0  # batches of the pass that were handed out
        self._before: Any = None  # state of `rng` when the pass began

    @property
    def steps(self) -> int | None:
        """Batches of an epoch; None where nobody knows."""
        return self.given or self.source.steps

    def epoch(self, done: int = 0) -> Iterator[Batch]:
        """The batches of an epoch of which `done` have been seen before."""
        self._tell("on_epoch_begin")
        if self._pass is None or (self.given is None and not done):
            self._begin(0)
        assert self._pass is not None
        left = None if self.steps is None else self.steps - done
        for batch in self._pass if left is None else itertools.islice(self._pass, left):
            self._position += 1
            done += 1
            yield batch
        if self.given and done < self.given:
            self._warn(f"{done} batches, where {self.given} were asked for")
        elif not done:
            self._warn("none at all")
        if self.given is None or done < self.given or self._position == self.source.steps:
            self._pass = None
        self._tell("on_epoch_end")

    def restart(self) -> None:
        """Begin a new pass with the next epoch."""
        self._pass = None

    def _begin(self, position: int) -> None:
        self._before = None if self.rng is None else self.rng.bit_generator.state
        self._pass, self._position = iter(self.source.batches(self.rng, position)), position

    def _tell(self, hook: str) -> None:
        function = getattr(getattr(self.source, "source", None), hook, None)
        if function is not None:
            function()

    def _warn(self, seen: str) -> None:
        warnings.warn(f"{self.owner}: the data ran out in this epoch: {seen}", stacklevel=5)

    # A feed made the same way goes on from the state of another

    def get_state(self) -> State:
        """Where it stands."""
        if self._pass is None and not isinstance(self.source, Stream):
            return {"position": 0, "rng": None if self.rng is None else self.rng.bit_generator.state}
        return {"position": self._position, "rng": self._before}

    def set_state(self, state: State) -> None:
        """Go on from there. A generator is asked for the batches that were seen, which are dropped."""
        if self.rng is not None and state["rng"] is not None:
            self.rng.bit_generator.state = state["rng"]
        self._pass = None
        if state["position"]:
            self._begin(state["position"])


def is_stream(x: Any) -> bool:
    """Whether x hands out batches, rather than being the data."""
    if isinstance(x, np.ndarray):
        return False
    if hasattr(x, "on_epoch_end"):  # a data set, whatever else it is
        return True
    if isinstance(x, (Mapping, Sequence, int, float, type(None))) or any(
        hasattr(x, protocol) for protocol in ("__array__", "__dlpack__")
    ):
        return False
    return hasattr(x, "__iter__") or (hasattr(x, "__getitem__") and hasattr(x, "__len__"))


def source_of(x: Any, prepare: Callable[[Any], Batch], built: bool) -> Dataset | Stream:
    """The batches of a stream. The first one is looked at if it must build the model."""
    if hasattr(x, "__getitem__") and (hasattr(x, "__len__") or hasattr(x, "num_batches")):
        dataset = Dataset(x, prepare)
        if not built:
            prepare(x[0])
        return dataset
    stream = Stream(x, prepare)
    if not built:
        stream.peek()
    return stream


def unpack(owner: str, batch: Any) -> tuple[Any, Any, Any]:
    """(x, y, sample_weight) of what a stream handed out: x, (x,), (x, y) or (x, y, sample_weight)."""
    if not isinstance(batch, (tuple, list)):
        return batch, None, None
    if not 1 <= len(batch) <= 3:
        raise ValueError(f"{owner}: a batch must be (x,), (x, y) or (x, y, sample_weight), received {len(batch)} parts")
    x, y, sample_weight = (*batch, None, None)[:3]
    return x, y, sample_weight
