"""Where numbers stop being finite: the first layer, loss or update that made a NaN or an infinity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ._typing import Array
from .layers.base import Layer

_FORWARD, _BACKWARD = (
    ("forward", "forward_linear", "forward_logits"),
    ("backward", "backward_linear", "backward_logits"),
)


@contextmanager
def watched(model: Any, losses: Sequence[Any]) -> Iterator[None]:
    """Inside, every layer of the model, its losses and its optimizer raise FloatingPointError for such numbers.

    Their methods are replaced on the objects themselves, and what has remembered the methods (schedules, fused layers)
    is made anew, before and behind.
    """
    layers = list(_inside(model))
    replaced: list[tuple[Any, str]] = []

    def replace(target: Any, method: str, check: Callable[..., Any]) -> None:
        if hasattr(target, method) and method not in vars(target):
            original = getattr(target, method)
            setattr(target, method, lambda *args, **kwargs: check(original, *args, **kwargs))
            replaced.append((target, method))

    models = [model, *(layer for layer in layers if hasattr(layer, "_schedule"))]
    try:
        for target in (*layers, *losses):
            if hasattr(target, "_schedule"):
                continue  # a model: its layers are watched
            watch = _Watch(target, f"the loss {target.name}" if target in losses else target.name)
            for method in (*_FORWARD, *_BACKWARD):
                replace(target, method, watch.forward if method in _FORWARD else watch.backward)
        replace(model.optimizer, "apply", _checked_update)
        for one in models:
            one._schedule = one._fused = None
        yield
    finally:
        for target, method in replaced:
            delattr(target, method)
        for one in models:
            one._schedule = one._fused = None


def _inside(layer: Layer) -> Iterator[Layer]:
    for inner in layer.sublayers().values():
        yield inner
        yield from _inside(inner)


class _Watch:
    """The checks around one layer or loss."""

    def __init__(self, target: Any, name: str) -> None:
        self.parameters, self.name = getattr(target, "parameters", []), name

    def forward(self, run: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
        told = _statistics(x)
        self._require(x, "the input of {name} is not finite", told)
        for p in self.parameters:
            self._require(p.array, "{name}: its weight " + p.name + " is not finite", told)
        result = run(x, *args, **kwargs)
        made = result[0] if isinstance(result, tuple) else result
        self._require(made, "{name} made it in the forward pass", told)
        return result

    def backward(self, run: Callable[..., Any], dy: Any, *args: Any, **kwargs: Any) -> Any:
        told = _statistics(dy)
        self._require(dy, "the gradient that reaches {name} is not finite", told)
        dx = run(dy, *args, **kwargs)
        self._require(dx, "{name} made it in the backward pass, in the gradient of its input", told)
        for p in self.parameters:
            self._require(p.gradient, "{name} made it in the backward pass, in the gradient of " + p.path, told)
        return dx

    def _require(self, arrays: Any, what: str, told: str) -> None:
        for array in arrays if isinstance(arrays, (list, tuple)) else [arrays]:
            _require(array, what.replace("{name}", self.name), told)


def _checked_update(apply: Callable[..., Any], flat: Any) -> Any:
    told = {p.path: _statistics(p.gradient) for p in flat.parameters}
    result = apply(flat)
    for p in flat.parameters:
        _require(p.array, f"the optimizer made it when it updated {p.path}", f"gradient: {told[p.path]}")
    return result


def _require(array: Array | None, what: str, told: str) -> None:
    if array is None or np.isfinite(array).all():
        return
    bad = ~np.isfinite(array)
    where = tuple(int(i) for i in np.argwhere(bad)[0])
    raise FloatingPointError(
        f"{what}: {int(bad.sum())} of {array.size} numbers are not finite, the first, {array[where]}, at {where}; "
        f"input {told}"
    )


def _statistics(arrays: Any) -> str:
    """The range of what goes in, told before it may be overwritten; infinities and NaNs left out."""
    told = []
    for array in arrays if isinstance(arrays, (list, tuple)) else [arrays]:
        if array is None:
            continue
        finite = array[np.isfinite(array)].astype(np.float64)
        if finite.size:
            told.append(f"min {finite.min():.4g}, max {finite.max():.4g}, mean {finite.mean():.4g}")
        else:
            told.append("nothing finite")
        told[-1] += f", shape {array.shape}"
    return "; ".join(told)
