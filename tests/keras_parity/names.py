"""Keras's public names and what vivace has of them: writes docs/keras-names.md.

    python tests/keras_parity/names.py --keras PYTHON [--check]

PYTHON has Keras. With --check nothing is written, and the exit status tells whether the file is up to date. Every name
and argument that vivace lacks needs a reason in this file, and no reason may be left for one that it has.
"""

from __future__ import annotations

import argparse
import ast
import fnmatch
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import members

AREAS = ("layers", "losses", "metrics", "optimizers", "optimizers.schedules", "initializers", "regularizers",
         "constraints", "callbacks", "activations", "models", "utils", "datasets")  # fmt: skip
PAGE = Path(__file__).parents[2] / "docs" / "keras-names.md"

ENGINE = "belongs to another framework"
AUGMENTATION = "not yet: of random changes of images there are movements, crops and changes of tones"
FILES = "data sets from folders and downloads are not this package's; NumPy arrays and `PyDataset` are"
QUANTIZED = "no low-rank adaptation or quantization yet"

# Why vivace lacks a name: a pattern of "area.name", and the reason.
ABSENT = {
    "layers.ConvLSTM*": "not yet",
    "layers.FlaxLayer": ENGINE,
    "layers.JaxLayer": ENGINE,
    "layers.TFSMLayer": ENGINE,
    "layers.TorchModuleWrapper": ENGINE,
    "layers.Pipeline": "a `Sequential` of preprocessing layers does it",
    "layers.ReversibleEmbedding": "not yet",
    "layers.SpectralNormalization": "not yet",
    "utils.get_registered_*": "`custom_object_scope` and the arguments custom_objects say it",
    "utils.split_dataset": "`validation_split` of fit, or slices",
    "layers.Hash*": "`StringLookup` and `IntegerLookup` have no collisions",
    "layers.InputSpec": "shape rules are written in `compute_output_shape`",
    "layers.Wrapper": "a layer says what is inside it in `sublayers`",
    "layers.*Spectrogram": "not yet",
    "layers.MaxNumBoundingBoxes": "no bounding boxes",
    "layers.Random*": AUGMENTATION,
    "layers.RandAugment": AUGMENTATION,
    "layers.AugMix": AUGMENTATION,
    "layers.ContrastLimited*": AUGMENTATION,
    "layers.CutMix": AUGMENTATION,
    "layers.MixUp": AUGMENTATION,
    "optimizers.ScheduleFreeAdamW": "not yet",
    "optimizers.MultiOptimizer": "not yet",
    "optimizers.OptimizerMap": "not yet",
    "optimizers.LossScaleOptimizer": "for half precision, which training does not use",
    "initializers.STFT*": "for spectrogram layers: not yet",
    "initializers.stft": "for spectrogram layers: not yet",
    "callbacks.OrbaxCheckpoint": ENGINE,
    "callbacks.RemoteMonitor": "sends logs over the network; a `Callback` of three lines does it",
    "callbacks.ProgbarLogger": "`verbose` of fit, evaluate and predict says it",
    "utils.*_dataset_from_directory": FILES,
    "utils.get_file": FILES,
    "utils.FeatureSpace": "not yet",
    "utils.Config": "a dict does it",
    "utils.*_img": "pictures are read and written by other libraries (Pillow, imageio)",
    "utils.img_to_array": "`numpy.asarray` does it",
    "utils.*interactive_logging*": "`verbose=0` says it",
    "utils.Progbar": "`tqdm` draws the progress bar",
    "utils.*pack_x_y_sample_weight": "a tuple does it",
    "utils.standardize_dtype": "`numpy.dtype` does it",
    "utils.is_keras_tensor": "internal to Keras",
    "utils.get_source_inputs": "internal to Keras",
    "datasets.*": "`mnist`, `fashion_mnist` and `digits` are here; others are read from files by the user",
}

# Why vivace lacks an argument: a pattern of "area.name.argument", and the reason.
LACKING = {
    "layers.*.lora_*": QUANTIZED,
    "layers.*.quantization_config": QUANTIZED,
    "layers.EinsumDense.gptq_unpacked_column_size": QUANTIZED,
    "layers.Layer.autocast": "an array is converted to the layer's dtype",
    "callbacks.CallbackList.*": "internal to fit",
    "utils.Sequence.*": "batches are made in the process itself",
    "models.save_model.zipped": "a model is one file in any case",
    "utils.timeseries_dataset_from_array.format": "batches are arrays",
    "utils.clear_session.*": "nothing is kept",
    "utils.deserialize_keras_object.*": "nothing is read that could run code",
    "utils.serialize_keras_object.obj": "the argument has no name in common",
}

# Defaults and orders that are not Keras's, and why: patterns of what `departures` says.
DEPARTING = (
    "callbacks.CallbackList: *",  # internal
)

DUMP = """
import importlib, inspect, json, sys
areas = {}
for area in json.loads(sys.argv[1]):
    module = importlib.import_module(f"keras.{area}")
    names = {}
    for name in dir(module):
        found = getattr(module, name)
        if name.startswith("_") or (inspect.ismodule(found) and area != "datasets"):
            continue
        arguments = []
        if callable(found) and name not in ("serialize", "deserialize"):  # whose arguments have no common names
            target = found.__init__ if inspect.isclass(found) else found
            arguments = [[p.name, None if p.default is p.empty else repr(p.default)]
                         for p in inspect.signature(target).parameters.values()
                         if p.name not in ("self", "args", "kwargs")]
        if callable(found) or area == "datasets":
            names[name] = arguments
    areas[area] = names
import keras
members = made(keras.layers, keras, keras.metrics)
print(json.dumps({"version": keras.__version__, "areas": areas, "members": members}))
"""


