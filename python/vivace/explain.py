"""Which kernel runs behind which layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._core import native
from .fusion import ConvPool
from .layers.conv import Conv1D, Conv2D
from .layers.core import Dense
from .layers.geometry import last_shape
from .layers.regularization import Penalized

_DIRECTIONS: tuple[native.Direction, ...] = ("forward", "input_gradient", "weight_gradient")
_FILES = {
    "pointwise": "gemm.cpp",
    "depthwise": "depthwise2d.cpp",
    "winograd": "winograd.cpp",
    "direct": "conv2d.cpp",
    "one_channel": "one_channel.cpp",
    "separate": "conv2d.cpp, pool2d.cpp",
    "structured": "conv2d_pool_gradient.cpp",
    "dense": "conv2d.cpp",
}


def explain_kernels(model: Any, batch_size: int = 32, print_fn: Callable[[str], Any] | None = None) -> None:
    """Print how the convolutions and dense layers of a model run, in each direction, and in which file of `cpp/src`.

    The choice depends on the shape alone, the batch among them. Layers that have a single way to run are not listed; of
    models inside the model, their layers are.

    Args:
        model: a built model.
        batch_size: samples in a batch, 32.
        print_fn: takes the text; `print`.

    Raises:
        ValueError: the model is not built.
    """
    model.check_built("explain_kernels")
    rows = [("Layer", *(direction.replace("_", " ") for direction in _DIRECTIONS))]
    for unit in model.running():
        unit = unit.layer if isinstance(unit, Penalized) else unit
        if isinstance(unit, ConvPool):
            op, *_ = unit.op((batch_size, *unit.conv.input_shape[1:]))  # type: ignore[index]
            methods = [native.conv2d_pool_method(op.conv, op.pool, direction) for direction in _DIRECTIONS]
            forward = "conv2d_pool.cpp" if methods[0] == "direct" else _FILES[methods[0]]
            files = [forward, *(_FILES[method] for method in methods[1:])]
            rows.append((f"{unit.conv.name} + {unit.pool.name}", *_cells(methods, files)))
        elif isinstance(unit, (Conv1D, Conv2D)):
            shape = unit.shape_for((batch_size, *last_shape(unit.channels_first, unit.input_shape)[1:]))  # type: ignore[arg-type]
            methods = [native.conv2d_method(shape, direction) for direction in _DIRECTIONS]
            rows.append((unit.name, *_cells(methods, [_FILES[method] for method in methods])))
        elif isinstance(unit, Dense):
            methods = ["single row" if batch_size == 1 else "product", "product", "product"]
            rows.append((unit.name, *_cells(methods, ["gemm.cpp"] * 3)))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    (print_fn or print)(
        "\n".join([*lines, "", f"batch {batch_size}, {native.isa}, {native.get_num_threads()} threads"])
    )


def _cells(methods: list[str], files: list[str]) -> list[str]:
    return [f"{method} ({file})" for method, file in zip(methods, files, strict=True)]
