"""Runs the same work in vivace and its peers, in turns, and prints speeds and ratios.

    python bench/peers/compare.py [train-cnn] [train-resnet] [train-transformer] [train-rnn] [infer-cnn] [infer-rnn]
        [kernels] [--python torch=PATH] [--python keras=PATH] ... [--data MNIST_FOLDER] [--cifar FOLDER] [--png FILE]

vivace must be installed for the running Python; every peer for it or for the Python that --python names for it, as
torch, jax, "keras tensorflow", "keras jax", onnxruntime (with onnx) and openvino (with onnx). Peers that are missing
are said to be.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import CONVOLUTIONS, DIRECTIONS, PRODUCTS, Task, flops

FOLDER = Path(__file__).parent
TRAINING_PEERS = ["torch", "keras tensorflow", "keras jax", "jax"]
INFERENCE_PEERS = ["torch", "jax", "keras tensorflow", "onnxruntime", "onnxruntime one thread", "openvino"]
TORCH_CNN = ["torch", "torch channels_last", "torch foreach"]  # what wins differs from machine to machine
TORCH_RESNET = ["torch", "torch channels_last"]
TORCH_TRANSFORMER = ["torch", "torch sdpa"]  # nn.TransformerEncoderLayer; one product for q, k and v, and the kernel
RECURRENT = [f"{cell} 100 64 {units}" for units in (128, 512) for cell in ("simple", "lstm", "gru")]


class Worker:
    def __init__(self, python: str, task: Task, preload: str = "") -> None:
        self.name = task.variant + (" + tcmalloc" if preload else "")
        peer = "kernels" if task.name in ("convolution", "product") else task.variant.split()[0]
        script = FOLDER / f"worker_{peer}.py"  # "torch channels_last" runs worker_torch.py
        command = [python, str(script), *map(str, task)]
        environment = {**os.environ, **({"LD_PRELOAD": preload} if preload else {})}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        self.version = self.process.stdout.readline().strip()
        self.rates: list[float] = []

    @property
    def missing(self) -> str:
        """Why the worker could not start, or nothing."""
        if self.version:
            return ""
        return (self.process.communicate()[1].strip().splitlines() or ["no reason given"])[-1]

    def run(self, steps: int) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    @property
    def rate(self) -> float:
        """Samples per second: the median of all turns."""
        return statistics.median(self.rates)

    def close(self) -> None:
        self.process.communicate()


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def measure(workers: list[Worker], batch: int, rounds: int, seconds: float) -> None:
    steps = {}
    for worker in workers:  # warm up, and find how many steps fill a turn
        worker.run(3)
        worker.run(20)
        steps[worker.name] = max(5, int(seconds / (worker.run(10) / 10)))
    for _ in range(rounds):
        for worker in workers:
            time.sleep(0.1)  # the previous worker's threads go to sleep; OpenBLAS's take 30 ms
            worker.rates.append(steps[worker.name] * batch / worker.run(steps[worker.name]))


def report(title: str, task: Task, workers: list[Worker]) -> None:
    own = workers[0].rate
    latency = task.batch == 1
    print(f"\n{title}")
    print(f"{'':30}{'us' if latency else 'samples/s':>10}  {'spread':>17}  {'GFLOP/s':>8}  {'vivace is':>9}")
    for worker in workers:
        values = [1e6 / rate if latency else rate for rate in worker.rates]
        spread = f"{min(values):,.0f}-{max(values):,.0f}"
        ratio = "" if worker is workers[0] else f"{own / worker.rate:.2f} x"
        gflops = worker.rate * flops(task) / 1e9
        print(f"{worker.name:30}{statistics.median(values):>10,.0f}  {spread:>17}  {gflops:>8.0f}  {ratio:>9}")
    if len(workers) > 1:
        best = max(workers[1:], key=lambda w: w.rate)
        print(f"vivace / best peer ({best.name}): {own / best.rate:.2f}", flush=True)


def compare_kernels(options: argparse.Namespace, start: Callable[[str, Task], Worker]) -> None:
    """A line for each convolution, direction and product; then the ratios' geometric mean and the lowest."""
    for name, peers, works in (
        ("convolution", ["torch", "torch channels_last"], [f"{c}, {d}" for c in CONVOLUTIONS for d in DIRECTIONS]),
        ("product", ["torch", "numpy"], list(PRODUCTS)),
    ):
        print(f"\n{name:42}{'vivace':>8}  {'best peer':>9}  GFLOP/s   vivace is")
        ratios = []
        for work in works:
            task = Task("", name, 1, options.threads, work)
            workers = [
                worker for worker in (start(variant, task) for variant in ["vivace", *peers]) if not worker.missing
            ]
            measure(workers, 1, options.rounds, options.seconds)
            own, best = workers[0].rate, max(workers[1:], key=lambda w: w.rate, default=None)
            line = f"{work:42}{own * flops(task) / 1e9:>8.0f}"
            if best is not None:
                ratios.append(own / best.rate)
                line += f"  {best.rate * flops(task) / 1e9:>9.0f}            {ratios[-1]:>5.2f} x  {best.name}"
            print(line, flush=True)
            for worker in workers:
                worker.close()
        if ratios:
            print(f"geometric mean {statistics.geometric_mean(ratios):.2f}, lowest {min(ratios):.2f}")


