"""Saving and loading."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._config import (
    custom_object_scope,
    deserialize_keras_object,
    get_custom_objects,
    register_keras_serializable,
    serialize,
)
from .models import load_model, save_model

if TYPE_CHECKING:
    from pathlib import Path

    from ..models import Model


def save_weights(model: Model, filepath: str | Path, overwrite: bool = True) -> None:
    """As `model.save_weights`."""
    model.save_weights(filepath, overwrite)


def load_weights(model: Model, filepath: str | Path, skip_mismatch: bool = False) -> None:
    """As `model.load_weights`."""
    model.load_weights(filepath, skip_mismatch)


CustomObjectScope = custom_object_scope
serialize_keras_object = serialize

__all__ = [
    "CustomObjectScope",
    "custom_object_scope",
    "deserialize_keras_object",
    "get_custom_objects",
    "load_model",
    "load_weights",
    "register_keras_serializable",
    "save_model",
    "save_weights",
    "serialize_keras_object",
]
