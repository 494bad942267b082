"""What random configurations are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

Job = dict[str, Any]
Arrays = dict[str, Any]
Case = tuple[Job, Arrays]


class Dice:
    """Random choices and arrays, all from one seed."""

    def __init__(self, *seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = "float32"

    def pick(self, *values: Any) -> Any:
        return values[self.rng.integers(len(values))]

    def chance(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def integer(self, low: int, high: int) -> int:
        """Both ends included."""
        return int(self.rng.integers(low, high + 1))

    def integers(self, low: int, high: int, count: int) -> list[int]:
        return [self.integer(low, high) for _ in range(count)]

    def number(self, low: float = 0.0, high: float = 1.0) -> float:
        return float(self.rng.uniform(low, high))

    def numbers(self, count: int, low: float = 0.0, high: float = 1.0) -> list[float]:
        return [self.number(low, high) for _ in range(count)]

    def size(self, low: int, high: int, rank: int) -> Any:
        """An integer for all axes, or one for each."""
        return self.integer(low, high) if self.chance(0.3) else self.integers(low, high, rank)

    def some(self, **arguments: Any) -> dict[str, Any]:
        """Each of the arguments or, half the time, its default: leaves them out."""
        return {name: value for name, value in arguments.items() if self.chance()}

    def normal(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (self.rng.standard_normal(shape) * scale).astype(self.dtype)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        return self.rng.uniform(low, high, shape).astype(self.dtype)

    def labels(self, classes: int, *shape: int) -> np.ndarray:
        return self.rng.integers(0, classes, shape)

    def probabilities(self, *shape: int) -> np.ndarray:
        return self.rng.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(self.dtype)

    def mask(self, batch: int, steps: int) -> np.ndarray:
        """Of sequences that end early, start late, or have gaps; now and then of one that holds nothing."""
        kind, mask = self.integer(0, 3), np.ones((batch, steps), bool)
        for row in mask:
            length = self.integer(0 if self.chance(0.1) else 1, steps)
            if kind == 0:
                row[length:] = False
            elif kind == 1:
                row[: steps - length] = False
            else:
                row[...] = self.rng.random(steps) < 0.6
                row[self.integer(0, steps - 1)] = True
        return mask
