"""What `fit`, `evaluate` and `predict` show: one live line on a terminal, one line per epoch in a log, or nothing."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def format_logs(logs: Mapping[str, Any]) -> str:
    return " - ".join(f"{name}: {_short(value)}" for name, value in logs.items())


def _short(value: Any) -> str:
    """A number, or (of a metric that has one for each class) several."""
    if np.ndim(value):
        return f"[{' '.join(map(_short, np.ravel(value)))}]"
    return f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.4e}"


class Progress:
    """One line for one epoch (or one evaluation).

    steps: how many there will be; None: nobody knows.
    verbose: 0 nothing; 1 (or "auto") a live line on a terminal, else as 2; 2 one line at the end.
    """

    def __init__(self, title: str, steps: int | None, verbose: int | str) -> None:
        if verbose not in ("auto", 0, 1, 2):
            raise ValueError(f"verbose must be 'auto', 0, 1 or 2, received {verbose!r}")
        self.title, self.steps = title, steps
        self.verbose = 1 if verbose == "auto" else int(verbose)
        self._bar: Any = None
        self._started = time.perf_counter()
        self._shown = 0.0
        if self.verbose == 1 and sys.stdout.isatty():
            from tqdm import tqdm

            layout = "{desc} {n_fmt}/{total_fmt} |{bar:16}| {elapsed}<{remaining}{postfix}"
            if steps is None:
                layout = "{desc} {n_fmt} {elapsed}{postfix}"
            # tqdm draws nothing on a terminal that does not tell its size; 80 x 24 is assumed there.
            size = shutil.get_terminal_size()
            self._bar = tqdm(
                total=steps, desc=title, bar_format=layout, file=sys.stdout, ncols=size.columns, nrows=size.lines
            )

    def update(self, done: int, logs: Callable[[], Mapping[str, Any]]) -> None:
        """After `done` steps. `logs` is called only when the line is redrawn, at most ten times a second."""
        if self._bar is None:
            return
        now = time.perf_counter()
        if now - self._shown >= 0.1:
            self._shown = now
            self._show(done, logs())

    def _show(self, done: int, logs: Mapping[str, Any]) -> None:
        self._bar.n = done
        self._bar.set_postfix_str(format_logs(logs), refresh=False)
        self._bar.refresh()

    def close(self, done: int, logs: Mapping[str, Any]) -> None:
        """The last word: the line with the final logs, if anything was done."""
        if self._bar is not None:
            if done:
                self._show(done, logs)
            self._bar.close()
        elif self.verbose and done:
            seconds = time.perf_counter() - self._started
            print(f"{self.title} - {done}/{self.steps or done} - {seconds:.1f} s - {format_logs(logs)}", flush=True)  # noqa: T201
