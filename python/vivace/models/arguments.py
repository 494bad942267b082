"""The arguments of a class's `call`: which of them are inputs of its graph, and which are the same in every pass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..layers.symbolic import is_input


def bound(owner: str, call: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, list[Any]]:
    """The arguments, {"args": ..., "kwargs": ...} in which {"input": i} stands for the i-th input; and the inputs.

    Raises TypeError if `call` does not take them.
    """
    signature = inspect.signature(call)
    try:
        given = signature.bind_partial(*args, **named)
    except TypeError as error:
        raise TypeError(f"{owner}.call: {error}") from None
    for name, value in list(given.arguments.items()):
        if value is signature.parameters[name].default:
            del given.arguments[name]
    inputs: list[Any] = []

    def placed(value: Any) -> Any:
        if is_input(value):
            inputs.append(value)
            return {"input": len(inputs) - 1}
        return _in_parts(value, placed)

    return {"args": placed(list(given.args)), "kwargs": placed(given.kwargs)}, inputs


def filled(arguments: Any, inputs: Sequence[Any]) -> Any:
    """The arguments with their inputs."""
    if isinstance(arguments, Mapping) and list(arguments) == ["input"]:
        return inputs[arguments["input"]]
    return _in_parts(arguments, lambda one: filled(one, inputs))


def _in_parts(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, Mapping):
        return {name: change(one) for name, one in value.items()}
    return type(value)(map(change, value)) if isinstance(value, (list, tuple)) else value


def first_with(outputs: Any, change: Callable[[Any], Any]) -> Any:
    """Outputs, one or several in their structure, with the first of them changed."""
    if isinstance(outputs, Mapping):
        first = next(iter(outputs))
        return {**outputs, first: change(outputs[first])}
    if isinstance(outputs, (list, tuple)):
        return type(outputs)([change(outputs[0]), *outputs[1:]])
    return change(outputs)


__all__: list[str] = []
