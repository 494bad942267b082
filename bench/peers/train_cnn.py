"""Trains the reference CNN side by side with PyTorch, in turns, and prints samples per second and the ratio.

    python bench/peers/train_cnn.py [--batch 32 128] [--rounds 9] [--torch-python PATH] [--data FOLDER]

vivace must be installed for the running Python, PyTorch for it or for --torch-python.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from common import TRAINING_FLOPS

FOLDER = Path(__file__).parent
TORCH = ["torch eager", "torch eager channels_last", "torch eager foreach"]


class Worker:
    def __init__(self, python: str, variant: str, batch: int, threads: int, data: str, preload: str = "") -> None:
        self.name = variant + (" + tcmalloc" if preload else "")
        script = FOLDER / f"worker_{variant.split()[0]}.py"  # "torch eager" runs worker_torch.py
        command = [python, str(script), variant, str(batch), str(threads), data]
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

    def close(self) -> None:
        self.process.communicate()


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def compare(title: str, workers: list[Worker], batch: int, rounds: int, seconds: float, flops: int) -> None:
    steps = {}
    for worker in workers:  # warm up, and find how many steps fill a turn
        worker.run(5)
        steps[worker.name] = max(5, int(seconds / (worker.run(10) / 10)))
    for _ in range(rounds):
        for worker in workers:
            time.sleep(0.02)  # the previous worker's threads go to sleep
            worker.rates.append(steps[worker.name] * batch / worker.run(steps[worker.name]))
    own = statistics.median(workers[0].rates)
    print(f"\n{title}, batch {batch}: median of {rounds} turns of {seconds} s each")
    print(f"{'':34}{'samples/s':>10}  {'spread':>15}  {'GFLOP/s':>8}  {'vivace is':>9}")
    for worker in workers:
        rate = statistics.median(worker.rates)
        spread = f"{min(worker.rates):,.0f}-{max(worker.rates):,.0f}"
        ratio = "" if worker is workers[0] else f"{own / rate:.2f} x"
        print(f"{worker.name:34}{rate:>10,.0f}  {spread:>15}  {rate * flops / 1e9:>8.0f}  {ratio:>9}")
    if len(workers) > 1:
        best = max(workers[1:], key=lambda w: statistics.median(w.rates))
        print(f"vivace / best peer ({best.name}): {own / statistics.median(best.rates):.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one turn")
    parser.add_argument("--data", default="", help="folder with MNIST; made-up data of its shape otherwise")
    parser.add_argument("--torch-python", default=sys.executable, help="Python that has PyTorch")
    parser.add_argument("--tcmalloc", default="", help="libtcmalloc to preload for PyTorch in one more row")
    options = parser.parse_args()
    print(f"{datetime.date.today()}, {cpu_name()}, {options.threads} threads, Python {platform.python_version()}")
    for batch in options.batch:
        common = (batch, options.threads, options.data)
        workers = [Worker(sys.executable, "vivace", *common)]
        workers += [Worker(options.torch_python, variant, *common) for variant in TORCH]
        if options.tcmalloc:
            workers.append(Worker(options.torch_python, TORCH[1], *common, options.tcmalloc))
        for worker in workers:
            if worker.missing:
                print(f"{worker.name}: missing ({worker.missing})", file=sys.stderr)
        if workers[0].missing or len([w for w in workers if w.version]) < 2:
            print("PyTorch: pip install torch==2.13.0 (or name its Python with --torch-python)", file=sys.stderr)
            return 2
        present = [worker for worker in workers if worker.version]
        if batch == options.batch[0]:
            print("; ".join(dict.fromkeys(worker.version for worker in present)))
        compare("reference CNN", present, batch, options.rounds, options.seconds, TRAINING_FLOPS)
        for worker in present:
            worker.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
