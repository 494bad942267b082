"""Functional: a model that is a graph of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import data
from .._naming import snake_case
from .._typing import Array, BatchShape
from ..layers.base import Layer
from ..layers.core import InputLayer
from ..layers.symbolic import Node, SymbolicTensor
from ..step import Step
from .graph import Graph, Plan
from .model import Model


class Functional(Model):
    """All layers between some inputs and outputs. Itself a layer, so models nest; a layer called twice is shared.

        x = Input((28, 28, 1))
        model = Model(x, Dense(10, "softmax")(Flatten()(x)))

    Arrays of several inputs or outputs are handed over as a list in their order, or as a dict by name: that of the
    Input, or of the layer that makes the output.

    Args:
        inputs: a symbolic tensor, or a list or dict of several; any tensor of a graph will do.
        outputs: the same.
        name: "functional", "functional_1", ... when omitted.

    Raises:
        ValueError: the outputs depend on another input; two layers have one name; dtypes differ.
    """

    several_inputs = True

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.inputs, self.outputs = _tensors(self.name, "inputs", inputs), _tensors(self.name, "outputs", outputs)
        self._graph = Graph(self.name, self.inputs, self.outputs)
        self.layers = self._graph.layers
        self.input_names = _different([tensor.name for tensor in self.inputs])
        self.output_names = _different([tensor.name for tensor in self.outputs])
        self._check_layers()
        self.input_shape = _one_or_list([tensor.shape for tensor in self.inputs])
        self.output_shape = _one_or_list([tensor.shape for tensor in self.outputs])
        self._input_dtypes = [self._dtype_of(slot, t) for slot, t in zip(self._graph.inputs, self.inputs, strict=True)]
        self.input_dtype = self._input_dtypes[0] if len(self.inputs) == 1 else None
        self.built = True

    def _check_layers(self) -> None:
        names = [layer.name for layer in self.layers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{self.name}: two layers are named {name!r}; names must differ")
        inner = [layer for layer in self.layers if not isinstance(layer, InputLayer)]
        self.dtype = (inner or self.layers)[0].dtype
        for layer in inner:
            if layer.dtype != self.dtype:
                raise ValueError(
                    f"{self.name}: {layer.name} has dtype {layer.dtype}, {inner[0].name} has {self.dtype}; give all one"
                )

    def _dtype_of(self, slot: int, tensor: SymbolicTensor) -> str | None:
        """What the layers that take an input want it to be: integers, or (None) the model's dtype."""
        for call in self._graph.calls:
            if slot in call.sources:
                wanted: str | None = call.unit.input_dtype
                if isinstance(call.unit, Functional):
                    wanted = call.unit._input_dtypes[call.sources.index(slot)]
                return wanted
        return tensor.node.layer.input_dtype if isinstance(tensor.node.layer, InputLayer) else None

    def compute_output_shape(self, input_shape: Any) -> Any:
        graph = self._graph
        given = input_shape if isinstance(input_shape, list) else [input_shape]
        if len(given) != len(self.inputs):
            raise ValueError(f"{self.name} takes {len(self.inputs)} inputs {self.input_names}, received {len(given)}")
        shapes: list[BatchShape] = [()] * len(graph.shapes)
        for slot, shape, tensor in zip(graph.inputs, given, self.inputs, strict=True):
            expected = tensor.shape[1:]
            if len(shape) != len(tensor.shape) or any(
                None not in (a, b) and a != b for a, b in zip(shape[1:], expected, strict=True)
            ):
                raise ValueError(
                    f"{self.name}: input {tensor.name!r} has shape {tensor.shape}, received {tuple(shape)}"
                )
            shapes[slot] = tuple(shape)
        for call in graph.calls:
            sources = [shapes[slot] for slot in call.sources]
            result: Any = call.unit.compute_output_shape(sources if call.several else sources[0])
            for slot, shape in zip(call.targets, result if isinstance(result, list) else [result], strict=True):
                shapes[slot] = tuple(shape)
        return _one_or_list([shapes[slot] for slot in graph.outputs])

    def build_once(self, input_shape: Any) -> Any:
        return self.compute_output_shape(input_shape)  # built from the start, for the shapes of its inputs

    # The pair

    @property
    def plan(self) -> Plan:
        plan: Plan | None = self._plan
        if plan is None:
            plan = self._plan = Plan(self._graph)
        return plan

    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        plan = self.plan
        return plan.forward(x, step, plan.forwards)

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        plan = self.plan
        return plan.backward(dy, saved, step, input_gradient, plan.backwards)

    @property
    def final_activation(self) -> str | None:  # type: ignore[override]
        last = self.plan.last
        return last.activation if last is not None else None

    def forward_linear(self, x: Any, step: Step) -> tuple[Any, Any]:
        plan = self.plan
        return plan.forward(x, step, plan.linear_forwards)

    def backward_linear(self, dz: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        plan = self.plan
        return plan.backward(dz, saved, step, input_gradient, plan.linear_backwards)

    def sublayers(self) -> dict[str, Layer]:
        inner = [layer for layer in self.layers if not isinstance(layer, InputLayer)]
        return {f"{i}_{snake_case(type(layer).__name__)}": layer for i, layer in enumerate(inner)}

    def sources_of(self, layer: Layer) -> str | None:
        makers = {slot: call.unit.name for call in self._graph.calls for slot in call.targets}
        makers |= dict(zip(self._graph.inputs, self.input_names, strict=True))
        calls = [", ".join(makers[slot] for slot in call.sources) for call in self._graph.calls if call.unit is layer]
        return "; ".join(calls) or "-"

    # Data

    def _prepare_x(self, what: str, x: Any) -> Any:
        owner = f"{self.name}.{what}"
        arrays = []
        given = data.in_order(owner, "input", x, self.input_names)
        for name, array, tensor, dtype in zip(self.input_names, given, self.inputs, self._input_dtypes, strict=True):
            arrays.append(data.as_input(f"{owner}: {name}", array, dtype or self.dtype))
            data.check_sample_shape(f"{owner}: {name}", arrays[-1], tensor.shape)
        if len({len(array) for array in arrays}) > 1:
            sizes = dict(zip(self.input_names, map(len, arrays), strict=True))
            raise ValueError(f"{owner}: all inputs must have the same number of samples, received {sizes}")
        return arrays if len(arrays) > 1 else arrays[0]

    # Copies: tensors and nodes are recorded anew, since what is behind them nests as deep as the graph

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_plan": None, "inputs": None, "outputs": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        graph = self._graph
        tensors: dict[int, SymbolicTensor] = {}
        layers = {layer.name: layer for layer in self.layers}
        for slot, name in zip(graph.inputs, self.input_names, strict=True):
            source = layers.get(name)
            if not isinstance(source, InputLayer):
                source = InputLayer(graph.shapes[slot][1:], name=name)
            elif not source._nodes:
                source._nodes.append(Node(source, [], False, None, source.output_shape))
            tensors[slot] = source.output
        for call in graph.calls:
            shape = _one_or_list([graph.shapes[slot] for slot in call.targets])
            node = Node(call.unit, [tensors[slot] for slot in call.sources], call.several, call.training, shape)
            call.unit._nodes.append(node)
            tensors |= dict(zip(call.targets, node.outputs, strict=True))
        self.inputs = [tensors[slot] for slot in graph.inputs]
        self.outputs = [tensors[slot] for slot in graph.outputs]


def _tensors(owner: str, what: str, given: Any) -> list[SymbolicTensor]:
    tensors: Sequence[Any] = [given]
    if isinstance(given, Mapping):
        tensors = list(given.values())
    elif isinstance(given, (list, tuple)):
        tensors = list(given)
    for tensor in tensors:
        if not isinstance(tensor, SymbolicTensor):
            raise TypeError(
                f"{owner}: {what} must be symbolic tensors, as Input and layers return; received {tensor!r}"
            )
    if not tensors:
        raise ValueError(f"{owner}: a model needs at least one of its {what}")
    if what == "inputs" and len(set(map(id, tensors))) != len(tensors):
        raise ValueError(f"{owner}: the inputs must differ, received {[tensor.name for tensor in tensors]}")
    return list(tensors)


def _different(names: list[str]) -> list[str]:
    """The names, with a number where one comes again."""
    return [f"{name}_{names[:i].count(name)}" if name in names[:i] else name for i, name in enumerate(names)]


def _one_or_list(x: list[Any]) -> Any:
    return x[0] if len(x) == 1 else x
