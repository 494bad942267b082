"""What layers are called on while a graph is being made: tensors that have a shape and a history, but no values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import BatchShape

if TYPE_CHECKING:
    from .base import Layer


_OWN = "a layer that computes with values or weights of its own is an AutogradLayer, or has forward and backward"


class SymbolicTensor:
    """An output of a layer in a graph; made by `Input` and by calling layers.

    shape: with the batch axis first (None); dtype: of the layer that makes it.
    """

    __slots__ = ("dtype", "index", "node", "shape")

    def __init__(self, node: Node, index: int, shape: BatchShape) -> None:
        self.node, self.index, self.shape = node, index, shape
        layer = node.layer
        self.dtype = layer.output_dtype or layer.dtype
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

    def __add__(self, other: Any) -> Any:
        return _merged("Add", self, other) if _is_symbol(other) else _rescaled(self, 1.0, other)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        return _merged("Multiply", self, other) if _is_symbol(other) else _rescaled(self, other, 0.0)

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> Any:
        return _merged("Subtract", self, other) if _is_symbol(other) else _rescaled(self, 1.0, -other)

    def __rsub__(self, other: Any) -> Any:
        return _rescaled(self, -1.0, other)

    def __neg__(self) -> Any:
        return _rescaled(self, -1.0, 0.0)

    def __truediv__(self, other: Any) -> Any:
        return self._refuse("divided by another") if _is_symbol(other) else _rescaled(self, 1 / other, 0.0)

    def __getitem__(self, key: Any) -> Any:
        from .reshaping import GetItem

        return GetItem(key, dtype=self.dtype_of_layers)(self)

    @property
    def dtype_of_layers(self) -> str:
        """The floating-point dtype that the layers of its graph have."""
        return self.node.layer.dtype

    # What needs values cannot be done with it: there are none while a graph is made.

    def _refuse(self, what: str) -> Any:
        raise TypeError(
            f"{self!r} has no values and cannot be {what}; while a graph is made, tensors can only be given to layers, "
            f"added, subtracted, multiplied, scaled by numbers and sliced; {_OWN}"
        )

    def __pow__(self, other: Any) -> Any:
        return self._refuse("raised to a power")

    def __matmul__(self, other: Any) -> Any:
        return self._refuse("a factor of a matrix product")

    def __rtruediv__(self, other: Any) -> Any:
        return self._refuse("a divisor")

    def __abs__(self) -> Any:
        return self._refuse("an argument of abs")

    def __lt__(self, other: Any) -> Any:
        return self._refuse("compared")

    __gt__ = __le__ = __ge__ = __lt__
    __rmatmul__, __rpow__ = __matmul__, __pow__

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


def _merged(layer: str, *tensors: SymbolicTensor) -> Any:
    from . import merging

    # An Input has the dtype of what comes behind it.
    dtypes = [tensor.dtype_of_layers for tensor in tensors if tensor.node.inputs] or [tensors[0].dtype_of_layers]
    return getattr(merging, layer)(dtype=dtypes[0])(list(tensors))


def _rescaled(tensor: SymbolicTensor, scale: Any, offset: Any) -> Any:
    from .preprocessing import Rescaling

    if not all(isinstance(value, (int, float, np.number, np.ndarray)) for value in (scale, offset)):
        raise TypeError(
            f"{tensor!r} can be combined with tensors of a graph and with numbers, received {scale!r}, {offset!r}; "
            f"{_OWN}"
        )
    return Rescaling(scale, offset, dtype=tensor.dtype_of_layers)(tensor)


def check_strings(layer: Layer, tensor: SymbolicTensor) -> None:
    """Raise TypeError for strings where the layer takes numbers."""
    if tensor.dtype == "string" and layer.input_dtype != "string" and not (layer.passes_on or layer.sublayers()):
        raise TypeError(
            f"{layer.name} ({type(layer).__name__}) takes numbers, received the strings of {tensor.name!r}; "
            "StringLookup and TextVectorization make numbers of them"
        )


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
        parts = list(x) if any(map(_is_input, x)) else [np.asarray(x)]
    parts += more
    return parts[0] if len(parts) == 1 else parts


def is_symbolic(inputs: Any) -> bool:
    """Whether any of the inputs stands for values that come later."""
    if isinstance(inputs, list):
        return any(isinstance(x, SymbolicTensor) for x in inputs)
    return isinstance(inputs, SymbolicTensor)


def _is_input(x: Any) -> bool:
    return isinstance(x, SymbolicTensor) or (hasattr(x, "__array__") and np.ndim(x) > 0) or hasattr(x, "__dlpack__")
