"""Optimizers, with Keras's names, defaults and formulas: a few passes over the model's flat parameter block."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from .._config import deserialize_in, from_dict, serialize
from .._naming import lookup, shown
from . import schedules
from .adam import Adam, Adamax, AdamW, Nadam
from .adaptive import Adadelta, Adagrad, Ftrl, RMSprop
from .base import Optimizer
from .by_weight import Adafactor, Lamb, Muon
from .sgd import SGD, Lion

deserialize = partial(deserialize_in, "optimizers")
_BY_NAME: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
    "adagrad": Adagrad,
    "adadelta": Adadelta,
    "adamax": Adamax,
    "nadam": Nadam,
    "lion": Lion,
    "ftrl": Ftrl,
    "adafactor": Adafactor,
    "lamb": Lamb,
    "muon": Muon,
}


def get(identifier: str | Mapping[str, Any] | Optimizer) -> Optimizer:
    """The optimizer of that name with its defaults, the one that a dict describes, or the optimizer itself.

    The dict has "class_name" and "config", as `serialize` returns it.
    """
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, Mapping) and "class_name" in identifier:
        return from_dict("optimizers", Optimizer, identifier)
    if not isinstance(identifier, str):
        raise TypeError(
            "optimizer must be a name, a vivace.optimizers.Optimizer, or a dict with class_name and config; "
            f"received {shown(identifier)}"
        )
    return lookup("optimizer", identifier, _BY_NAME)()


__all__ = [
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lamb",
    "Lion",
    "Muon",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "deserialize",
    "get",
    "schedules",
    "serialize",
]
