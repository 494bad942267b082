"""compile, fit, evaluate, predict and the single-batch calls against Keras itself: one program, drawn configurations.

Opt-in: `VIVACE_KERAS_PYTHON` names a Python that has Keras. VIVACE_KERAS_SEED and VIVACE_KERAS_TRAININGS choose other
configurations, and how many.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_program import Case, run

import vivace
from vivace.compiled import Compiled
from vivace.losses import BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy

KERAS = os.environ.get("VIVACE_KERAS_PYTHON")
COUNT = int(os.environ.get("VIVACE_KERAS_TRAININGS", "60"))
SEED = int(os.environ.get("VIVACE_KERAS_SEED", "1"))

pytestmark = [
    pytest.mark.keras,
    pytest.mark.skipif(not KERAS, reason="opt-in: VIVACE_KERAS_PYTHON names a Python with Keras"),
]

REGRESSION = ["mse", "mae", "mean_squared_error", ["class", "RootMeanSquaredError", {}], "cosine_similarity"]
LABELS = ["accuracy", "acc", "sparse_categorical_crossentropy", ["class", "SparseTopKCategoricalAccuracy", {"k": 2}]]
ONE_HOT = ["accuracy", "categorical_crossentropy", ["class", "F1Score", {"average": "macro"}],
           ["class", "Precision", {"name": "p"}], ["class", "AUC", {"name": "auc"}]]  # fmt: skip
BINARY = ["accuracy", "binary_crossentropy", ["class", "AUC", {"name": "auc"}], ["class", "Recall", {"name": "r"}]]
TASKS: dict[str, Any] = {  # loss, units, activation, metrics
    "regression": (["mse", "mae", "huber", "log_cosh"], 2, None, REGRESSION),
    "labels": (["sparse_categorical_crossentropy", "crossentropy"], 3, "softmax", LABELS),
    "one_hot": (["categorical_crossentropy", "crossentropy", "mse"], 3, "softmax", ONE_HOT),
    "binary": (["binary_crossentropy", "hinge", "crossentropy"], 1, "sigmoid", BINARY),
}


STEPS = ("steps", "tags", "chain_of_steps")  # kinds with an output for each step


def some(r: random.Random, choices: list[Any]) -> list[Any]:
    return r.sample(choices, r.randint(0, min(3, len(choices))))


def targets(task: str, n: int, steps: tuple[int, ...], rng: np.random.Generator, column: bool) -> np.ndarray:
    labels = rng.integers(0, 3, (n, *steps))
    if task == "regression":
        return rng.normal(size=(n, *steps, 2)).astype("float32")
    if task == "one_hot":
        return np.eye(3, dtype="float32")[labels]
    if task == "binary":
        return (labels[..., None] if column or steps else labels) % 2
    return labels[..., None] if column else labels


def draw(r: random.Random, seed: int) -> tuple[Case, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    kind = r.choice(["plain", "plain", "steps", "two", "image", "words", "tags", "chain", "chain_of_steps"])
    n, m = r.randint(9, 17), r.randint(4, 9)
    case: Case = {"kind": kind, "regularizer": r.choice([None, None, "l2"]), "activity": False}
    case |= {
        "optimizer": r.choice(["SGD", "Adam", "RMSprop"]),
        "source": r.choice(["arrays"] * 3 + ["dataset", "generator"]),
    }
    if kind.startswith("chain"):
        draw_chain(r, case)
    arrays: dict[str, Any] = {}
    draw_compile(r, case)
    task, steps, column = (
        case["task"],
        (5,) if kind in STEPS else (),
        r.random() < 0.5 or case["task"] == "binary",
    )
    weighted = r.choice(["no", "no", "samples", "column" if kind != "two" else "each"])
    if weighted == "column" and "F1Score" in str(case["compile"]["weighted_metrics"]):  # Keras's cannot take them
        weighted = "samples"
    if steps and weighted == "samples":
        weighted = "steps"
    for prefix, count in (("", n), ("v", m)):
        if kind == "two":
            arrays |= {f"{prefix}x_0": rng.normal(size=(count, 4)), f"{prefix}x_1": rng.normal(size=(count, 3))}
            arrays |= {f"{prefix}y_0": targets("regression", count, (), rng, False)}
            arrays |= {f"{prefix}y_1": targets("labels", count, (), rng, column)}
        else:
            arrays |= {f"{prefix}x": inputs(kind, count, rng)}
            arrays |= {f"{prefix}y": targets(task, count, steps, rng, column)}
        w = rng.uniform(0.2, 2, (count, *steps) if weighted in ("steps", "column") else (count,))
        if weighted == "each":
            arrays |= {f"{prefix}w_{i}": rng.uniform(0.2, 2, count) for i in range(2)}
        elif weighted != "no" and not (kind == "two" and case["source"] != "arrays"):
            if kind == "two" and weighted == "samples":
                arrays |= {f"{prefix}w_{i}": w for i in range(2)}
            else:
                arrays |= {f"{prefix}w": w[:, None] if weighted == "column" and not steps else w}
    arrays = {name: a.astype("float32") if a.dtype.kind == "f" else a.astype("int32") for name, a in arrays.items()}
    draw_calls(r, case, n, m, has_weights=weighted != "no")
    model = vivace_model(case)
    for i, w in enumerate(model.weights):
        value = rng.normal(size=w.shape).astype("float32") * 0.5
        arrays[f"weight_{i}"] = abs(value) + 0.1 if w.name.endswith("variance") else value
    return case, arrays


def inputs(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    if kind in ("words", "tags", "chain", "chain_of_steps"):  # sequences end early, or have gaps; each holds a word
        words = rng.integers(0, 7, (count, 5))
        words[:, 0] = rng.integers(1, 7, count)
        return words
    return rng.normal(size=(count, *{"steps": (5, 3), "image": (6, 6, 2)}.get(kind, (4,))))


def vivace_model(case: Case) -> Any:
    from training_program import model_of

    return model_of(vivace, case)


def draw_chain(r: random.Random, case: Case) -> None:
    """Layers that pass a mask on, and in the end one that takes it away, unless every step has an output."""

    def link() -> Any:
        units = r.randint(3, 5)
        kind = r.choice(["LSTM", "GRU", "SimpleRNN"])
        inner = {"units": units, "return_sequences": True}
        return r.choice([
            ["Dense", {"units": units, "activation": "tanh"}], [kind, inner], [kind, inner],
            ["Bidirectional", {"layer": [kind, inner], "merge_mode": r.choice(["concat", "sum", "ave", "mul"])}],
            ["TimeDistributed", {"layer": ["Dense", {"units": units}]}], ["LayerNormalization", {}],
            ["BatchNormalization", {}], ["Dropout", {"rate": 0.0}], ["Activation", {"activation": "tanh"}],
            ["Residual", {"activation": "tanh"}], ["Joined", {}], ["DotAttention", {"use_scale": r.random() < 0.5}],
            ["SelfAttention", {"use_causal_mask": r.random() < 0.5}],
            ["RNN", {"cells": [["LSTMCell", units]] * r.randint(1, 2), "return_sequences": True}],
        ])  # fmt: skip

    case["chain"] = [link() for _ in range(r.randint(1, 4))]
    if case["kind"] == "chain":
        ends = [["GlobalAveragePooling1D", {}], ["LSTM", {"units": 3}], ["GRU", {"units": 3, "go_backwards": True}]]
        case["chain"].append(r.choice(ends))


def draw_callbacks(r: random.Random) -> Case:
    """Values are multiples of 1/4, so that all of them, and their differences, are exact."""

    def quarters(low: int, high: int) -> float:
        return r.randint(low, high) / 4

    monitor = r.choice(["val_loss", "loss", "other"])
    mode = r.choice(["min", "max"] if monitor == "other" else ["auto", "min", "max"])
    early = {"monitor": monitor, "mode": mode, "patience": r.randint(0, 3), "min_delta": quarters(0, 2)}
    early |= {"baseline": r.choice([None, quarters(0, 12)]), "restore_best_weights": r.random() < 0.5}
    early |= {"start_from_epoch": r.choice([0, 0, 2])}
    reduce: dict[str, Any] = {"monitor": monitor, "mode": mode, "patience": r.randint(1, 3)}
    reduce |= {"min_delta": quarters(0, 2), "factor": r.choice([0.5, 0.1]), "cooldown": r.randint(0, 2)}
    reduce |= {"min_lr": r.choice([0.0, 0.1])}
    chosen = [("EarlyStopping", early), ("ReduceLROnPlateau", reduce)]
    script = [quarters(0, 12) for _ in range(r.randint(3, 12))]
    return {"kind": "callbacks", "monitor": monitor, "script": script, "callbacks": r.sample(chosen, r.randint(1, 2)),
            "schedule": r.random() < 0.2}  # fmt: skip


def draw_compile(r: random.Random, case: Case) -> None:
    every = r.choice([1, 1, 1, 2, 3]) if os.environ.get("KERAS_BACKEND") != "torch" else 1  # Keras offers 1 there
    case["task"] = "two"
    case |= {"units": 0, "activation": None}
    if case["kind"] == "two":
        metrics: Any = [[], *([m] for m in REGRESSION[:2])], [[], *([m] for m in LABELS[:3])]
        lists = [r.choice(metrics[0]), r.choice(metrics[1])]
        weighted = [r.choice(metrics[0]), r.choice(metrics[1])]
        losses: Any = [r.choice(TASKS["regression"][0]), TASKS["labels"][0][0]]
        loss_weights: Any = r.choice([None, [0.5, 2.0]])
        if r.random() < 0.4:
            losses = dict(zip(("two", "one"), losses[::-1], strict=True))
            loss_weights = loss_weights and dict(zip(("one", "two"), loss_weights, strict=True))
        by_name = r.random() < 0.5
        case["compile"] = {
            "loss": losses,
            "loss_weights": loss_weights,
            "metrics": {"two": lists[1]} if by_name else lists,
            "weighted_metrics": r.choice([None, weighted, {"one": weighted[0]}]),
            "steps_per_execution": every,
        }
        return
    case["task"] = r.choice(list(TASKS))
    losses, case["units"], case["activation"], metrics = TASKS[case["task"]]
    case["compile"] = {
        "loss": r.choice(losses),
        "loss_weights": r.choice([None, None, 0.3, [0.3]]),
        "metrics": r.choice([None, some(r, metrics)]),
        "weighted_metrics": r.choice([None, some(r, metrics)]),
        "steps_per_execution": every,
    }
    # which masked steps count depends on Keras's backend (docs/keras-differences.md)
    if case["kind"] in ("tags", "chain_of_steps"):
        case["compile"] |= {"metrics": None, "weighted_metrics": None}


def draw_calls(r: random.Random, case: Case, n: int, m: int, has_weights: bool) -> None:
    every = case["compile"]["steps_per_execution"]
    size = r.randint(2, 6)
    epochs = r.randint(1, 4)
    fit: dict[str, Any] = {"batch_size": size, "epochs": epochs}
    if r.random() < 0.3:
        fit["initial_epoch"] = r.randint(0, epochs - 1)
    arrays = case["source"] == "arrays"
    if r.random() < 0.4 or case["source"] == "generator":
        fit["steps_per_epoch"] = every * r.randint(1, 3)  # Keras runs whole executions
        if arrays and r.random() < 0.4:
            del fit["batch_size"]
    case["validate"] = r.choice(["", "arrays", "dataset"])
    if case["validate"] == "" and arrays and r.random() < 0.6:
        fit["validation_split"] = r.choice([0.2, 0.33, 0.5])
    elif case["validate"] == "arrays" and r.random() < 0.4:
        fit["validation_batch_size"] = r.randint(1, 5)
    if case["validate"] and r.random() < 0.4:
        fit["validation_steps"] = every
    fit["validation_freq"] = r.choice([1, 1, 2, [1, 3]])
    single = case["kind"] == "plain" and case["task"] != "regression"
    taken = case["source"] != "generator" and case["kind"] not in STEPS  # Keras refuses both, we weigh
    if taken and ((r.random() < 0.4 and single and not has_weights) or r.random() < 0.06):
        fit["class_weight"] = {"0": 0.4, "1": 1.7}
    case["fit"] = fit
    case["evaluate"] = r.choice([{}, {"batch_size": 3}, {"batch_size": 3, "steps": every}, {"steps": every}])
    case["predict"] = r.choice([{}, {"batch_size": 4}, {"batch_size": 4, "steps": every}])
    names = [m for argument in ("metrics", "weighted_metrics") for m in (case["compile"][argument] or [])]
    case["in_order"] = case["kind"] != "two" and len({str(name) for name in names}) == len(names)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Case, dict[str, Any], dict[str, Any]]]:
    """(case, arrays, Keras's numbers) of every draw."""
    folder = tmp_path_factory.mktemp("training")
    r = random.Random(SEED)
    draws = [(draw_callbacks(r), {}) if i % 3 == 2 else draw(r, SEED * 100_000 + i) for i in range(COUNT)]
    (folder / "cases.json").write_text(json.dumps([case for case, _ in draws]))
    np.savez(folder / "arrays.npz", **{f"{i}/{k}": a for i, (_, arrays) in enumerate(draws) for k, a in arrays.items()})
    worker = Path(__file__).with_name("worker_training.py")
    files = [str(folder / name) for name in ("cases.json", "arrays.npz", "out.npz")]
    done = subprocess.run([KERAS or "", str(worker), *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    keras: list[dict[str, Any]] = [{} for _ in draws]
    with np.load(folder / "out.npz") as stored:
        for name in stored.files:
            i, key = name.split("/", 1)
            keras[int(i)][key] = stored[name]
    return [(case, arrays, numbers) for (case, arrays), numbers in zip(draws, keras, strict=True)]


def run_ours(case: Case, arrays: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The program's numbers; where a probability is beyond Keras's bounds, those of losses of probabilities.

    A cross-entropy behind its activation is ours from logits, and so is that of Keras on TensorFlow. On JAX and PyTorch
    Keras clips probabilities to [1e-7, 1 - 1e-7] even there, and nothing of what is beyond reaches the weights.
    """
    beyond = []

    def watching(forward: Any) -> Any:
        def forward_logits(self: Any, *rest: Any) -> Any:
            losses, p = forward(self, *rest)
            beyond.append(p.size and (p.min() < 2e-7 or p.max() > 1 - 2e-7))
            return losses, p

        return forward_logits

    with warnings.catch_warnings(), monkeypatch.context() as patches:
        warnings.filterwarnings("ignore", message=".*the data ran out")
        for loss in (BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy):
            patches.setattr(loss, "forward_logits", watching(loss.forward_logits))
        numbers = run(vivace, case, arrays)
        if any(beyond):
            patches.setattr(Compiled, "_loss_takes_logits", lambda model: False)
            numbers = run(vivace, case, arrays)
    return numbers


@pytest.mark.parametrize("i", range(COUNT))
def test_the_same_program_gives_the_same_numbers(i: int, results: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    case, arrays, keras = results[i]
    ours = run_ours(case, arrays, monkeypatch)
    told = f"{json.dumps(case)} Keras: {keras.get('message')} ours: {ours.get('message')}"
    if "refused" in keras:
        assert "refused" in ours, told
        return
    assert set(ours) == set(keras), f"{set(ours) ^ set(keras)} of {told}"
    for name, value in keras.items():
        np.testing.assert_allclose(ours[name], value, 2e-4, 2e-5, err_msg=f"{name} of {told}")


def test_most_programs_run(results: list[Any]) -> None:
    assert sum("refused" in keras for _, _, keras in results) < COUNT / 4
