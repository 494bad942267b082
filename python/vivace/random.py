"""The one source of randomness: seeds drawn in order from one counter-based stream.

Whatever needs random numbers (an initializer, a dropout layer, the shuffling of a `fit`) asks for a seed of its own
when it is made. So after `set_random_seed(s)` the same program draws the same numbers, for every thread count.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ._typing import Array

_seed = int.from_bytes(os.urandom(8), "little")
_drawn = 0


def set_random_seed(seed: int) -> None:
    """Make everything random from here on a function of `seed` (an integer >= 0) alone.

    Raises:
        ValueError: `seed` is not a non-negative integer.
    """
    global _seed, _drawn
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"set_random_seed: seed must be a non-negative integer, received {seed!r}")
    _seed, _drawn = int(seed), 0


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """As after `set_random_seed(seed)` inside, and as if nothing had been drawn behind; None changes nothing."""
    global _seed, _drawn
    before = _seed, _drawn
    if seed is not None:
        set_random_seed(seed)
    try:
        yield
    finally:
        if seed is not None:
            _seed, _drawn = before


def next_seed() -> int:
    """A new 63-bit seed, the next of the stream."""
    global _drawn
    _drawn += 1
    return int(np.random.SeedSequence((_seed, _drawn)).generate_state(1, np.uint64)[0]) >> 1


def generator(seed: int | None = None) -> np.random.Generator:
    """A NumPy generator (Philox) with the given seed, or the next one."""
    return np.random.Generator(np.random.Philox(next_seed() if seed is None else seed))


def permutation(rng: np.random.Generator, n: int) -> Array:
    """A random order of n rows (int64)."""
    order: Array = rng.permutation(n)
    return order.astype(np.int64, copy=False)


class SeedGenerator:
    """Seeds one after the other, for `normal` and `uniform`.

    seed: the same one gives the same seeds; None: the next of the package's stream.
    """

    def __init__(self, seed: int | None = None, name: str | None = None) -> None:
        self.seed, self.name = next_seed() if seed is None else seed, name
        self._drawn = 0

    def next(self) -> int:
        """A new seed."""
        self._drawn += 1
        return int(np.random.SeedSequence((self.seed, self._drawn)).generate_state(1, np.uint64)[0]) >> 1


def normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    """Random numbers of a normal distribution. In a `call`, new ones in every pass; None in front is the batch's size.

    Args:
        shape: of the array.
        mean, stddev: of the distribution, 0 and 1.
        dtype: `vivace.config.floatx()`.
        seed: a number, for the same values at every call; a `SeedGenerator`; None: the package's stream.
    """
    return importlib.import_module(".ops", __package__).random_normal(shape, mean, stddev, dtype, seed)


def uniform(shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    """Random numbers, evenly in [minval, maxval); otherwise like `normal`."""
    return importlib.import_module(".ops", __package__).random_uniform(shape, minval, maxval, dtype, seed)


def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
    """The inputs, each with probability `rate` 0, the others divided by 1 - rate.

    noise_shape: where it has 1, what lies along that axis is dropped together; seed: as of `normal`.
    """
    return importlib.import_module(".ops", __package__).random_dropout(inputs, rate, noise_shape, seed)
