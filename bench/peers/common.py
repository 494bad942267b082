"""What every worker shares: the tasks' data and weights, and the protocol with the driver.

A worker is one framework in a process (and, if need be, an environment) of its own. The driver lets one work at a time:
it writes a number of steps on the worker's standard input and reads the seconds they took from its standard output. So
peers are interleaved in one run, and no framework's threads spin while another is measured.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

GATES = {"simple": 1, "lstm": 4, "gru": 3}

# Convolutions (images, height, width, channels, filters, kernel height and width, stride, padding, groups) of the
# reference CNN at batch 32 and of ResNet-50, depthwise and 1-D. Products: rows, columns, inner size, whether a and b
# are transposed.
CONVOLUTIONS = {
    "conv 1": (32, 28, 28, 1, 32, 3, 3, 1, 0, 1),
    "conv 2": (32, 13, 13, 32, 64, 3, 3, 1, 0, 1),
    "56x56 64-64 k3": (8, 56, 56, 64, 64, 3, 3, 1, 1, 1),
    "28x28 128-128 k3": (8, 28, 28, 128, 128, 3, 3, 1, 1, 1),
    "14x14 256-256 k3": (8, 14, 14, 256, 256, 3, 3, 1, 1, 1),
    "7x7 512-512 k3": (8, 7, 7, 512, 512, 3, 3, 1, 1, 1),
    "56x56 64-256 k1": (8, 56, 56, 64, 256, 1, 1, 1, 0, 1),
    "7x7 2048-512 k1": (8, 7, 7, 2048, 512, 1, 1, 1, 0, 1),
    "stem 224x224 3-64 k7 s2": (8, 224, 224, 3, 64, 7, 7, 2, 3, 1),
    "depthwise 112x112 32 k3": (8, 112, 112, 32, 32, 3, 3, 1, 1, 32),
    "1-D 1000 64-64 k3": (32, 1, 1000, 64, 64, 1, 3, 1, 1, 1),
}
# ResNet-20: (filters, stride) of its blocks. The encoder: two post-norm blocks between word vectors and the mean step.
BLOCKS = [(16, 1)] * 3 + [(32, 2)] + [(32, 1)] * 2 + [(64, 2)] + [(64, 1)] * 2
VOCABULARY, STEPS, WIDTH, HEADS, HIDDEN, ENCODER_BLOCKS = 10_000, 128, 128, 4, 512, 2
DIRECTIONS = ("forward", "input gradient", "weight gradient")
PRODUCTS = {
    "512": (512, 512, 512, 0, 0),
    "1024": (1024, 1024, 1024, 0, 0),
    "2048": (2048, 2048, 2048, 0, 0),
    "dense forward 32x1600x128": (32, 128, 1600, 0, 0),
    "dense input gradient": (32, 1600, 128, 0, 1),
    "dense weight gradient": (1600, 128, 32, 1, 0),
}


class Task(NamedTuple):
    variant: str  # the peer and its setting, as the table names it
    name: str  # train-cnn, train-resnet, train-transformer, train-rnn, infer-cnn, infer-rnn, convolution or product
    batch: int
    threads: int
    detail: str  # CNN, ResNet: images' folder, or nothing; RNN: "cell steps inputs units"; kernels: "name, direction"

    def convolution(self) -> tuple[tuple[int, ...], str]:
        name, direction = self.detail.split(", ")
        return CONVOLUTIONS[name], direction

    def recurrent(self) -> tuple[str, int, int, int]:
        cell, *sizes = self.detail.split()
        steps, inputs, units = map(int, sizes)
        return cell, steps, inputs, units


def task() -> Task:
    """From the command line. Sets the number of threads for frameworks that read it when they are imported."""
    variant, name, batch, threads, detail = sys.argv[1:6]
    os.environ["OMP_NUM_THREADS"] = threads
    return Task(variant, name, int(batch), int(threads), detail)


def serve(version: str, run: Callable[[int], Any]) -> None:
    """Announce the version, then run and time steps as the driver asks, after a few that wake threads and caches."""
    print(version, flush=True)
    for line in sys.stdin:
        steps = int(line)
        run(max(1, steps // 5))
        started = time.perf_counter()
        run(steps)
        print(time.perf_counter() - started, flush=True)


def repeat(call: Callable[[], Any]) -> Callable[[int], None]:
    def run(steps: int) -> None:
        for _ in range(steps):
            call()

    return run


def flops(task: Task) -> int:
    """Multiplications and additions for one sample, counted densely: forward, weight gradients, input gradients."""
    if task.name == "product":
        return 2 * int(np.prod(PRODUCTS[task.detail][:3]))
    if task.name == "convolution":
        (n, h, w, c, o, kh, kw, stride, pad, groups), _ = task.convolution()
        pixels = ((h + 2 * pad * (kh > 1) - kh) // stride + 1) * ((w + 2 * pad - kw) // stride + 1)
        return 2 * n * pixels * o * kh * kw * (c // groups)
    if task.name == "train-resnet":
        first = size = 2 * 32 * 32 * 16 * 27
        before, pixels = 16, 32 * 32
        for filters, stride in BLOCKS:
            pixels //= stride**2
            size += 2 * pixels * filters * (9 * (before + filters) + (before if stride > 1 else 0))
            before = filters
        return 3 * (size + 2 * before * 10) - first
    if task.name == "train-transformer":
        block = STEPS * (4 * WIDTH**2 + 2 * WIDTH * HIDDEN) + 2 * STEPS**2 * WIDTH
        return 3 * 2 * (ENCODER_BLOCKS * block + WIDTH * 2)
    if task.name.endswith("cnn"):
        first = 2 * 26 * 26 * 32 * 9
        forward = first + 2 * (11 * 11 * 64 * 288 + 1600 * 128 + 128 * 10)
        return 3 * forward - first if task.name == "train-cnn" else forward
    cell, steps, inputs, units = task.recurrent()
    products = 2 * inputs + 3 * units if task.name == "train-rnn" else inputs + units
    return steps * 2 * GATES[cell] * units * products


def cnn_weights() -> list[np.ndarray]:
    """Glorot-uniform weights in Keras's order and layout, the same for every peer."""
    rng = np.random.default_rng(1)

    def glorot(shape: tuple[int, ...]) -> np.ndarray:
        field = int(np.prod(shape[:-2]))
        limit = np.sqrt(6 / (field * (shape[-2] + shape[-1])))
        return rng.uniform(-limit, limit, shape).astype(np.float32)

    shapes = [(3, 3, 1, 32), (32,), (3, 3, 32, 64), (64,), (1600, 128), (128,), (128, 10), (10,)]
    return [glorot(s) if len(s) > 1 else np.zeros(s, np.float32) for s in shapes]


