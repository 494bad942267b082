"""Weights as safetensors: a format without code in it, written and read by its own audited library."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._typing import Array

if TYPE_CHECKING:
    from ..layers.base import Layer
    from ..models import Model
    from ..parameters import Parameter

SUFFIX = ".safetensors"
OPTIMIZER = "optimizer/"  # what the names of the optimizer's arrays begin with, in a file of a whole model


def check_path(what: str, filepath: str | Path, overwrite: bool = True) -> Path:
    path = Path(filepath)
    if path.suffix != SUFFIX:
        raise ValueError(
            f"{what}: the file name must end in {SUFFIX}, the one format for weights and models here; received "
            f"{str(filepath)!r}"
        )
    if not overwrite and path.exists():
        raise FileExistsError(f"{what}: there is a file {str(path)!r}, and overwrite is False")
    return path


def write_file(path: Path, arrays: Mapping[str, Array], metadata: dict[str, str]) -> None:
    """Write beside the final place and move the file there, so that a crash never leaves half of it."""
    from safetensors.numpy import save_file

    temporary = path.with_name(path.name + ".part")
    save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, str(temporary), metadata)
    temporary.replace(path)


def read_file(owner: str, path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Arrays and metadata. Raises FileNotFoundError, or ValueError if it is not such a file."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise FileNotFoundError(f"{owner}: no file {str(path)!r}")
    try:
        with safe_open(str(path), framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{owner}: {str(path)!r} is not a valid safetensors file: {error}") from None


def named_parameters(model: Layer) -> dict[str, Parameter]:
    """Parameters by a path that survives renaming layers: position, class and weight, "0_conv2d/kernel"."""
    named = {parameter.key: parameter for parameter in model.parameters}
    for path, layer in model.sublayers().items():
        named |= {f"{path}/{name}": parameter for name, parameter in named_parameters(layer).items()}
    return named


def weights_of(model: Layer) -> dict[str, Array]:
    return {name: p.array for name, p in named_parameters(model).items()}


def save_weights(model: Model, filepath: str | Path, overwrite: bool) -> None:
    path = check_path(f"{model.name}.save_weights", filepath, overwrite)
    write_file(path, weights_of(model), {"format": "vivace weights 1"})


def load_weights(model: Model, filepath: str | Path, skip_mismatch: bool) -> None:
    """From a file of weights, or of a whole model."""
    owner = f"{model.name}.load_weights"
    arrays = read_file(owner, check_path(owner, filepath))[0]
    weights = {name: array for name, array in arrays.items() if not name.startswith(OPTIMIZER)}
    load_named(f"{owner}: {str(filepath)!r}", model, weights, skip_mismatch)


def load_named(owner: str, model: Model, arrays: Mapping[str, Array], skip_mismatch: bool = False) -> None:
    """Compare every name and shape first, then copy.

    Raises ValueError if the weights do not fit the model (each difference is listed), unless those are to be skipped.
    """
    expected = named_parameters(model)
    fitting = {name: p for name, p in expected.items() if name in arrays and arrays[name].shape == p.shape}
    problems = [f"{name} is missing" for name in expected if name not in arrays]
    problems += [f"{name} is not in the model" for name in arrays if name not in expected]
    problems += [
        f"{name} has shape {arrays[name].shape}, the model {p.shape}"
        for name, p in expected.items()
        if name in arrays and name not in fitting
    ]
    if problems and not skip_mismatch:
        raise ValueError(f"{owner} does not fit the model: {'; '.join(problems)}")
    if problems:
        warnings.warn(f"{owner} does not fit the model, so some weights stay: {'; '.join(problems)}", stacklevel=4)
    for name, parameter in fitting.items():
        parameter.assign(arrays[name])
