"""A graph of layers as flat lists: found once behind symbolic tensors, then run from the first entry to the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._typing import Array, BatchShape
from ..fusion import Unit, fuse_pair
from ..layers.base import Layer
from ..layers.core import Activated, Cast, InputLayer
from ..layers.regularization import unit_of
from ..layers.symbolic import Node, SymbolicTensor
from ..parameters import Changes
from ..plan import Wiring
from ..step import Step
from .arguments import filled


class Call(NamedTuple):
    """A call of a layer (or of what layers were fused to); tensors are numbers."""

    unit: Any  # a Layer, or a fused Unit
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    several: bool  # whether the unit takes a list
    training: bool | None

    def arguments(self, inputs: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        """What the layer was called with, as it is of these inputs."""
        mode = {} if self.training is None else {"training": self.training}
        if (given := getattr(self.unit, "_arguments", None)) is None:
            return [inputs] if self.several else inputs, mode
        args, named = filled(given, inputs).values()
        return args, named | mode


class Graph:
    """The calls between some tensors, in an order in which they can run, and all layers, in Keras's order.

    Raises ValueError if an output depends on an Input that is not among the inputs.
    """

    def __init__(self, owner: str, inputs: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor]) -> None:
        nodes = _nodes_behind(inputs, outputs)
        given = set(map(id, inputs))
        for node in nodes:
            if isinstance(node.layer, InputLayer) and id(node.outputs[0]) not in given:
                raise ValueError(
                    f"{owner}: the outputs depend on the input {node.layer.name!r} {node.outputs[0].shape}, which is "
                    f"not among the model's inputs, {[tensor.name for tensor in inputs]}"
                )
        self.layers, nodes = _in_order(nodes, given, inputs)
        numbers: dict[int, int] = {}
        self.shapes: list[BatchShape] = []
        for tensor in (*inputs, *(t for node in nodes for t in node.outputs)):
            if id(tensor) not in numbers:
                numbers[id(tensor)] = len(self.shapes)
                self.shapes.append(tensor.shape)
        self.inputs = [numbers[id(tensor)] for tensor in inputs]
        self.outputs = [numbers[id(tensor)] for tensor in outputs]
        self.calls = [
            Call(
                node.layer,
                tuple(numbers[id(t)] for t in node.inputs),
                tuple(numbers[id(t)] for t in node.outputs),
                node.several,
                node.training,
            )
            for node in nodes
            if node.inputs
        ]


def _nodes_behind(inputs: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor]) -> list[Node]:
    """Every node behind the outputs, up to the inputs; each after those it depends on."""
    given = set(map(id, inputs))
    done: dict[int, Node] = {}
    found: set[int] = set()
    stack = [(tensor.node, False) for tensor in reversed(outputs) if id(tensor) not in given]
    while stack:  # not recursive: graphs may be deeper than Python's stack
        node, visited = stack.pop()
        if visited:
            done.setdefault(id(node), node)
        elif id(node) not in found:
            found.add(id(node))
            stack.append((node, True))
            stack.extend((tensor.node, False) for tensor in reversed(node.inputs) if id(tensor) not in given)
    return list(done.values())


def _in_order(nodes: list[Node], given: set[int], inputs: Sequence[SymbolicTensor]) -> tuple[list[Layer], list[Node]]:
    """Layers and nodes by their distance from the outputs, farthest first: the order of Keras's weights."""
    for tensor in inputs:
        if isinstance(tensor.node.layer, InputLayer) and all(tensor.node is not node for node in nodes):
            nodes = [tensor.node, *nodes]
    depth: dict[int, int] = {}
    of_layer: dict[int, int] = {}
    for node in reversed(nodes):
        mine = max(depth.get(id(node), 0), of_layer.get(id(node.layer), 0))
        depth[id(node)] = of_layer[id(node.layer)] = mine
        for tensor in node.inputs:
            if id(tensor) not in given or isinstance(tensor.node.layer, InputLayer):
                depth[id(tensor.node)] = max(depth.get(id(tensor.node), 0), mine + 1)
    ordered = sorted(nodes, key=lambda node: -depth[id(node)])
    layers = {id(node.layer): node.layer for node in _discovery(nodes)}
    return sorted(layers.values(), key=lambda layer: -of_layer[id(layer)]), ordered


def _discovery(nodes: list[Node]) -> list[Node]:
    """The nodes in the order in which they are met from the outputs back: a node before its inputs."""
    members = {id(node): node for node in nodes}
    inside = {id(tensor.node) for node in nodes for tensor in node.inputs}
    stack = [node for node in reversed(nodes) if id(node) not in inside]
    met: dict[int, Node] = {}
    while stack:
        node = stack.pop()
        if id(node) in members and id(node) not in met:
            met[id(node)] = node
            stack.extend(tensor.node for tensor in reversed(node.inputs))
    return [*met.values(), *(node for node in nodes if id(node) not in met)]


