"""Whole models in one safetensors file: weights and the optimizer's state as arrays, all else as JSON in its header."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._config import custom_object_scope, to_data
from .weights import OPTIMIZER, check_path, load_named, read_file, weights_of, write_file

if TYPE_CHECKING:
    from ..models import Model

FORMAT = "vivace model 1"


def save_model(model: Model, filepath: str | Path, overwrite: bool = True) -> None:
    """Write a model's architecture, weights, and what `compile` was given, with the optimizer's state, to one file.

    Args:
        model: a built model.
        filepath: ends in .safetensors. Its weights can be read by `Model.load_weights`, too.
        overwrite: False: raise FileExistsError where there is such a file.

    Raises:
        ValueError: not built, or another ending. TypeError: something in the architecture is not plain data, such as a
            Lambda layer's function. A loss or metric that is not is left out with a warning.
    """
    owner = f"{model.name}.save"
    path = check_path(owner, filepath, overwrite)
    model.check_built("save")
    told = {"model": model.to_json(), "build": json.dumps(model.get_build_config())}
    arrays = weights_of(model)
    if model.compiled:
        try:
            told["compile"] = json.dumps(to_data(model.get_compile_config(), owner))
        except TypeError as error:
            warnings.warn(f"{error}; the file will not say how the model was compiled", stacklevel=3)
        else:
            state = model.optimizer.state_of(model._flat_parameters())
            arrays |= {OPTIMIZER + name: array for name, array in state.items()}
    write_file(path, arrays, {"format": FORMAT, **told})


def load_model(
    filepath: str | Path,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Any:
    """The model that `Model.save` wrote: it predicts the same bits, and training goes on where it was.

    Args:
        filepath: the file.
        custom_objects: classes and functions of one's own, by name. The file itself holds no code, and none is run.
        compile: False: leave the model as it is before `compile`.
        safe_mode: accepted for Keras's sake: there is no other mode.

    Raises:
        FileNotFoundError: no such file. ValueError: not such a file; a class or function that is not known.
    """
    from ..models import model_from_json

    owner = "load_model"
    arrays, told = read_file(owner, check_path(owner, filepath))
    if told.get("format") != FORMAT or "model" not in told:
        found = repr(told["format"]) if "format" in told else "no word of it"
        raise ValueError(
            f"{owner}: {str(filepath)!r} does not hold a whole model (format {FORMAT!r}) but {found}; a file of "
            "weights is for load_weights, of a model made by code"
        )
    with custom_object_scope(custom_objects):
        model: Model = model_from_json(told["model"])
        if not model.built:
            model.build_from_config(json.loads(told["build"]))
        load_named(owner, model, {name: a for name, a in arrays.items() if not name.startswith(OPTIMIZER)})
        if compile and "compile" in told:
            model.compile_from_config(json.loads(told["compile"]))
            state = {name.removeprefix(OPTIMIZER): a for name, a in arrays.items() if name.startswith(OPTIMIZER)}
            model.optimizer.set_state(model._flat_parameters(), state)
    return model
