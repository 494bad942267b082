"""Operation: a function of `vivace.ops` as a layer of a graph."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .._typing import Array, BatchShape
from ..differentiation import pullback
from ..parameters import Parameter
from ..step import Step
from .affine import not_told
from .base import Layer
from .masks import PassingFirst
from .symbolic import SymbolicTensor, assigned_weights, by_layer, dtype_among, traced_tensor


class Operation(Layer):
    """Calls a function of `vivace.ops` on tensors of a graph, weights and constants.

    Made by the functions of `vivace.ops` themselves when they are given a tensor of a graph. The gradient is derived by
    the autograd library (the extra `autograd`).

    Args:
        function: its name.
        args, kwargs: its arguments, in which {"input": i} stands for the i-th input, and {"batch": i} for the number
            of its samples; a slice is {"slice": [start, stop, step]}, and ... {"slice": "..."}.
        weights: those that {"weight": i} stands for; they belong to the layer whose `call` computes with them.
    """

    several_inputs = True
    takes_any = True

    def __init__(
        self,
        function: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        weights: Sequence[Parameter] = (),
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.function, self.args, self.kwargs = function, list(args), dict(kwargs or {})
        self.parameters = list(weights)

    def get_config(self) -> dict[str, Any]:
        if self.parameters:
            raise not_told(self.name, f"ops.{self.function}")
        return super().get_config()

    def _function(self, *arrays: Any) -> Any:
        """The function of all arrays: the inputs, then the weights."""
        inputs = len(arrays) - len(self.parameters)
        given = {"input": arrays[:inputs], "weight": arrays[inputs:], "batch": [a.shape[:1] for a in arrays]}
        args = [_filled(one, given) for one in self.args]
        run = getattr(importlib.import_module("..ops", __package__), self.function).__wrapped__
        return run(*args, **{name: _filled(one, given) for name, one in self.kwargs.items()})

    def compute_output_shape(self, input_shape: Any) -> BatchShape:
        """Found by trials: the axes whose sizes change with the batch, or with others that are not known, are None."""
        shapes = input_shape if isinstance(input_shape, list) else [input_shape]
        failed: Exception | None = None
        constants: list[Any] = [one for one in _leaves((self.args, self.kwargs)) if isinstance(one, np.ndarray)]
        for sizes in _sizes_to_try(shapes, [one.shape for one in (*constants, *self.parameters)]):
            try:
                first, second = (self._trial(shapes, batch, other) for batch, other in sizes)
                break
            except (ValueError, TypeError, IndexError) as error:
                failed = failed or error
        else:
            raise ValueError(f"{self.name} (ops.{self.function}) of shapes {_listed(shapes)}: {failed}") from failed
        if first.ndim != second.ndim:
            raise ValueError(f"{self.name} (ops.{self.function}): the rank of the output depends on the batch")
        dtype = None if first.dtype.kind == "f" else first.dtype.name
        if dtype != self.output_dtype:
            self.output_dtype = dtype
        return tuple(a if a == b else None for a, b in zip(first.shape, second.shape, strict=True))

    def _trial(self, shapes: Sequence[Any], batch: int, other: int) -> Array:
        """What the function makes of zeros, with these sizes in place of those that are not known."""
        sizes = [[(other if i else batch) if n is None else n for i, n in enumerate(one)] for one in shapes]
        with np.errstate(all="ignore"):
            zeros = [np.zeros(one, self.dtype) for one in sizes]
            return np.asarray(self._function(*zeros, *(p.array for p in self.parameters)))

    def forward(self, x: Any, step: Step) -> tuple[Array, Any]:
        step.mask = None
        arrays = [*(x if isinstance(x, list) else [x]), *(p.array for p in self.parameters)]
        if step.training and self._differentiable(arrays):
            value, pull = self._pullback(arrays)
        else:
            value, pull = np.asarray(self._function(*arrays)), None
        return np.array(value, self.output_dtype or self.dtype, order="C", ndmin=0), (arrays, pull)

    def _differentiable(self, arrays: Sequence[Array]) -> bool:
        return self.output_dtype is None and any(array.dtype.kind == "f" for array in arrays)

    def _pullback(self, arrays: list[Array]) -> Any:
        learns = [array.dtype.kind == "f" for array in arrays]

        def function(*given: Any) -> Any:
            left = iter(given)
            return self._function(*(next(left) if one else array for one, array in zip(learns, arrays, strict=True)))

        owner = f"{self.name} (ops.{self.function})"
        try:
            value, pull = pullback(owner, function, [array for one, array in zip(learns, arrays, strict=True) if one])
        except TypeError as error:
            if not isinstance(error.__cause__, UserWarning):
                raise TypeError(
                    f"{owner}: no gradient can be derived with these arguments: {error.__cause__}"
                ) from error
            return np.asarray(self._function(*arrays)), lambda dy: [None] * len(arrays)  # it depends on none of them

        def back(dy: Array) -> list[Array | None]:
            left = iter(pull(dy))
            return [next(left) if one else None for one in learns]

        return value, back

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        arrays, pull = saved
        inputs = len(arrays) - len(self.parameters)
        if not self._differentiable(arrays):
            return [None] * inputs if inputs > 1 else None
        pull = pull or self._pullback(arrays)[1]  # the forward pass may have been one of inference
        gradients = pull(dy)
        for parameter, gradient in zip(self.parameters, gradients[inputs:], strict=True):
            if gradient is not None:
                parameter.gradient += gradient
        return gradients[:inputs] if inputs > 1 else gradients[0]


class AddLoss(PassingFirst):
    """Passes its first input on, and adds the sums of the others to the loss: what `add_loss` in a `call` makes."""

    def forward(self, x: Any, step: Step) -> tuple[Array, Any]:
        step.mask = step.mask[0] if isinstance(step.mask, list) else step.mask
        step.penalty += sum(float(one.sum()) for one in x[1:])
        return x[0], x[1:]

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        return [dy, *(np.ones_like(one) for one in saved)]


class LossOf(Layer):
    """The reduced loss () of targets, predictions and, if there are three inputs, weights of samples."""

    several_inputs = True
    takes_any = True

    def __init__(self, loss: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if loss.reduction in ("none", None):
            raise ValueError(f"{loss.name}: of tensors of a graph it needs a reduction")
        self.loss = loss

    def compute_output_shape(self, input_shape: Any) -> BatchShape:
        return ()

    def forward(self, x: Any, step: Step) -> tuple[Array, Any]:
        step.mask = None
        y = x[1]
        targets = self.loss.prepare(x[0], y.shape, y.dtype)
        logits = self.loss.forward_logits(y, targets, step) if self.loss.from_logits else None
        losses = self.loss.forward(y, targets, step) if logits is None else logits[0]
        weights = x[2].astype(np.float64) if len(x) > 2 else None
        value, scale = self.loss.reduce(losses, targets, weights, None)
        if scale is None:
            scale = np.full(losses.shape, 1 / max(1, losses.size), losses.dtype)
        return np.array(value, self.dtype), (y if logits is None else logits[1], targets, scale, len(x))

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        y, targets, scale, count = saved
        back = self.loss.backward_logits if self.loss.from_logits else self.loss.backward
        return [None, back(y, targets, np.ascontiguousarray(scale * dy, y.dtype), step), *[None] * (count - 2)]


class Assign(PassingFirst):
    """Passes its first input on, and assigns the others to weights: what `assign` in a `call` makes."""

    def __init__(self, weights: Sequence[Parameter], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._targets = list(weights)

    def forward(self, x: Any, step: Step) -> tuple[Array, Any]:
        step.mask = step.mask[0] if isinstance(step.mask, list) else step.mask
        for weight, value in zip(self._targets, x[1:], strict=True):
            weight.assign(value)
        return x[0], len(x) - 1

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        return [dy, *[None] * saved]


BATCH = {"batch": 0}  # among the arguments of `applied`: the number of samples


def _sizes_to_try(shapes: Sequence[Any], others: Sequence[Any]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs of (batch, every other size that is not known), from small ones to those that more functions can take."""
    yield (2, 5), (3, 7)
    yield (60, 5), (120, 7)  # a reshape into parts divides many sizes
    if any(None in one[1:] for one in shapes):
        yield (2, 420), (3, 840)  # a position may lie far behind
        for known in sorted({n for one in (*(one[1:] for one in shapes), *others) for n in one if n is not None}):
            yield (2, known), (3, known)  # an axis that another one's is added to


