"""What surrounds the kernels: Python's share of a training step, allocations, overhead of calls, a neighbour, start-up.

    python bench/overhead.py            everything
    python bench/overhead.py layers     only the calls of single layers

vivace must be installed for the running Python. Every figure is a median.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import vivace
import vivace.layers as L
from vivace.__main__ import reference_cnn
from vivace._core import native
from vivace.layers import Dense
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


def microseconds(statement: Callable[[], Any] | str, calls: int = 1000, **names: Any) -> float:
    """What one of so many runs in loops of a hundred takes."""
    times = timeit.repeat(statement, number=100, repeat=calls // 100, globals=names)
    return statistics.median(times) / 100 * 1e6


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


def kernels_of(f: Callable[[], Any]) -> float:
    """What the native calls of f take by themselves, with their arguments checked and the GIL released."""
    calls: list[Callable[[], Any]] = []
    kept = {name: getattr(native, name) for name in dir(native) if name.islower() and callable(getattr(native, name))}

    def recorded(function: Any) -> Any:
        def call(*args: Any) -> Any:
            calls.append(partial(function, *args))
            return function(*args)

        return call

    for name, function in kept.items():
        setattr(native, name, recorded(function))
    try:
        f()
    finally:
        for name, function in kept.items():
            setattr(native, name, function)
    return sum(microseconds(call, 2000) for call in calls)


def layers_table() -> list[tuple[Any, ...]]:
    """Layers with inputs (of cells, with their states) so small that kernels take next to nothing."""
    x, sequence, image = (np.ones(shape, "f4") for shape in ((1, 4), (1, 4, 4), (1, 4, 4, 1)))
    volume, words = np.ones((1, 4, 4, 4, 1), "f4"), np.ones((1, 4), "i8")
    two, both = [x, x], [sequence, sequence]
    half, colors = np.ones((1, 2), "f4"), np.ones((1, 4, 4, 3), "f4")
    return [
        (L.Dense(1), x), (L.Dense(2, "softmax"), x), (L.Dense(2, "gelu"), x), (L.Activation("relu"), x),
        (L.Activation("gelu"), x), (L.Softmax(), x), (L.PReLU(), x), (L.Flatten(), image), (L.Reshape((2, 2)), x),
        (L.Permute((2, 1)), sequence), (L.RepeatVector(2), x), (L.Dropout(0.5), x),
        (L.Identity(), x), (L.ReLU(), x), (L.LeakyReLU(), x), (L.ELU(), x), (L.GetItem((slice(None), 0)), sequence),
        (L.SpatialDropout1D(0.5), sequence), (L.SpatialDropout2D(0.5), image), (L.SpatialDropout3D(0.5), volume),
        (L.GaussianDropout(0.1), x), (L.AlphaDropout(0.1), x),
        (L.ActivityRegularization(), x),
        (L.GaussianNoise(0.1), x),
        (L.BatchNormalization(), x), (L.BatchNormalization(), image), (L.LayerNormalization(), x),
        (L.LayerNormalization(), sequence), (L.GroupNormalization(1), image), (L.RMSNormalization(), x),
        (L.UnitNormalization(), x),
        (L.Add(), two), (L.Subtract(), two), (L.Multiply(), two), (L.Average(), two), (L.Maximum(), two),
        (L.Minimum(), two), (L.Concatenate(), two), (L.Dot(1), two),
        (L.Conv1D(1, 3), sequence), (L.Conv2D(1, 3), image), (L.DepthwiseConv1D(3), sequence),
        (L.DepthwiseConv2D(3), image), (L.SeparableConv1D(1, 3), sequence), (L.SeparableConv2D(1, 3), image),
        (L.Conv1DTranspose(1, 3), sequence), (L.Conv2DTranspose(1, 3), image), (L.Conv3D(1, 3), volume),
        (L.Conv3DTranspose(1, 3), volume),
        (L.MaxPooling1D(), sequence), (L.MaxPooling2D(), image), (L.MaxPooling3D(), volume),
        (L.AveragePooling1D(), sequence), (L.AveragePooling2D(), image), (L.AveragePooling3D(), volume),
        (L.GlobalAveragePooling1D(), sequence), (L.GlobalAveragePooling2D(), image),
        (L.GlobalAveragePooling3D(), volume), (L.GlobalMaxPooling1D(), sequence), (L.GlobalMaxPooling2D(), image),
        (L.GlobalMaxPooling3D(), volume), (L.ZeroPadding1D(), sequence), (L.ZeroPadding2D(), image),
        (L.AdaptiveAveragePooling1D(2), sequence), (L.AdaptiveAveragePooling2D(2), image),
        (L.AdaptiveAveragePooling3D(2), volume), (L.AdaptiveMaxPooling1D(2), sequence),
        (L.AdaptiveMaxPooling2D(2), image), (L.AdaptiveMaxPooling3D(2), volume), (L.EinsumDense("ab,bc->ac", 2), x),
        (L.ZeroPadding3D(), volume),
        (L.Cropping1D(), sequence), (L.Cropping2D(1), image), (L.Cropping3D(1), volume),
        (L.UpSampling1D(), sequence), (L.UpSampling2D(), image), (L.UpSampling2D(interpolation="bilinear"), image),
        (L.UpSampling3D(), volume),
        (L.Resizing(2, 2), image), (L.CenterCrop(2, 2), image), (L.Embedding(4, 4), words),
        (L.Embedding(4, 4, mask_zero=True), words), (L.Masking(), sequence),
        (L.SimpleRNN(2), sequence), (L.GRU(2), sequence), (L.LSTM(2), sequence),
        (L.LSTM(2, return_sequences=True), sequence), (L.LSTM(2, dropout=0.1, recurrent_dropout=0.1), sequence),
        (L.OutputGatedRNN(2, 2), sequence), (L.Bidirectional(L.GRU(2)), sequence),
        (L.SimpleRNNCell(2), (x, half)), (L.GRUCell(2), (x, half)), (L.LSTMCell(2), (x, [half, half])),
        (L.StackedRNNCells([L.GRUCell(2), L.GRUCell(2)]), (x, [half, half])), (L.RNN(L.LSTMCell(2)), sequence),
        (L.TimeDistributed(L.Dense(2)), sequence), (L.Attention(), both), (L.AdditiveAttention(), both),
        (L.MultiHeadAttention(1, 4), both), (L.GroupQueryAttention(4, 1, 1), both),
        (L.RandomFlip(), image), (L.RandomRotation(0.1), image), (L.RandomZoom(0.1), image),
        (L.RandomTranslation(0.1, 0.1), image), (L.RandomCrop(2, 2), image), (L.RandomContrast(0.1), image),
        (L.RandomBrightness(0.1), image), (L.RandomShear(0.1), image), (L.RandomInvert(), image),
        (L.Solarization(), image), (L.RandomGrayscale(), colors), (L.RandomColorDegeneration(0.1), colors),
        (L.AutoContrast(), image), (L.Equalization(), image), (L.RandomPosterization(4), image),
        (L.RandomColorJitter(brightness_factor=0.1), colors), (L.RandomHue(0.1), colors),
        (L.RandomSaturation(0.4), colors),
        (L.Rescaling(2.0), x), (L.Normalization(mean=0.0, variance=1.0), x),
    ]  # fmt: skip


def print_layers() -> None:
    print(f"{'a layer called on a few numbers':30}inference, training;   without its kernels")
    table = layers_table()
    for layer, inputs in table:
        figures = []
        for training in (False, True):
            several = isinstance(inputs, tuple)  # of a cell: its input and its states
            call = partial(layer, *inputs) if several else partial(layer, inputs)
            statement = f"layer({'*' * several}inputs{', training=True' * training})"
            call(training=training)
            call(training=training)
            whole = microseconds(statement, 10000, layer=layer, inputs=inputs)
            figures.append((whole, whole - kernels_of(partial(call, training=training))))
        (infers, left), (trains, left_too) = figures
        name = type(layer).__name__ + (f", {len(layer.cells)} cells" if isinstance(layer, L.StackedRNNCells) else "")
        print(f"  {name:28}{infers:5.1f} us,{trains:5.1f} us;      {left:5.1f} us,{left_too:5.1f} us")
    known = {type(layer) for layer, *_ in table} | {L.Layer, L.InputLayer, L.Lambda, L.AutogradLayer}  # the users' own
    layers = {one for one in vars(L).values() if isinstance(one, type) and issubclass(one, L.Layer)}
    print("  without figures:", ", ".join(sorted(one.__name__ for one in layers - known)) or "none")


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

    x = np.ones((1, 4), "f4")
    tiny = Sequential([Dense(1, input_shape=(4,))])
    tiny(x)
    y = np.empty_like(x)
    floor = microseconds(lambda: native.activation_forward("relu", x, y), 20000)
    print(f"{'floor: a native call':43}{floor:.1f} us")
    print(f"{'floor: np.empty':43}{microseconds(lambda: np.empty((1, 4), y.dtype), 20000):.1f} us")
    print_layers()
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
    print_layers() if sys.argv[1:] == ["layers"] else main()
