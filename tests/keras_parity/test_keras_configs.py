"""Constructors have Keras's arguments in Keras's order, and take its configurations and models. Opt-in, as the rest."""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vivace._config import deserialize, to_data
from vivace.models import model_from_json

KERAS = os.environ.get("VIVACE_KERAS_PYTHON")
pytestmark = [
    pytest.mark.keras,
    pytest.mark.skipif(not KERAS, reason="opt-in: VIVACE_KERAS_PYTHON names a Python with Keras"),
]

# Arguments that ours do not have, and why not: nothing here has low-rank or quantized variants or sparse tensors.
_LORA = {"lora_rank", "lora_alpha", "quantization_config"}
ABSENT = {
    "layers.Dense": _LORA, "layers.Embedding": _LORA, "layers.EinsumDense": _LORA | {"gptq_unpacked_column_size"},
    "layers.CategoryEncoding": {"sparse"},
}  # fmt: skip
BASES = ("layers.Layer", "losses.Loss", "metrics.Metric", "optimizers.Optimizer", "initializers.Initializer",
         "regularizers.Regularizer", "constraints.Constraint", "optimizers.schedules.LearningRateSchedule")  # fmt: skip
LATER = ("optimizers.",)  # what all optimizers share is given by name: `options`


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("keras")
    paths = [str(folder / name) for name in ("said.json", "arrays.npz")]
    command = [str(KERAS), str(Path(__file__).with_name("worker_configs.py")), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(paths[1]) as arrays:
        return json.loads(Path(paths[0]).read_text()), dict(arrays)


def ours(name: str) -> Any:
    family, class_name = name.rsplit(".", 1)
    return getattr(importlib.import_module(f"vivace.{family}"), class_name, None)


def test_arguments_and_their_order(keras: Any) -> None:
    compared, wrong = 0, []
    for name, theirs in keras[0]["parameters"].items():
        cls = ours(name)
        if cls is None or name in BASES:
            continue
        found = list(inspect.signature(cls.__init__).parameters.values())[1:]
        have = [p.name for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        expected = [p for p in theirs if p not in ABSENT.get(name, ())]
        if name.startswith(LATER) and ".schedules." not in name:
            expected = expected[: len(have)]
        if have[: len(expected)] != expected:
            wrong.append(f"{name}: Keras has {expected}, we {have}")
        compared += 1
    assert not wrong, "\n".join(wrong)
    assert compared > 200


# Names that stand for nothing here: base classes, what vivace does not have, and metrics that are none of targets and
# outputs. "accuracy" follows the shapes, as it does in Keras's compile.
UNNAMED = {
    "constraints": ("[Cc]onstraint",), "initializers": ("[Ii]nitializer", "STFT*", "stft*"), "losses": ("[Ll]oss",),
    "metrics": ("[Mm]etric", "[Mm]ean", "[Ss]um", "[Aa]ccuracy"), "optimizers": ("*loss*scale*", "*multi*", "*free*"),
    "regularizers": ("[Rr]egularizer",),
}  # fmt: skip


def test_names_and_classes_stand_for_objects(keras: Any) -> None:
    compared, wrong = 0, []
    for family, name, kind, config, by_class in keras[0]["named"]:
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in UNNAMED.get(family, ())):
            continue
        module = importlib.import_module(f"vivace.{family}")
        compared += 1
        try:
            found = [module.get(name), *([module.get(getattr(module, name))] if by_class else [])]
        except (TypeError, ValueError) as error:
            wrong.append(f"{family}.get({name!r}): {error}")
            continue
        for one in found:
            have = getattr(one, "__name__", type(one).__name__)
            if family not in ("activations", "losses") and have != kind:
                wrong.append(f"{family}.get({name!r}): Keras gives {kind}, we {have}")
            own = {} if config is None else one.get_config()
            if any(own[key] != (pytest.approx(v) if isinstance(v, float) else v) for key, v in (config or {}).items()):
                wrong.append(f"{family}.get({name!r}): Keras has {config}, we {own}")
    assert not wrong, "\n".join(wrong)
    assert compared > 200


def plain(value: Any) -> Any:
    """A configuration without what Keras adds to say where classes are, and what is off."""
    if isinstance(value, dict):
        if value.get("class_name") == "DTypePolicy":
            return value["config"]["name"]
        skipped = ("module", "registered_name", "build_config", "compile_config")
        return {key: plain(one) for key, one in value.items() if key not in skipped and one not in (None, False)}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value


# Values that differ in form, not in meaning, and names that every layer here has.
def flat(value: Any) -> list[Any]:
    """[[1, 1]], [1, 1]; [2], 2: the same for sequences, which have one axis."""
    return [one for part in value for one in flat(part)] if isinstance(value, list) else [value]


FORM = {
    "height_factor",
    "width_factor",
    "axis",
    "axes",
    "learning_rate",
    "seed",
    "factor",
    "value_range",
    "thresholds",
    "name",
    "backward_layer",
    "layer",
}


def test_configurations_fit_and_are_told_alike(keras: Any) -> None:
    compared, wrong = 0, []
    for name, described in keras[0]["configs"].items():
        if ours(name) is None or name in BASES:
            continue
        theirs = plain(described["config"])
        again = plain(json.loads(json.dumps(to_data(deserialize(described).get_config(), ""))))
        missing = [key for key in theirs if key not in again and key not in FORM]  # what is off is not in `theirs`
        wrong += [f"{name}: {key} is not told, in Keras it is {theirs[key]!r}" for key in missing]
        for key, value in theirs.items():
            if key not in FORM and key in again and flat(again[key]) != flat(value):
                wrong.append(f"{name}: {key} is {again[key]!r}, in Keras {value!r}")
        compared += 1
    assert not wrong, "\n".join(wrong)
    assert compared > 180


def test_models_of_keras_compute_the_same(keras: Any) -> None:
    said, arrays = keras

    def group(kind: str) -> list[np.ndarray]:
        return [arrays[f"{kind}_{k}"] for k in range(sum(name.startswith(f"{kind}_") for name in arrays))]

    for i, text in enumerate(said["models"]):
        model = model_from_json(text)
        if not model.built:
            model.build((None, 4))
        model.set_weights(group(f"w{i}"))
        x = group(f"x{i}")
        y = model(x if len(x) > 1 else x[0])
        for got, expected in zip(y if isinstance(y, list) else [y], group(f"y{i}"), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5, err_msg=text[:200])


def test_classes_with_a_call_have_the_same_weights_in_the_same_order() -> None:
    program = str(Path(__file__).with_name("program_classes.py"))
    said = []
    for python, package in ((str(KERAS), "keras"), (sys.executable, "vivace")):
        done = subprocess.run([python, program, package], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        said.append(json.loads(done.stdout.splitlines()[-1]))
    theirs, own = said
    assert own["shapes"] == theirs["shapes"]
    assert own["count"] == theirs["count"]
    np.testing.assert_allclose(own["y"], theirs["y"], rtol=1e-4, atol=1e-6)