def fuse_calls(graph: Graph) -> list[Call]:
    """The graph's calls; one that alone takes another's output is made one with it where there is an op for both."""
    uses = [0] * len(graph.shapes)
    for slot in (*graph.outputs, *(slot for call in graph.calls for slot in call.sources)):
        uses[slot] += 1
    makers: dict[int, Call] = {}
    calls: list[Call] = []
    for call in graph.calls:
        fused = call
        for slot in call.sources:
            first = makers.get(slot)
            if first is None or uses[slot] != 1 or first.training is not None or call.training is not None:
                continue
            others = [other for other in call.sources if other != slot]
            alike = all(graph.shapes[other] == graph.shapes[slot] for other in others)
            unit = fuse_pair(first.unit, call.unit, len(others), alike and None not in graph.shapes[slot][1:])
            if unit is not None:
                calls.remove(first)
                sources = (*first.sources, *others)
                fused = Call(unit, sources, call.targets, len(sources) > 1, None)
                break
        calls.append(fused)
        for slot in call.targets:
            makers[slot] = fused
    return calls


def taken_dtype(unit: Any, i: int = 0) -> str | None:
    """The dtype of a unit's i-th input, None where it is that of the layers."""
    traced = getattr(unit, "_traced", None)
    inner = traced[False] if traced else unit  # a class with a `call`: the graph that it is
    several = getattr(inner, "_input_dtypes", None)
    return several[i] if several is not None else getattr(inner, "input_dtype", None) if i == 0 else None


def made_dtype(unit: Any, i: int = 0) -> str | None:
    """The dtype of a unit's i-th output, None where it is that of the layers or not known."""
    return unit.dtype_made(i) if isinstance(unit, Layer) else None


def wanted_dtype(unit: Any, kind: str | None, i: int = 0) -> str | None:
    """What an i-th input of that dtype must become for the unit; None if it is well as it is."""
    if getattr(unit, "passes_on", False) or getattr(unit, "takes_any", False):
        return None
    wanted = taken_dtype(unit, i)
    if "string" in (wanted, kind) or (wanted is None) == (kind is None):
        return None
    return wanted or unit.dtype


class InMode:
    """A unit that runs in a mode of its own, whatever that of the pass."""

    def __init__(self, unit: Unit, training: bool) -> None:
        self.unit, self.training = unit, training
        self.backward = unit.backward

    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        outer, step.training = step.training, self.training
        try:
            return self.unit.forward(x, step)
        finally:
            step.training = outer


