"""Weights as safetensors: a format without code in it, written and read by its own audited library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..layers.base import Layer
    from ..models import Model
    from ..parameters import Parameter

SUFFIX = ".safetensors"


def _check_path(what: str, filepath: str | Path) -> Path:
    path = Path(filepath)
    if path.suffix != SUFFIX:
        raise ValueError(f"{what}: the file name must end in {SUFFIX}, received {str(filepath)!r}")
    return path


def named_parameters(model: Layer) -> dict[str, Parameter]:
    """Parameters by a path that survives renaming layers: position, class and weight, "0_conv2d/kernel"."""
    named = {parameter.name.rsplit("/", 1)[-1]: parameter for parameter in model.parameters}
    for path, layer in model.sublayers().items():
        named |= {f"{path}/{name}": parameter for name, parameter in named_parameters(layer).items()}
    return named


def save_weights(model: Model, filepath: str | Path) -> None:
    """Write the file beside its final place and move it there, so that a crash never leaves half a file."""
    from safetensors.numpy import save_file

    path = _check_path(f"{model.name}.save_weights", filepath)
    arrays = {name: np.ascontiguousarray(p.array) for name, p in named_parameters(model).items()}
    temporary = path.with_name(path.name + ".part")
    save_file(arrays, str(temporary), metadata={"format": "vivace weights 1"})
    temporary.replace(path)


def load_weights(model: Model, filepath: str | Path) -> None:
    """Compare every name and shape first, then copy.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a safetensors file, or its weights do not fit the model (each difference is listed).
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    owner = f"{model.name}.load_weights"
    path = _check_path(owner, filepath)
    if not path.exists():
        raise FileNotFoundError(f"{owner}: no file {str(path)!r}")
    try:
        arrays = load_file(str(path))
    except SafetensorError as error:
        raise ValueError(f"{owner}: {str(path)!r} is not a valid safetensors file: {error}") from None
    expected = named_parameters(model)
    problems = [f"{name} is missing" for name in expected if name not in arrays]
    problems += [f"{name} is not in the model" for name in arrays if name not in expected]
    problems += [
        f"{name} has shape {arrays[name].shape}, the model {p.shape}"
        for name, p in expected.items()
        if name in arrays and arrays[name].shape != p.shape
    ]
    if problems:
        raise ValueError(f"{owner}: {str(path)!r} does not fit the model: {'; '.join(problems)}")
    for name, parameter in expected.items():
        parameter.assign(arrays[name])
