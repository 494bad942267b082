"""Learning-rate schedules: functions of the number of updates made so far, with Keras's names and formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from .._config import Configurable, deserialize_in, from_dict, serialize


class LearningRateSchedule(Configurable):
    """Base of all schedules. A subclass defines `__call__(step)`; its arguments are attributes."""

    family = "optimizers.schedules"

    def __init__(self, name: str | None = None) -> None:
        self.name = name or type(self).__name__

    def __call__(self, step: int) -> float:
        raise TypeError(f"{type(self).__name__} must define __call__(step)")


def _positive(schedule: LearningRateSchedule, **arguments: float) -> None:
    for argument, value in arguments.items():
        if not value > 0:
            raise ValueError(f"{type(schedule).__name__}: {argument} must be positive, received {value!r}")


class ExponentialDecay(LearningRateSchedule):
    """initial_learning_rate * decay_rate ^ (step / decay_steps); with `staircase` the exponent is rounded down."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        super().__init__(name)
        _positive(self, decay_steps=decay_steps)
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.decay_rate, self.staircase = decay_rate, staircase

    def __call__(self, step: int) -> float:
        p = step / self.decay_steps
        return self.initial_learning_rate * self.decay_rate ** (math.floor(p) if self.staircase else p)


class InverseTimeDecay(LearningRateSchedule):
    """initial_learning_rate / (1 + decay_rate * step / decay_steps); with `staircase` the quotient is rounded down."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        super().__init__(name)
        _positive(self, decay_steps=decay_steps)
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.decay_rate, self.staircase = decay_rate, staircase

    def __call__(self, step: int) -> float:
        p = step / self.decay_steps
        return self.initial_learning_rate / (1 + self.decay_rate * (math.floor(p) if self.staircase else p))


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[i] up to and including step boundaries[i], the last value after them all.

    Raises ValueError unless there is one value more than boundaries.
    """

    def __init__(self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant") -> None:
        super().__init__(name)
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                "PiecewiseConstantDecay: there must be one value more than boundaries, "
                f"received {len(boundaries)} boundaries and {len(values)} values"
            )
        self.boundaries, self.values = list(boundaries), list(values)

    def __call__(self, step: int) -> float:
        return self.values[sum(step > boundary for boundary in self.boundaries)]


class PolynomialDecay(LearningRateSchedule):
    """From initial_learning_rate down to end_learning_rate: (initial - end) * (1 - step / decay_steps)^power + end.

    After decay_steps the rate stays; with `cycle`, decay_steps grows to the next multiple that is not below the step.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        super().__init__(name)
        _positive(self, decay_steps=decay_steps)
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.end_learning_rate, self.power, self.cycle = end_learning_rate, power, cycle

    def __call__(self, step: int) -> float:
        length = self.decay_steps * (max(1, math.ceil(step / self.decay_steps)) if self.cycle else 1)
        left = 1 - min(step, length) / length
        return (self.initial_learning_rate - self.end_learning_rate) * left**self.power + self.end_learning_rate


def _cosine(fraction: float, alpha: float, height: float = 1.0) -> float:
    return (1 - alpha) * 0.5 * height * (1 + math.cos(math.pi * fraction)) + alpha


class CosineDecay(LearningRateSchedule):
    """Half a cosine from the initial rate to alpha times it in decay_steps (Loshchilov & Hutter 2016).

    warmup_target: if given, the rate first rises linearly from initial_learning_rate to this in warmup_steps, and the
    cosine starts from it.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(name)
        _positive(self, decay_steps=decay_steps)
        self.initial_learning_rate, self.decay_steps, self.alpha = initial_learning_rate, decay_steps, alpha
        self.warmup_target, self.warmup_steps = warmup_target, warmup_steps

    def __call__(self, step: int) -> float:
        start, top = self.initial_learning_rate, self.warmup_target
        if top is None:
            return start * _cosine(min(step / self.decay_steps, 1), self.alpha)
        if step < self.warmup_steps:
            return start + (top - start) * step / self.warmup_steps
        return top * _cosine(min((step - self.warmup_steps) / self.decay_steps, 1), self.alpha)


class CosineDecayRestarts(LearningRateSchedule):
    """Half cosines, each t_mul times as long and m_mul times as high as the one before (Loshchilov & Hutter 2016).

    The first takes first_decay_steps; the rate never falls below alpha * initial_learning_rate. t_mul: at least 1.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        super().__init__(name)
        _positive(self, first_decay_steps=first_decay_steps)
        if not t_mul >= 1:
            raise ValueError(f"CosineDecayRestarts: t_mul must be at least 1, received {t_mul!r}")
        self.initial_learning_rate, self.first_decay_steps = initial_learning_rate, first_decay_steps
        self.t_mul, self.m_mul, self.alpha = t_mul, m_mul, alpha

    def __call__(self, step: int) -> float:
        length, left, restarts = self.first_decay_steps, float(step), 0
        if self.t_mul == 1:
            restarts = math.floor(left / length)  # not left // length, which is 9 for 37 and 3.7
            left = max(0.0, left - restarts * length)
        while left >= length:  # doubling from period to period: few turns, and no rounded logarithm at their edges
            left, length, restarts = left - length, length * self.t_mul, restarts + 1
        return self.initial_learning_rate * _cosine(left / length, self.alpha, self.m_mul**restarts)


deserialize = partial(deserialize_in, "optimizers.schedules")


def get(identifier: Mapping[str, Any] | Callable[[int], float]) -> Callable[[int], float]:
    """The schedule that a dict of "class_name" and "config" describes, or the schedule itself."""
    if callable(identifier):
        return identifier
    schedule: LearningRateSchedule = from_dict("optimizers.schedules", LearningRateSchedule, identifier)
    return schedule


__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "deserialize",
    "get",
    "serialize",
]
