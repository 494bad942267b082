"""Gradient descent, with momentum, and by the gradient's sign."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._core import native
from .._typing import Array
from .base import Optimizer


class SGD(Optimizer):
    """Gradient descent: w -= lr g; with momentum v = momentum v - lr g, w += v (nesterov: w += momentum v - lr g).

    Args:
        learning_rate: 0.01.
        momentum: in [0, 1], 0.
        nesterov: False.
        options: as of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        if not 0 <= momentum <= 1:
            raise ValueError(f"SGD: momentum must lie in [0, 1], received {momentum!r}")
        self.momentum = float(momentum)
        self.nesterov = bool(nesterov)

    def slot_count(self) -> int:
        return 1 if self.momentum else 0

    def update(self, values: Array, gradients: Array) -> None:
        velocity = self.slots[0] if self.slots else None
        native.sgd_update(values, gradients, velocity, self.learning_rate, self.momentum, self.nesterov)


class Lion(Optimizer):
    """w -= lr sign(beta_1 m + (1 - beta_1) g); m = beta_2 m + (1 - beta_2) g (Chen et al. 2023).

    Args:
        learning_rate: 0.001.
        beta_1: in (0, 1], 0.9.
        beta_2: 0.99.
        options: as of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        if not 0 < beta_1 <= 1:
            raise ValueError(f"Lion: beta_1 must lie in (0, 1], received {beta_1!r}")
        if not 0 <= beta_2 <= 1:
            raise ValueError(f"Lion: beta_2 must lie in [0, 1], received {beta_2!r}")
        self.beta_1, self.beta_2 = float(beta_1), float(beta_2)

    def slot_count(self) -> int:
        return 1

    def update(self, values: Array, gradients: Array) -> None:
        (m,), g = self.slots, gradients
        mixed, part = self.scratch(0), self.scratch(1)
        np.multiply(m, self.beta_1, out=mixed)
        np.multiply(g, 1 - self.beta_1, out=part)
        mixed += part
        np.sign(mixed, out=mixed)
        mixed *= self.learning_rate
        values -= mixed
        m *= self.beta_2
        g *= 1 - self.beta_2
        m += g
        g.fill(0)
