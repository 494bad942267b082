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
        backend,
        callbacks,
        config,
        constraints,
        datasets,
        initializers,
        layers,
        losses,
        metrics,
        models,
        ops,
        optimizers,
        plotting,
        random,
        regularizers,
        saving,
        testing,
        utils,
    )
    from . import (
        wrappers as wrappers,
    )
    from .config import get_num_threads, set_num_threads, show_config, threads, version
    from .explain import explain_kernels
    from .initializers import Initializer
    from .layers import Input, Layer
    from .losses import Loss
    from .metrics import Metric
    from .models import Model, Sequential
    from .optimizers import Optimizer
    from .regularizers import Regularizer

_NAMES = {
    "Model": "models",
    "Sequential": "models",
    "Input": "layers",
    "Layer": "layers",
    "Loss": "losses",
    "Metric": "metrics",
    "Optimizer": "optimizers",
    "Initializer": "initializers",
    "Regularizer": "regularizers",
    "version": "config",
    "explain_kernels": "explain",
    "show_config": "config",
    "get_num_threads": "config",
    "set_num_threads": "config",
    "threads": "config",
}
_MODULES = (
    "activations",
    "backend",
    "callbacks",
    "config",
    "constraints",
    "datasets",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "plotting",
    "random",
    "regularizers",
    "saving",
    "testing",
    "utils",
    "wrappers",
)

__all__ = [
    "Initializer",
    "Input",
    "Layer",
    "Loss",
    "Metric",
    "Model",
    "Optimizer",
    "Regularizer",
    "Sequential",
    "activations",
    "backend",
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
    "ops",
    "optimizers",
    "plotting",
    "random",
    "regularizers",
    "saving",
    "set_num_threads",
    "show_config",
    "testing",
    "threads",
    "utils",
    "version",
]  # not wrappers, which need scikit-learn


def __getattr__(name: str) -> Any:
    # Modules are imported when first used, so that `import vivace` itself stays quick.
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _NAMES:
        return getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
    if name == "__version__":
        from importlib.metadata import version as installed

        return installed("vivace")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "wrappers", "__version__"]
