"""Weight constraints: projections applied to a weight after each update, with Keras's names, defaults and formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ._config import Configurable, deserialize_in, from_dict
from ._config import serialize as serialize
from ._naming import lookup, made
from ._typing import Array

EPSILON = 1e-7


class Constraint(Configurable):
    """Base of all constraints: called with a weight, returns what it becomes."""

    family = "constraints"

    def __call__(self, w: Array) -> Array:
        raise TypeError(f"{type(self).__name__} must define __call__(w)")


def _axis(axis: int | Sequence[int]) -> int | tuple[int, ...]:
    return axis if isinstance(axis, int) else tuple(axis)


def _norms(w: Array, axis: int | tuple[int, ...]) -> Array:
    return np.sqrt(np.square(w).sum(axis, keepdims=True))


class NonNeg(Constraint):
    """Negative weights become 0."""

    def __call__(self, w: Array) -> Array:
        return np.maximum(w, 0)


class UnitNorm(Constraint):
    """The weights of each unit, along `axis` (0), get Euclidean norm 1."""

    def __init__(self, axis: int | Sequence[int] = 0) -> None:
        self.axis = _axis(axis)

    def __call__(self, w: Array) -> Array:
        return w / (_norms(w, self.axis) + w.dtype.type(EPSILON))


class MinMaxNorm(Constraint):
    """The norm of each unit's weights comes to lie in [min_value, max_value].

    Args:
        min_value, max_value: 0 and 1.
        rate: how far towards that interval a step goes, in (0, 1]; 1.
        axis: along which the norm is taken, 0; for the kernel of Conv2D (0, 1, 2).
    """

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: int | Sequence[int] = 0
    ) -> None:
        if not 0 <= min_value <= max_value:
            raise ValueError(
                f"{type(self).__name__}: 0 <= min_value <= max_value must hold, received {min_value} and {max_value}"
            )
        if not 0 <= rate <= 1:
            raise ValueError(f"{type(self).__name__}: rate must lie in [0, 1], received {rate!r}")
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, _axis(axis)

    def __call__(self, w: Array) -> Array:
        norms = _norms(w, self.axis)
        desired = self.rate * np.clip(norms, self.min_value, self.max_value) + (1 - self.rate) * norms
        return w * (desired / (norms + w.dtype.type(EPSILON)))


class MaxNorm(MinMaxNorm):
    """The norm of each unit's weights, along `axis` (0), stays at most max_value (2) (Srivastava et al. 2014)."""

    def __init__(self, max_value: float = 2, axis: int | Sequence[int] = 0) -> None:
        super().__init__(0.0, max_value, 1.0, axis)


deserialize = partial(deserialize_in, "constraints")
_BY_NAME: dict[str, type[Constraint]] = {
    "max_norm": MaxNorm,
    "min_max_norm": MinMaxNorm,
    "non_neg": NonNeg,
    "unit_norm": UnitNorm,
}


def get(identifier: str | Mapping[str, Any] | Callable[[Array], Array] | None) -> Callable[[Array], Array] | None:
    """The constraint of that name or class with its defaults, or that a dict describes; a function itself, or None."""
    identifier = made(identifier)
    if identifier is None or callable(identifier):
        return identifier
    if isinstance(identifier, Mapping):
        return from_dict("constraints", Constraint, identifier)
    if not isinstance(identifier, str):
        raise TypeError(f"constraint must be a name or a function of the weight, received {identifier!r}")
    return lookup("constraint", identifier, _BY_NAME)()


max_norm = MaxNorm
min_max_norm = MinMaxNorm
non_neg = NonNeg
unit_norm = UnitNorm

__all__ = [
    "Constraint",
    "MaxNorm",
    "MinMaxNorm",
    "NonNeg",
    "UnitNorm",
    "deserialize",
    "get",
    "max_norm",
    "min_max_norm",
    "non_neg",
    "serialize",
    "unit_norm",
]
