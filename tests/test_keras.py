"""The same numbers as Keras on randomly drawn configurations; only where VIVACE_KERAS_PYTHON names its Python."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test_activations import CASES as ACTIVATIONS
from test_optimizers import run_vivace
from vivace import activations, constraints, losses, metrics, optimizers, regularizers
from vivace.step import Step

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


def random_loss(rng: np.random.Generator) -> tuple[Job, dict[str, Any]]:
    shape = pick(rng, (6, 4), (3, 5, 4))
    class_name = pick(rng, *losses.__all__)
    while not isinstance(cls := getattr(losses, class_name), type) or class_name in ("Loss", "CTC"):
        class_name = pick(rng, *losses.__all__)
    reduction = pick(rng, "sum_over_batch_size", "sum", "mean_with_sample_weight", "none")
    config: dict[str, Any] = {"reduction": reduction}
    raw, probabilities = rng.standard_normal(shape), rng.dirichlet(np.ones(4), shape[:-1])
    labels = rng.integers(0, 4, shape[:-1])
    t, y = rng.standard_normal(shape), raw
    if "label_smoothing" in inspect.signature(cls.__init__).parameters:
        config |= {"label_smoothing": pick(rng, 0.0, 0.3)}
    if "from_logits" in inspect.signature(cls.__init__).parameters:
        config |= {"from_logits": pick(rng, False, True)}
        y = raw if config["from_logits"] else pick(rng, probabilities, 0.7 * probabilities)
        t = np.eye(4)[labels]
    if class_name.startswith("Sparse") or class_name == "CategoricalGeneralizedCrossEntropy":
        t, y = labels, y if "from_logits" in config else probabilities
    if class_name == "SparseCategoricalCrossentropy":
        config |= {"ignore_class": pick(rng, None, 2)}
    elif "Focal" in class_name:
        config |= {"gamma": pick(rng, 2.0, 1.5), "alpha": 0.4}
    elif class_name == "Huber":
        config |= {"delta": 0.6}
    elif class_name == "CosineSimilarity":
        config |= {"axis": pick(rng, -1, 1)}
    elif class_name in ("Dice", "Tversky"):
        t, y = np.eye(4)[labels], probabilities
        config |= {"axis": pick(rng, None, -1)} | ({"alpha": 0.3, "beta": 0.6} if class_name == "Tversky" else {})
    elif class_name in ("Poisson", "MeanSquaredLogarithmicError", "KLDivergence"):
        t, y = rng.dirichlet(np.ones(4), shape[:-1]), probabilities
    elif "Hinge" in class_name:
        t = np.eye(4)[labels]
    arrays = {"y_true": t, "y_pred": y}
    one_each = class_name not in ("Dice", "Tversky") and config.get("axis", -1) == -1
    if one_each and rng.random() < 0.5:
        arrays["weight"] = rng.uniform(0, 2, shape[:-1])
    return {"kind": "loss", "class_name": class_name, "config": config}, arrays


def our_loss(job: Job, arrays: dict[str, Any]) -> tuple[Any, np.ndarray]:
    """The value, and the gradient of its sum, by the same calls as in training."""
    loss = losses.get(job)
    y, weights = np.ascontiguousarray(arrays["y_pred"]), arrays.get("weight")
    of_rows, targets = loss.by_row(arrays["y_true"], y)
    if loss.reduction == "none":
        scale = np.broadcast_to(1.0 if weights is None else weights, of_rows.shape).copy()
        counted = loss.counted(targets)
        scale *= 1 if counted is None else counted
    else:
        factors = loss.scale(of_rows, targets, weights, None)
        scale = np.full(of_rows.shape, 1 / of_rows.size) if factors is None else factors
    step = Step(training=True)
    if loss.from_logits:
        gradient = loss.backward_logits(loss.forward_logits(y, targets, step)[1], targets, scale, step)
    else:
        gradient = loss.backward(y, targets, scale, step)
    return loss(arrays["y_true"], y, weights), gradient


def test_losses(rng: np.random.Generator, tmp_path: Path) -> None:
    jobs = [random_loss(rng) for _ in range(200)]
    assert len({job["class_name"] for job, _ in jobs}) == 20
    labels = np.array([[1, 2, 2, 0], [3, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    jobs.append(
        ({"kind": "loss", "class_name": "CTC", "config": {}}, {"y_true": labels, "y_pred": rng.normal(size=(4, 9, 5))})
    )
    for (job, arrays), expected in zip(jobs, keras_results(tmp_path, jobs), strict=True):
        value, gradient = our_loss(job, arrays)
        tolerance = (1e-5, 1e-7)
        np.testing.assert_allclose(value, expected["value"], *tolerance, err_msg=str(job))
        np.testing.assert_allclose(gradient, expected["gradient"], *tolerance, err_msg=f"gradient of {job}")


def random_metric(rng: np.random.Generator) -> tuple[Job, dict[str, Any]]:
    """A configuration with three batches, some weighted."""
    skipped = ("Metric", "MeanMetricWrapper", "Mean", "Sum", "MeanRelativeError", "get", "serialize", "deserialize")
    class_name = pick(rng, *(name for name in metrics.__all__ if name not in skipped))
    labels, onehot = rng.integers(0, 4, (3, 10)), rng.integers(0, 4, (3, 10))
    t: Any = np.eye(4)[onehot]
    y: Any = rng.dirichlet(np.ones(4), (3, 10)).astype("float32")
    config: dict[str, Any] = {}
    weighted = rng.random() < 0.5
    if class_name.startswith("Sparse"):
        t = labels
    elif "IoU" in class_name:
        weighted = False
        config = {} if class_name == "BinaryIoU" else {"num_classes": 4}
        config |= {"target_class_ids": [0, 1]} if "Mean" not in class_name else {}
        if class_name in ("IoU", "MeanIoU"):
            t, y, config = labels, rng.integers(0, 4, (3, 10)), config | {"ignore_class": pick(rng, None, 3)}
        elif class_name == "BinaryIoU":
            t, y = labels % 2, rng.random((3, 10)).astype("float32")
    elif class_name in ("Accuracy",):
        t, y = labels, onehot
    elif class_name in ("TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives"):
        config = {"thresholds": pick(rng, None, 0.3, [0.7, 0.2])}
    elif class_name in ("Precision", "Recall"):
        config = pick(rng, {"thresholds": [0.3, 0.6]}, {"top_k": 2}, {"class_id": 1}, {"top_k": 1, "class_id": 2})
    elif "At" in class_name:
        config = {class_name.split("At")[1].lower(): float(rng.uniform(0.2, 0.8)), "num_thresholds": 20}
        config |= {"class_id": pick(rng, None, 2)}
    elif class_name == "AUC":
        config = {"curve": pick(rng, "ROC", "PR"), "num_thresholds": pick(rng, 200, 11)}
        config |= {"summation_method": pick(rng, "interpolation", "minoring", "majoring")}
        by_label = {"multi_label": True, "label_weights": [1.0, 2.0, 1.0, 0.5]}
        config |= pick(rng, {}, by_label, {"thresholds": [0.2, 0.7]})
        config["multi_label"] = config.get("multi_label", False)
        weighted = weighted and not config["multi_label"]
    elif class_name in ("F1Score", "FBetaScore"):
        config = {"average": pick(rng, None, "micro", "macro", "weighted"), "threshold": pick(rng, None, 0.4)}
        config |= {"beta": 2.0} if class_name == "FBetaScore" else {}
    elif class_name == "R2Score":
        t = rng.standard_normal((3, 10, 4))
        config = {"class_aggregation": pick(rng, None, "uniform_average", "variance_weighted_average")}
        config |= {"num_regressors": pick(rng, 0, 3)}
    elif "TopK" in class_name:
        config = {"k": 2}
    if class_name == "SparseTopKCategoricalAccuracy":
        config = {"k": pick(rng, 1, 3)}
    arrays = {f"y_true_{i}": t[i] for i in range(3)} | {f"y_pred_{i}": y[i] for i in range(3)}
    if weighted:
        arrays |= {f"weight_{i}": rng.uniform(0, 2, 10).astype("float32") for i in range(3)}
    job = {"kind": "metric", "class_name": class_name, "config": config, "batches": 3}
    return job | {"arguments": ["y_true", "y_pred"]}, arrays


def test_metrics(rng: np.random.Generator, tmp_path: Path) -> None:
    jobs = [random_metric(rng) for _ in range(300)]
    assert len({job["class_name"] for job, _ in jobs}) == 40
    for (job, arrays), expected in zip(jobs, keras_results(tmp_path, jobs), strict=True):
        config = dict(job["config"])
        first = [config.pop(name) for name in ("sensitivity", "specificity", "precision", "recall") if name in config]
        metric = getattr(metrics, job["class_name"])(*first, **config)
        for i in range(3):
            metric.update_state(arrays[f"y_true_{i}"], arrays[f"y_pred_{i}"], arrays.get(f"weight_{i}"))
        np.testing.assert_allclose(metric.result(), expected["result"], 1e-4, 1e-5, err_msg=str(job))


def test_activations(rng: np.random.Generator, tmp_path: Path) -> None:
    jobs = []
    for name, config, _ in ACTIVATIONS:  # not sparsemax: there, Keras 3.15's rows do not always sum to 1
        x = rng.standard_normal((5, 6)) * 3
        arrays = {"x": x, "dy": rng.standard_normal((5, 3 if name == "glu" else 6))}
        jobs.append(({"kind": "activation", "function": "silu" if name == "swish" else name, "config": config}, arrays))
    for (job, arrays), expected in zip(jobs, keras_results(tmp_path, jobs), strict=True):
        y = getattr(activations, job["function"])(arrays["x"], **job["config"])
        dx = getattr(activations, f"{job['function']}_gradient")(arrays["x"], y, arrays["dy"], **job["config"])
        np.testing.assert_allclose(y, expected["y"], 1e-6, 1e-7, err_msg=str(job))
        np.testing.assert_allclose(dx, expected["dx"], 1e-6, 1e-7, err_msg=f"gradient of {job}")


def test_constraints_and_regularizers(rng: np.random.Generator, tmp_path: Path) -> None:
    jobs: list[tuple[Job, dict[str, Any]]] = []
    for class_name, config in (
        ("MaxNorm", {"max_value": 1.5, "axis": 1}), ("NonNeg", {}), ("UnitNorm", {"axis": [0, 1]}),
        ("MinMaxNorm", {"min_value": 2.0, "max_value": 3.0, "rate": 0.7}),
    ):  # fmt: skip
        jobs.append(
            ({"kind": "constraint", "class_name": class_name, "config": config}, {"w": rng.normal(size=(4, 5))})
        )
    for class_name, config in (
        ("L1", {}), ("L2", {"l2": 0.3}), ("L1L2", {"l1": 0.2, "l2": 0.1}), ("OrthogonalRegularizer", {}),
        ("OrthogonalRegularizer", {"factor": 0.3, "mode": "columns"}),
    ):  # fmt: skip
        job = {"kind": "regularizer", "class_name": class_name, "config": config}
        jobs.append((job, {"w": rng.normal(size=(4, 5)).astype("float32")}))
    for (job, arrays), expected in zip(jobs, keras_results(tmp_path, jobs), strict=True):
        module: Any = constraints if job["kind"] == "constraint" else regularizers
        ours = getattr(module, job["class_name"])(**job["config"])
        np.testing.assert_allclose(ours(arrays["w"]), expected["value"], 1e-5, err_msg=str(job))
        if job["kind"] == "regularizer":
            gradient = np.zeros_like(arrays["w"])
            ours.add_gradient(arrays["w"], gradient)
            np.testing.assert_allclose(gradient, expected["gradient"], 1e-4, 1e-7, err_msg=str(job))