def applied(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], batch: bool = False) -> Any:
    """The function of arrays and weights as it is; of tensors of a graph, and of weights while a `call` is traced, as
    a layer.

    batch: whether BATCH is among the arguments.
    """
    if changed := assigned_weights():
        args, kwargs = (_mapped(given, lambda one: changed.get(id(one), (one, one))[1]) for given in (args, kwargs))
    leaves = list(_leaves((args, kwargs)))
    symbols = _once(one for one in leaves if isinstance(one, SymbolicTensor))
    weights = _once(one for one in leaves if isinstance(one, Parameter))
    around = traced_tensor()
    if not symbols and (around is None or not (weights or batch)):
        if batch:
            raise ValueError(
                f"ops.{function.__name__}: outside of a `call` the shape must be known, received None in it"
            )
        return function(*_valued(args), **_valued(kwargs))
    if not kwargs and (made := by_layer(function.__name__, args)) is not None:
        return made
    places: dict[int, Any] = {id(one): {"input": i} for i, one in enumerate(symbols)}
    places |= {id(one): {"weight": i} for i, one in enumerate(weights)}
    inputs = symbols or [around]
    if batch:  # of the graph: the tensors' own first axes may be others
        start = _start(inputs[0])
        inputs = _once(iter([*inputs, start]))
        places[id(BATCH)] = {"batch": [id(one) for one in inputs].index(id(start))}
    layer = Operation(
        function.__name__, _placed(list(args), places), _placed(dict(kwargs), places), weights,
        dtype=dtype_among(inputs),
    )  # fmt: skip
    return layer(inputs if len(inputs) > 1 else inputs[0])


