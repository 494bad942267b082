"""The table that `Model.summary` prints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._typing import BatchShape
from ..fusion import ConvPool, Normalized
from ..layers.base import Layer
from ..layers.core import InputLayer

if TYPE_CHECKING:
    from .model import Model


class Row(NamedTuple):
    layer: str
    shape: str
    parameters: str
    mflop: str
    memory: str
    trainable: str
    sources: str


_HEADS = Row("Layer (type)", "Output shape", "Params", "MFLOP", "Activations", "Trains", "Connected to")
_RIGHT = ("parameters", "mflop", "memory")


def summary_text(
    model: Model, line_length: int, expand_nested: bool, show_trainable: bool, layer_range: tuple[str, str] | None
) -> str:
    frozen = _trains(model) != "yes"
    rows = list(_rows(model, expand_nested, layer_range))
    columns = [
        name
        for name in Row._fields
        if (name != "trainable" or show_trainable or frozen) and (name != "sources" or any(row.sources for row in rows))
    ]
    widths = {name: max(len(getattr(row, name)) for row in (_HEADS, *rows)) for name in columns}
    spare = line_length - sum(widths.values()) - 2 * (len(columns) - 1)
    widths["layer"] += max(0, spare)

    def line(row: Row) -> str:
        cells = (
            getattr(row, name).rjust(widths[name]) if name in _RIGHT else getattr(row, name).ljust(widths[name])
            for name in columns
        )
        return "  ".join(cells).rstrip()

    rule = "-" * (sum(widths.values()) + 2 * (len(columns) - 1))
    kept = kept_bytes(model)
    groups = {
        "Total": model.weights,
        "Trainable": model.trainable_weights,
        "Non-trainable": model.non_trainable_weights,
    }
    return "\n".join(
        [
            f'Model "{model.name}"',
            rule,
            line(_HEADS),
            rule,
            *map(line, rows),
            rule,
            *(
                f"{what} params: {sum(p.size for p in some):,} ({_size(sum(p.array.nbytes for p in some)) or '0 B'})"
                for what, some in groups.items()
            ),
            "Not built yet: the shape of the input is not known."
            if not model.built
            else f"Per sample: {model.flops() / 1e6:,.2f} MFLOP forward; {_size(kept)} of activations kept in training",
        ]
    )


def _rows(model: Model, expand_nested: bool, layer_range: tuple[str, str] | None, depth: int = 0) -> Iterator[Row]:
    """A row for each layer."""
    from .model import Model

    layers = model.layers
    if layer_range is not None:
        names = [layer.name for layer in layers]
        if len(layer_range) != 2 or not set(layer_range) <= set(names):
            raise ValueError(
                f"{model.name}.summary: layer_range must name two of the layers {names}, got {layer_range}"
            )
        first, last = sorted(map(names.index, layer_range))
        layers = layers[first : last + 1]
    hidden = unstored(model)
    for layer in layers:
        nested = layer if isinstance(layer, Model) else None
        size = sum(p.size for p in layer.weights)
        yield Row(
            "  " * depth + f"{layer.name} ({type(layer).__name__})",
            _shapes(layer.output_shape),
            f"{size:,}",
            _mflop(layer.flops() / 1e6) if layer.built else "",
            "" if id(layer) in hidden else _size(kept_bytes(layer)),
            _trains(layer) if size else "",
            model.sources_of(layer) or "",
        )
        if nested is not None and expand_nested:
            yield from _rows(nested, True, None, depth + 1)


def _trains(layer: Layer) -> str:
    """Whether what can be trained is trained."""
    able, trained = sum(p.size for p in layer.weights if p.trainable), sum(p.size for p in layer.learned_weights())
    return "yes" if trained == able else "partly" if trained else "no"


def kept_bytes(layer: Layer) -> int:
    """Bytes of outputs that training keeps for one sample: those of the layers, but for inputs and views of inputs."""
    from .model import Model

    if not layer.built:
        return 0
    if isinstance(layer, Model):
        hidden = unstored(layer)
        return sum(kept_bytes(inner) for inner in layer.layers if id(inner) not in hidden)
    if isinstance(layer, InputLayer) or type(layer).__name__ in ("Flatten", "Reshape", "Identity"):
        return 0
    shapes = layer.output_shape if isinstance(layer.output_shape, list) else [layer.output_shape or ()]
    elements = sum(math.prod(size or 1 for size in shape[1:]) for shape in shapes)
    return elements * np.dtype(layer.dtype).itemsize


def unstored(model: Model) -> set[int]:
    """Layers that run as one with what stands behind them: their outputs are never stored."""
    fused = (unit for unit in (model.running() if model.built else ()) if isinstance(unit, (ConvPool, Normalized)))
    return {id(layer) for unit in fused for layer in unit.layers[:-1]}


def _shapes(shape: BatchShape | list[BatchShape] | None) -> str:
    return ", ".join(map(str, shape)) if isinstance(shape, list) else "?" if shape is None else str(shape)


def _mflop(count: float) -> str:
    return "" if not count else "< 0.01" if count < 0.005 else f"{count:,.2f}"


def _size(count: float) -> str:
    if not count:
        return ""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "B" or count >= 100 else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"


__all__: list[Any] = ["kept_bytes", "summary_text"]
