"""Model: what all models have in common, and models that a user writes as a class with a `call`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import data, ops, optimizers
from .._config import custom_object_scope, serialize, to_data
from .._naming import snake_case
from .._typing import Array
from ..layers.base import Layer, building
from ..layers.core import Input, InputLayer
from ..layers.masks import mask_of, masked
from ..layers.operation import AddLoss, Assign
from ..layers.own_cells import flat, is_cell, with_states
from ..layers.symbolic import SymbolicTensor, assigned_weights, is_symbolic, traced_tensor, tracing
from ..parameters import Parameter
from ..step import Step
from ..training import Trainer
from .arguments import bound, filled, first_with
from .summary import summary_text
from .tracking import once, tracked

if TYPE_CHECKING:
    from .functional import Functional


class Model(Trainer):
    """A graph of layers: `Model(inputs, outputs, name=None)` makes a `Functional`, which says more. Or a class of one's
    own:

        class Classifier(Model):
            def __init__(self, units):
                super().__init__()
                self.hidden, self.dropout, self.out = Dense(units, "relu"), Dropout(0.5), Dense(10, "softmax")

            def call(self, x, training=None):
                return self.out(self.dropout(self.hidden(x)))

    `call` is run once on symbolic tensors, when the shapes of the inputs are known, and once more for training if it
    has an argument `training`. It may call layers and models, compute with + - * / @ **, slices, functions of
    `vivace.ops` and `vivace.random`, and weights of its own (`add_weight`); what else it does is not seen. An array
    given to a layer with weights (positions to an Embedding, say) is the same for all samples, and becomes part of the
    graph. Its inputs have the structure that the model is given: an array, or a list, tuple or dict of them, or one
    argument for each; it returns a tensor, or a list, tuple or dict.

    A recurrent cell, which has a `state_size`, defines `call(inputs, states)` and returns its output and the list of
    new states; see `vivace.layers.RNN`.

    The layers are the attributes of the model that are layers, also in lists and dicts, in the order in which they were
    set; that is the order of the weights.
    """

    family = "models"
    several_inputs = True

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        from .functional import Functional

        return super().__new__(Functional if cls is Model else cls, *args, **kwargs)

    def __init__(self, inputs: Any = None, outputs: Any = None, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self._layers: list[Layer] | None = None  # None: those among the attributes
        self._traced: dict[bool, Functional] = {}  # what `call` does, by whether it trains
        self._resized: dict[Any, dict[bool, Functional]] = {}  # the same for inputs of other shapes
        self._structure: Any = None  # that of the inputs of `call`: None, or list, tuple or the names of a dict
        self._arguments: Any = None  # those of `call`, see `arguments.bound`; None: the inputs are all
        self._compile_later: tuple[Any, Any] | None = None
        self.output_dtypes: list[str | None] = []  # where they are not the model's dtype
        self._gives_states = False  # whether it is a recurrent cell
        if inputs is not None:
            graph = self._between(inputs, outputs)
            self._hold({False: graph, True: graph})

    # The ends of the graph

    @property
    def input(self) -> Any:
        """The symbolic input; several in the structure (list, tuple or dict) that the model was given."""
        return self._ends("inputs")

    @property
    def output(self) -> Any:
        """The symbolic output; several in the structure that the model was given."""
        return self._ends("outputs")

    def _ends(self, which: str) -> Any:
        tensors = getattr(self, which)
        return tensors[0] if len(tensors) == 1 else list(tensors)

    # Layers and weights

    @property
    def layers(self) -> list[Layer]:
        """The model's layers."""
        if self._layers is None:
            return list({id(layer): layer for layer in tracked(vars(self))}.values())
        return self._layers

    @property
    def weights(self) -> list[Parameter]:
        own = sorted(self.parameters, key=lambda p: not p.trainable)
        return once([*own, *(p for layer in self.layers for p in layer.weights)])

    @property
    def trainable_weights(self) -> list[Parameter]:
        return self.learned_weights() if self.trainable else []

    def learned_weights(self) -> list[Parameter]:
        """Those of the layers that learn, in models inside this one too: a model's own `trainable` counts when it
        is trained itself.
        """
        own = [p for p in self.parameters if p.trainable and (self.trainable or self._layers is not None)]
        return once([*own, *(p for layer in self.layers for p in layer.learned_weights())])

    def sublayers(self) -> dict[str, Layer]:
        inner = [layer for layer in self.layers if not isinstance(layer, InputLayer)]
        return {f"{i}_{snake_case(type(layer).__name__)}": layer for i, layer in enumerate(inner)}

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of that name, or at that position. Raises ValueError if there is none."""
        if (name is None) == (index is None):
            raise ValueError(f"{self.name}.get_layer: give either a name or an index")
        if index is not None:
            layers = self.layers
            if not -len(layers) <= index < len(layers):
                raise ValueError(f"{self.name}.get_layer: index must be less than {len(layers)}, received {index}")
            return layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(f"{self.name}.get_layer: no layer {name!r}; there are {[la.name for la in self.layers]}")

    def save(self, filepath: str | Path, overwrite: bool = True) -> None:
        """Write architecture, weights, and what `compile` was given, with the optimizer's state, to a `.safetensors`
        file for `vivace.models.load_model`; see `vivace.saving.save_model`.
        """
        from ..saving import save_model

        save_model(self, filepath, overwrite)

    def save_weights(self, filepath: str | Path, overwrite: bool = True) -> None:
        """Write all weights to a `.safetensors` file, named `<position>_<layer class>/<weight>`.

        overwrite: False: raise FileExistsError where there is such a file.
        """
        from ..saving.weights import save_weights

        self.check_built("save_weights")
        save_weights(self, filepath, overwrite)

    def load_weights(self, filepath: str | Path, skip_mismatch: bool = False) -> None:
        """Read the weights that `save_weights` or `save` wrote. Nothing changes unless every name and shape fits.

        skip_mismatch: read those that fit, and warn of the others.

        Raises:
            FileNotFoundError: no such file. ValueError: not such a file, or it does not fit (each difference is told).
        """
        from ..saving.weights import load_weights

        self.check_built("load_weights")
        load_weights(self, filepath, skip_mismatch)

    def get_build_config(self) -> dict[str, Any]:
        """The shapes that the model was built for, and the structure of a class's inputs."""
        structure = self._structure
        known = structure if structure is None or isinstance(structure, list) else structure.__name__
        return {"input_shape": self.input_shape, "structure": known, "arguments": self._arguments}

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        structure, self._arguments = config.get("structure"), config.get("arguments")
        self._structure = {"list": list, "tuple": tuple}[structure] if isinstance(structure, str) else structure
        super().build_from_config(config)

    # Configuration

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
        """The model that `get_config` described, with new weights.

        custom_objects: classes and functions of one's own, by the names that the configuration has.
        """
        with custom_object_scope(custom_objects):
            return cls._made_again(config)

    @classmethod
    def _made_again(cls, config: Mapping[str, Any]) -> Any:
        if cls is Model and "layers" in config:
            from .functional import Functional
            from .sequential import Sequential

            return (Functional if "input_layers" in config else Sequential).from_config(config)
        return super().from_config(config)

    def to_json(self, **kwargs: Any) -> str:
        """The architecture, without weights, for `vivace.models.model_from_json`. kwargs: as of `json.dumps`.

        Raises:
            TypeError: something in it is not plain data, such as a Lambda layer's function.
        """
        return json.dumps(to_data(serialize(self), "to_json"), **kwargs)

    # A class with a `call`

    def call(self, inputs: Any) -> Any:
        raise TypeError(
            f"{type(self).__name__} must define call(self, inputs, training=None), composed of layers; or be made of a "
            "graph, Model(inputs, outputs)"
        )

    def call_inputs(self, inputs: Any, *more: Any, **named: Any) -> Any:
        if (more or named) and not self._is_cell():
            return self._bound_inputs((inputs, *more), named)
        self._take(None)
        if isinstance(inputs, Mapping) and not more:
            self._structured(list(inputs))
            names = self._structure if isinstance(self._structure, list) else self._of_mode(False).input_names
            parts = data.in_order(self.name, "input", inputs, names)
            return parts if len(parts) > 1 else parts[0]
        if more and self._is_cell():
            return [inputs, *flat(more)]
        found = super().call_inputs(inputs, *more)
        if isinstance(inputs, (list, tuple)) and isinstance(found, list):
            self._structured(type(inputs))
        return found

    def _bound_inputs(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        arguments, inputs = bound(self.name, self.call, args, named)
        plain = not arguments["kwargs"] and len(arguments["args"]) == len(inputs) <= self._needed()
        self._take(None if plain else arguments)
        return inputs if len(inputs) > 1 else inputs[0] if inputs else args[0]

    def _take(self, arguments: Any) -> None:
        """Run `call` with such arguments from now on."""
        if arguments == self._arguments:
            return
        if self.built and self._nodes:
            raise ValueError(
                f"{self.name}: stands in a graph with other arguments of its `call`, which are the same for all calls "
                f"of a layer but for tensors; make another layer. Received {arguments}"
            )
        self._arguments, self._traced, self._resized, self.input_shape = arguments, {}, {}, None

    def _accept(self, inputs: Any) -> Any:
        x = super()._accept(inputs)
        if self._arguments is not None:
            self._accepted = None, None  # a call without these arguments is another
        return x

    def _structured(self, structure: Any) -> None:
        if self._structure is None and not self.built:
            self._structure = structure

    def build_once(self, input_shape: Any) -> Any:
        if not self.built:
            self.build(input_shape[0] if self._is_cell() and isinstance(input_shape, list) else input_shape)
        if not self._traced:  # `build` was the user's own, which makes layers
            self._trace(input_shape)
        if self._is_cell():
            input_shape = with_states(self, input_shape)
        try:
            return self._of_mode(False).compute_output_shape(input_shape)
        except ValueError:
            if not self._resize(input_shape):
                raise
            return self._resized[_sample_shapes(input_shape)][False].output_shape

    def _resize(self, input_shape: Any) -> bool:
        """Whether `call` takes inputs of this shape, not that of the first ones, with the same weights."""
        if type(self).call is Model.call:
            return False
        key = _sample_shapes(input_shape)
        try:
            self._resized[key] = self._resized.get(key) or self._graphs(input_shape)
        except (ValueError, TypeError):  # a layer, or `call` itself, needs the shape that it had
            return False
        return True

    def build(self, input_shape: Any) -> None:
        """Create the weights for inputs of this shape (batch axis first); of several inputs a list of shapes."""
        self._trace(input_shape)

    def _trace(self, input_shape: Any) -> None:
        self._hold(self._graphs(input_shape))
        if self._compile_later is not None:
            args, kwargs = self._compile_later
            self._compile_later = None
            super().compile(*args, **kwargs)

    def _graphs(self, input_shape: Any) -> dict[bool, Functional]:
        """What `call` does with inputs of this shape, in inference and in training."""
        if self._is_cell():
            input_shape = with_states(self, input_shape)
        several = isinstance(input_shape, list)
        dtype = next((layer.dtype for layer in _leaves(self.layers)), self.dtype)
        names = self._structure if isinstance(self._structure, list) else []
        tensors = [
            Input(
                tuple(shape[1:]), dtype=dtype, name=names[i] if names else f"{self.name}_input" + (f"_{i}" if i else "")
            )
            for i, shape in enumerate(input_shape if several else [input_shape])
        ]
        given: Any = list(tensors) if several else tensors[0]
        if names:
            given = dict(zip(names, tensors, strict=True))
        elif self._structure is tuple and several:
            given = tuple(tensors)
        with building(self), tracing(tensors[0]):
            graph = self._between(tensors, self._called(given, False))
            trains = self._between(tensors, self._called(given, True)) if self._takes("training") else graph
        return {False: graph, True: trains}

    def _needed(self) -> int:
        """How many arguments `call` must be given."""
        parameters = inspect.signature(self.call).parameters.values()
        return sum(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)

    def _is_cell(self) -> bool:
        """Whether `call` takes the inputs and the states of one step of a recurrent layer."""
        return is_cell(self) and self._needed() == 2

    def _takes(self, argument: str) -> bool:
        return argument in inspect.signature(self.call).parameters

    def _called(self, given: Any, training: bool) -> Any:
        """What `call` makes of symbolic tensors."""
        needed = self._needed()
        apart = needed > 1 and isinstance(given, list) and len(given) >= needed  # call(a, b), not call([a, b])
        cell = self._is_cell()
        if cell:
            given, apart = [given[0], given[1:]], True
        args, modes = given if apart else [given], {}
        if self._arguments is not None:
            args, modes = filled(self._arguments, given if isinstance(given, list) else [given]).values()
        assigned = assigned_weights()
        assigned.clear()
        self.__dict__.pop("_added", None)  # of a `call` that came to no end
        if self._takes("training"):
            modes["training"] = training
        if self._takes("mask"):
            modes["mask"] = mask_of(given)
        try:
            outputs = self.call(*args, **modes)
        except ValueError as error:  # a shape that does not fit, most likely
            raise ValueError(f"{self.name} ({type(self).__name__}.call): {error}") from error
        if cell:
            outputs = flat(outputs)
        if type(self).compute_mask is not Layer.compute_mask:
            outputs = masked(outputs, self.compute_mask(given, mask_of(given)))
        elif getattr(self, "supports_masking", False) and not isinstance(given, (list, tuple, dict)):
            outputs = masked(outputs, mask_of(given))
        if isinstance(outputs, Parameter):
            outputs = ops.add(outputs, 0)  # as it is by now
        if assigned:
            weights, values = zip(*assigned.values(), strict=True)
            outputs = first_with(
                outputs, lambda tensor: Assign(weights, dtype=tensor.dtype_of_layers)([tensor, *values])
            )
        if added := self.__dict__.pop("_added", None):
            outputs = first_with(outputs, lambda tensor: AddLoss(dtype=tensor.dtype_of_layers)([tensor, *added]))
        parts = list(outputs.values()) if isinstance(outputs, Mapping) else outputs
        parts = list(parts) if isinstance(parts, (list, tuple)) else [parts]
        for part in parts:
            if not isinstance(part, SymbolicTensor):
                raise TypeError(
                    f"{type(self).__name__}.call must return what its layers return, tensors or a list or dict of "
                    f"them; received {part!r}"
                )
        return outputs if isinstance(outputs, (Mapping, tuple)) else parts

    def add_loss(self, loss: Any) -> None:
        """In a `call`: add this scalar to what training minimizes; of anything else the sum.

        loss: computed with `vivace.ops` from the tensors of the call, or a list of such.
        """
        if traced_tensor() is None:
            raise TypeError(
                f"{self.name}.add_loss: only a `call` can add to the loss; received {loss!r} outside of one"
            )
        given = list(loss) if isinstance(loss, (list, tuple)) else [loss]
        if not all(map(is_symbolic, given)):
            raise TypeError(
                f"{self.name}.add_loss: expected what functions of vivace.ops make of the inputs of `call`, received "
                f"{loss!r}"
            )
        self.__dict__.setdefault("_added", []).extend(given)

    def _between(self, inputs: Any, outputs: Any) -> Functional:
        """The graph between these tensors. Raises ValueError if it has weights that the model does not have."""
        from .functional import Functional

        graph = Functional(inputs, outputs, name=self.name)
        if type(self).call is Model.call:
            self._layers = graph.layers
        known = {id(p) for p in self.weights}
        for layer in graph.layers:
            if any(id(p) not in known for p in layer.weights):
                raise ValueError(
                    f"{type(self).__name__}.call uses {layer.name}, which is not an attribute of the model, so that "
                    "its weights would be lost; make layers in __init__ or build and keep them as attributes"
                )
        return graph

    def _hold(self, graphs: dict[bool, Functional]) -> None:
        """Run as these graphs."""
        self._traced, graph = graphs, graphs[False]
        self._gives_states = self._is_cell()
        self._adds_loss = self._arguments is not None or any(
            isinstance(unit, AddLoss) for one in graphs.values() for unit in one.running()
        )  # so that calls take the way on which their arguments are seen
        self.dtype, self.input_dtype = graph.dtype, graph.input_dtype
        self.output_dtypes = graph.output_dtypes
        self.input_shape, self.output_shape = graph.input_shape, graph.output_shape
        self.built = True

    def dtype_made(self, i: int = 0) -> str | None:
        return self.output_dtypes[i] if self.output_dtypes else None

    def _of_mode(self, training: bool, x: Any = None) -> Functional:
        """The graph that runs; x: the inputs, if they are known."""
        if not self._traced:
            raise ValueError(f"{self.name}: not built yet; fit it, call it, or call build(input_shape)")
        if self._resized and x is not None:
            shapes = [array.shape for array in x] if isinstance(x, list) else x.shape
            return self._resized.get(_sample_shapes(shapes), self._traced)[training]
        return self._traced[training]

    @property
    def output_names(self) -> list[str]:  # type: ignore[override]
        return self._of_mode(False).output_names if self._traced else []

    def as_given(self, outputs: Any) -> Any:
        if self._gives_states:
            return outputs[0], outputs[1:]
        return self._of_mode(False).as_given(outputs) if self._traced else outputs

    def _record(self, inputs: Any, training: bool | None) -> Any:
        made = super()._record(inputs, training)
        return (made[0], made[1:]) if self._gives_states else made

    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        graph = self._of_mode(step.training, x)
        y, saved = graph.forward(x, step)
        return y, (graph, saved)

    def _inferred(self, x: Any) -> Any:
        return self._of_mode(False, x)._inferred(x)

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        graph, inner = saved
        return graph.backward(dy, inner, step, input_gradient)

    @property
    def final_activation(self) -> str | None:  # type: ignore[override]
        """The activation that ends the graph, if it is the same in training."""
        found = {self._of_mode(training).final_activation for training in (False, True)}
        return found.pop() if len(found) == 1 else None

    def forward_linear(self, x: Any, step: Step) -> tuple[Any, Any]:
        graph = self._of_mode(step.training, x)
        y, saved = graph.forward_linear(x, step)
        return y, (graph, saved)

    def backward_linear(self, dz: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        graph, inner = saved
        return graph.backward_linear(dz, inner, step, input_gradient)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As of every model (see `Trainer.compile`); what depends on the outputs waits until they are known."""
        if self._traced or type(self).call is Model.call:
            super().compile(*args, **kwargs)
            return
        default = inspect.signature(Trainer.compile).parameters["optimizer"].default
        chosen = args[0] if args else kwargs.get("optimizer", default)
        self.optimizer = optimizers.get(chosen)
        given = inspect.signature(Trainer.compile).bind(self, *args, **kwargs).arguments
        self._compile_given = {name: value for name, value in given.items() if name not in ("self", "optimizer")}
        self._compile_later = (self.optimizer, *args[1:]), {k: v for k, v in kwargs.items() if k != "optimizer"}
        self.compiled = True

    def _prepare_x(self, what: str, x: Any) -> Any:
        alone = what != "__call__" and not (self._nodes or isinstance(self.input_shape, list))
        if alone and self._arguments is not None:
            self._take(None)  # those that a call had are not given here
        if not (self.built and self._traced):
            inputs = x if what == "__call__" else self.call_inputs(x)
            several = isinstance(inputs, list)
            shapes: Any = [(None, *np.shape(one)[1:]) for one in (inputs if several else [inputs])]
            self.build_once(shapes if several else shapes[0])
        graph: Functional | None = self._of_mode(False)
        assert graph is not None
        try:
            x = graph._prepare_x(what, x)
        except ValueError:
            graph = self._fitting(x)
            if graph is None:
                raise
            x = graph._prepare_x(what, x)
        self.input_shape, self.output_shape = graph.input_shape, graph.output_shape
        return x

    def _fitting(self, x: Any) -> Functional | None:
        """The graph for inputs that do not have the shapes of the first ones, if `call` takes them.

        Sizes that differ are left open for good where all layers take that, such as the steps of sequences.
        """
        shapes = [tensor.shape for tensor in self._of_mode(False).inputs]
        try:
            given = [np.shape(one) for one in data.in_order(self.name, "input", x, self._of_mode(False).input_names)]
        except ValueError:  # of another number, or ragged
            return None
        if type(self).call is Model.call or list(map(len, shapes)) != list(map(len, given)):
            return None
        wider: Any = [
            (None, *(a if a == b else None for a, b in zip(shape[1:], one[1:], strict=True)))
            for shape, one in zip(shapes, given, strict=True)
        ]
        exact: Any = [(None, *one[1:]) for one in given]
        if wider == shapes:
            return None
        several = isinstance(self.input_shape, list)
        try:
            self._trace(wider if several else wider[0])
        except (ValueError, TypeError):  # a layer, or `call` itself, needs to know the size
            exact = exact if several else exact[0]
            return self._resized[_sample_shapes(exact)][False] if self._resize(exact) else None
        return self._of_mode(False)

    # Telling about itself

    def running(self) -> list[Any]:
        """What runs, in order: layers, and what neighbouring layers were fused to; each once."""
        return self._of_mode(False).running()

    def connections(self) -> list[tuple[Layer, Layer]]:
        """Which layer's output goes to which layer."""
        return self._of_mode(False).connections()

    def flops(self) -> int:
        return sum(layer.flops() for layer in self.layers)

    def sources_of(self, layer: Layer) -> str | None:
        """Where the layer's inputs come from; None in a chain, where it is plain."""
        return None

    def summary(
        self,
        line_length: int | None = None,
        positions: Any = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: tuple[str, str] | None = None,
    ) -> None:
        """Print the layers with their output shapes, parameters, MFLOP and memory.

        Args:
            line_length: characters in a line, at least; as many as are needed.
            positions: accepted for Keras's sake; columns are as wide as they must be.
            print_fn: takes the text; `print`.
            expand_nested: show the layers inside nested models too.
            show_trainable: tell of each layer whether it trains; done anyway where something is frozen.
            layer_range: names of the first and the last layer to show.

        Raises:
            ValueError: the model is not built; no such layer.
        """
        text = summary_text(self, line_length or 0, expand_nested, show_trainable, layer_range)
        (print_fn or print)(text)


def _sample_shapes(shapes: Any) -> tuple[Any, ...]:
    """The shapes of samples: of one input, or of several in a list; what graphs are known by."""
    return tuple(tuple(shape[1:]) for shape in (shapes if isinstance(shapes, list) else [shapes]))


def flattened(units: Iterable[Any]) -> list[Any]:
    """The units, and those of models among them, each once."""
    found = (one for unit in units for one in (unit.running() if isinstance(unit, Model) else [unit]))
    return list({id(unit): unit for unit in found}.values())


def _leaves(layers: Iterable[Layer]) -> Iterable[Layer]:
    """The layers, and those in models among them, in order."""
    for layer in layers:
        yield from _leaves(layer.layers) if isinstance(layer, Model) else (layer,)