def cnn_weights_channels_first() -> list[np.ndarray]:
    """The same weights for images (batch, channels, height, width): kernels (out, in, ...), dense ones transposed."""
    w = cnn_weights()
    w[4] = w[4].reshape(5, 5, 64, 128).transpose(2, 0, 1, 3).reshape(1600, 128)
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    return [np.ascontiguousarray(a.transpose(axes[a.ndim])) for a in w]


def mnist(folder: str) -> tuple[np.ndarray, np.ndarray]:
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


def cifar(folder: str) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10's training set from `folder` (data_batch_*.bin), or 10,000 made-up images like it."""
    if folder:
        from pathlib import Path

        files = sorted(Path(folder).glob("data_batch_*.bin"))
        rows = np.concatenate([np.frombuffer(file.read_bytes(), np.uint8).reshape(-1, 3073) for file in files])
        x = np.ascontiguousarray(rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), np.float32)
        return x / 127.5 - 1, rows[:, 0].astype(np.int64)
    rng = np.random.default_rng(0)
    patterns, y = rng.standard_normal((10, 32, 32, 3), np.float32), rng.integers(0, 10, 10_000)
    return patterns[y] + rng.standard_normal((len(y), 32, 32, 3), np.float32), y


def texts() -> tuple[np.ndarray, np.ndarray]:
    """4,096 made-up texts of two kinds, which differ in how often each word comes: tokens (n, steps), kinds (n,)."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 4096)
    frequency = 1 / np.arange(1, VOCABULARY + 1)
    x = np.empty((len(y), STEPS), np.int64)
    for kind in range(2):
        own = frequency * np.exp(0.3 * rng.standard_normal(VOCABULARY))
        x[y == kind] = rng.choice(VOCABULARY, (np.count_nonzero(y == kind), STEPS), p=own / own.sum())
    return x, y


def images(batch: int) -> np.ndarray:
    return np.random.default_rng(0).random((batch, 28, 28, 1), dtype=np.float32)


def sequences(task: Task) -> tuple[np.ndarray, np.ndarray]:
    _, steps, inputs, _ = task.recurrent()
    rng = np.random.default_rng(0)
    return rng.standard_normal((task.batch, steps, inputs)).astype("f4"), rng.integers(0, 10, task.batch)


def batches(n: int, size: int) -> Iterator[np.ndarray]:
    """Shuffled batches of row numbers, for ever."""
    rng = np.random.default_rng(2)
    while True:
        order = rng.permutation(n)
        for i in range(n // size):
            yield order[i * size : (i + 1) * size]