class Schedule:
    """How a graph runs: flat lists, made once, and again when a layer's attributes have changed.

    Tensors live in slots. A gradient belongs to one slot: what several consumers contribute is added up, and handed to
    the layer that made the tensor, which may overwrite it.
    """

    def __init__(self, graph: Graph, dtypes: Sequence[str | None]) -> None:
        self.inputs, self.outputs, self.slots = graph.inputs, graph.outputs, len(graph.shapes)
        changes = Changes.layers
        calls = self._with_casts(fuse_calls(graph), dict(zip(graph.inputs, dtypes, strict=True)))
        wanted: set[int] = set()  # slots behind which there is something to train
        self.forwards: list[tuple[Any, Any, Any]] = []
        self.backwards: list[tuple[Any, Any, Any, bool, bool]] = []
        units: list[Any] = []
        for call in calls:
            unit: Unit = unit_of(call.unit) if isinstance(call.unit, Layer) else call.unit
            unit = unit if call.training is None else InMode(unit, call.training)
            sources: Any = call.sources if call.several else call.sources[0]
            targets: Any = call.targets if len(call.targets) > 1 else call.targets[0]
            wants = not wanted.isdisjoint(call.sources)
            parts = (call.unit,) if isinstance(call.unit, Layer) else call.unit.layers
            active = wants or any(part.learned_weights() for part in parts)
            if active:
                wanted.update(call.targets)
            units.append(unit)
            self.forwards.append((unit.forward, sources, targets))
            self.backwards.append((unit.backward, sources, targets, active, wants))
        given, made = [source for _, source, _ in self.forwards], [target for _, _, target in self.forwards]
        self.wiring = Wiring(units, given, made, self.inputs, self.outputs, self.slots, changes)
        self.last = self._final(calls)
        if self.last is not None:
            self.linear_forwards = [*self.forwards[:-1], (self.last.forward_linear, *self.forwards[-1][1:])]
            self.linear_backwards = [*self.backwards[:-1], (self.last.backward_linear, *self.backwards[-1][1:])]

    def _with_casts(self, calls: list[Call], kinds: dict[int, Any]) -> list[Call]:
        """The calls, with a Cast before those of a layer that takes another kind of numbers than arrive.

        kinds: the dtypes of the inputs, None for that of the layers.
        """
        found: list[Call] = []
        for call in calls:
            unit, sources = call.unit, list(call.sources)
            for i, slot in enumerate(call.sources):
                wanted = wanted_dtype(unit, kinds.get(slot), i)
                if wanted is not None:
                    sources[i], self.slots = self.slots, self.slots + 1
                    found.append(Call(Cast(wanted, dtype=unit.dtype), (slot,), (sources[i],), False, None))
            found.append(call._replace(sources=tuple(sources)))
            for i, slot in enumerate(call.targets):
                kinds[slot] = kinds.get(call.sources[0]) if getattr(unit, "passes_on", False) else made_dtype(unit, i)
        return found

    def _final(self, calls: list[Call]) -> Activated | None:
        """The layer that makes the only output, if it ends in an activation and nobody else takes its output."""
        if len(self.outputs) != 1 or not calls or calls[-1].targets != (self.outputs[0],):
            return None
        unit = calls[-1].unit
        taken = any(self.outputs[0] in call.sources for call in calls)
        plain = isinstance(unit, Activated) and unit.activity_regularizer is None
        return unit if plain and calls[-1].training is None and not taken else None

    def forward(self, x: Any, step: Step, forwards: Any) -> tuple[Any, Any]:
        values: list[Any] = [None] * self.slots
        masks: list[Any] = [None] * self.slots
        inputs = self.inputs
        if len(inputs) == 1:
            values[inputs[0]], masks[inputs[0]] = x, step.mask
        else:
            given = step.mask if isinstance(step.mask, list) else [step.mask] * len(inputs)
            for slot, array, mask in zip(inputs, x, given, strict=True):
                values[slot], masks[slot] = array, mask
        tape: list[Any] = []
        for run, source, target in forwards:
            if type(source) is int:
                step.mask = masks[source]
                y, saved = run(values[source], step)
            else:
                marks = [masks[slot] for slot in source]
                step.mask = None if all(mark is None for mark in marks) else marks
                y, saved = run([values[slot] for slot in source], step)
            if type(target) is int:
                values[target], masks[target] = y, step.mask
            else:
                several = step.mask if isinstance(step.mask, list) else [step.mask] + [None] * (len(y) - 1)
                for slot, array, mask in zip(target, y, several, strict=True):
                    values[slot], masks[slot] = array, mask
                saved = saved, [(array.shape, array.dtype) for array in y]
            tape.append(saved)
        if len(self.outputs) == 1:
            step.mask = masks[self.outputs[0]]
            return values[self.outputs[0]], tape
        marks = [masks[slot] for slot in self.outputs]
        step.mask = None if all(mark is None for mark in marks) else marks
        return [values[slot] for slot in self.outputs], tape

    def backward(self, dy: Any, tape: list[Any], step: Step, input_gradient: bool, backwards: Any) -> Any:
        gradients: list[Any] = [None] * self.slots
        if len(self.outputs) == 1:
            gradients[self.outputs[0]] = dy
        else:
            for slot, array in zip(self.outputs, dy, strict=True):
                _accumulate(gradients, slot, array, step)
        for i in range(len(backwards) - 1, -1, -1):
            run, source, target, active, wants = backwards[i]
            if not (active or input_gradient):
                continue
            saved = tape[i]
            if type(target) is int:
                d = gradients[target]
                if d is None:
                    continue
            else:
                saved, kinds = saved
                d = [gradients[slot] for slot in target]
                if all(array is None for array in d):
                    continue
                d = [_zeros(kind, step) if a is None else a for a, kind in zip(d, kinds, strict=True)]
            dx = run(d, saved, step, wants or input_gradient)
            if type(target) is int:
                step.give_up(d, dx)
            if dx is None:
                continue
            if type(source) is int:
                _accumulate(gradients, source, dx, step)
            else:
                for slot, array in zip(source, dx, strict=True):
                    _accumulate(gradients, slot, array, step)
        if not input_gradient:
            return None
        return gradients[self.inputs[0]] if len(self.inputs) == 1 else [gradients[slot] for slot in self.inputs]


def _accumulate(gradients: list[Any], slot: int, array: Array | None, step: Step) -> None:
    total = gradients[slot]
    if total is None:
        gradients[slot] = array
    elif array is not None:
        out = total if total.flags.writeable else step.empty(total.shape, total.dtype)
        gradients[slot] = np.add(total, array, out=out)
        step.give_up(array, out)


def _zeros(kind: tuple[Any, Any], step: Step) -> Array:
    array = step.empty(*kind)
    array.fill(0)
    return array
