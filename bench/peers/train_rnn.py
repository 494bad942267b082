"""Trains recurrent layers side by side with PyTorch, in turns: batch 64 of 100 steps with 128 units, batch 32 with 512.

python bench/peers/train_rnn.py [--rounds 9] [--torch-python PATH]
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys

from common import recurrent_flops
from train_cnn import Worker, compare, cpu_name


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one turn")
    parser.add_argument("--torch-python", default=sys.executable, help="Python that has PyTorch")
    options = parser.parse_args()
    print(f"{datetime.date.today()}, {cpu_name()}, {options.threads} threads, Python {platform.python_version()}")
    for batch, units in ((64, 128), (32, 512)):
        for cell in ("simple", "lstm", "gru"):
            case = f"{cell} 100 64 {units}"
            workers = [
                Worker(sys.executable, "vivace_rnn", batch, options.threads, case),
                Worker(options.torch_python, "torch_rnn", batch, options.threads, case),
            ]
            for worker in workers:
                if worker.missing:
                    print(f"{worker.name}: missing ({worker.missing})", file=sys.stderr)
                    return 2
            flops = recurrent_flops(cell, 100, 64, units)
            compare(f"{cell}, {units} units", workers, batch, options.rounds, options.seconds, flops)
            for worker in workers:
                worker.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
