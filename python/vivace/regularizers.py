"""Weight regularizers: a penalty added to the training loss, and its gradient to the weights'."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._naming import lookup
from ._typing import Array


class L1L2:
    """l1 * sum(|w|) + l2 * sum(w^2)."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        if l1 < 0 or l2 < 0:
            raise ValueError(f"{type(self).__name__}: factors must not be negative, received l1={l1}, l2={l2}")
        self.l1, self.l2 = float(l1), float(l2)

    def __call__(self, w: Array) -> float:
        """The penalty."""
        return float(self.l1 * np.abs(w).sum() + self.l2 * np.square(w).sum())

    def add_gradient(self, w: Array, gradient: Array) -> None:
        """gradient += l1 * sign(w) + 2 * l2 * w."""
        if self.l1:
            gradient += self.l1 * np.sign(w)
        if self.l2:
            gradient += (2 * self.l2) * w


class L1(L1L2):
    """l1 * sum(|w|)."""

    def __init__(self, l1: float = 0.01) -> None:
        super().__init__(l1=l1)


class L2(L1L2):
    """l2 * sum(w^2)."""

    def __init__(self, l2: float = 0.01) -> None:
        super().__init__(l2=l2)


_BY_NAME: dict[str, Any] = {"l1": L1, "l2": L2, "l1_l2": lambda: L1L2(0.01, 0.01), "l1l2": lambda: L1L2(0.01, 0.01)}


def get(identifier: str | L1L2 | None) -> L1L2 | None:
    """The regularizer of that name ("l1", "l2", "l1_l2", each with 0.01), the object itself, or None."""
    if identifier is None or isinstance(identifier, L1L2):
        return identifier
    if not isinstance(identifier, str):
        raise TypeError(f"regularizer must be a name or a vivace.regularizers object, received {identifier!r}")
    regularizer: L1L2 = lookup("regularizer", identifier, _BY_NAME)()
    return regularizer
