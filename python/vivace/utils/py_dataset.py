"""PyDataset: a data set as Python code, a batch at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any


class PyDataset:
    """Base of data sets that are made batch by batch, for `fit`, `evaluate` and `predict`.

    A subclass defines `__len__` (the number of batches; or `num_batches`, which may be None for a data set without an
    end) and `__getitem__(index)`, which returns a batch: (x,), (x, y) or (x, y, sample_weight). `on_epoch_begin` and
    `on_epoch_end` are called around each epoch. `fit` takes the batches in a random order unless `shuffle=False`.

    Args:
        workers: how many batches are made at the same time; with 1, in the thread that trains.
        use_multiprocessing: the workers are processes (the data set is pickled once for each), not threads.
        max_queue_size: how many batches are made ahead, at most.

    Raises:
        ValueError: a number that is not positive.
    """

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10) -> None:
        for argument, value in (("workers", workers), ("max_queue_size", max_queue_size)):
            if value < 1:
                raise ValueError(f"{type(self).__name__}: {argument} must be at least 1, received {value!r}")
        self.workers, self.use_multiprocessing, self.max_queue_size = workers, use_multiprocessing, max_queue_size

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch; None: no end."""
        if not hasattr(self, "__len__"):
            raise TypeError(f"{type(self).__name__} must define __len__ or the property num_batches")
        return len(self)

    def __getitem__(self, index: int) -> Any:
        raise TypeError(f"{type(self).__name__} must define __getitem__(index)")

    def __iter__(self) -> Iterator[Any]:
        count = self.num_batches
        return (self[i] for i in (itertools.count() if count is None else range(count)))

    def on_epoch_begin(self) -> None:
        """Called before each epoch."""

    def on_epoch_end(self) -> None:
        """Called after each epoch."""
