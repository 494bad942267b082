"""vivace against Keras itself, over random configurations: values, masks, gradients, weights after the call."""

from __future__ import annotations

import os
import traceback
from typing import Any

import names
import numpy as np
import ours
import pytest
from comparison import COMPARED, DRAWS, LOOKUPS, Comparison

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:.* counts, so its weights are cut"),  # as Keras's are
]
needs_keras = pytest.mark.skipif("VIVACE_KERAS_PYTHON" not in os.environ, reason="VIVACE_KERAS_PYTHON is not set")
needs_tensorflow = pytest.mark.skipif(
    "VIVACE_KERAS_TENSORFLOW" not in os.environ, reason="VIVACE_KERAS_TENSORFLOW is not set"
)


def tolerance(job: dict[str, Any]) -> tuple[float, float]:
    """(relative, absolute as a share of the largest value): that of the dtype, and of how many operations there are."""
    if job["kind"] == "layer":
        if job["dtype"] == "float32" or "Attention" in job["class_name"]:
            return 2e-4, 2e-5
        return 5e-6, 1e-6  # Keras computes some layers, attention above all, in float32
    if job["kind"] == "activation":
        # 1 - tanh(u)^2 is off by half a unit of 1, 6e-8, and stands times up to 15 in what gelu's gradient is made of
        return 1e-4, 5e-6
    return (1e-6, 1e-7) if job["kind"] in ("optimizer", "schedule") else (1e-4, 1e-6)


