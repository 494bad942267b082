"""Adam and its relatives: gradients averaged, and scaled by an average of their size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .._core import native
from .._typing import Array
from .base import Optimizer


def check_betas(owner: str, **betas: float) -> None:
    """Raise ValueError for a decay that is none."""
    for argument, beta in betas.items():
        if not 0 <= beta < 1:
            raise ValueError(f"{owner}: {argument} must lie in [0, 1), received {beta!r}")


class Moments(Optimizer):
    """Two moments of the gradient."""

    def __init__(
        self,
        learning_rate: float | Callable[[int], float],
        beta_1: float,
        beta_2: float,
        epsilon: float,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        check_betas(type(self).__name__, beta_1=beta_1, beta_2=beta_2)
        self.beta_1, self.beta_2, self.epsilon = float(beta_1), float(beta_2), float(epsilon)

    def slot_count(self) -> int:
        return 2

    def _mix(self, average: Array, new: Array, beta: float) -> None:
        """average += (new - average) * (1 - beta); uses scratch 0."""
        change = np.subtract(new, average, out=self.scratch(0))
        change *= 1 - beta
        average += change


class Adam(Moments):
    """Adam (Kingma & Ba 2015, in the efficient form of its section 2, as in Keras).

    Args:
        learning_rate: 0.001.
        beta_1, beta_2: decay of the first and second moments, 0.9 and 0.999.
        epsilon: added to the root of the second moment, 1e-7.
        amsgrad: divide by the largest second moment so far (Reddi et al. 2018).
        options: as of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **options)
        self.amsgrad = bool(amsgrad)

    def slot_count(self) -> int:
        return 3 if self.amsgrad else 2

    def update(self, values: Array, gradients: Array) -> None:
        step, rate = self.iterations + 1, self.learning_rate
        if not self.amsgrad:
            settings = self.beta_1, self.beta_2, self.epsilon
            native.adam_update(values, gradients, self.slots, rate, settings, step)
            return
        m, v, largest = self.slots
        self._mix(m, gradients, self.beta_1)
        self._mix(v, np.square(gradients, out=gradients), self.beta_2)
        np.maximum(largest, v, out=largest)
        root, change = np.sqrt(largest, out=gradients), self.scratch(0)
        root += self.epsilon
        np.multiply(m, rate * math.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step), out=change)
        change /= root
        values -= change
        gradients.fill(0)


class AdamW(Adam):
    """Adam with weight decay apart from the gradient, 0.004 (Loshchilov & Hutter 2019). Other arguments as of Adam."""

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        if weight_decay is None:
            raise ValueError("AdamW: weight_decay must be a number, received None; without it, use Adam")
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **options)


class Adamax(Moments):
    """Adam with the largest recent gradient, u = max(beta_2 u, |g|), in place of the second moment's root.

    w -= lr / (1 - beta_1^t) * m / (u + epsilon) (Kingma & Ba 2015, section 7.1).

    Args:
        learning_rate: 0.001.
        beta_1, beta_2: 0.9 and 0.999.
        epsilon: 1e-7.
        options: as of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **options)

    def update(self, values: Array, gradients: Array) -> None:
        m, u = self.slots
        self._mix(m, gradients, self.beta_1)
        u *= self.beta_2
        np.maximum(u, np.abs(gradients, out=gradients), out=u)
        size = np.add(u, self.epsilon, out=gradients)
        change = np.multiply(m, self.learning_rate / (1 - self.beta_1 ** (self.iterations + 1)), out=self.scratch(0))
        change /= size
        values -= change
        gradients.fill(0)


class Nadam(Moments):
    """Adam with Nesterov's momentum, whose decay grows: u_t = beta_1 (1 - 0.96^t / 2) (Dozat 2016).

    m_hat = u_{t+1} m / (1 - u_1...u_{t+1}) + (1 - u_t) g / (1 - u_1...u_t); w -= lr m_hat / (sqrt(v_hat) + epsilon).

    Args:
        learning_rate: 0.001.
        beta_1, beta_2: 0.9 and 0.999.
        epsilon: 1e-7.
        options: as of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **options)
        self._product, self._product_of = 1.0, 0  # u_1 ... u_t, and t

    def _decay_of(self, step: int) -> float:
        return self.beta_1 * (1 - 0.5 * 0.96**step)

    def _product_up_to(self, step: int) -> float:
        if self._product_of > step:
            self._product, self._product_of = 1.0, 0
        while self._product_of < step:  # one turn a step; more only after a state was set
            self._product_of += 1
            self._product *= self._decay_of(self._product_of)
        return self._product

    def update(self, values: Array, gradients: Array) -> None:
        (m, v), g, t = self.slots, gradients, self.iterations + 1
        now, following = self._decay_of(t), self._decay_of(t + 1)
        product = self._product_up_to(t)
        self._mix(m, g, self.beta_1)
        self._mix(v, np.square(g, out=self.scratch(1)), self.beta_2)
        hat, root = self.scratch(0), self.scratch(1)
        np.multiply(m, following / (1 - product * following), out=hat)
        g *= (1 - now) / (1 - product)
        hat += g
        np.multiply(v, 1 / (1 - self.beta_2**t), out=root)
        np.sqrt(root, out=root)
        root += self.epsilon
        hat /= root
        hat *= self.learning_rate
        values -= hat
        g.fill(0)
