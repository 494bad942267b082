"""The same numbers as Keras on randomly drawn configurations; only where VIVACE_KERAS_PYTHON names its Python."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test_optimizers import run_vivace
from vivace import optimizers

pytestmark = [
    pytest.mark.keras,
    pytest.mark.skipif("VIVACE_KERAS_PYTHON" not in os.environ, reason="VIVACE_KERAS_PYTHON is not set"),
]

Job = dict[str, Any]


def keras_results(folder: Path, jobs: list[tuple[Job, dict[str, Any]]]) -> list[dict[str, np.ndarray]]:
    """What Keras makes of the jobs, done in one process of its own."""
    arrays = {f"{i}/{name}": np.asarray(a) for i, (_, given) in enumerate(jobs) for name, a in given.items()}
    np.savez(folder / "arrays.npz", **arrays)
    (folder / "jobs.json").write_text(json.dumps([job for job, _ in jobs]))
    paths = [str(folder / name) for name in ("jobs.json", "arrays.npz", "out.npz")]
    command = [os.environ["VIVACE_KERAS_PYTHON"], str(Path(__file__).with_name("keras_side.py")), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(folder / "out.npz") as out:
        results: list[dict[str, np.ndarray]] = [{} for _ in jobs]
        for name in out.files:
            i, key = name.split("/", 1)
            results[int(i)][key] = out[name]
    return results


def pick(rng: np.random.Generator, *values: Any) -> Any:
    return values[rng.integers(len(values))]


def random_schedule(rng: np.random.Generator) -> Job:
    first, steps = float(rng.uniform(0.01, 0.1)), int(rng.integers(3, 12))
    class_name = pick(
        rng, "ExponentialDecay", "InverseTimeDecay", "PiecewiseConstantDecay", "PolynomialDecay", "CosineDecay",
        "CosineDecayRestarts",
    )  # fmt: skip
    config: dict[str, Any] = {"initial_learning_rate": first, "decay_steps": steps}
    if class_name in ("ExponentialDecay", "InverseTimeDecay"):
        config |= {"decay_rate": float(rng.uniform(0.1, 0.9)), "staircase": pick(rng, False, True)}
    elif class_name == "PiecewiseConstantDecay":
        config = {"boundaries": [2, 5], "values": rng.uniform(0.01, 0.1, 3).tolist()}
    elif class_name == "PolynomialDecay":
        config |= {"power": pick(rng, 1.0, 0.5, 2.0), "cycle": pick(rng, False, True), "end_learning_rate": 0.003}
    elif class_name == "CosineDecay":
        config |= {"alpha": pick(rng, 0.0, 0.2)}
        config |= pick(rng, {}, {"warmup_target": 0.2, "warmup_steps": 4})
    else:
        config = {"initial_learning_rate": first, "first_decay_steps": 3.7, "alpha": pick(rng, 0.0, 0.2)}
        config |= {"t_mul": pick(rng, 1.0, 2.0, 1.5), "m_mul": pick(rng, 1.0, 0.9)}
    return {"kind": "schedule", "class_name": class_name, "config": config}


def test_schedules(rng: np.random.Generator, tmp_path: Path) -> None:
    steps = np.arange(30)
    jobs = [(random_schedule(rng), {"steps": steps}) for _ in range(40)]
    for (job, _), expected in zip(jobs, keras_results(tmp_path, jobs), strict=True):
        rate = optimizers.schedules.get(job)
        np.testing.assert_allclose([rate(int(s)) for s in steps], expected["rates"], 1e-5, 1e-8, err_msg=str(job))


def random_optimizer(rng: np.random.Generator) -> Job:
    class_name = pick(rng, "SGD", "RMSprop", "Adam", "AdamW", "Adagrad", "Adadelta", "Adamax", "Nadam", "Lion")
    config: dict[str, Any] = {"learning_rate": float(rng.uniform(0.01, 0.1))}
    config |= pick(rng, {}, {}, {"clipnorm": 0.7}, {"clipvalue": 0.3}, {"global_clipnorm": 1.1})
    config |= pick(rng, {}, {}, {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": pick(rng, None, 3)})
    config |= pick(rng, {}, {}, {"weight_decay": 0.1})
    config |= pick(rng, {}, {}, {"gradient_accumulation_steps": 2})
    if rng.random() < 0.3:
        config["learning_rate"] = random_schedule(rng)
    if class_name == "SGD":
        config |= {"momentum": pick(rng, 0.0, 0.9), "nesterov": pick(rng, False, True)}
    elif class_name == "RMSprop":
        config |= {"rho": 0.8, "momentum": pick(rng, 0.0, 0.9), "centered": pick(rng, False, True)}
    elif class_name in ("Adam", "AdamW"):
        config |= {"beta_1": 0.8, "beta_2": 0.95, "amsgrad": pick(rng, False, True)}
    elif class_name == "Adagrad":
        config |= {"initial_accumulator_value": pick(rng, 0.1, 0.5)}
    return {"kind": "optimizer", "class_name": class_name, "config": config, "spared": pick(rng, [], ["bias"])}


def test_optimizers(rng: np.random.Generator, tmp_path: Path) -> None:
    jobs = []
    for _ in range(150):
        shapes = {"kernel": (3, 5), "bias": (5,)}
        job = random_optimizer(rng) | {"names": list(shapes), "steps": 8}
        arrays = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
        arrays |= {f"{name}_gradients": rng.standard_normal((8, *shape)) for name, shape in shapes.items()}
        jobs.append((job, arrays))
    for (job, arrays), expected in zip(jobs, keras_results(tmp_path, jobs), strict=True):
        for name, value in run_vivace(job, arrays).items():
            np.testing.assert_allclose(value, expected[name], 1e-4, 1e-6, err_msg=f"{name} of {job}")
