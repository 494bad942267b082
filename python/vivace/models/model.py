"""Model: what a chain and a graph of layers have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..layers.base import Layer
from ..parameters import Parameter
from ..training import Trainer


class Model(Trainer):
    """A model of a graph of layers: `Model(inputs, outputs, name=None)` makes a `Functional`, which says more."""

    layers: list[Layer]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        from .functional import Functional

        return object.__new__(Functional if cls is Model else cls)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layers = []

    # Weights

    @property
    def weights(self) -> list[Parameter]:
        return _once(p for layer in self.layers for p in layer.weights)

    @property
    def trainable_weights(self) -> list[Parameter]:
        return _once(p for layer in self.layers for p in layer.trainable_weights) if self.trainable else []

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of that name, or at that position."""
        if (name is None) == (index is None):
            raise ValueError(f"{self.name}.get_layer: give either a name or an index")
        if index is not None:
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(f"{self.name}.get_layer: no layer {name!r}; there are {[la.name for la in self.layers]}")

    def save_weights(self, filepath: str | Path) -> None:
        """Write all weights to a `.safetensors` file, named `<position>_<layer class>/<weight>`."""
        from ..saving.weights import save_weights

        self.check_built("save_weights")
        save_weights(self, filepath)

    def load_weights(self, filepath: str | Path) -> None:
        """Read weights written by `save_weights`. Nothing changes unless every name and shape fits."""
        from ..saving.weights import load_weights

        self.check_built("load_weights")
        load_weights(self, filepath)

    def flops(self) -> int:
        return sum(layer.flops() for layer in self.layers)

    def sources_of(self, layer: Layer) -> str | None:
        """Where the layer's inputs come from; None in a chain, where it is plain."""
        return None

    def summary(self, print_fn: Callable[[str], Any] | None = None) -> None:
        """Print the layers with their output shapes, numbers of weights and MFLOP per sample."""
        self.check_built("summary")
        rows = [("Layer (type)", "Output shape", "Weights", "MFLOP", "Connected to")]
        for layer in self.layers:
            flops = f"{layer.flops() / 1e6:,.2f}" if layer.flops() else ""
            name = f"{layer.name} ({type(layer).__name__})"
            weights = f"{layer.count_params():,}"
            rows.append((name, str(layer.output_shape), weights, flops, self.sources_of(layer) or ""))
        if not any(row[4] for row in rows[1:]):
            rows[0] = (*rows[0][:4], "")
        widths = [max(len(row[i]) for row in rows) for i in range(5)]

        def line(row: tuple[str, ...]) -> str:
            left = (cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True))
            right = (cell.rjust(width) for cell, width in zip(row[2:4], widths[2:4], strict=True))
            return "  ".join((*left, *right, row[4])).rstrip()

        total, trainable = self.count_params(), sum(p.size for p in self.trainable_weights)
        size = sum(p.value.nbytes for p in self.weights) / 2**20
        rule = "-" * (sum(widths) + 6 + 2 * bool(widths[4]))
        text = [f'Model "{self.name}"', rule, line(rows[0]), rule, *map(line, rows[1:]), rule]
        text.append(f"Weights: {total:,} ({size:.2f} MiB), trainable: {trainable:,}, frozen: {total - trainable:,}")
        text.append(f"Forward pass: {self.flops() / 1e6:,.2f} MFLOP per sample")
        (print_fn or print)("\n".join(text))


def _once(parameters: Any) -> list[Parameter]:
    """Each parameter once, though layers may share it."""
    return list({id(p): p for p in parameters}.values())