def differences(job: dict[str, Any], arrays: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """What of vivace's results is not Keras's."""
    if "refused" in job:
        return [job["refused"]]
    try:
        got = ours.KINDS[job["kind"]](job, arrays)
    except Exception:
        return [traceback.format_exc(limit=-3)]
    if job["kind"] == "initializer":
        return statistics(job, got["value"], expected["value"])
    if job["kind"] == "random":
        return same_distribution(got["y"], expected["y"])
    # Keras leaves the mask in the input's order; ours is that of the output
    inside = job["config"].get("layer", {}).get("config", {})  # of a Bidirectional
    if job["config"].get("go_backwards") or inside.get("go_backwards"):
        got, expected = ({k: a for k, a in part.items() if not k.startswith("mask")} for part in (got, expected))
    if job["class_name"] == "EinsumDense":  # Keras tells axes of dots backwards, and sizes of the input as unknown
        got, expected = ({k: a for k, a in part.items() if not k.startswith("shape")} for part in (got, expected))
    wrong = []
    relative, absolute = tolerance(job)
    for name in sorted(got.keys() | expected.keys()):
        if name not in got or name not in expected:
            wrong.append(f"{name}: only {'Keras' if name in expected else 'vivace'} has it")
            continue
        a, b = np.asarray(got[name]), expected[name]
        if a.shape != b.shape:
            wrong.append(f"{name}: shape {a.shape}, Keras's {b.shape}")
        elif a.dtype.kind in "US" or b.dtype.kind in "USO":
            if not (a.astype(str) == b.astype(str)).all():
                wrong.append(f"{name}: {a} and Keras's {b}")
        else:
            a, b = a.astype(float), b.astype(float)
            scale = max(1.0, float(np.abs(b[np.isfinite(b)]).max(initial=0)))
            if not np.allclose(a, b, relative, absolute * scale, equal_nan=True):
                wrong.append(f"{name}: differs by {np.abs(a - b).max():.3g}\n{a.ravel()[:12]}\n{b.ravel()[:12]}")
    return wrong


def statistics(job: dict[str, Any], a: np.ndarray, b: np.ndarray) -> list[str]:
    """Whether two arrays look drawn from one distribution, by quantities whose spread is far below the bounds."""
    if a.shape != b.shape:
        return [f"shape {a.shape}, Keras's {b.shape}"]
    if job.get("exact"):
        return [] if np.allclose(a, b, 1e-6) else [f"{a}\n{b}"]
    size = max(float(b.std()), 1e-12)
    found = {
        "mean": abs(a.mean() - b.mean()) / size, "deviation": abs(a.std() / size - 1),
        "quartiles": np.abs(np.quantile(a, [0.25, 0.5, 0.75]) - np.quantile(b, [0.25, 0.5, 0.75])).max() / size,
        "largest": abs(np.abs(a).max() - np.abs(b).max()) / size / (1 if job.get("bounded") else 10),
    }  # fmt: skip
    return [f"{name} off by {value:.3g}" for name, value in found.items() if value > 0.12]


def same_distribution(a: np.ndarray, b: np.ndarray) -> list[str]:
    """Whether samples of two random arrays look drawn from one distribution: Kolmogorov's and Smirnov's test of single
    elements, of their products (which tell what shares its fate), and of means.

    Its bound is passed by chance in one of 10^7 tests. Values that differ by rounding count as equal.
    """
    if a.shape[1:] != b.shape[1:] or len(a) != len(b):
        return [f"shape {a.shape}, Keras's {b.shape}"]
    places = np.random.default_rng(0).choice(a[0].size, min(8, a[0].size), replace=False)
    wrong, bound = [], (np.log(2 / 1e-7) / 2) ** 0.5 * (2 / len(a)) ** 0.5
    columns: dict[str, list[np.ndarray]] = {"mean": [], "deviation": []}
    for y in (a.reshape(len(a), -1).astype(float), b.reshape(len(b), -1).astype(float)):
        columns["mean"].append(y.mean(1))
        columns["deviation"].append(y.std(1))
        for i, place in enumerate(places):
            columns.setdefault(f"element {place}", []).append(y[:, place])
            columns.setdefault(f"elements {place} and {places[i - 1]}", []).append(y[:, place] * y[:, places[i - 1]])
    for name, (u, v) in columns.items():
        u, v = np.sort(u), np.sort(v)
        near = 1e-4 * max(1e-3, float(np.abs(v).max()))
        at = np.concatenate([u, v])
        below = [np.searchsorted(w, at - near, "left") / len(w) for w in (u, v)]
        within = [np.searchsorted(w, at + near, "right") / len(w) for w in (u, v)]
        distance = max(float((below[0] - within[1]).max()), float((below[1] - within[0]).max()))
        if distance > bound:
            wrong.append(f"{name}: {distance:.3f} > {bound:.3f}; quartiles {np.quantile(u, [0.25, 0.5, 0.75])}, "
                         f"Keras's {np.quantile(v, [0.25, 0.5, 0.75])}")  # fmt: skip
    return wrong


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return Comparison(tmp_path_factory.mktemp("keras"), DRAWS, os.environ["VIVACE_KERAS_PYTHON"], "jax")


@pytest.fixture(scope="session")
def lookups(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    python = os.environ["VIVACE_KERAS_TENSORFLOW"]
    return Comparison(tmp_path_factory.mktemp("lookups"), LOOKUPS, python, "tensorflow")


@needs_keras
@pytest.mark.parametrize("key", DRAWS, ids=lambda key: "-".join(key))
def test_same_as_keras(key: tuple[str, str], comparison: Comparison) -> None:
    compare(key, comparison)


@needs_tensorflow
@pytest.mark.parametrize("key", LOOKUPS, ids=lambda key: "-".join(key))
def test_same_as_keras_on_tensorflow(key: tuple[str, str], lookups: Comparison) -> None:
    compare(key, lookups)


@needs_keras
def test_the_page_of_names_is_up_to_date() -> None:
    text, wrong = names.page(names.kerass_names(os.environ["VIVACE_KERAS_PYTHON"]))
    assert not wrong, "\n".join(wrong)
    assert names.PAGE.read_text() == text, "run python tests/keras_parity/names.py --keras PYTHON"


def compare(key: tuple[str, str], comparison: Comparison) -> None:
    refused, wrong = [], []
    numbers = comparison.of[key]
    for i in numbers:
        (job, arrays), expected = comparison.cases[i], comparison.results[i]
        if "error" in expected:
            refused.append(f"{job}\n{expected['error']}")
            continue
        COMPARED[job["kind"]] = COMPARED.get(job["kind"], 0) + 1
        found = differences(job, arrays, expected)
        if found:
            shapes = {name: a.shape for name, a in arrays.items() if hasattr(a, "shape")}
            wrong.append("\n".join([f"draw {i}: {job}", str(shapes), *found]))
    assert not wrong, f"{len(wrong)} of {len(numbers)} differ:\n" + "\n\n".join(wrong[:5])
    assert len(refused) <= len(numbers) / 4, f"Keras refused {len(refused)}:\n" + "\n".join(refused[:3])
