"""What surrounds the kernels: Python's share of a training step, allocations, overhead of calls, a neighbour, start-up.

    python bench/overhead.py

vivace must be installed for the running Python. One table; every figure is a median.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import vivace
from vivace.__main__ import reference_cnn
from vivace._core import native
from vivace.layers import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    LayerNormalization,
    MaxPooling2D,
    Reshape,
    Softmax,
)
from vivace.models import Sequential

FIRST_STEP = """
import numpy as np
from vivace.__main__ import reference_cnn
model = reference_cnn()
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.train_on_batch(np.zeros((32, 28, 28, 1), "f4"), np.zeros(32, int))
"""

# Preloaded with count_allocations.c: what one step of `fit` asks the C library's allocator for, the median of 100.
ALLOCATIONS = """
import ctypes, statistics
import numpy as np
import vivace
from vivace.__main__ import reference_cnn
counter = ctypes.CDLL(None)
counter.allocation_calls.restype = counter.allocation_bytes.restype = ctypes.c_long
calls, sizes = [], []
class Count(vivace.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        calls.append(counter.allocation_calls())
        sizes.append(counter.allocation_bytes())
model = reference_cnn()
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
images, labels = np.zeros((3200, 28, 28, 1), "f4"), np.zeros(3200, int)
model.fit(images, labels, verbose=0)
model.fit(images, labels, verbose=0, callbacks=[Count()])
print(statistics.median(np.diff(calls)), statistics.median(np.diff(sizes)))
"""


def allocations() -> str:
    """Calls of malloc and its kin in a step, counted in a process of its own; a reason where they cannot be."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "count_allocations.so"
        source = Path(__file__).with_name("count_allocations.c")
        try:
            subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            return f"not counted: {error}"
        command, preload = [sys.executable, "-c", ALLOCATIONS], {**os.environ, "LD_PRELOAD": str(library)}
        calls, size = subprocess.run(command, env=preload, check=True, capture_output=True, text=True).stdout.split()
    return f"{float(calls):.0f}, of {float(size):.0f} bytes together"


def microseconds(f: Callable[[], Any], calls: int = 1000) -> float:
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def without_kernels(f: Callable[[], float]) -> float:
    """f, while the native functions return at once: what is left is Python and pybind11's way in."""
    kept = {}
    for name in dir(native):
        function = getattr(native, name)
        if callable(function) and not isinstance(function, type) and "num_threads" not in name:
            kept[name] = function
            setattr(native, name, lambda *_, **__: 0.0)
    try:
        return f()
    finally:
        for name, function in kept.items():
            setattr(native, name, function)


def main() -> None:
    images, labels = np.random.default_rng(0).random((6400, 28, 28, 1)).astype("f4"), np.arange(6400) % 10
    model = reference_cnn()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

    def epoch() -> float:
        start = time.perf_counter()
        model.fit(images, labels, batch_size=32, verbose=0)
        return (time.perf_counter() - start) / 200 * 1e6

    def step() -> None:
        model.train_step(images[:32], labels[:32])

    epoch()
    whole = statistics.median(epoch() for _ in range(9))
    python = statistics.median(without_kernels(epoch) for _ in range(5))
    print(f"reference CNN, batch 32, {vivace.get_num_threads()} threads: a step of fit takes {whole:.0f} us")
    print(f"  of which Python                          {python:.0f} us, {python / whole:.1%}")

    for _ in range(50):
        step()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(1000):
        step()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    tracemalloc.start()
    step()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    for _ in range(100):
        step()
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"  page faults in 1000 steps                {faults}")
    kept = f"{after - before} bytes; at most {(peak - before) / 1024:.1f} KiB at once"
    print(f"  calls of malloc and its kin in a step    {allocations()}")
    print(f"  Python memory kept by 100 steps          {kept}")

    alone = microseconds(step, 2000)
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        busy = microseconds(step, 2000)
    finally:
        neighbour.kill()
        neighbour.wait()
    print(f"  beside one busy process                  {busy:.0f} us, {busy / alone:.1f} x the {alone:.0f} us alone")

    x, image = np.ones((1, 4), "f4"), np.ones((1, 4, 4, 1), "f4")
    tiny = Sequential([Dense(1, input_shape=(4,))])
    tiny(x)
    y = np.empty_like(x)
    floor = microseconds(lambda: native.activation_forward("relu", x, y), 20000)
    print(f"{'floor: a native call':43}{floor:.1f} us")
    print(f"{'floor: np.empty':43}{microseconds(lambda: np.empty((1, 4), y.dtype), 20000):.1f} us")
    print(f"{'a layer called on 4 or 16 numbers':43}inference, training=True")
    for layer, inputs in (
        (Activation("relu"), x), (Dense(1), x), (Flatten(), x), (Dropout(0.5), x), (Reshape((2, 2)), x),
        (BatchNormalization(), x), (LayerNormalization(), x), (Softmax(), x), (Add(), [x, x]), (Conv2D(1, 3), image),
        (MaxPooling2D(), image), (GlobalAveragePooling2D(), image),
    ):  # fmt: skip
        layer(inputs)
        infers = microseconds(lambda layer=layer, inputs=inputs: layer(inputs), 20000)
        trains = microseconds(lambda layer=layer, inputs=inputs: layer(inputs, training=True), 20000)
        print(f"  {type(layer).__name__:41}{infers:.1f} us, {trains:.1f} us")
    deep = Sequential([Dense(4, input_shape=(4,)) for _ in range(50)])
    deep(x)
    each = (microseconds(lambda: deep(x), 5000) - microseconds(lambda: tiny(x), 5000)) / 49
    print(f"{'a Dense layer in a model':43}{each:.1f} us")
    print(f"{'model(x), a tiny Dense':43}{microseconds(lambda: tiny(x), 20000):.1f} us")
    print(f"{'model.predict(x), a tiny Dense':43}{microseconds(lambda: tiny.predict(x, verbose=0), 20000):.1f} us")

    starts = []
    for _ in range(7):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", FIRST_STEP], check=True)
        starts.append(time.perf_counter() - start)
    print(f"{'process start to the end of a first step':43}{statistics.median(starts) * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
