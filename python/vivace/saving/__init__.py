"""Saving and loading."""

from .._config import register_keras_serializable
from .models import load_model, save_model

__all__ = ["load_model", "register_keras_serializable", "save_model"]
