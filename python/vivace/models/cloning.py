"""Models made again from what they tell about themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from .._config import custom_object_scope, deserialize
from ..layers.base import Layer
from ..layers.core import InputLayer
from ..layers.symbolic import SymbolicTensor
from .functional import Functional, structured
from .model import Model
from .sequential import Sequential


def model_from_json(json_string: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The model that `Model.to_json` described, with new weights. Keras's own JSON of such models will do too.

    Args:
        json_string: what `to_json` returned. Classes are looked up among vivace's own and the custom objects; nothing
            in it is run.
        custom_objects: classes and functions of one's own, by name.

    Raises:
        ValueError, TypeError: not JSON of a model, a class that is not known, or arguments that do not fit it.
    """
    try:
        described = json.loads(json_string)
    except json.JSONDecodeError as error:
        raise ValueError(f"model_from_json: not JSON: {error}") from None
    if not isinstance(described, Mapping) or "class_name" not in described:
        raise ValueError("model_from_json: expected the JSON of a model, an object with class_name and config")
    try:
        with custom_object_scope(custom_objects):
            model = deserialize(described, None if described.get("module") else "models")
    except (KeyError, IndexError, AttributeError, RecursionError) as error:  # parts of it are not what they should be
        raise ValueError(f"model_from_json: not the JSON of a model: {type(error).__name__}: {error}") from error
    if not isinstance(model, Model):
        raise ValueError(f"model_from_json: expected a model, received a {type(model).__name__}")
    return model


def clone_model(
    model: Model,
    input_tensors: Any = None,
    clone_function: Callable[[Layer], Layer] | None = None,
    call_function: Callable[..., Any] | None = None,
    recursive: bool = False,
) -> Any:
    """A model of new layers, with new weights, made like another one.

    Args:
        model: a Sequential, a Functional or a class of one's own (from its configuration).
        input_tensors: symbolic tensors to build upon, one or a list, in place of new Inputs.
        clone_function: layer -> the layer that takes its place; None: a new one from its configuration. Input layers
            are always made anew.
        call_function: (layer, *args, **kwargs) -> what the new layer makes of its new inputs; None: calls it.
        recursive: use clone_function inside nested models too, instead of on them.

    Raises:
        ValueError: no model; functions or tensors for a class of one's own. TypeError: a function that is none.
    """
    if not isinstance(model, Layer):
        raise ValueError(f"clone_model: model must be a Sequential or another Model, received {model!r}")
    for argument, function in (("clone_function", clone_function), ("call_function", call_function)):
        if function is not None and not callable(function):
            raise TypeError(f"clone_model: {argument} must be a function, received {function!r}")

    def again(layer: Layer) -> Layer:
        if recursive and isinstance(layer, (Functional, Sequential)):
            return clone_model(layer, None, clone_function, call_function, True)
        if clone_function is not None and not isinstance(layer, InputLayer):
            return clone_function(layer)
        with custom_object_scope(_own_classes(layer)):
            return type(layer).from_config(layer.get_config())

    if isinstance(model, Sequential):
        first: list[Any] = _list(input_tensors) if input_tensors is not None else []
        if not first and model.declared_input_shape is not None:
            first = [InputLayer(model.declared_input_shape, dtype=model.input_dtype or model.dtype)]
        clone = Sequential([*first, *map(again, model.layers)], name=model.name)
        if model.built and not clone.built and model.input_shape is not None:
            clone.build(model.input_shape)
        return clone
    if isinstance(model, Functional):
        return _cloned_graph(model, _list(input_tensors), again, call_function or _call)
    if clone_function is not None or input_tensors is not None or call_function is not None:
        raise ValueError(
            f"clone_model: {model.name} is a class of its own, which is cloned from its configuration only"
        )
    with custom_object_scope(_own_classes(model)):
        return type(model).from_config(model.get_config())


def _own_classes(layer: Layer) -> dict[str, Any]:
    """The user's classes among the layers inside a layer, by name."""
    found: dict[str, Any] = {}
    for inner in layer.sublayers().values():
        if type(inner).__module__.partition(".")[0] != __package__.partition(".")[0]:
            found[type(inner).__name__] = type(inner)
        found |= _own_classes(inner)
    return found


def _cloned_graph(
    model: Functional, given: list[SymbolicTensor], again: Callable[[Layer], Layer], call_function: Callable[..., Any]
) -> Functional:
    graph = model._graph
    if given and len(given) != len(model.inputs):
        raise ValueError(f"clone_model: {model.name} has {len(model.inputs)} inputs, received {len(given)} tensors")
    sources = given or [source.output for source in model.input_layers()]
    tensors: dict[int, Any] = dict(zip(graph.inputs, sources, strict=True))
    layers = {id(layer): again(layer) for layer in model.layers if not isinstance(layer, InputLayer)}
    for call in graph.calls:
        args, kwargs = call.arguments([tensors[slot] for slot in call.sources])
        made = call_function(layers[id(call.unit)], *args, **kwargs)
        tensors |= dict(zip(call.targets, _list(made), strict=True))
    inputs, outputs = (
        structured([tensors[slot] for slot in slots], model._structures[which])
        for slots, which in ((graph.inputs, "inputs"), (graph.outputs, "outputs"))
    )
    return Functional(inputs, outputs, name=model.name)


def _call(layer: Layer, *args: Any, **kwargs: Any) -> Any:
    return layer(*args, **kwargs)


def _list(x: Any) -> list[Any]:
    if isinstance(x, Mapping):
        return list(x.values())
    return [] if x is None else list(x) if isinstance(x, (list, tuple)) else [x]
