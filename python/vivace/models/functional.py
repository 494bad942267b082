"""Functional: a model that is a graph of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import data
from .._config import deserialize, serialize
from .._naming import shown
from .._typing import Array, BatchShape
from ..layers.base import Layer
from ..layers.core import InputLayer
from ..layers.symbolic import Node, SymbolicTensor, as_inputs
from ..step import Step
from .graph import Graph, Schedule, fuse_calls, taken_dtype
from .model import Model, flattened


class Functional(Model):
    """All layers between some inputs and outputs. Itself a layer, so models nest; a layer called twice is shared.

        x = Input((28, 28, 1))
        model = Model(x, Dense(10, "softmax")(Flatten()(x)))

    Arrays of several inputs or outputs are handed over as a list in their order, or as a dict by name: that of the
    Input, or of the layer that makes the output (or, where they were given as a dict, its keys). The model returns
    its outputs in the structure that they were given in: a tensor, a list, a tuple or a dict.

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
        self._given = (), {}  # the graph tells, see get_config
        # Sorted by name, as Keras does: it is the order of the weights.
        inputs, outputs = (dict(sorted(g.items())) if isinstance(g, Mapping) else g for g in (inputs, outputs))
        self.inputs, self.outputs = _tensors(self.name, "inputs", inputs), _tensors(self.name, "outputs", outputs)
        self._schedule: Schedule | None = None
        self._graph = Graph(self.name, self.inputs, self.outputs)
        self._layers = self._graph.layers
        self._source_names = _different([tensor.name for tensor in self.inputs])
        self.input_names = list(inputs) if isinstance(inputs, Mapping) else self._source_names
        self._structures = {"inputs": _structure_of(inputs), "outputs": _structure_of(outputs)}
        self._output_names = (
            list(outputs) if isinstance(outputs, Mapping) else _different([tensor.name for tensor in self.outputs])
        )
        self._check_layers()
        self.input_shape = _one_or_list([tensor.shape for tensor in self.inputs])
        self.output_shape = _one_or_list([tensor.shape for tensor in self.outputs])
        self._input_dtypes = [self._dtype_of(slot, t) for slot, t in zip(self._graph.inputs, self.inputs, strict=True)]
        self.input_dtype = self._input_dtypes[0] if len(self.inputs) == 1 else None
        self.output_dtypes = [None if t.dtype == t.dtype_of_layers else t.dtype for t in self.outputs]
        self.built = True

    @property
    def output_names(self) -> list[str]:  # type: ignore[override]
        """What outputs are called in dicts of targets, losses and logs."""
        return self._output_names

    def as_given(self, outputs: Any) -> Any:
        return structured(outputs, self._structures["outputs"])

    def _ends(self, which: str) -> Any:
        return structured(list(getattr(self, which)), self._structures[which])

    def _record(self, inputs: Any, training: bool | None) -> Any:
        return self.as_given(super()._record(inputs, training))

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
        found: list[str | None] = []
        for call in self._graph.calls:
            if slot in call.sources and not call.unit.takes_any:
                if call.unit.passes_on:
                    found.append(self._dtype_of(call.targets[0], tensor))
                else:
                    found.append(taken_dtype(call.unit, call.sources.index(slot)))
        if not found:
            return tensor.node.layer.input_dtype if isinstance(tensor.node.layer, InputLayer) else None
        return next((one for one in found if one is not None), None)  # those who take numbers get a Cast

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

    def call_inputs(self, inputs: Any, *more: Any) -> Any:
        named = data.by_name(inputs)
        return data.in_order(self.name, "input", inputs, self.input_names) if named else as_inputs(inputs, more)

    def running(self) -> list[Any]:
        """What runs, in order: layers, and what neighbouring layers were fused to; each once."""
        return flattened(call.unit for call in fuse_calls(self._graph))

    @property
    def schedule(self) -> Schedule:
        schedule = self._schedule
        if schedule is None or not schedule.wiring.holds():
            schedule = self._schedule = Schedule(self._graph, self._input_dtypes)
        return schedule

    def _inferred(self, x: Any) -> Any:
        return self._planned(self.schedule.wiring, x)

    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        schedule = self.schedule
        return schedule.forward(x, step, schedule.forwards)

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        schedule = self.schedule
        return schedule.backward(dy, saved, step, input_gradient, schedule.backwards)

    @property
    def final_activation(self) -> str | None:  # type: ignore[override]
        last = self.schedule.last
        return last.activation if last is not None else None

    def forward_linear(self, x: Any, step: Step) -> tuple[Any, Any]:
        schedule = self.schedule
        return schedule.forward(x, step, schedule.linear_forwards)

    def backward_linear(self, dz: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        schedule = self.schedule
        return schedule.backward(dz, saved, step, input_gradient, schedule.linear_backwards)

    def connections(self) -> list[tuple[Layer, Layer]]:
        makers: dict[int, Layer] = {slot: call.unit for call in self._graph.calls for slot in call.targets}
        known = {layer.name: layer for layer in self.layers}
        for slot, name in zip(self._graph.inputs, self._source_names, strict=True):
            if name in known:
                makers.setdefault(slot, known[name])
        pairs = [(makers.get(slot), call.unit) for call in self._graph.calls for slot in call.sources]
        return list(dict.fromkeys((source, target) for source, target in pairs if source is not None))

    def sources_of(self, layer: Layer) -> str | None:
        makers = {slot: call.unit.name for call in self._graph.calls for slot in call.targets}
        makers |= dict(zip(self._graph.inputs, self._source_names, strict=True))
        calls = [", ".join(makers[slot] for slot in call.sources) for call in self._graph.calls if call.unit is layer]
        return "; ".join(calls) or "-"

    # Data

    def _prepare_x(self, what: str, x: Any) -> Any:
        owner = f"{self.name}.{what}"
        arrays = []
        for tensor in self.outputs if what == "predict" else ():
            if tensor.shape[:1] != (None,):
                raise ValueError(
                    f"{owner}: the output of {tensor.name!r}, of shape {tensor.shape}, has no batch axis, and that of "
                    "one batch cannot be joined to that of others; call the model on one batch instead"
                )
        given = data.in_order(owner, "input", x, self.input_names)
        for name, array, tensor, dtype in zip(self.input_names, given, self.inputs, self._input_dtypes, strict=True):
            found = data.as_input(f"{owner}: {name}", array, dtype or self.dtype)
            arrays.append(data.of_samples(f"{owner}: {name}", found, tensor.shape))
        if len({len(array) for array in arrays}) > 1:
            sizes = dict(zip(self.input_names, map(len, arrays), strict=True))
            raise ValueError(f"{owner}: all inputs must have the same number of samples, received {sizes}")
        return arrays if len(arrays) > 1 else arrays[0]

    # Configuration

    def input_layers(self) -> list[InputLayer]:
        """New input layers like the model's; for an input in the middle of another graph, one that stands for it."""
        return [
            InputLayer.from_config(tensor.node.layer.get_config())
            if isinstance(tensor.node.layer, InputLayer)
            else InputLayer(tensor.shape[1:], dtype=self._dtype_of(slot, tensor) or self.dtype, name=f"{name}_input")
            for slot, tensor, name in zip(self._graph.inputs, self.inputs, self._source_names, strict=True)
        ]

    def get_config(self) -> dict[str, Any]:
        """Layers and the calls between them, in the form that Keras 3 has for it."""
        graph = self._graph
        names = {id(layer): layer.name for layer in self.layers}
        entries: list[dict[str, Any]] = []
        made: dict[int, list[Any]] = {}  # a tensor's layer, the number of that layer's call, and of the output
        for slot, source in zip(graph.inputs, self.input_layers(), strict=True):
            made[slot] = [source.name, 0, 0]
            if source.name not in names.values():
                entries.append({"name": source.name, **serialize(source), "inbound_nodes": []})
        nodes: dict[str, list[Any]] = {name: [] for name in names.values()}
        for call in graph.calls:
            own = nodes[call.unit.name]
            for i, slot in enumerate(call.targets):
                made[slot] = [call.unit.name, _first_call(call.unit) + len(own), i]
            given = [_described(made[slot], graph.shapes[slot], self.dtype) for slot in call.sources]
            args, kwargs = call.arguments(given)
            own.append({"args": args, "kwargs": kwargs})
        entries += [
            {"name": layer.name, **serialize(layer), "inbound_nodes": nodes[layer.name]} for layer in self.layers
        ]
        return {
            "name": self.name,
            "trainable": self.trainable,
            "layers": entries,
            "input_layers": self._addressed("inputs", [made[slot] for slot in graph.inputs]),
            "output_layers": self._addressed("outputs", [made[slot] for slot in graph.outputs]),
        }

    def _addressed(self, which: str, made: list[Any]) -> Any:
        structure = self._structures[which]
        return made if structure is tuple else structured(made, structure)

    @classmethod
    def _made_again(cls, config: Mapping[str, Any]) -> Any:
        tensors = rebuilt({entry["name"]: (deserialize(entry), entry) for entry in config["layers"]})
        inputs, outputs = (_at(tensors, config[which]) for which in ("input_layers", "output_layers"))
        return cls(inputs, outputs, name=config.get("name"), trainable=config.get("trainable", True))

    # Copies: tensors and nodes are recorded anew, since what is behind them nests as deep as the graph

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_schedule": None, "inputs": None, "outputs": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        graph = self._graph
        tensors: dict[int, SymbolicTensor] = {}
        layers = {layer.name: layer for layer in self.layers}
        for slot, name in zip(graph.inputs, self._source_names, strict=True):
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


def _described(address: list[Any], shape: BatchShape, dtype: str) -> dict[str, Any]:
    return {"class_name": "__keras_tensor__", "config": {"shape": shape, "dtype": dtype, "keras_history": address}}


def addresses(given: Any) -> list[Any]:
    """One address [layer, call, output], or several in a list or dict, as a list."""
    if isinstance(given, Mapping):
        return [one for part in given.values() for one in addresses(part)]
    if len(given) == 3 and isinstance(given[0], str):
        return [given]
    return [one for part in given for one in addresses(part)]


def _at(tensors: Mapping[tuple[Any, ...], SymbolicTensor], given: Any) -> Any:
    """The tensors of such addresses, in their structure."""
    if isinstance(given, Mapping):
        return dict(zip(given, (tensors[tuple(one)] for one in addresses(given)), strict=True))
    found = [tensors[tuple(one)] for one in addresses(given)]
    return found[0] if isinstance(given[0], str) else found


def rebuilt(layers: Mapping[str, tuple[Layer, Mapping[str, Any]]]) -> dict[tuple[Any, ...], SymbolicTensor]:
    """The tensors of a graph by address, from its layers and the entries that say how they are called.

    Raises ValueError if a call depends on a tensor that no call makes.
    """
    tensors: dict[tuple[Any, ...], SymbolicTensor] = {}
    for name, (layer, _) in layers.items():
        if isinstance(layer, InputLayer):
            tensors[name, 0, 0] = layer.output
    left = {name: list(entry.get("inbound_nodes", ())) for name, (_, entry) in layers.items()}
    counts = {name: _first_call(layer) for name, (layer, _) in layers.items()}
    progress = True
    while progress:  # a layer's calls are made in their order, each when its inputs are there
        progress = False
        for name, nodes in left.items():
            while nodes and all(tuple(address) in tensors for address in _needed(nodes[0])):
                node = nodes.pop(0)
                made = layers[name][0](
                    *_with_tensors(node["args"], tensors),
                    **{key: _with_tensors(v, tensors) for key, v in node.get("kwargs", {}).items() if v is not None},
                )
                made = list(made.values()) if isinstance(made, Mapping) else made
                for i, tensor in enumerate(made if isinstance(made, (list, tuple)) else [made]):
                    tensors[name, counts[name], i] = tensor
                counts[name] += 1
                progress = True
    missing = {name: nodes for name, nodes in left.items() if nodes}
    if missing:
        raise ValueError(f"the configuration's calls of {', '.join(missing)} depend on tensors that no layer makes")
    return tensors


def _first_call(layer: Layer) -> int:
    """The number of a layer's first call. Keras counts the making of a Functional as one."""
    return 1 if isinstance(layer, Functional) else 0


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__"


def _needed(value: Any) -> list[Any]:
    """The addresses of the tensors in a call's arguments."""
    if _is_tensor(value):
        return [value["config"]["keras_history"]]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [address for part in parts for address in _needed(part)]


def _with_tensors(value: Any, tensors: Mapping[tuple[Any, ...], SymbolicTensor]) -> Any:
    if _is_tensor(value):
        return tensors[tuple(value["config"]["keras_history"])]
    if isinstance(value, Mapping):
        return {key: _with_tensors(part, tensors) for key, part in value.items()}
    return [_with_tensors(part, tensors) for part in value] if isinstance(value, (list, tuple)) else value


def _tensors(owner: str, what: str, given: Any) -> list[SymbolicTensor]:
    tensors: Sequence[Any] = [given]
    if isinstance(given, Mapping):
        tensors = list(given.values())
    elif isinstance(given, (list, tuple)):
        tensors = list(given)
    for tensor in tensors:
        if not isinstance(tensor, SymbolicTensor):
            raise TypeError(
                f"{owner}: {what} must be symbolic tensors, as Input and layers return; received {shown(tensor)}"
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


def _structure_of(given: Any) -> Any:
    """How tensors were given: list, tuple, the names of a dict, or (None) one by itself."""
    return list(given) if isinstance(given, Mapping) else type(given) if isinstance(given, (list, tuple)) else None


def structured(parts: Any, structure: Any) -> Any:
    """One thing, or a list of several, in such a structure; what comes as a list stays one where that is a list."""
    if structure is None and isinstance(parts, list) and len(parts) == 1:
        return parts[0]
    if isinstance(structure, list):
        return dict(zip(structure, parts if isinstance(parts, list) else [parts], strict=True))
    return tuple(parts) if structure is tuple and isinstance(parts, list) else parts
