"""What every layer is: parameters, a shape rule, and a forward/backward pair."""

from __future__ import annotations

import functools
import importlib
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import config, constraints, initializers, regularizers
from .._config import Configurable, own_arguments
from .._core import native
from .._naming import closest, unique_name
from .._typing import Array, BatchShape, Initializer, Shape
from ..parameters import TRACED, Changes, Parameter
from ..regularizers import L1L2
from ..step import OneCall, Step
from .checks import data_array, step_masks
from .symbolic import (
    Node,
    SymbolicTensor,
    as_inputs,
    checked_inputs,
    is_symbolic,
    own_mask,
    told,
    tracing,
    way_to,
    with_masks,
)

_ndarray = np.ndarray
_alike, _traced_tensor = native.alike, TRACED.get  # of a module's own, since every call asks them
_NO_ARGUMENTS = frozenset(("built", "input_shape", "output_shape", "trainable"))


class _Unset:
    """Stands in a class for what `__init__` sets, and tells whoever asks for it before."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: Any, owner: type) -> Any:
        if layer is None:
            return self
        raise AttributeError(
            f"{owner.__name__} has no attribute {self.name!r}; its __init__ must call super().__init__()"
        )


class Layer(Configurable):
    """Base of all layers.

    A subclass implements `build` (make parameters), `compute_output_shape`, and the pair

        forward(x, step) -> (y, saved)          saved: whatever backward needs; it belongs to this call, not to the
                                                layer, so one layer can stand in several places
        backward(dy, saved, step, input_gradient) -> dx or None
                                                adds the parameters' gradients; may overwrite dy, must
                                                not keep it (its memory is used again); returns the
                                                input's gradient, unless `input_gradient` is False

    Arrays have the batch as their first axis and the layer's dtype; buffers come from `step.empty`. A layer of several
    inputs (`several_inputs`) gets lists of shapes and arrays and returns a list of gradients, of which no two share
    memory; one of several outputs returns lists of shapes and arrays, and gets a list of gradients.

    Or it implements `call(x)`, composed of other layers, weights and `vivace.ops`, as of `vivace.models.Model`.
    Called on symbolic tensors, a layer adds itself to a graph (see `vivace.models.Model`); called on arrays, it runs.

    Args:
        activity_regularizer: a penalty of `vivace.regularizers` on the layer's output, where it stands in a model.
        trainable: False freezes the layer's parameters.
        dtype: "float32" or "float64"; default `vivace.config.floatx()`.
        name: unique within a model; made up from the class when omitted ("conv2d", "conv2d_1", ...).
        input_shape: shape of one sample, without the batch; on a model's first layer, it builds the model at once.
        input_dim: n stands for input_shape=(n,).
    """

    family = "layers"
    former: ClassVar[tuple[str, ...]] = ("input_dim",)
    input_dtype: Any = None  # of the input (of several, the first), where it is not the layer's dtype
    output_dtype: Any = None  # of the output, where it is not the layer's dtype
    asking: ClassVar[frozenset[str]] = frozenset()  # arguments of a call for which there is a `call_asking`
    several_inputs = False  # whether it takes more than one
    takes_any = False  # whether it takes arrays of any dtype
    passes_on = False  # whether it passes them on as they are, too
    holder = ""  # what the weights' paths have behind the layer's name: the cell of a recurrent layer
    _chain: Any = None  # a weak reference to the Sequential that it was last added to
    _dropped_a_mask = False
    _penalties: list[float] = []  # noqa: RUF012   # of the last call on arrays
    _accepted: tuple[Any, Any] = None, None  # shape (of several: a list) and dtype of what it takes as it is

    if not TYPE_CHECKING:
        name = dtype = built = parameters = declared_input_shape = _Unset()

    def __init__(
        self,
        *,
        activity_regularizer: str | L1L2 | None = None,
        trainable: bool = True,
        dtype: Any = None,
        name: str | None = None,
        input_shape: Sequence[int | None] | None = None,
        input_dim: int | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            name = next(iter(unknown))
            hint = closest(name, (*own_arguments(type(self)), *own_arguments(Layer)))
            raise TypeError(f"{type(self).__name__} has no argument {name!r}{hint}")
        self.name = name or unique_name(type(self).__name__)
        self._trainable = bool(trainable)
        self.dtype = config.check_dtype(self.name, dtype or config.floatx())
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.built = False
        self.input_shape: BatchShape | None = None
        self.output_shape: BatchShape | None = None
        shape = input_shape if input_dim is None else (input_dim,)
        self.declared_input_shape = None if shape is None else tuple(shape)
        self.parameters: list[Parameter] = []
        self._nodes: list[Node] = []  # its calls on symbolic tensors
        self._ways: dict[Any, Any] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name[0] != "_":  # an activation, say, that a plan for inference has bound
            Changes.note_layer()
            if name not in _NO_ARGUMENTS and (ways := self.__dict__.get("_ways")):
                ways.clear()  # they may follow from it
            if name == "trainable":
                self._pass_on(value)

    def _pass_on(self, trainable: bool) -> None:
        """What is said of a layer is said of those inside it."""
        if "_nodes" in vars(self):  # made whole
            for layer in self.sublayers().values():
                layer.trainable = trainable

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """A user's class with a `call` instead of a `forward` is composed of other layers, and that is a model."""
        super().__init_subclass__(**kwargs)
        if "call" in vars(cls) and "forward" not in vars(cls):
            inherited: Any = super(cls, cls)
            if inherited.forward is Layer.forward:
                model = importlib.import_module("..models", __package__).Model
                bases = tuple(model if base is Layer else base for base in cls.__bases__)
                cls.__bases__ = bases if model in bases else (*bases, model)
            elif inherited.call is Layer.call:
                raise TypeError(
                    f"{cls.__name__}.call would not be used: {cls.__bases__[0].__name__} computes in forward and "
                    "backward. Override these, or write a Layer with a call that has such a layer inside it"
                )
        if "build" in vars(cls):
            cls.build = _noting(cls.build)  # type: ignore[method-assign]

    def build(self, input_shape: BatchShape) -> None:
        """Create the parameters for inputs of this shape (batch first, None for its size)."""
        self.built = True

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Shape of the output for an input of this shape. Raises ValueError when the layer cannot take it."""
        return input_shape

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The same as calling the layer."""
        return self(*args, **kwargs)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        raise TypeError(f"{type(self).__name__} must define forward(x, step)")

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        raise TypeError(f"{type(self).__name__} must define backward(dy, saved, step, input_gradient)")

    def make_way(self, shape: Any) -> Any:
        """What `forward` and `backward` must know of inputs of one shape (of several inputs a tuple of shapes), the
        batch included. Raises ValueError if the layer cannot take them.
        """
        raise TypeError(f"{type(self).__name__} must define make_way(shape)")

    def new_way(self, shape: Any) -> Any:
        """Make a way and keep it: `self._ways.get(shape) or self.new_way(shape)` works everything out only once."""
        try:
            way = self.make_way(shape)
        except ValueError as error:
            raise ValueError(f"{self.name} ({type(self).__name__}): {error}") from None
        if len(self._ways) >= 16:  # as many batch sizes as are ever in use together
            self._ways.clear()
        self._ways[shape] = way
        return way

    def dtype_made(self, i: int = 0) -> str | None:
        """The dtype of the i-th output, where it is not the layer's dtype."""
        found: str | None = self.output_dtype
        return found

    def flops(self) -> int:
        """Multiplications and additions of one forward pass over one sample (matrix products and convolutions)."""
        return 0

    def build_once(self, input_shape: BatchShape) -> BatchShape:
        """Build for `input_shape` unless built already; returns the output shape."""
        output_shape = self.compute_output_shape(input_shape)
        if not self.built:
            self.build(input_shape)
            self.built = True
        self._accepted = None, None
        self.input_shape, self.output_shape = input_shape, output_shape
        return output_shape

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        if config.get("activity_regularizer") is None and "activity_regularizer" not in own_arguments(type(self)):
            config.pop("activity_regularizer", None)  # some of Keras's layers do not know it
        return config

    def get_build_config(self) -> dict[str, Any]:
        """The shape that the layer was built for."""
        return {"input_shape": self.input_shape}

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Build for the shape (of several inputs, the shapes) that `get_build_config` told."""
        shape: Any = config.get("input_shape")
        if shape is not None:
            several = any(isinstance(one, (list, tuple)) for one in shape)
            self.build_once([tuple(one) for one in shape] if several else tuple(shape))  # type: ignore[arg-type]

    # Calling

    def call_inputs(self, inputs: Any, *more: Any) -> Any:
        """What the arguments of a call are to `forward`: one input, or a list of several."""
        return as_inputs(inputs, more)

    def __call__(self, *args: Any, training: bool | None = None, mask: Any = None, **kwargs: Any) -> Any:
        """On symbolic tensors: the symbolic outputs. On arrays: the outputs as new arrays, in inference mode.

        Args:
            training: run the layer in this mode; None: in that of the model's pass, on arrays False.
            mask: with arrays: (batch, steps), true where a step counts; for several inputs a list.

        Raises:
            ValueError: inputs of the wrong number or shape. TypeError: arrays among symbolic tensors; no numbers.
        """
        step = OneCall()
        if training:
            step.training = True
        around = _traced_tensor()
        if around is not None:
            args = self._of_the_graph(args, around)
        x: Any = args[0] if len(args) == 1 else None
        shape, dtype = self._accepted
        if mask is not None or kwargs or not _alike(x, shape, dtype):
            if not self.asking.isdisjoint(kwargs):
                return self.call_asking(*args, training=training, mask=mask, **kwargs)
            inputs = self.call_inputs(*args, **kwargs)
            if is_symbolic(inputs):
                return self._record(inputs if mask is None else with_masks(inputs, mask), training)
            x = self._accept(inputs)
            if mask is not None:
                step.mask = step_masks(mask, type(x) is list)
        y: Any = self.forward(x, step)[0]
        if step.penalty or self.activity_regularizer is not None:
            self._penalize(y, step.penalty)
        # What the step has made is nobody else's; anything else may be the input.
        if y is step.last or step.made(y):
            return y
        return y.copy() if type(y) is not list else [one.copy() for one in y]

    def call_asking(self, *args: Any, **kwargs: Any) -> Any:
        """A call with some of the arguments in `asking`."""
        raise TypeError(f"{type(self).__name__} must define call_asking")

    def _penalize(self, y: Any, penalty: float) -> None:
        """Remember what an output adds to the loss, for `losses`."""
        if self.activity_regularizer is not None:
            penalty += sum(self.activity_regularizer(one) / len(one) for one in (y if type(y) is list else [y]))
        self._penalties = [penalty]

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The mask of the output, bool (batch, steps), for inputs that have such a mask; None: all steps count.

        Arguments are those of a call on arrays; or a tensor of a graph, of whose mask this is a tensor.
        """
        if is_symbolic(inputs):
            return own_mask(self(inputs))
        step = OneCall()
        x = self._accept(self.call_inputs(inputs))
        if previous_mask is not None:
            step.mask = step_masks(previous_mask, type(x) is list)
        self.forward(x, step)
        masks = step.mask if type(step.mask) is list else [step.mask]
        found = [None if mask is None else mask.astype(bool) for mask in masks]
        return found if type(step.mask) is list else found[0]

    def _accept(self, inputs: Any) -> Any:
        """The inputs as `forward` takes them: arrays of shapes that the layer is built for. Builds it if need be."""
        dtype = self.input_dtype or self.dtype
        if type(inputs) is list:
            arrays = [data_array(self.name, one, dtype) for one in inputs]
            self._check_count(len(arrays))
            shapes: Any = [(None, *one.shape[1:]) for one in arrays]
            if not self.built or shapes != self.input_shape:
                self.build_once(shapes)
            self._accepted = [one.shape for one in arrays], arrays[0].dtype if arrays else None
            return arrays
        x = data_array(self.name, inputs, dtype)
        if not self.built or self.input_shape is None or x.shape[1:] != self.input_shape[1:]:
            self.build_once((None, *x.shape[1:]))
        self._accepted = x.shape, x.dtype
        return x

    def _of_the_graph(self, args: tuple[Any, ...], around: SymbolicTensor) -> tuple[Any, ...]:
        """The arguments; an array becomes part of the graph that is being traced if the layer has weights, which would
        not learn from what it makes of the array now.
        """
        if len(args) != 1 or not isinstance(args[0], _ndarray):
            return args
        x = self._accept(args[0])
        if not self.weights:
            return args
        from .core import Constant

        return (Constant(x[0] if len(x) == 1 else x, dtype=self.dtype)(around),)

    def _record(self, inputs: Any, training: bool | None) -> Any:
        """Add a call on symbolic tensors to their graph."""
        several = isinstance(inputs, list)
        tensors = checked_inputs(self, inputs if several else [inputs])
        self._check_count(len(tensors))
        try:
            with tracing(None):
                shape = self.build_once([tensor.shape for tensor in tensors] if several else inputs.shape)  # type: ignore[arg-type]
        except ValueError as error:
            ways = [way_to(tensor) for tensor in tensors]
            raise ValueError(
                f"layer {len(ways[0])} behind {ways[0][0]}: {error}\n  shapes so far: {'; '.join(map(told, ways))}"
            ) from None
        node = Node(self, tensors, several, training, shape)
        self._nodes.append(node)
        return node.result

    def _check_count(self, count: int) -> None:
        if count > 1 and not self.several_inputs:
            raise ValueError(f"{self.name} ({type(self).__name__}) takes one input, received {count}")

    def _first_node(self, what: str) -> Node:
        if not self._nodes and (chain := self._chain and self._chain()) and chain.built:
            chain.call_layers(what)
        if not self._nodes:
            raise ValueError(f"{self.name}.{what}: has not been called on a symbolic tensor, nor is its chain built")
        return self._nodes[0]

    @property
    def input(self) -> Any:
        """The symbolic input (a list, if several) of the layer's first call."""
        tensors = self._first_node("input").inputs
        return tensors[0] if len(tensors) == 1 else list(tensors)

    @property
    def output(self) -> Any:
        """The symbolic output (a list, if several) of the layer's first call."""
        return self._first_node("output").result

    def drop_mask(self, step: Step) -> None:
        """The output's steps are not the input's, so its mask ends here; says so once."""
        if step.mask is not None:
            step.mask = None
            if not self._dropped_a_mask:
                self._dropped_a_mask = True
                warnings.warn(
                    f"{self.name} ({type(self).__name__}) gets a mask but cannot pass it on: the layers behind it, the "
                    "loss and the metrics count padded steps too",
                    stacklevel=2,
                )

    def add_weight(
        self,
        name: str | None = None,
        shape: Shape = (),
        initializer: str | Initializer = "glorot_uniform",
        trainable: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        dtype: Any = None,
    ) -> Parameter:
        """Create a parameter, filled by the initializer.

        Without a name it gets the first of "variable", "variable_1", ... that is free. Its path begins with the layers
        that are being built around this one. A "/" in the name stands for a part of the layer, as in "query/kernel".
        Regularizer and constraint may be named; the dtype is the layer's.

        Raises:
            TypeError: the name is not a string. ValueError: another dtype; the initializer makes another shape.
        """
        if name is None:
            taken = {parameter.key for parameter in self.parameters}
            name = next(one for i in itertools.count() if (one := f"variable_{i}" if i else "variable") not in taken)
        if not isinstance(name, str):
            raise TypeError(
                f"{self.name}.add_weight: name must be a string, received {name!r}; give a shape as shape=..."
            )
        if dtype is not None and np.dtype(dtype) != self.dtype:
            raise ValueError(f"{self.name}.add_weight: dtype must be the layer's {self.dtype}, received {dtype}")
        shape = tuple(shape)
        given = initializers.get(initializer)(shape, self.dtype)
        value = np.array(given, self.dtype, order="C")  # a copy: the initializer may hand out an array of the user's
        if value.shape != shape:
            raise ValueError(f"{self.name}: the initializer of {name} returned shape {value.shape}, not {shape}")
        around = _BUILDING.get()
        owners = around if around and around[-1] is self else (*around, self)
        path = "/".join(filter(None, [*(owner.name for owner in owners), self.holder, name]))
        penalty, projection = regularizers.get(regularizer), constraints.get(constraint)
        parameter = Parameter(path, value, trainable, penalty, projection, name.replace("/", "_"))
        self.parameters.append(parameter)
        return parameter

    def sublayers(self) -> dict[str, Layer]:
        """The layers inside this one, under names that are the same in every model made the same way."""
        return {}

    @property
    def weights(self) -> list[Parameter]:
        """All parameters, in Keras's order."""
        return list(self.parameters)

    @property
    def trainable(self) -> bool:
        """Whether the layer learns. To set it sets that of all layers inside it; training heeds it from the next batch
        on.
        """
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for inner in self.sublayers().values():
            inner.trainable = value
        Changes.note_layer()

    @property
    def trainable_weights(self) -> list[Parameter]:
        if not self.trainable:
            return []
        inside = [p for layer in self.sublayers().values() for p in layer.trainable_weights]  # each may be frozen
        return [*(p for p in self.parameters if p.trainable), *inside]

    def learned_weights(self) -> list[Parameter]:
        """What learns in a model that the layer is part of."""
        return self.trainable_weights

    @property
    def non_trainable_weights(self) -> list[Parameter]:
        trainable = set(map(id, self.trainable_weights))
        return [p for p in self.weights if id(p) not in trainable]

    @property
    def variables(self) -> list[Parameter]:
        """The same as `weights`."""
        return self.weights

    @property
    def trainable_variables(self) -> list[Parameter]:
        return self.trainable_weights

    @property
    def non_trainable_variables(self) -> list[Parameter]:
        return self.non_trainable_weights

    @property
    def losses(self) -> list[float]:
        """What is added to the loss: by the output of the last call on arrays, and by each weight that trains."""
        return self._penalties + [p.regularizer(p.array) for p in self.trainable_weights if p.regularizer is not None]

    @property
    def compute_dtype(self) -> str:
        """That of the layer's arrays: `dtype`, since nothing is computed in another precision."""
        return self.dtype

    @property
    def variable_dtype(self) -> str:
        """That of the weights: `dtype`."""
        return self.dtype

    def count_params(self) -> int:
        """Number of weights. Raises ValueError if the layer is not built."""
        self.check_built("count_params")
        return sum(p.size for p in self.weights)

    def get_weights(self) -> list[Array]:
        """Copies of all weights, in Keras's order and shapes."""
        return [p.array.copy() for p in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Overwrite all weights. Nothing changes unless every shape fits.

        Raises:
            ValueError: wrong number of arrays or a wrong shape (named).
        """
        own = self.weights
        if weights:
            self.check_built("set_weights")
        if len(weights) != len(own):
            raise ValueError(f"{self.name}.set_weights: expected {len(own)} arrays, received {len(weights)}")
        arrays = [np.asarray(w) for w in weights]
        for parameter, array in zip(own, arrays, strict=True):
            if array.shape != parameter.shape:
                raise ValueError(
                    f"{self.name}.set_weights: {parameter.path} has shape {parameter.shape}, received {array.shape}"
                )
        for parameter, array in zip(own, arrays, strict=True):
            parameter.assign(array)

    def check_built(self, what: str) -> None:
        if not self.built:
            raise ValueError(
                f"{self.name}.{what}: not built yet, so its weights do not exist; give the first layer an "
                "input_shape, call build(input_shape), or fit it on data first"
            )

    def __getstate__(self) -> dict[str, Any]:
        # Geometry is derived, and of native types that cannot be copied or pickled: it is made again when needed.
        # The graphs that a layer stands in are not its own.
        derived: dict[str, Any] = {"_ways": {}, "_nodes": [], "_chain": None}
        return {name: derived.get(name, value) for name, value in self.__dict__.items()}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}, output_shape={self.output_shape}>"


_BUILDING: ContextVar[tuple[Layer, ...]] = ContextVar("building", default=())


@contextmanager
def building(layer: Layer) -> Iterator[None]:
    """While layers are built inside this one, their weights' paths begin with its name."""
    around = _BUILDING.get()
    token = _BUILDING.set(around if around and around[-1] is layer else (*around, layer))
    try:
        with tracing(None):
            yield
    finally:
        _BUILDING.reset(token)


def _noting(build: Callable[..., None]) -> Callable[..., None]:
    """A class's `build` that leaves a mark that the layer is built, for whom calls it by oneself."""

    @functools.wraps(build)
    def noted(self: Any, *shapes: Any, **named: Any) -> None:
        with building(self):
            build(self, *shapes, **named)
        self.built = True
        if self.input_shape is None and len(shapes) == 1:
            self.input_shape = shapes[0]

    return noted


def unchanged(layer: Layer, x: Array, step: Step) -> tuple[Array, list[Any]]:
    """The `bind` (see `vivace.plan`) of layers that do nothing in inference."""
    return x, []
