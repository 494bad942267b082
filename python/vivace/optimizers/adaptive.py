"""Optimizers that scale each weight's step by the size of its past gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._typing import Array
from .base import Optimizer


def _check_rho(owner: str, rho: float) -> float:
    if not 0 <= rho <= 1:
        raise ValueError(f"{owner}: rho must lie in [0, 1], received {rho!r}")
    return float(rho)


class RMSprop(Optimizer):
    """v = rho v + (1 - rho) g^2; w -= lr g / sqrt(v + epsilon) (Hinton 2012).

    Args:
        learning_rate: 0.001.
        rho: 0.9.
        momentum: the steps accumulate, u = momentum u + step, w -= u; 0.
        epsilon: 1e-7.
        centered: subtract the square of the mean gradient from v under the root.
        options: as of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        if not 0 <= momentum <= 1:
            raise ValueError(f"RMSprop: momentum must lie in [0, 1], received {momentum!r}")
        self.rho, self.momentum = _check_rho("RMSprop", rho), float(momentum)
        self.epsilon, self.centered = float(epsilon), bool(centered)

    def slot_count(self) -> int:
        return 1 + bool(self.momentum) + self.centered

    def update(self, values: Array, gradients: Array) -> None:
        v, g, part, root = self.slots[0], gradients, self.scratch(0), self.scratch(1)
        v *= self.rho
        np.square(g, out=part)
        part *= 1 - self.rho
        v += part
        np.add(v, self.epsilon, out=root)
        if self.centered:
            mean = self.slots[-1]
            mean *= self.rho
            mean += np.multiply(g, 1 - self.rho, out=part)
            root -= np.square(mean, out=part)
        np.sqrt(root, out=root)
        g *= self.learning_rate
        g /= root
        if self.momentum:
            pace = self.slots[1]
            pace *= self.momentum
            pace += g
            values -= pace
        else:
            values -= g
        g.fill(0)


class Adagrad(Optimizer):
    """a += g^2; w -= lr g / sqrt(a + epsilon) (Duchi et al. 2011).

    Args:
        learning_rate: 0.001.
        initial_accumulator_value: what a starts from, 0.1.
        epsilon: 1e-7.
        options: as of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        if not initial_accumulator_value >= 0:
            raise ValueError(
                f"Adagrad: initial_accumulator_value must not be negative, received {initial_accumulator_value!r}"
            )
        self.initial_accumulator_value, self.epsilon = float(initial_accumulator_value), float(epsilon)

    def slot_count(self) -> int:
        return 1

    def first_slot_value(self, slot: int) -> float:
        return self.initial_accumulator_value

    def update(self, values: Array, gradients: Array) -> None:
        (a,), root = self.slots, self.scratch(0)
        a += np.square(gradients, out=root)
        np.add(a, self.epsilon, out=root)
        np.sqrt(root, out=root)
        gradients *= self.learning_rate
        gradients /= root
        values -= gradients
        gradients.fill(0)


class Adadelta(Optimizer):
    """Steps in the weights' own units: the past steps' size over the past gradients' (Zeiler 2012).

    a = rho a + (1 - rho) g^2; s = g sqrt(d + epsilon) / sqrt(a + epsilon); d = rho d + (1 - rho) s^2; w -= lr s.

    Args:
        learning_rate: 0.001 (the paper's is 1).
        rho: 0.95.
        epsilon: 1e-7.
        options: as of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rho, self.epsilon = _check_rho("Adadelta", rho), float(epsilon)

    def slot_count(self) -> int:
        return 2

    def update(self, values: Array, gradients: Array) -> None:
        (a, d), step, part = self.slots, gradients, self.scratch(0)
        a *= self.rho
        np.square(gradients, out=part)
        part *= 1 - self.rho
        a += part
        for mean, divide in ((d, False), (a, True)):
            np.add(mean, self.epsilon, out=part)
            np.sqrt(part, out=part)
            (np.divide if divide else np.multiply)(step, part, out=step)
        d *= self.rho
        np.square(step, out=part)
        part *= 1 - self.rho
        d += part
        step *= self.learning_rate
        values -= step
        gradients.fill(0)


class Ftrl(Optimizer):
    """Follow the regularized leader (McMahan et al. 2013), for sparse features.

    With p = -learning_rate_power: s = ((n + g^2)^p - n^p) / lr; z += g + 2 shrinkage w - s w; n += g^2;
    w = (clip(z, -l1, l1) - z) / (n^p / lr + 2 l2 + beta / lr). A weight whose divisor is 0 (nothing has been seen of
    it, and the accumulator starts from 0) stays as it is, and so do all at a learning rate of 0.

    Args:
        learning_rate: 0.001.
        learning_rate_power: at most 0, -0.5; 0 keeps the rate.
        initial_accumulator_value: what n starts from, 0.1.
        l1_regularization_strength, l2_regularization_strength: 0.
        l2_shrinkage_regularization_strength: a penalty on the size of the weights, 0.
        beta: 0.
        options: as of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        if not learning_rate_power <= 0:
            raise ValueError(f"Ftrl: learning_rate_power must not be positive, received {learning_rate_power!r}")
        for argument, value in (
            ("initial_accumulator_value", initial_accumulator_value),
            ("l1_regularization_strength", l1_regularization_strength),
            ("l2_regularization_strength", l2_regularization_strength),
            ("l2_shrinkage_regularization_strength", l2_shrinkage_regularization_strength),
        ):
            if not value >= 0:
                raise ValueError(f"Ftrl: {argument} must not be negative, received {value!r}")
        self.learning_rate_power = float(learning_rate_power)
        self.initial_accumulator_value = float(initial_accumulator_value)
        self.l1_regularization_strength = float(l1_regularization_strength)
        self.l2_regularization_strength = float(l2_regularization_strength)
        self.l2_shrinkage_regularization_strength = float(l2_shrinkage_regularization_strength)
        self.beta = float(beta)

    def slot_count(self) -> int:
        return 2

    def first_slot_value(self, slot: int) -> float:
        return 0.0 if slot else self.initial_accumulator_value

    def update(self, values: Array, gradients: Array) -> None:
        (n, lead), g, rate, power = self.slots, gradients, self.learning_rate, -self.learning_rate_power
        if rate == 0:
            g.fill(0)
            return
        before = np.power(n, power, out=self.scratch(0))
        n += np.square(g, out=self.scratch(1))
        after = np.power(n, power, out=self.scratch(1))
        g += 2 * self.l2_shrinkage_regularization_strength * values
        before -= after
        before *= values
        before /= rate
        g += before
        lead += g
        after /= rate
        after += 2 * self.l2_regularization_strength + self.beta / rate
        np.clip(lead, -self.l1_regularization_strength, self.l1_regularization_strength, out=g)
        g -= lead
        np.divide(g, after, out=values, where=after != 0)
        g.fill(0)
