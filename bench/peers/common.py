"""What every worker shares: the reference CNN's weights, the data, and the protocol with the driver.

A worker is one framework in a process (and, if need be, an environment) of its own. The driver lets one work at a time:
it writes a number of training steps on the worker's standard input and reads the seconds they took from its standard
output. So peers are interleaved in one run, and no framework's threads spin while another is measured.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# Multiplications and additions of one training sample, counted densely: forward, weight gradients, input gradients.
FORWARD_FLOPS = 2 * (26 * 26 * 32 * 9 + 11 * 11 * 64 * 288 + 1600 * 128 + 128 * 10)
TRAINING_FLOPS = 3 * FORWARD_FLOPS - 2 * 26 * 26 * 32 * 9


def weights() -> list[np.ndarray]:
    """Glorot-uniform weights in Keras's order and layout, the same for every peer."""
    rng = np.random.default_rng(1)

    def glorot(shape: tuple[int, ...]) -> np.ndarray:
        field = int(np.prod(shape[:-2]))
        limit = np.sqrt(6 / (field * (shape[-2] + shape[-1])))
        return rng.uniform(-limit, limit, shape).astype(np.float32)

    shapes = [(3, 3, 1, 32), (32,), (3, 3, 32, 64), (64,), (1600, 128), (128,), (128, 10), (10,)]
    return [glorot(s) if len(s) > 1 else np.zeros(s, np.float32) for s in shapes]


def data(folder: str) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's training set from `folder`, or 60,000 made-up images like it: ten patterns, 5 % wrong labels."""
    if folder:
        import gzip
        from pathlib import Path

        raw = [
            np.frombuffer(gzip.decompress((Path(folder) / name).read_bytes()), np.uint8)
            for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
        ]
        return raw[0][16:].reshape(-1, 28, 28, 1).astype(np.float32) / 255, raw[1][8:].astype(np.int64)
    rng = np.random.default_rng(0)
    patterns = rng.random((10, 28, 28, 1)) * (rng.random((10, 28, 28, 1)) > 0.6)
    y = rng.integers(0, 10, 60000)
    x = (patterns[y] * rng.uniform(0.6, 1, (60000, 1, 1, 1))).astype(np.float32)
    return x, np.where(rng.random(60000) < 0.05, rng.integers(0, 10, 60000), y)


def recurrent_case(case: str, batch: int) -> tuple[str, int, int, int, np.ndarray, np.ndarray]:
    """(cell, steps, inputs, units, x, labels) of a case such as "lstm 100 64 128"."""
    cell, *sizes = case.split()
    steps, inputs, units = map(int, sizes)
    rng = np.random.default_rng(0)
    return (
        cell,
        steps,
        inputs,
        units,
        rng.standard_normal((batch, steps, inputs)).astype("f4"),
        rng.integers(0, 10, batch),
    )


def recurrent_flops(cell: str, steps: int, inputs: int, units: int) -> int:
    """Of one training sample: products forward, weight gradients, gradient of the state."""
    return steps * 2 * {"simple": 1, "lstm": 4, "gru": 3}[cell] * units * (2 * inputs + 3 * units)


def arguments() -> tuple[str, int, int, str]:
    """(variant, batch size, threads, data folder) from the command line."""
    variant, batch, threads, folder = sys.argv[1:5]
    return variant, int(batch), int(threads), folder


def batches(n: int, size: int) -> Any:
    """Shuffled batches of row numbers, for ever."""
    rng = np.random.default_rng(2)
    while True:
        order = rng.permutation(n)
        for i in range(n // size):
            yield order[i * size : (i + 1) * size]


def serve(version: str, run: Callable[[int], None]) -> None:
    """Announce the version, then run and time steps as the driver asks."""
    print(version, flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        run(int(line))
        print(time.perf_counter() - started, flush=True)


def set_threads(threads: int) -> None:
    """For frameworks that read the environment; call before importing them."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
