"""What layers are called on while a graph is being made: tensors that have a shape and a history, but no values."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import BatchShape
from ..parameters import NUMBERS, TRACED, Operators, Parameter

if TYPE_CHECKING:
    from .base import Layer


_OWN = "functions of vivace.ops, such as ops.exp(x), take them too"


class SymbolicTensor(Operators):
    """An output of a layer in a graph; made by `Input` and by calling layers.

    shape: with the batch axis first (None); dtype: of the layer that makes it.
    """

    __slots__ = ("dtype", "index", "node", "shape")

    def __init__(self, node: Node, index: int, shape: BatchShape) -> None:
        self.node, self.index, self.shape = node, index, shape
        layer = node.layer
        self.dtype = layer.dtype_made(index) or layer.dtype
        if not node.inputs:
            self.dtype = layer.input_dtype or layer.dtype
        elif layer.passes_on:
            self.dtype = node.inputs[0].dtype

    @property
    def name(self) -> str:
        return self.node.layer.name

    @property
    def ndim(self) -> int:
        return len(self.shape)

    # Arithmetic adds layers to the graph, as their functions (`layers.add`, ...) do.

    def _with(self, operation: str, *operands: Any) -> Any:
        return _computed(operation, *operands)

    def __add__(self, other: Any) -> Any:
        number = _constant(self, other)
        return _computed("add", self, other) if number is None else _rescaled(self, 1.0, number)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        number = _constant(self, other)
        return _computed("multiply", self, other) if number is None else _rescaled(self, number, 0.0)

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> Any:
        number = _constant(self, other)
        return _computed("subtract", self, other) if number is None else _rescaled(self, 1.0, -number)

    def __rsub__(self, other: Any) -> Any:
        number = _constant(self, other)
        return _computed("subtract", other, self) if number is None else _rescaled(self, -1.0, number)

    def __neg__(self) -> Any:
        return _rescaled(self, -1.0, 0.0)

    def __truediv__(self, other: Any) -> Any:
        number = _constant(self, other)
        if number is None:
            return _computed("divide", self, other)
        with np.errstate(divide="ignore"):
            return _rescaled(self, np.divide(1.0, number), 0.0)

    def activated(self, activation: str, *args: Any, **kwargs: Any) -> Any:
        """What a function of `vivace.activations` makes of it, by a layer."""
        from . import activation as layers
        from .core import Activation

        form = {"relu": "ReLU", "leaky_relu": "LeakyReLU", "elu": "ELU", "softmax": "Softmax"}.get(activation)
        if not (args or kwargs):
            return Activation(activation, dtype=self.dtype_of_layers)(self)
        if form is None:
            raise TypeError(
                f"activations.{activation}: with arguments, a tensor of a graph needs a layer or vivace.ops"
            )
        names = {"relu": ("negative_slope", "max_value", "threshold"), "softmax": ("axis",)}
        given = dict(zip(names.get(activation, ("alpha" if form == "ELU" else "negative_slope",)), args, strict=False))
        return getattr(layers, form)(**given, **kwargs, dtype=self.dtype_of_layers)(self)

    def judged(self, loss: Any, y_true: Any, sample_weight: Any) -> Any:
        """A loss of `vivace.losses` of it."""
        from .operation import LossOf

        given = [y_true, self] if sample_weight is None else [y_true, self, sample_weight]
        for one in given:
            if not _is_symbol(one) or (one is not self and one.node.inputs):
                raise TypeError(
                    f"{loss.name}: of tensors of a graph, targets and weights must be inputs of the model, since no "
                    f"gradient goes to them; received {one!r}. A loss of two outputs can be computed with vivace.ops"
                )
        return LossOf(loss, dtype=self.dtype_of_layers)(given)

    def assign_behind(self, weight: Parameter, value: Any) -> None:
        """Assign a value to a weight in every pass of the graph behind this tensor."""
        if isinstance(value, Parameter):
            value = _computed("add", value, 0)
        if not _is_symbol(value):
            from .core import Constant

            value = Constant(weight.fitting(value), whole=True, dtype=self.dtype_of_layers)(self)
        _ASSIGNED.get()[id(weight)] = weight, value

    def __getitem__(self, key: Any) -> Any:
        from .reshaping import GetItem

        if not self.shape or self.shape[0] is not None:  # no batch in front
            return _function("get_item")(self, key)
        keys, new = _without_new_axes(key if isinstance(key, tuple) else (key,), self.ndim)
        taken = self if new and all(one == slice(None) for one in keys) else GetItem(
            keys if new else key, dtype=self.dtype_of_layers
        )(self)  # fmt: skip
        return _function("expand_dims")(taken, new) if new else taken

    @property
    def dtype_of_layers(self) -> str:
        """The floating-point dtype that the layers of its graph have."""
        return self.node.layer.dtype

    # What needs values cannot be done with it: there are none while a graph is made.

    def _refuse(self, what: str) -> Any:
        raise TypeError(
            f"{self!r} has no values and cannot be {what}; while a graph is made, tensors can be given to layers, "
            f"computed with by + - * / @ and **, and sliced; {_OWN}"
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self._refuse("an array")

    def __array_ufunc__(self, ufunc: Any, *args: Any, **kwargs: Any) -> Any:
        return self._refuse(f"an argument of NumPy's {ufunc.__name__}")

    def __array_function__(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return self._refuse(f"an argument of NumPy's {function.__name__}")

    def __bool__(self) -> bool:
        return self._refuse("a condition")

    def __float__(self) -> float:
        return self._refuse("a number")

    def __iter__(self) -> Any:
        return self._refuse("iterated over")

    def __len__(self) -> int:
        return self._refuse("counted (its batch size is not known)")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(f"{self!r} has no {name!r}; while a graph is made, use layers")

    def __repr__(self) -> str:
        return f"<SymbolicTensor of {self.name}, shape={self.shape}, dtype={self.dtype}>"


class Node:
    """One call of a layer: the tensors it took and those it made.

    several: whether `forward` takes a list; training: the mode the call asked for, None for that of the pass.
    """

    __slots__ = ("inputs", "layer", "outputs", "several", "training")

    def __init__(
        self, layer: Layer, inputs: list[SymbolicTensor], several: bool, training: bool | None, shape: Any
    ) -> None:
        self.layer, self.inputs, self.several, self.training = layer, inputs, several, training
        shapes = shape if isinstance(shape, list) else [shape]
        self.outputs = [SymbolicTensor(self, i, tuple(one)) for i, one in enumerate(shapes)]

    @property
    def result(self) -> Any:
        """What the call returns: a tensor, or a list of several."""
        return self.outputs[0] if len(self.outputs) == 1 else list(self.outputs)


def _is_symbol(x: Any) -> bool:
    return isinstance(x, SymbolicTensor)


_ACTIVATIONS = ("relu", "sigmoid", "tanh", "softmax", "log_softmax", "elu", "leaky_relu", "softplus", "silu")
_MERGES = {"add": "Add", "subtract": "Subtract", "multiply": "Multiply", "maximum": "Maximum", "minimum": "Minimum"}


def by_layer(operation: str, tensors: Sequence[Any]) -> Any:
    """What a layer of ours makes of the tensors, if one does what that function of `vivace.ops` does; or None."""
    if operation in _ACTIVATIONS and len(tensors) == 1 and _is_symbol(tensors[0]):
        return tensors[0].activated(operation)
    if operation in ("matmul", "add") and len(tensors) == 2:
        x, weight = tensors if _is_symbol(tensors[0]) or operation == "matmul" else tensors[::-1]
        if _is_symbol(x) and isinstance(weight, Parameter):
            from .affine import Product, Shift

            if operation == "matmul" and x.ndim > 1 and weight.ndim == 2:
                return Product(weight, dtype=x.dtype_of_layers)(x)
            if operation == "add" and x.ndim > 1 and weight.shape == x.shape[-1:]:
                return Shift(weight, dtype=x.dtype_of_layers)(x)
    layer = _MERGES.get(operation)
    if layer is None or len(tensors) != 2 or not all(map(_is_symbol, tensors)) or tensors[0].ndim != tensors[1].ndim:
        return None
    from . import merging

    return getattr(merging, layer)(dtype=dtype_among(tensors))(list(tensors))


def _constant(tensor: SymbolicTensor, x: Any) -> Any:
    """A number or an array as floating-point numbers, which have all signs and inverses; None if it is something else,
    or would stretch the tensor.
    """
    if not isinstance(x, NUMBERS):
        return None
    sizes = zip(reversed(tensor.shape), reversed(np.shape(x)), strict=False)
    if np.ndim(x) > tensor.ndim or any(new not in (1, old) for old, new in sizes if old is not None):
        return None
    if not isinstance(x, (np.number, np.ndarray)):
        return float(x)
    return x if x.dtype.kind in "fc" else x.astype(np.float64)


def _computed(operation: str, *operands: Any) -> Any:
    """What a function of `vivace.ops` makes of tensors, weights and arrays."""
    for one in operands:
        if not (_is_symbol(one) or isinstance(one, (*NUMBERS, Parameter, list, tuple))):
            raise TypeError(
                f"{operation}: a tensor of a graph can be combined with others, weights, numbers and arrays; "
                f"received {one!r}"
            )
    return _function(operation)(*operands)


def _function(name: str) -> Any:
    """A function of `vivace.ops`."""
    return getattr(importlib.import_module("..ops", __package__), name)


def _without_new_axes(key: tuple[Any, ...], rank: int) -> tuple[tuple[Any, ...], list[int]]:
    """An indexing key without its None, and the places among the axes of the result where these make new ones."""
    if not any(one is None for one in key):
        return key, []
    if any(one is ... for one in key):
        at = next(i for i, one in enumerate(key) if one is ...)
        left = rank - sum(one is not None for one in key) + 1
        key = (*key[:at], *[slice(None)] * left, *key[at + 1 :])
    kept = [one for one in key if not isinstance(one, (int, np.integer))]
    return tuple(one for one in key if one is not None), [i for i, one in enumerate(kept) if one is None]


def _rescaled(tensor: SymbolicTensor, scale: Any, offset: Any) -> Any:
    from .preprocessing import Rescaling

    return Rescaling(scale, offset, dtype=tensor.dtype_of_layers)(tensor)


_ASSIGNED: ContextVar[dict[int, tuple[Parameter, SymbolicTensor]]] = ContextVar("assigned")


def traced_tensor() -> SymbolicTensor | None:
    """The input of the `call` that is being run to find its graph."""
    found: SymbolicTensor | None = TRACED.get()
    return found


@contextmanager
def tracing(tensor: SymbolicTensor | None) -> Iterator[None]:
    """While a `call` is run on this tensor to find its graph; None: while something in between is none of its graph."""
    token, assigned = TRACED.set(tensor), _ASSIGNED.set({})
    try:
        yield
    finally:
        TRACED.reset(token)
        _ASSIGNED.reset(assigned)


def assigned_weights() -> dict[int, tuple[Parameter, SymbolicTensor]]:
    """What the `call` that is being run has assigned to weights so far, by the weight's identity."""
    return _ASSIGNED.get({})


