"""vivace: fast, friendly neural networks for the CPU you already have.

    from vivace.models import Sequential
    from vivace.layers import Conv2D, MaxPooling2D, Flatten, Dense

See https://keras.io for what the names mean: layers, losses, metrics, optimizers and models follow Keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        activations,
        callbacks,
        config,
        constraints,
        datasets,
        initializers,
        layers,
        losses,
        metrics,
        models,
        optimizers,
        plotting,
        regularizers,
        testing,
        utils,
    )
    from . import (
        wrappers as wrappers,
    )
    from .config import get_num_threads, set_num_threads, show_config, threads
    from .explain import explain_kernels
    from .layers import Input
    from .models import Model, Sequential

_NAMES = {
    "Model": "models",
    "Sequential": "models",
    "Input": "layers",
    "explain_kernels": "explain",
    "show_config": "config",
    "get_num_threads": "config",
    "set_num_threads": "config",
    "threads": "config",
}
_MODULES = (
    "activations",
    "callbacks",
    "config",
    "constraints",
    "datasets",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "plotting",
    "regularizers",
    "testing",
    "utils",
    "wrappers",
)

__all__ = [
    "Input",
    "Model",
    "Sequential",
    "activations",
    "callbacks",
    "config",
    "constraints",
    "datasets",
    "explain_kernels",
    "get_num_threads",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "plotting",
    "regularizers",
    "set_num_threads",
    "show_config",
    "testing",
    "threads",
    "utils",
]  # not wrappers, which need scikit-learn


def __getattr__(name: str) -> Any:
    # Modules are imported when first used, so that `import vivace` itself stays quick.
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _NAMES:
        return getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("vivace")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "wrappers", "__version__"]
