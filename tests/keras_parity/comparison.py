"""The opt-in comparison with Keras: VIVACE_KERAS_PYTHON names a Python that has Keras on JAX.

VIVACE_KERAS_TENSORFLOW: one that has Keras on TensorFlow, for the layers that look up tokens.
VIVACE_KERAS_CASES: how many configurations of each class are drawn (8). VIVACE_KERAS_SEED: other ones (1).
"""

from __future__ import annotations

import json
import os
import subprocess
import traceback
from pathlib import Path
from typing import Any

import draw_functions
import draw_layers
import draw_lookups
import draw_random
import draw_sequences
import numpy as np
import ours
from dice import Arrays, Case, Dice, Job

COUNT = int(os.environ.get("VIVACE_KERAS_CASES", "8"))
SEED = int(os.environ.get("VIVACE_KERAS_SEED", "1"))
ONLY = os.environ.get("VIVACE_KERAS_ONLY", "")  # a part of the names to draw, such as "Conv"
Draws = dict[tuple[str, str], Any]


def draws(*tables: Any) -> Draws:
    return {
        (draw.__name__.removeprefix("draw_"), name): (draw, name, rank)
        for table in tables
        for draw, names in table
        for name, rank in names
        if ONLY in name
    }


DRAWS = draws(draw_layers.TABLE, draw_sequences.TABLE, draw_random.TABLE, draw_functions.TABLE)
LOOKUPS = draws(draw_lookups.TABLE)
COMPARED: dict[str, int] = {}


def draw(key: tuple[str, str], number: int) -> Case:
    """Configuration `number` of a class: the same one for the same seed, whatever else is drawn."""
    d = Dice(SEED, number, sum(map(ord, "".join(key))))
    d.dtype = d.pick("float32", "float32", "float64")
    make, name, rank = (DRAWS | LOOKUPS)[key]
    job, arrays = make(d, name, rank)
    job = {"dtype": d.dtype} | job
    if job["kind"] == "layer":
        more = Dice(SEED, number, len(name))  # of its own: what the class is drawn with stays as it was
        job["config"] |= {"name": "a_name"} if more.chance(0.2) else {}
        job["config"] |= {"trainable": False} if more.chance(0.1) else {}
    if job["kind"] in ("layer", "random"):
        try:
            ours.prepare_layer(job, arrays, d)
        except Exception:
            job["refused"] = traceback.format_exc(limit=-2)
    return job, arrays


class Comparison:
    """All cases, and what Keras makes of them."""

    def __init__(self, folder: Path, draws: Draws, python: str, backend: str) -> None:
        keys = [(key, number) for key in draws for number in range(COUNT)]
        self.cases = [draw(*key) for key in keys]
        self.of: dict[tuple[str, str], list[int]] = {}
        for i, (key, _) in enumerate(keys):
            self.of.setdefault(key, []).append(i)
        # A process for every so many: each draw has shapes of its own, and JAX keeps what it compiles for them.
        parts = [self.cases[start : start + 600] for start in range(0, len(self.cases), 600)]
        self.results = [result for part in parts for result in keras_results(folder, part, python, backend)]


def keras_results(folder: Path, cases: list[tuple[Job, Arrays]], python: str, backend: str) -> list[dict[str, Any]]:
    arrays = {f"{i}/{name}": np.asarray(a) for i, (_, given) in enumerate(cases) for name, a in given.items()}
    np.savez(folder / "arrays.npz", **arrays)
    (folder / "jobs.json").write_text(json.dumps([job for job, _ in cases]))
    paths = [str(folder / name) for name in ("jobs.json", "arrays.npz", "out.npz")]
    command = [python, str(Path(__file__).with_name("keras_side.py")), *paths]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results: list[dict[str, Any]] = [{} for _ in cases]
    with np.load(folder / "out.npz") as out:
        for name in out.files:
            if "/" in name:
                i, key = name.split("/", 1)
                results[int(i)][key] = out[name]
            else:
                COMPARED[f"Keras {out[name]}"] = 0
    return results


def summary() -> str:
    """How many configurations were compared, and with which Keras."""
    versions = [name for name in COMPARED if name.startswith("Keras ")]
    kinds = {name: count for name, count in COMPARED.items() if name not in versions}
    told = ", ".join(f"{count} of the kind {kind}" for kind, count in sorted(kinds.items()))
    return f"{sum(kinds.values())} random configurations compared with {versions[0]} (seed {SEED}): {told}"