def dtype_among(tensors: Sequence[SymbolicTensor]) -> str:
    """The dtype that layers of these inputs have: an Input has that of what comes behind it."""
    dtypes = [tensor.dtype_of_layers for tensor in tensors if tensor.node.inputs] or [tensors[0].dtype_of_layers]
    return dtypes[0]


def own_mask(given: Any) -> Any:
    """The masks of tensors, as tensors."""
    from .masks import mask_of

    return mask_of(given)


def with_masks(given: Any, masks: Any) -> Any:
    """Tensors with other masks."""
    from .masks import masked

    if not is_symbolic(masks):
        raise TypeError(f"a mask of {given!r} must be a tensor of a graph too, received {masks!r}")
    return masked(given, masks)


def checked_inputs(layer: Layer, tensors: list[Any]) -> list[SymbolicTensor]:
    """What a layer is called on in a graph. Raises TypeError for arrays, and for strings where it takes numbers."""
    for tensor in tensors:
        if not isinstance(tensor, SymbolicTensor):
            raise TypeError(f"{layer.name}: expected symbolic tensors only, received also {type(tensor).__name__}")
        if tensor.dtype == "string" and layer.input_dtype != "string" and not (layer.passes_on or layer.sublayers()):
            raise TypeError(
                f"{layer.name} ({type(layer).__name__}) takes numbers, received the strings of {tensor.name!r}; "
                "StringLookup and TextVectorization make numbers of them"
            )
    return [_after_assignments(layer, tensors[0]), *tensors[1:]]