def _start(tensor: Any) -> Any:
    """The input of the graph that the tensor comes from."""
    while tensor.node.inputs:
        tensor = tensor.node.inputs[0]
    return tensor


def _once(things: Iterator[Any]) -> list[Any]:
    return list({id(one): one for one in things}.values())


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _leaves(one)
    elif isinstance(value, dict):
        yield from _leaves(list(value.values()))
    else:
        yield value


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(one, change) for one in value)
    if isinstance(value, dict) and not value.keys() <= {"input", "weight", "batch", "slice"}:
        return {name: _mapped(one, change) for name, one in value.items()}
    return change(value)


def _placed(value: Any, places: dict[int, Any]) -> Any:
    def place(one: Any) -> Any:
        if isinstance(one, slice):
            return {"slice": [None if n is None else int(n) for n in (one.start, one.stop, one.step)]}
        return {"slice": "..."} if one is ... else places.get(id(one), one)

    return _mapped(value, place)


def _filled(value: Any, given: dict[str, Any]) -> Any:
    def fill(one: Any) -> Any:
        if isinstance(one, dict):
            ((kind, i),) = one.items()
            if kind == "slice":
                return ... if i == "..." else slice(*i)
            return given[kind][i][0] if kind == "batch" else given[kind][i]
        return one

    return _mapped(value, fill)


def _valued(value: Any) -> Any:
    return _mapped(value, lambda one: one.array if isinstance(one, Parameter) else one)


def _listed(shapes: Sequence[Any]) -> str:
    return ", ".join(str(tuple(one)) for one in shapes)


__all__ = ["AddLoss", "Assign", "LossOf", "Operation"]
