"""Weight regularizers: a penalty added to the training loss, and its gradient to the weights'."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ._config import Configurable, deserialize_in, from_dict
from ._config import serialize as serialize
from ._core import native
from ._naming import lookup, made
from ._typing import FLOATS, Array
from .differentiation import pullback


class Regularizer(Configurable):
    """Base of all regularizers: called with a weight, returns the penalty.

    A subclass defines `__call__(w)`, and `add_gradient(w, gradient)` unless it computes with `autograd.numpy`.
    """

    family = "regularizers"

    def __call__(self, w: Array) -> float:
        raise TypeError(f"{type(self).__name__} must define __call__(w)")

    def add_gradient(self, w: Array, gradient: Array) -> None:
        """gradient += that of the penalty; derived by autograd, the extra of that name."""
        gradient += pullback(type(self).__name__, self, [w])[1](np.ones((), w.dtype))[0]


class L1L2(Regularizer):
    """l1 * sum(|w|) + l2 * sum(w^2)."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        if l1 < 0 or l2 < 0:
            raise ValueError(f"{type(self).__name__}: factors must not be negative, received l1={l1}, l2={l2}")
        self.l1, self.l2 = float(l1), float(l2)

    def __call__(self, w: Array) -> float:
        """The penalty."""
        return native.penalty(_dense(w), self.l1, self.l2)

    def add_gradient(self, w: Array, gradient: Array) -> None:
        """gradient += l1 * sign(w) + 2 * l2 * w."""
        native.add_penalty_gradient(_dense(w), self.l1, self.l2, gradient)


def _dense(w: Any) -> Array:
    """Numbers as the kernels take them."""
    w = np.ascontiguousarray(w)
    return w if w.dtype in FLOATS.values() else w.astype(np.float64)


class L1(L1L2):
    """l1 * sum(|w|)."""

    def __init__(self, l1: float = 0.01) -> None:
        super().__init__(l1=l1)


class L2(L1L2):
    """l2 * sum(w^2)."""

    def __init__(self, l2: float = 0.01) -> None:
        super().__init__(l2=l2)


class OrthogonalRegularizer(L1L2):
    """Mean |cosine| between the rows (or columns) of a matrix, times factor.

    Args:
        factor: 0.01.
        mode: "rows" or "columns".
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        super().__init__()
        if factor < 0:
            raise ValueError(f"OrthogonalRegularizer: factor must not be negative, received {factor!r}")
        if mode not in ("rows", "columns"):
            raise ValueError(f"OrthogonalRegularizer: mode must be rows or columns, received {mode!r}")
        self.factor, self.mode = float(factor), mode

    def _cosines(self, w: Array) -> tuple[Array, Array, Array, float]:
        """Unit rows, their norms, the cosines between different ones, and the factor of their sum."""
        if w.ndim != 2:
            raise ValueError(f"OrthogonalRegularizer: the weight must have two axes, received shape {w.shape}")
        rows = w if self.mode == "rows" else w.T
        norms = np.maximum(np.sqrt(np.square(rows).sum(1, keepdims=True)), 1e-7)
        units = rows / norms
        cosines = units @ units.T
        np.fill_diagonal(cosines, 0)
        count = len(rows)
        return units, norms, cosines, self.factor / max(1, count * (count - 1))

    def __call__(self, w: Array) -> float:
        _, _, cosines, share = self._cosines(w)
        return float(share * np.abs(cosines).sum())

    def add_gradient(self, w: Array, gradient: Array) -> None:
        """gradient += that of the penalty."""
        units, norms, cosines, share = self._cosines(w)
        pull = 2 * share * np.sign(cosines) @ units
        pull = (pull - (pull * units).sum(1, keepdims=True) * units) / norms
        gradient += pull if self.mode == "rows" else pull.T


deserialize = partial(deserialize_in, "regularizers")
_BY_NAME: dict[str, Any] = {"l1": L1, "l2": L2, "l1_l2": lambda: L1L2(0.01, 0.01)}
_BY_NAME["l1l2"] = L1L2  # "L1L2", the class's name, is the class with its own defaults
_BY_NAME["orthogonal_regularizer"] = OrthogonalRegularizer


def get(identifier: str | Mapping[str, Any] | Regularizer | None) -> L1L2 | None:
    """The regularizer of that name ("l1", "l2", "l1_l2" with 0.01; "L1L2" with its defaults of 0), or that a dict
    or a class stands for; the object itself, or None.
    """
    identifier = made(identifier)
    if identifier is None or isinstance(identifier, Regularizer):
        return identifier  # type: ignore[return-value]  # one of the user's serves as well
    if isinstance(identifier, Mapping):
        return from_dict("regularizers", Regularizer, identifier)
    if not isinstance(identifier, str):
        raise TypeError(f"regularizer must be a name or a vivace.regularizers object, received {identifier!r}")
    regularizer: L1L2 = lookup("regularizer", identifier, _BY_NAME)()
    return regularizer


l1 = L1
l2 = L2
l1_l2 = L1L2
orthogonal_regularizer = OrthogonalRegularizer

__all__ = [
    "L1",
    "L1L2",
    "L2",
    "OrthogonalRegularizer",
    "Regularizer",
    "deserialize",
    "get",
    "l1",
    "l1_l2",
    "l2",
    "orthogonal_regularizer",
    "serialize",
]
