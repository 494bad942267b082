"""Optimizers, with Keras's names, defaults and formulas: one native pass over the model's flat parameter block."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._core import native
from ._naming import lookup
from ._typing import Array


class Optimizer:
    """Base of all optimizers.

    learning_rate: may be changed at any time.
    iterations: updates made so far.
    """

    def __init__(self, learning_rate: float, name: str) -> None:
        self.learning_rate = learning_rate
        self.name = name
        self.iterations = 0
        self.slots: list[Array] = []  # state, each of the block's shape

    @property
    def learning_rate(self) -> float:
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        if not float(value) >= 0:
            raise ValueError(f"{type(self).__name__}: learning_rate must not be negative, received {value!r}")
        self._learning_rate = float(value)

    def slot_count(self) -> int:
        """State arrays needed, each as large as the parameters."""
        return 0

    def apply(self, values: Array, gradients: Array) -> None:
        """Update the flat block in place; the gradients are left zero, ready to accumulate again."""
        if len(self.slots) != self.slot_count() or any(s.shape != values.shape for s in self.slots):
            self.slots = [np.zeros_like(values) for _ in range(self.slot_count())]
        self.iterations += 1
        self.update(values, gradients)

    def update(self, values: Array, gradients: Array) -> None:
        raise TypeError(f"{type(self).__name__} must define update(values, gradients)")


class SGD(Optimizer):
    """Gradient descent: w -= lr g; with momentum v = momentum v - lr g, w += v (nesterov: w += momentum v - lr g).

    Args:
        learning_rate: 0.01.
        momentum: in [0, 1), 0.
        nesterov: False.
    """

    def __init__(
        self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False, name: str = "SGD"
    ) -> None:
        super().__init__(learning_rate, name)
        if not 0 <= momentum <= 1:
            raise ValueError(f"SGD: momentum must lie in [0, 1], received {momentum!r}")
        self.momentum = float(momentum)
        self.nesterov = bool(nesterov)

    def slot_count(self) -> int:
        return 1 if self.momentum else 0

    def update(self, values: Array, gradients: Array) -> None:
        velocity = self.slots[0] if self.slots else None
        native.sgd_update(values, gradients, velocity, self.learning_rate, self.momentum, self.nesterov)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, in the efficient form of its section 2, as in Keras).

    Args:
        learning_rate: 0.001.
        beta_1, beta_2: decay of the first and second moments, 0.9 and 0.999.
        epsilon: added to the root of the second moment, 1e-7.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str = "adam",
    ) -> None:
        super().__init__(learning_rate, name)
        for argument, beta in (("beta_1", beta_1), ("beta_2", beta_2)):
            if not 0 <= beta < 1:
                raise ValueError(f"Adam: {argument} must lie in [0, 1), received {beta!r}")
        self.beta_1, self.beta_2, self.epsilon = float(beta_1), float(beta_2), float(epsilon)

    def slot_count(self) -> int:
        return 2

    def update(self, values: Array, gradients: Array) -> None:
        m, v = self.slots
        native.adam_update(
            values, gradients, m, v, self.learning_rate, self.beta_1, self.beta_2, self.epsilon, self.iterations
        )


_BY_NAME: dict[str, Callable[[], Optimizer]] = {"sgd": SGD, "adam": Adam}


def get(identifier: str | Optimizer) -> Optimizer:
    """The optimizer of that name with its defaults, or the optimizer itself."""
    if isinstance(identifier, Optimizer):
        return identifier
    if not isinstance(identifier, str):
        raise TypeError(f"optimizer must be a name or a vivace.optimizers.Optimizer, received {identifier!r}")
    return lookup("optimizer", identifier, _BY_NAME)()
