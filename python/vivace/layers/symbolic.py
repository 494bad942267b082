"""What layers are called on while a graph is being made: tensors that have a shape and a history, but no values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import BatchShape

if TYPE_CHECKING:
    from .base import Layer


class SymbolicTensor:
    """An output of a layer in a graph; made by `Input` and by calling layers.

    shape: with the batch axis first (None); dtype: of the layer that makes it.
    """

    __slots__ = ("dtype", "index", "node", "shape")

    def __init__(self, node: Node, index: int, shape: BatchShape) -> None:
        self.node, self.index, self.shape = node, index, shape
        self.dtype = node.layer.input_dtype or node.layer.dtype if not node.inputs else node.layer.dtype

    @property
    def name(self) -> str:
        return self.node.layer.name

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{self!r} has no values; give it to layers, and make a Model of inputs and outputs")

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


def as_inputs(x: Any, more: tuple[Any, ...] = ()) -> Any:
    """The arguments of a call as one input, or as the list of several. A nest of numbers is one input."""
    if not more and isinstance(x, np.ndarray):
        return x
    parts = [x]
    if isinstance(x, (list, tuple)):
        parts = list(x) if x and all(map(_is_input, x)) else [np.asarray(x)]
    parts += more
    return parts[0] if len(parts) == 1 else parts


def is_symbolic(inputs: Any) -> bool:
    """Whether any of the inputs stands for values that come later."""
    if isinstance(inputs, list):
        return any(isinstance(x, SymbolicTensor) for x in inputs)
    return isinstance(inputs, SymbolicTensor)


def _is_input(x: Any) -> bool:
    return isinstance(x, (SymbolicTensor, np.ndarray))