def draw(results: list[tuple[str, list[Worker]]], path: str) -> None:
    """How many times faster vivace is than each peer, a panel for each task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(3, len(results))
    rows = -(-len(results) // columns)
    height = max(len(workers) for _, workers in results)
    figure, axes = pyplot.subplots(rows, columns, figsize=(5.5 * columns, (0.32 * height + 1) * rows), squeeze=False)
    for axis in axes.flat[len(results) :]:
        axis.set_visible(False)
    for axis, (title, workers) in zip(axes.flat, results, strict=False):
        peers = sorted(workers[1:], key=lambda w: w.rate, reverse=True)
        ratios = [workers[0].rate / w.rate for w in peers]
        bars = axis.barh([w.name for w in peers], ratios, color="tab:blue")
        axis.bar_label(bars, [f"{r:.1f} x" for r in ratios], padding=3, fontsize=8)
        axis.axvline(1, color="tab:red", linewidth=1)
        axis.set_xlim(0, 1.15 * max(ratios))
        axis.invert_yaxis()
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=8)
    figure.suptitle("Times that vivace is faster", fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def cifar_binary(folder: str, scratch: str) -> str:
    """A folder with CIFAR-10's training images in its binary form: that one or, made from a zip of its JPEGs, scratch.

    So only this process needs Pillow.
    """
    archive = next(Path(folder).glob("*.zip"), None) if folder else None
    if archive is None:
        return folder
    from PIL import Image

    with zipfile.ZipFile(archive) as content:
        names = sorted(name for name in content.namelist() if name.startswith("train/") and name.endswith(".jpg"))
        kinds = sorted({name.split("/")[1] for name in names})
        with (Path(scratch) / "data_batch_1.bin").open("wb") as out:
            for name in names:
                image = np.asarray(Image.open(content.open(name)).convert("RGB"))
                out.write(bytes([kinds.index(name.split("/")[1])]) + image.transpose(2, 0, 1).tobytes())
    return scratch


def tasks(names: list[str], options: argparse.Namespace) -> list[tuple[str, Task, list[str]]]:
    """(title, task, peers) of everything to run; the variant is filled in for each peer."""
    found = []
    for name in names:
        training = name.startswith("train")
        verb = "training" if training else "inference"
        peers = TRAINING_PEERS if training else INFERENCE_PEERS
        if name.endswith("cnn"):
            peers = [*TORCH_CNN, *peers[1:]] if training else peers
            for batch in options.batch or ([32, 128] if training else [1, 256]):
                task = Task("", name, batch, options.threads, options.data)
                found.append((f"reference CNN, {verb}, batch {batch}", task, peers))
            continue
        if name == "train-resnet":
            for batch in options.batch or [32, 128]:
                task = Task("", name, batch, options.threads, options.cifar)
                found.append((f"ResNet-20, training, batch {batch}", task, TORCH_RESNET))
            continue
        if name == "train-transformer":
            for batch in options.batch or [32]:
                task = Task("", name, batch, options.threads, "")
                found.append((f"Transformer encoder, training, batch {batch}", task, TORCH_TRANSFORMER))
            continue
        for detail in RECURRENT if training else RECURRENT[:3]:
            cell, units = detail.split()[0], int(detail.split()[-1])
            batch = (64 if units == 128 else 32) if training else 1
            task = Task("", name, batch, options.threads, detail)
            found.append((f"{cell} {units} units, {verb}, batch {batch}", task, peers))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["train-cnn", "train-resnet", "train-transformer", "train-rnn", "infer-cnn", "infer-rnn", "kernels"]
    parser.add_argument("tasks", nargs="*", choices=[*names, []], help="all of them when none is named")
    parser.add_argument("--python", action="append", default=[], metavar="PEER=PATH", help="Python that has a peer")
    parser.add_argument(
        "--batch",
        type=int,
        nargs="+",
        help="of the networks; 32 and 128 in training (the encoder: 32), 1 and 256 in inference",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one turn")
    parser.add_argument("--data", default="", help="folder with MNIST; made-up data of its shape otherwise")
    parser.add_argument(
        "--cifar", default="", help="folder with CIFAR-10's data_batch_*.bin or a zip of JPEGs; otherwise as above"
    )
    parser.add_argument("--tcmalloc", default="", help="libtcmalloc to preload for PyTorch in one more row")
    parser.add_argument("--png", default="", help="draw the ratios into this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        options.cifar = cifar_binary(options.cifar, scratch)
        return compare(options, options.tasks or names)


def compare(options: argparse.Namespace, chosen: list[str]) -> int:
    pythons = dict(entry.split("=", 1) for entry in options.python)

    def start(variant: str, task: Task, preload: str = "") -> Worker:
        words = variant.split()
        python = pythons.get(" ".join(words[:2])) or pythons.get(words[0]) or sys.executable
        return Worker(python, task._replace(variant=variant), preload)

    print(f"{datetime.date.today()}, {cpu_name()}, {options.threads} threads, Python {platform.python_version()}")
    versions: set[str] = set()
    results = []
    if "kernels" in chosen:
        compare_kernels(options, start)
    for title, task, peers in tasks([name for name in chosen if name != "kernels"], options):
        workers = [start(variant, task) for variant in ["vivace", *peers]]
        if options.tcmalloc and task.name == "train-cnn":
            workers += [start(v, task, options.tcmalloc) for v in ("torch", "torch channels_last")]
        for worker in workers:
            if worker.missing:
                print(f"{worker.name}: missing ({worker.missing})", file=sys.stderr)
        if workers[0].missing:
            return 2
        present = [worker for worker in workers if worker.version]
        new = dict.fromkeys(w.version for w in present if w.version not in versions)
        versions.update(new)
        if new:
            print("; ".join(new))
        measure(present, task.batch, options.rounds, options.seconds)
        report(title, task, present)
        results.append((title, present))
        for worker in present:
            worker.close()
    if options.png and results:
        draw(results, options.png)
    return 0


if __name__ == "__main__":
    sys.exit(main())
