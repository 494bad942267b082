"""Sequential: a model that is a chain of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ._naming import snake_case
from ._typing import Array, BatchShape
from .fusion import Unit, fuse
from .layers.base import Layer
from .layers.core import Activated, InputLayer
from .parameters import Parameter
from .step import Step
from .training import Trainer


class Sequential(Trainer):
    """A chain of layers, each taking the output of the one before. Itself a layer, so chains nest.

    The model is built (its weights are created) as soon as the shape of a sample is known: from the first layer's
    `input_shape`, from an `Input`, from `build`, or from the first data.

    Args:
        layers: layers to add, in order.
        name: "sequential", "sequential_1", ... when omitted.
    """

    def __init__(self, layers: Iterable[Layer] | None = None, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.layers: list[Layer] = []
        self._fused: list[Unit] | None = None  # how the chain runs; made again when the chain changes
        for layer in layers or ():
            self.add(layer)

    # Making the chain

    def add(self, layer: Layer) -> None:
        """Append a layer. Raises TypeError for anything else, ValueError if it does not fit the chain."""
        if not isinstance(layer, Layer):
            raise TypeError(f"{self.name}.add: expected a layer, received {layer!r}")
        if any(layer is other for other in self.layers):
            raise ValueError(f"{self.name}.add: {layer.name} is in the model already")
        if not self.layers and self.declared_input_shape is None:
            self.declared_input_shape = layer.declared_input_shape
            self.dtype = layer.dtype
        if not self.layers:
            self.input_dtype = layer.input_dtype
        if isinstance(layer, InputLayer):
            if self.layers:
                raise ValueError(f"{self.name}.add: an Input must come first, not after {len(self.layers)} layers")
            return
        if any(layer.name == other.name for other in self.layers):
            raise ValueError(f"{self.name}.add: the model has a layer named {layer.name!r} already; names must differ")
        if layer.dtype != self.dtype:
            raise ValueError(
                f"{self.name}.add: {layer.name} has dtype {layer.dtype}, the model {self.dtype}; give all one dtype"
            )
        self.layers.append(layer)
        self._flat = self._fused = None
        if self.declared_input_shape is not None:
            try:
                self._build_chain((None, *self.declared_input_shape))
            except ValueError:
                self.layers.pop()
                raise

    def pop(self) -> Layer:
        """Remove and return the last layer. Raises ValueError if there is none."""
        if not self.layers:
            raise ValueError(f"{self.name}.pop: the model has no layers")
        layer = self.layers.pop()
        self._flat = self._fused = None
        if self.built:
            self.output_shape = self.layers[-1].output_shape if self.layers else self.input_shape
        return layer

    def build(self, input_shape: BatchShape) -> None:
        """Create the weights for inputs of this shape (with the batch axis first, None for its size)."""
        self._build_chain((None, *input_shape[1:]))

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        return self._build_chain((None, *input_shape[1:]))

    def _build_chain(self, input_shape: BatchShape) -> BatchShape:
        if not self.layers:
            raise ValueError(f"{self.name}: the model has no layers; add some first")
        shape: Any = input_shape
        for i, layer in enumerate(self.layers):
            try:
                shape = layer.build_once(shape)
                if isinstance(shape, list):
                    raise ValueError(f"{layer.name} has {len(shape)} outputs; the layers of a Sequential have one each")
            except ValueError as error:
                chain = [f"input {input_shape}", *(f"{done.name} {done.output_shape}" for done in self.layers[:i])]
                raise ValueError(f"{self.name}, layer {i}: {error}\n  shapes so far: {' -> '.join(chain)}") from None
        self.built = True
        self.input_shape, self.output_shape = input_shape, shape
        return shape

    # The pair

    @property
    def _units(self) -> list[Unit]:
        units = self._fused
        if units is None:
            units = self._fused = fuse(self.layers)
        return units

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        tape = []
        for unit in self._units:
            x, saved = unit.forward(x, step)
            tape.append(saved)
        return x, tape

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return self._backward(dy, saved, step, input_gradient, len(self._units))

    def _backward(self, dy: Array | None, tape: Any, step: Step, input_gradient: bool, count: int) -> Array | None:
        units = self._units
        for i in range(count - 1, -1, -1):
            assert dy is not None
            dy = units[i].backward(dy, tape[i], step, i > 0 or input_gradient)
        return dy

    @property
    def final_activation(self) -> str | None:  # type: ignore[override]
        last = self._units[-1] if self.layers else None
        return last.activation if isinstance(last, Activated) else None

    def forward_linear(self, x: Array, step: Step) -> tuple[Array, Any]:
        *first, last = self._units
        assert isinstance(last, Activated)
        tape = []
        for unit in first:
            x, saved = unit.forward(x, step)
            tape.append(saved)
        x, saved = last.forward_linear(x, step)
        tape.append(saved)
        return x, tape

    def backward_linear(self, dz: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        *first, last = self._units
        assert isinstance(last, Activated)
        dx = last.backward_linear(dz, saved[-1], step, bool(first) or input_gradient)
        return self._backward(dx, saved, step, input_gradient, len(first))

    # Weights

    def sublayers(self) -> dict[str, Layer]:
        return {f"{i}_{snake_case(type(layer).__name__)}": layer for i, layer in enumerate(self.layers)}

    @property
    def weights(self) -> list[Parameter]:
        return [p for layer in self.layers for p in layer.weights]

    @property
    def trainable_weights(self) -> list[Parameter]:
        return [p for layer in self.layers for p in layer.trainable_weights] if self.trainable else []

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
        from .saving.weights import save_weights

        self.check_built("save_weights")
        save_weights(self, filepath)

    def load_weights(self, filepath: str | Path) -> None:
        """Read weights written by `save_weights`. Nothing changes unless every name and shape fits."""
        from .saving.weights import load_weights

        self.check_built("load_weights")
        load_weights(self, filepath)

    def flops(self) -> int:
        return sum(layer.flops() for layer in self.layers)

    def summary(self, print_fn: Callable[[str], Any] | None = None) -> None:
        """Print the layers with their output shapes, numbers of weights and MFLOP per sample."""
        self.check_built("summary")
        rows = [("Layer (type)", "Output shape", "Weights", "MFLOP")]
        for layer in self.layers:
            flops = f"{layer.flops() / 1e6:,.2f}" if layer.flops() else ""
            name = f"{layer.name} ({type(layer).__name__})"
            rows.append((name, str(layer.output_shape), f"{layer.count_params():,}", flops))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]

        def line(row: tuple[str, str, str, str]) -> str:
            left = (cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True))
            right = (cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True))
            return "  ".join((*left, *right)).rstrip()

        total, trainable = self.count_params(), sum(p.size for p in self.trainable_weights)
        size = sum(p.value.nbytes for p in self.weights) / 2**20
        rule = "-" * (sum(widths) + 6)
        text = [f'Model "{self.name}"', rule, line(rows[0]), rule, *map(line, rows[1:]), rule]
        text.append(f"Weights: {total:,} ({size:.2f} MiB), trainable: {trainable:,}, frozen: {total - trainable:,}")
        text.append(f"Forward pass: {self.flops() / 1e6:,.2f} MFLOP per sample")
        (print_fn or print)("\n".join(text))