def _after_assignments(layer: Layer, tensor: SymbolicTensor) -> SymbolicTensor:
    """The tensor, behind what the `call` that is being run has assigned to the layer's weights so far."""
    changed = assigned_weights()
    found = [changed[id(weight)] for weight in (layer.weights if changed else ()) if id(weight) in changed]
    if not found:
        return tensor
    from .operation import Assign

    behind: SymbolicTensor = Assign([weight for weight, _ in found], dtype=tensor.dtype_of_layers)(
        [tensor, *(value for _, value in found)]
    )
    return behind


def way_to(tensor: SymbolicTensor) -> list[str]:
    """The layers and their output shapes on the way from an Input to the tensor, by first inputs."""
    way = []
    node: Node | None = tensor.node
    while node is not None:
        way.append(f"{node.layer.name} {', '.join(str(one.shape) for one in node.outputs)}")
        node = node.inputs[0].node if node.inputs else None
    way.reverse()
    return way


def told(way: list[str], most: int = 12) -> str:
    """Such a way in one line; of a long one the ends."""
    return " -> ".join(way if len(way) <= most else [*way[:2], "...", *way[2 - most :]])


def as_inputs(x: Any, more: tuple[Any, ...] = ()) -> Any:
    """The arguments of a call as one input, or as the list of several. A nest of numbers is one input."""
    if not more and isinstance(x, np.ndarray):
        return x
    parts = [x]
    if isinstance(x, (list, tuple)):
        parts = list(x) if any(map(is_input, x)) else [np.asarray(x)]
    parts += more
    return parts[0] if len(parts) == 1 else parts


def is_symbolic(inputs: Any) -> bool:
    """Whether any of the inputs stands for values that come later."""
    if isinstance(inputs, list):
        return any(isinstance(x, SymbolicTensor) for x in inputs)
    return isinstance(inputs, SymbolicTensor)


def is_input(x: Any) -> bool:
    """Whether an argument of a call is one of its inputs."""
    return isinstance(x, SymbolicTensor) or (hasattr(x, "__array__") and np.ndim(x) > 0) or hasattr(x, "__dlpack__")
