"""How things were made: `get_config` and `from_config` for layers, models, losses, metrics, optimizers and the rest.

The constructor's arguments are the configuration; they are remembered here, once for all classes. A configuration is
plain data (what JSON knows), in which an object is {"module", "class_name", "config"}. To read one back, classes are
looked up among the public names of `FAMILIES` and the custom objects that the user gave; nothing is imported by a
file's word, and no code is read from it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType
from typing import Any, ClassVar, TypeVar

import numpy as np

from ._naming import CUSTOM, REGISTERED
from ._naming import custom_objects as known_objects

FAMILIES = (
    "optimizers.schedules", "optimizers", "layers", "models", "losses", "metrics", "initializers", "regularizers",
    "constraints",
)  # fmt: skip
_UNTOLD = ("input_shape", "weights")  # what a model tells itself: the shape of its first layer, and values
C = TypeVar("C", bound="Configurable")
T = TypeVar("T")


class Configurable:
    """Remembers the arguments it was made with.

    family: the module of `FAMILIES` that the class belongs to.
    former: arguments of earlier versions of Keras, which are taken but not told by `get_config`.
    """

    family: ClassVar[str] = ""
    former: ClassVar[tuple[str, ...]] = ()
    _given: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def __new__(cls: type[C], *args: Any, **kwargs: Any) -> C:
        made = object.__new__(cls)
        if args or kwargs:
            made._given = args, kwargs
        return made

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same object, without its weights or state: plain data.

        Functions among them stay functions, which `to_json` refuses or, if they have a name, writes by name.
        """
        known = _arguments(type(self))  # type: ignore[arg-type]
        args, kwargs = self._given
        given = dict(zip(known, args, strict=False)) | kwargs
        config = {}
        for name in (*known, *(name for name in given if name not in known)):
            if name in _UNTOLD or name in self.former:
                continue
            value = given.get(name, known.get(name, (None,))[0])
            # Our own classes keep every argument as an attribute in its final form, which may have changed since;
            # of a user's class only what was given is known.
            own = name not in known or known[name][1]
            config[name] = plain(getattr(self, name, value) if own else value)
        return config

    @classmethod
    def from_config(cls: type[C], config: Mapping[str, Any]) -> C:
        """The object that `get_config` described. Arguments that only Keras has are ignored where they are off.

        Raises ValueError for an unknown class in the configuration, TypeError for an unknown argument.
        """
        accepted = _accepted(cls)  # type: ignore[arg-type]
        return cls(
            **{
                name: revived(value)
                for name, value in config.items()
                if name in accepted or not (value is None or value is False)
            }
        )


def take_former(kwargs: dict[str, Any], name: str, advice: str) -> Any:
    """The value of an argument of earlier versions of Keras, None if it is not given; a warning says what to do."""
    value = kwargs.pop(name, None)
    if value is not None:
        warnings.warn(f"the argument {name} is one of earlier versions of Keras: {advice}", stacklevel=3)
    return value


@functools.cache
def _arguments(cls: type) -> dict[str, tuple[Any, bool]]:
    """A constructor's arguments: name -> (default, whether the class that declares it is ours).

    Behind the class's own arguments, if it passes others on, come those of its family's base class, which every class
    of the family takes.
    """
    first, *others = _constructors(cls) or [object]
    found = _declared(first)
    for base in others:
        if Configurable in base.__bases__:
            found = found | {name: how for name, how in _declared(base).items() if name not in found}
    return found


def own_arguments(cls: type) -> set[str]:
    """The arguments that the class's own constructor names."""
    return set(_declared(_constructors(cls)[0]))


@functools.cache
def _accepted(cls: type) -> set[str]:
    """The names of all arguments that the constructor, or one that it passes arguments on to, knows."""
    return {name for base in _constructors(cls) for name in _declared(base)}


def _constructors(cls: type) -> list[type]:
    """The classes whose constructors see the arguments, from the class itself up."""
    found: list[type] = []
    for base in cls.__mro__:
        if "__init__" in vars(base) and base is not object:
            found.append(base)
            if all(p.kind is not p.VAR_KEYWORD for p in _parameters(base)):
                break
    return found


def _parameters(cls: type) -> list[inspect.Parameter]:
    return list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]


def _declared(cls: type) -> dict[str, tuple[Any, bool]]:
    if cls is object:
        return {}
    ours = cls.__module__.split(".")[0] == __package__
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: (None if p.default is p.empty else p.default, ours) for p in _parameters(cls) if p.kind in kinds}


def plain(value: Any) -> Any:
    """The value as plain data; functions stay what they are."""
    if isinstance(value, Configurable):
        return serialize(value)
    if isinstance(value, np.ndarray):
        return {"class_name": "__numpy__", "config": {"value": value.tolist(), "dtype": value.dtype.name}}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else list(map(plain, value))
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    return value


def serialize(thing: Configurable) -> dict[str, Any]:
    """The object as a dict that `deserialize` takes back."""
    own = type(thing).__module__.split(".")[0] == __package__
    module = f"{__package__}.{thing.family}" if own else None
    return {"module": module, "class_name": type(thing).__name__, "config": thing.get_config()}


def deserialize(identifier: Mapping[str, Any], family: str | None = None) -> Any:
    """The object that such a dict describes.

    family: where to look the class up; by default, what the dict's "module" says.

    Raises:
        ValueError: no such class, neither in vivace nor among the custom objects.
    """
    described = identifier if isinstance(identifier, Mapping) else {}
    name, config = described.get("class_name"), described.get("config") or {}
    if not isinstance(name, str) or not isinstance(config, Mapping):
        raise ValueError(f"expected a dict with class_name and config, received {identifier!r}")
    found = _find(name, family or _family_of(identifier))
    if isinstance(found, type) and hasattr(found, "from_config"):
        return found.from_config(dict(config))
    return found(**{key: revived(value) for key, value in config.items()})