def kerass_names(python: str) -> dict[str, Any]:
    """{"version": ..., "areas": {area: {name: [(argument, default)]}}}, asked of Keras itself."""
    environment = {**os.environ, "KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "jax")}
    command = [python, "-c", members.MAKE + DUMP, json.dumps(AREAS)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    names: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return names


def reason(patterns: dict[str, str], name: str, used: set[str]) -> str:
    for pattern, why in patterns.items():
        if fnmatch.fnmatchcase(name, pattern):
            used.add(pattern)
            return why
    return ""


def inits(found: Any) -> list[Any]:
    """A class's constructors, its own first."""
    own = [c.__dict__.get("__init__") for c in inspect.getmro(found)[:-1]] if inspect.isclass(found) else []
    return [f for f in own if inspect.isfunction(f)]


def accepted(found: Any) -> set[str]:
    """The arguments that a function or class of ours takes, those that it hands on to its bases included."""
    names: set[str] = set()
    for function in inits(found) or [found]:
        parameters = inspect.signature(function).parameters.values()
        names |= {p.name for p in parameters}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names


def departures(name: str, found: Any, arguments: dict[str, str | None]) -> list[str]:
    """Defaults and the order of arguments where they are not Keras's."""
    target = inits(found)[0] if inits(found) else found
    own = {p.name: p.default for p in inspect.signature(target).parameters.values() if p.name in arguments}
    told = []
    for argument, default in own.items():
        keras = arguments[argument]
        if keras is None or argument == "name":  # needed there, or made of the class's name
            continue
        if default is inspect.Parameter.empty or spread(default) != spread(ast.literal_eval(keras)):
            told.append(f"{name}: {argument} is {default!r} by default, in Keras {keras}")
    if [a for a in own if a in arguments] != [a for a in arguments if a in own]:
        told.append(f"{name}: its arguments stand in another order than Keras's {list(arguments)}")
    return [departure for departure in told if not any(fnmatch.fnmatchcase(departure, p) for p in DEPARTING)]


def spread(default: Any) -> Any:
    """A default without what makes no difference: one number for several equal ones, the case of a name."""
    while isinstance(default, tuple) and len(set(default)) == 1:
        default = default[0]
    return default.lower() if isinstance(default, str) else default


def only_off(found: Any) -> list[str]:
    """The arguments that are taken only where they are off: the constructors say so by a call of that name."""
    calls = [re.search(r"only_off\((.*)\)", inspect.getsource(f)) for f in inits(found)]
    return [name for call in calls if call for name in re.findall(r"(\w+)=", call.group(1))]


def rows(keras: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The lines of the page, and what has no reason, or a reason too many."""
    lines, wrong, used = [], [], set()
    for area, names in keras["areas"].items():
        module = importlib.import_module(f"vivace.{area}")
        present = [name for name in names if hasattr(module, name)]
        lines += ["", f"## {area}", "", f"{len(present)} of {len(names)}.", "", "| Keras | vivace |", "|---|---|"]
        for name, arguments in names.items():
            if not hasattr(module, name):
                why = reason(ABSENT, f"{area}.{name}", used)
                wrong += [] if why else [f"{area}.{name} is absent, without a reason"]
                lines.append(f"| `{name}` | absent: {why} |")
                continue
            found = getattr(module, name)
            wrong += departures(f"{area}.{name}", found, dict(arguments)) if callable(found) else []
            lacking = [a for a, _ in arguments if callable(found) and a not in accepted(found)]
            whys: dict[str, list[str]] = {}
            for argument in lacking:
                why = reason(LACKING, f"{area}.{name}.{argument}", used)
                wrong += [] if why else [f"{area}.{name} lacks {argument}, without a reason"]
                whys.setdefault(why, []).append(f"`{argument}`")
            off = [f"`{name}`" for name in only_off(found)]
            whys |= {"accepted only where they are off": off} if off else {}
            told = "; ".join(f"without {', '.join(which)} ({why})" for why, which in whys.items())
            lines.append(f"| `{name}` | present{', ' + told if told else ''} |")
    unused = [pattern for pattern in [*ABSENT, *LACKING] if pattern not in used]
    return lines, wrong + [f"nothing is absent that {pattern!r} gives a reason for" for pattern in unused]


def page(keras: dict[str, Any]) -> tuple[str, list[str]]:
    lines, wrong = rows(keras)
    more, missing = members.rows(keras["members"])
    head = [
        f"# The public names of Keras {keras['version']}, and vivace",
        "",
        "Written by `python tests/keras_parity/names.py --keras PYTHON`, which asks both. That what is present gives",
        "the same numbers, `tests/keras_parity` checks over random configurations.",
    ]
    return "\n".join([*head, *lines, *more]) + "\n", wrong + missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keras", required=True, metavar="PYTHON", help="a Python that has Keras")
    parser.add_argument("--check", action="store_true", help="write nothing; fail unless the page is up to date")
    arguments = parser.parse_args()
    text, wrong = page(kerass_names(arguments.keras))
    if wrong:
        sys.exit("\n".join(wrong))
    if not arguments.check:
        PAGE.write_text(text)
    elif PAGE.read_text() != text:
        sys.exit(f"{PAGE} is out of date")


if __name__ == "__main__":
    main()
