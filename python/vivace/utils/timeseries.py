"""Windows of a time series as batches."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..random import generator
from .py_dataset import PyDataset


class _Windows(PyDataset):
    """Batches of windows that begin at some positions, each with the target that stands there."""

    def __init__(self, data: Any, targets: Any, starts: Any, steps: Any, batch_size: int | None) -> None:
        super().__init__()
        self.data, self.targets, self.starts, self.steps, self.batch_size = data, targets, starts, steps, batch_size

    def __len__(self) -> int:
        return -(-len(self.starts) // (self.batch_size or 1))

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} batches, asked for {index}")
        size = self.batch_size or 1
        starts = self.starts[index * size : (index + 1) * size]
        if self.batch_size is None:  # one by one, without a batch
            starts = starts[0]
        windows = self.data[np.add.outer(starts, self.steps)]
        return windows if self.targets is None else (windows, self.targets[starts])


def timeseries_dataset_from_array(
    data: Any,
    targets: Any,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
) -> PyDataset:
    """Windows over the first axis of an array, for `fit` and its like: batches x, or (x, y) with targets.

    `fit` takes the batches in another order in each epoch unless it is given shuffle=False.

    Args:
        data: (steps, ...).
        targets: what belongs to the window that begins at each step; None: there are none.
        sequence_length: elements of a window.
        sequence_stride: steps from one window's begin to the next one's.
        sampling_rate: steps between the elements of a window.
        batch_size: windows in a batch; None: one by one, without an axis for them.
        shuffle: windows in random order; seed: of that order.
        start_index, end_index: use only the data from here, and before there.

    Raises:
        ValueError: a number that does not fit the data.
    """
    owner, data = "timeseries_dataset_from_array", np.asarray(data)
    for argument, value in (
        ("sequence_length", sequence_length), ("sequence_stride", sequence_stride), ("sampling_rate", sampling_rate),
    ):  # fmt: skip
        if not 1 <= value <= len(data):
            raise ValueError(f"{owner}: {argument} must lie between 1 and the {len(data)} steps, received {value!r}")
    start, end = start_index or 0, len(data) if end_index is None else end_index
    if not 0 <= start < end <= len(data):
        raise ValueError(
            f"{owner}: start_index and end_index must lie in order within {len(data)} steps, received {start} and {end}"
        )
    count = end - start - (sequence_length - 1) * sampling_rate
    kept = None if targets is None else np.asarray(targets)[start:end]
    if kept is not None:
        count = min(count, len(kept))
    if count < 1:
        raise ValueError(
            f"{owner}: {end - start} steps hold no window of {sequence_length} elements, {sampling_rate} steps apart"
        )
    starts = np.arange(0, count, sequence_stride)
    if shuffle:
        generator(seed).shuffle(starts)
    steps = np.arange(sequence_length) * sampling_rate
    return _Windows(data[start:end], kept, starts, steps, batch_size)