def _find(name: str, family: str | None) -> Any:
    if name in CUSTOM.get():
        return CUSTOM.get()[name]
    hint = ""
    if family in FAMILIES:
        public = vars(importlib.import_module(f".{family}", __package__))
        known = {
            key: one
            for key, one in public.items()
            if isinstance(one, type) and issubclass(one, Configurable) and key[0] != "_"
        }
        known = {key.lower(): one for key, one in known.items()} | known  # Keras writes some in lower case
        if name in known:
            return known[name]
        if name in REGISTERED:
            return REGISTERED[name]
        from difflib import get_close_matches

        close = get_close_matches(name, [key for key in known if not key.islower()], n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
    elif name in REGISTERED:
        return REGISTERED[name]
    where = f"vivace.{family}" if family else "vivace"
    raise ValueError(
        f"{where} has no class {name!r}{hint}; if it is yours, give it in custom_objects={{{name!r}: ...}}"
    )


def _family_of(identifier: Mapping[str, Any]) -> str | None:
    """The family that a dict's "module" names, in vivace's words or in Keras's."""
    module = str(identifier.get("module") or "")
    words = ".".join(part for part in module.split(".") if part not in ("keras", "src", "vivace"))
    if module and not words:  # Keras has its models in the package itself
        return "models"
    return next((family for family in FAMILIES if words == family or words.startswith(f"{family}.")), None)


def revived(value: Any) -> Any:
    """What `plain` made plain. Objects that say no module are left to the constructor they are an argument of."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(revived, value))
    if not isinstance(value, Mapping):
        return value
    name, config = value.get("class_name"), value.get("config", {})
    if "config" not in value or not isinstance(name, str):
        return {key: revived(one) for key, one in value.items()}
    if name == "__numpy__":
        return np.asarray(config["value"], config["dtype"])
    if name == "__tuple__":
        return tuple(map(revived, value.get("items", config)))
    if name == "DTypePolicy":
        return config["name"]
    if name == "function":
        return function_named(str(config))
    return deserialize(value) if name in known_objects() or _family_of(value) else dict(value)


def function_named(name: str) -> Any:
    """The custom object of that name, or the function of `vivace.ops` ("ops.square").

    Raises ValueError if there is none: functions are not read from files.
    """
    if name.startswith("ops."):
        ops = importlib.import_module(".ops", __package__)
        if name[4:] in ops.__all__:
            return getattr(ops, name[4:])
    if name not in known_objects():
        raise ValueError(f"the function {name!r} is not known; give it in custom_objects={{{name!r}: ...}}")
    return known_objects()[name]


def deserialize_in(
    family: str, config: Mapping[str, Any] | str, custom_objects: Mapping[str, Any] | None = None
) -> Any:
    """The object of a family that `serialize` described, or of that name.

    custom_objects: classes and functions of one's own.
    """
    with custom_object_scope(custom_objects):
        module = importlib.import_module(f".{family}", __package__)
        if isinstance(config, str) and hasattr(module, "get"):
            return module.get(config)
        return deserialize(config, family)  # type: ignore[arg-type]  # which says what it needs


def from_dict(family: str, base: type, identifier: Mapping[str, Any]) -> Any:
    """The object of a family that a dict describes; what a family's `get` does with a dict."""
    found = deserialize(identifier, family)
    if not isinstance(found, base) and not callable(found):
        raise TypeError(f"expected one of vivace.{family}, received {identifier!r}")
    return found


def to_data(value: Any, path: str) -> Any:
    """A configuration without functions: those that have a name by their name.

    Raises TypeError for what a file cannot hold, a Lambda's function above all, saying where it is (`path`).
    """
    if isinstance(value, Mapping):
        if value.get("class_name") == "Lambda":
            layer = value["config"].get("name")
            raise TypeError(
                f"{path}: the Lambda layer {layer!r} holds a Python function, which is never written to a file nor "
                "read from one; write a Layer with forward and backward, and give its class in custom_objects"
            )
        here = value.get("config", {}).get("name") if isinstance(value.get("config"), Mapping) else None
        return {key: to_data(one, f"{path}: {here}" if here else path) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_data(one, path) for one in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (FunctionType, type)) and value.__name__.isidentifier():
        ops = sys.modules.get(f"{__package__}.ops")
        ours = value is getattr(ops, value.__name__, None)
        return {"class_name": "function", "config": f"ops.{value.__name__}" if ours else value.__name__}
    raise TypeError(f"{path}: {value!r} is not plain data, so it cannot be written to a file")


@contextmanager
def custom_object_scope(custom_objects: Mapping[str, Any] | None) -> Iterator[None]:
    """Within a `with` block these names stand for these classes and functions wherever one is given by name.

    Args:
        custom_objects: classes (of layers, losses, ...) and functions by name.
    """
    token = CUSTOM.set({**CUSTOM.get(), **(custom_objects or {})})
    try:
        yield
    finally:
        CUSTOM.reset(token)


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable[[T], T]:
    """A decorator for a class or function of one's own: its name stands for it in configurations, and where names may.

    Args:
        package: as in Keras; names must be unique all the same, as files hold them without it.
        name: by default that of the class or function.
    """

    def register(thing: T) -> T:
        own = thing.__name__  # type: ignore[attr-defined]
        REGISTERED[own] = REGISTERED[name or own] = thing
        return thing

    return register


def get_custom_objects() -> dict[str, Any]:
    """What is registered, by name; what is put into this dict is registered too."""
    return REGISTERED


def deserialize_keras_object(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The object that `serialize_keras_object` described; its class is looked up where the dict's "module" says."""
    with custom_object_scope(custom_objects):
        return deserialize(config)
