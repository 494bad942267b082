"""Names of things: looking one up as Keras spells it, and making one up for a layer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

REGISTERED: dict[str, Any] = {}  # for the whole process; names of vivace's own come before them
CUSTOM: ContextVar[dict[str, Any]] = ContextVar("custom_objects", default={})  # noqa: B039  (never changed in place)


def snake_case(name: str) -> str:
    """ "MaxPooling2D" -> "max_pooling2d"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])", "_", name).lower()


def made(identifier: Any) -> Any:
    """An object with its defaults of a class that stands for one; anything else as it is."""
    return identifier() if isinstance(identifier, type) else identifier


def custom_objects() -> Mapping[str, Any]:
    """Classes and functions of the user's own by name: those that hold here, then those that are registered."""
    return {**REGISTERED, **CUSTOM.get()}


def lookup(kind: str, name: str, known: Mapping[str, T]) -> T:
    """known[name] with `name` in snake_case or CamelCase, a class or what makes an object; custom objects come first.

    Registered ones come last. An unknown one raises ValueError with suggestions.
    """
    if not isinstance(name, str):
        raise TypeError(f"{kind} must be a name, received {name!r}")
    of_ours = [known[candidate] for candidate in (name, name.lower(), snake_case(name)) if candidate in known]
    if name in CUSTOM.get() or (name in REGISTERED and not of_ours):
        custom = custom_objects()[name]
        return custom if isinstance(custom, type) else lambda: custom  # type: ignore[return-value]
    if of_ours:
        return of_ours[0]
    raise ValueError(
        f"unknown {kind} {name!r}{closest(snake_case(name), known) or '.'} Known: {', '.join(sorted(known))}"
    )


def closest(name: str, known: Iterable[str]) -> str:
    """What a message about an unknown name adds: the known one that is most like it, if one is."""
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def shown(thing: Any) -> str:
    """What a message shows of something that does not fit: a class with what makes an object of it, an array by its
    shape.
    """
    if isinstance(thing, type):
        return f"the class {thing.__name__}; {thing.__name__}(...) makes an object of it"
    if hasattr(thing, "__array__") and getattr(thing, "shape", None):
        return f"an array of shape {tuple(thing.shape)}"
    return repr(thing)


_used: Counter[str] = Counter()


def unique_name(class_name: str) -> str:
    """ "conv2d", then "conv2d_1", ... as Keras counts."""
    base = snake_case(class_name)
    count = _used[base]
    _used[base] += 1
    return f"{base}_{count}" if count else base


def reset_names() -> None:
    """Start counting again (Keras's clear_session)."""
    _used.clear()
