"""Sequential: a model that is a chain of layers."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._config import deserialize, serialize
from .._naming import shown
from .._typing import Array, BatchShape
from ..fusion import fuse
from ..layers.base import Layer, building
from ..layers.core import Activated, Cast, Input, InputLayer
from ..layers.symbolic import SymbolicTensor, as_inputs
from ..parameters import Changes
from ..plan import Wiring
from ..step import Step
from ..training import Trainer
from .graph import made_dtype, wanted_dtype
from .model import Model, flattened


class Sequential(Model):
    """A chain of layers, each taking the output of the one before. Itself a layer, so chains nest.

    The model is built (its weights are created) as soon as the shape of a sample is known: from the first layer's
    `input_shape`, from an `Input`, from `build`, or from the first data.

    Args:
        layers: layers to add, in order.
        trainable: False freezes all of them.
        name: "sequential", "sequential_1", ... when omitted.
    """

    def __init__(
        self,
        layers: Iterable[Layer | SymbolicTensor] | None = None,
        trainable: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, trainable=trainable, **kwargs)
        if type(self) is Sequential:
            self._given = (), {}  # the layers tell, see get_config
        self._layers = []
        self._tensors: list[SymbolicTensor] = []  # the input, and what each layer makes
        self._fused: Wiring | None = None  # how the chain runs; made again when the chain or a layer changes
        for layer in layers or ():
            self.add(layer)

    # Making the chain

    def add(self, layer: Layer | SymbolicTensor) -> None:
        """Append a layer or, first, an `Input`. Raises ValueError for anything else, or if it does not fit."""
        if isinstance(layer, SymbolicTensor) and isinstance(layer.node.layer, InputLayer):
            layer = layer.node.layer
        if not isinstance(layer, Layer):
            raise ValueError(f"{self.name}.add: expected a layer, received {shown(layer)}")
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
        layer._chain = weakref.ref(self)
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
        del self._tensors[len(self.layers) + 1 :]
        self._flat = self._fused = None
        if self.built:
            self.output_shape = self.layers[-1].output_shape if self.layers else self.input_shape
        return layer

    # Configuration

    def get_config(self) -> dict[str, Any]:
        """The layers, behind an InputLayer where the input's shape is declared, in the form that Keras 3 has for it."""
        if type(self) is not Sequential:
            return super().get_config()
        entries = [serialize(layer) for layer in self.layers]
        if self.declared_input_shape is not None:
            source = InputLayer(self.declared_input_shape, dtype=self.input_dtype or self.dtype, name="input_layer")
            entries = [serialize(source), *entries]
        built = list(self.input_shape) if self.built and self.input_shape else None
        return {"name": self.name, "trainable": self.trainable, "layers": entries, "build_input_shape": built}

    @classmethod
    def _made_again(cls, config: Mapping[str, Any]) -> Any:
        if "layers" not in config:
            return super()._made_again(config)
        layers = [deserialize(entry) for entry in config["layers"]]  # each knows itself whether it trains
        model = cls(layers, config.get("trainable", True), config.get("name"))
        if config.get("build_input_shape") is not None and not model.built and model.layers:
            model.build(tuple(config["build_input_shape"]))
        return model

    # Building

    several_inputs = False

    def call_inputs(self, inputs: Any, *more: Any) -> Any:
        return as_inputs(inputs, more)

    def _prepare_x(self, what: str, x: Any) -> Any:
        return Trainer._prepare_x(self, what, x)

    def build_once(self, input_shape: Any) -> Any:
        return Layer.build_once(self, input_shape)

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
                with building(self):
                    shape = layer.build_once(shape)
                if isinstance(shape, list):
                    raise ValueError(f"{layer.name} has {len(shape)} outputs; the layers of a Sequential have one each")
            except ValueError as error:
                chain = [f"input {input_shape}", *(f"{done.name} {done.output_shape}" for done in self.layers[:i])]
                raise ValueError(f"{self.name}, layer {i}: {error}\n  shapes so far: {' -> '.join(chain)}") from None
        self.built = True
        self.input_shape, self.output_shape = input_shape, shape
        return shape

    # The chain as a graph, for models that share its layers

    def call_layers(self, what: str) -> list[SymbolicTensor]:
        """The symbolic input and what each layer makes of it, which is asked for its `inputs`, `outputs` or one of its
        layers' `output`: the layers are called then, not before.
        """
        if not self.built or self.input_shape is None:
            raise AttributeError(f"{self.name}.{what}: the shape of the input is not known yet; add an Input first")
        if not self._tensors:
            dtype = self.input_dtype or self.dtype
            self._tensors.append(Input(self.input_shape[1:], dtype=dtype, name=f"{self.name}_input"))
        for layer in self.layers[len(self._tensors) - 1 :]:
            self._tensors.append(layer(self._tensors[-1]))
        return self._tensors

    @property
    def inputs(self) -> list[SymbolicTensor]:
        """The symbolic input, in a list: `Model(chain.inputs, chain.layers[-2].output)` ends before the last layer."""
        return self.call_layers("inputs")[:1]

    @property
    def outputs(self) -> list[SymbolicTensor]:
        """The symbolic output, in a list."""
        return self.call_layers("outputs")[-1:]

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_tensors": []}

    # The pair

    def connections(self) -> list[tuple[Layer, Layer]]:
        return list(itertools.pairwise(self.layers))

    def running(self) -> list[Any]:
        """What runs, in order: layers, and what neighbouring layers were fused to."""
        return flattened(self._units)

    @property
    def _wiring(self) -> Wiring:
        wiring = self._fused
        if wiring is None or not wiring.holds():
            changes, units = Changes.layers, fuse(_with_casts(self.layers, self.input_dtype))
            count = len(units)
            wiring = self._fused = Wiring(units, range(count), range(1, count + 1), (0,), (count,), count + 1, changes)
        return wiring

    @property
    def _units(self) -> Any:
        return self._wiring.units

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        tape = []
        for unit in self._units:
            x, saved = unit.forward(x, step)
            tape.append(saved)
        return x, tape

    def _inferred(self, x: Array) -> Array:
        y: Array = self._planned(self._wiring, x)
        return y

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return self._backward(self._units, dy, saved, step, input_gradient)

    def _backward(self, units: Any, dy: Array | None, tape: Any, step: Step, input_gradient: bool) -> Array | None:
        for i in range(len(units) - 1, -1, -1):
            if dy is None:  # what prepares data has no gradient
                return None
            dx = units[i].backward(dy, tape[i], step, i > 0 or input_gradient)
            step.give_up(dy, dx)
            dy = dx
        return dy

    @property
    def final_activation(self) -> str | None:  # type: ignore[override]
        units = self._units
        last = units[-1] if units else None
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
        return self._backward(first, dx, saved, step, input_gradient)

    @property
    def output_names(self) -> list[str]:  # type: ignore[override]
        return [self.layers[-1].name] if self.layers else []

    def dtype_made(self, i: int = 0) -> str | None:
        makers = [layer for layer in self.layers if not layer.passes_on]
        return makers[-1].dtype_made(i) if makers else None


def _with_casts(layers: Sequence[Layer], kind: Any) -> list[Layer]:
    """The layers, with a Cast between those of which one makes integers and the next one computes with numbers."""
    chain: list[Layer] = []
    for layer in layers:
        wanted = wanted_dtype(layer, kind)
        if wanted is not None:
            chain.append(Cast(wanted, dtype=layer.dtype))
        chain.append(layer)
        kind = kind if layer.passes_on else made_dtype(layer)
    return chain
