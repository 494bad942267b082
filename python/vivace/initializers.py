"""Weight initializers, with Keras's names, defaults and formulas.

An initializer is called with a shape and a dtype and returns an array. Seeds: `seed=None` draws the next one of the
global stream (`vivace.utils.set_random_seed`); a fixed seed gives the same values at every call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from . import random
from ._config import Configurable, deserialize_in, from_dict
from ._config import serialize as serialize
from ._naming import lookup, made
from ._typing import Array, Shape
from ._typing import Initializer as Function

_Axes = Sequence[int] | None


class Initializer(Configurable):
    """Base of all initializers: called with a shape and a dtype, returns an array."""

    family = "initializers"

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Array:
        raise TypeError(f"{type(self).__name__} must define __call__(shape, dtype)")


class Zeros(Initializer):
    """All 0."""

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Array:
        return np.zeros(shape, dtype)


class Ones(Initializer):
    """All 1."""

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Array:
        return np.ones(shape, dtype)


class Constant(Initializer):
    """All `value`, a number or what broadcasts to the shape."""

    def __init__(self, value: float | Array = 0.0) -> None:
        self.value = value

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Array:
        return np.full(shape, self.value, dtype)


class _Seeded(Initializer):
    def __init__(self, seed: int | None) -> None:
        self.seed = seed

    def _rng(self) -> np.random.Generator:
        return random.generator(self.seed)


class RandomNormal(_Seeded):
    """Normal with the given mean and standard deviation."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Array:
        return self._rng().normal(self.mean, self.stddev, shape).astype(dtype)


class RandomUniform(_Seeded):
    """Uniform in [minval, maxval)."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.minval, self.maxval = minval, maxval

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Array:
        return self._rng().uniform(self.minval, self.maxval, shape).astype(dtype)


def _truncated_normal(rng: np.random.Generator, mean: float, stddev: float, shape: Shape) -> Array:
    """Normal, with what falls beyond two standard deviations drawn again."""
    values: Array = rng.standard_normal(math.prod(shape))
    while (outside := np.flatnonzero(np.abs(values) > 2)).size:
        values[outside] = rng.standard_normal(outside.size)
    return (values * stddev + mean).reshape(shape)


class TruncatedNormal(_Seeded):
    """Normal, redrawn beyond two standard deviations."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Array:
        return _truncated_normal(self._rng(), self.mean, self.stddev, shape).astype(dtype)


def fans(shape: Shape, inputs: _Axes = None, outputs: _Axes = None) -> tuple[float, float]:
    """Inputs and outputs of one unit: the product of those axes; unless both are told, (in, out) of a matrix, times the
    receptive field of an HWIO kernel.
    """
    if inputs is not None and outputs is not None:
        return float(math.prod(shape[axis] for axis in inputs)), float(math.prod(shape[axis] for axis in outputs))
    if len(shape) < 2:
        size = float(shape[0]) if shape else 1.0
        return size, size
    field = math.prod(shape[:-2])
    return float(field * shape[-2]), float(field * shape[-1])


class VarianceScaling(_Seeded):
    """Variance scale / n, where n is the number of inputs ("fan_in"), outputs ("fan_out") or their mean ("fan_avg").

    distribution: "truncated_normal", "untruncated_normal" or "uniform".
    input_axes, output_axes: the shape's axes that inputs and outputs are counted over; None: as of a dense layer's or
        a convolution's kernel. The same holds for the classes below, which set the rest.
    (He et al. 2015; Glorot & Bengio 2010; as Keras defines it, the truncated normal's variance is corrected.)
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
        input_axes: _Axes = None,
        output_axes: _Axes = None,
    ) -> None:
        super().__init__(seed)
        self.input_axes, self.output_axes = input_axes, output_axes
        if scale <= 0:
            raise ValueError(f"VarianceScaling: scale must be positive, received {scale}")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(f"VarianceScaling: mode must be fan_in, fan_out or fan_avg, received {mode!r}")
        if distribution not in ("truncated_normal", "untruncated_normal", "uniform"):
            raise ValueError(
                "VarianceScaling: distribution must be truncated_normal, untruncated_normal or uniform, "
                f"received {distribution!r}"
            )
        self.scale, self.mode, self.distribution = scale, mode, distribution

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Array:
        fan_in, fan_out = fans(shape, self.input_axes, self.output_axes)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, n)
        rng = self._rng()
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return rng.uniform(-limit, limit, shape).astype(dtype)
        if self.distribution == "untruncated_normal":
            return rng.normal(0, math.sqrt(variance), shape).astype(dtype)
        # 0.8796...: the standard deviation of a unit normal truncated at two.
        return _truncated_normal(rng, 0, math.sqrt(variance) / 0.87962566103423978, shape).astype(dtype)


class GlorotUniform(VarianceScaling):
    """Uniform with variance 2 / (fan_in + fan_out): the default of kernels."""

    def __init__(self, seed: int | None = None, input_axes: _Axes = None, output_axes: _Axes = None) -> None:
        super().__init__(1.0, "fan_avg", "uniform", seed, input_axes, output_axes)


class GlorotNormal(VarianceScaling):
    """Truncated normal with variance 2 / (fan_in + fan_out)."""

    def __init__(self, seed: int | None = None, input_axes: _Axes = None, output_axes: _Axes = None) -> None:
        super().__init__(1.0, "fan_avg", "truncated_normal", seed, input_axes, output_axes)


class HeUniform(VarianceScaling):
    """Uniform with variance 2 / fan_in."""

    def __init__(self, seed: int | None = None, input_axes: _Axes = None, output_axes: _Axes = None) -> None:
        super().__init__(2.0, "fan_in", "uniform", seed, input_axes, output_axes)


class HeNormal(VarianceScaling):
    """Truncated normal with variance 2 / fan_in."""

    def __init__(self, seed: int | None = None, input_axes: _Axes = None, output_axes: _Axes = None) -> None:
        super().__init__(2.0, "fan_in", "truncated_normal", seed, input_axes, output_axes)


class LecunUniform(VarianceScaling):
    """Uniform with variance 1 / fan_in."""

    def __init__(self, seed: int | None = None, input_axes: _Axes = None, output_axes: _Axes = None) -> None:
        super().__init__(1.0, "fan_in", "uniform", seed, input_axes, output_axes)


class LecunNormal(VarianceScaling):
    """Truncated normal with variance 1 / fan_in."""

    def __init__(self, seed: int | None = None, input_axes: _Axes = None, output_axes: _Axes = None) -> None:
        super().__init__(1.0, "fan_in", "truncated_normal", seed, input_axes, output_axes)


class Orthogonal(_Seeded):
    """A matrix with orthonormal rows or columns, times `gain` (Saxe et al. 2014)."""

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.gain = gain

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Array:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: the shape must have at least two axes, received {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(self._rng().standard_normal((max(rows, columns), min(rows, columns))))
        q *= np.sign(np.diag(r))  # makes the distribution uniform
        return (self.gain * (q.T if rows < columns else q)).reshape(shape).astype(dtype)


class Identity(Initializer):
    """The identity matrix times `gain`; only for two axes."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Array:
        if len(shape) != 2:
            raise ValueError(f"Identity: the shape must have two axes, received {shape}")
        return self.gain * np.eye(*shape, dtype=dtype)


deserialize = partial(deserialize_in, "initializers")
_BY_NAME: dict[str, Any] = {
    "zeros": Zeros,
    "ones": Ones,
    "constant": Constant,
    "random_normal": RandomNormal,
    "random_uniform": RandomUniform,
    "normal": RandomNormal,
    "uniform": RandomUniform,
    "zero": Zeros,
    "one": Ones,
    "truncated_normal": TruncatedNormal,
    "variance_scaling": VarianceScaling,
    "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal,
    "he_uniform": HeUniform,
    "he_normal": HeNormal,
    "lecun_uniform": LecunUniform,
    "lecun_normal": LecunNormal,
    "orthogonal": Orthogonal,
    "identity": Identity,
}


def get(identifier: str | Mapping[str, Any] | Function | Array) -> Function:
    """The initializer of that name ("glorot_uniform", "GlorotUniform") or class, or of a dict; a callable itself. An
    array is the values.

    Raises ValueError for an unknown name, TypeError for anything else.
    """
    identifier = made(identifier)
    if isinstance(identifier, str):
        name = identifier.removesuffix("Initializer")  # as Keras calls two of them
        initializer: Function = lookup("initializer", name, _BY_NAME)()
        return initializer
    if isinstance(identifier, Mapping):
        return from_dict("initializers", Initializer, identifier)
    if isinstance(identifier, np.ndarray):
        return Constant(identifier)
    if not callable(identifier):
        raise TypeError(f"initializer must be a name or a callable, received {identifier!r}")
    return identifier


IdentityInitializer = Identity
OrthogonalInitializer = Orthogonal
constant = Constant
glorot_normal = GlorotNormal
glorot_uniform = GlorotUniform
he_normal = HeNormal
he_uniform = HeUniform
identity = Identity
lecun_normal = LecunNormal
lecun_uniform = LecunUniform
ones = Ones
orthogonal = Orthogonal
random_normal = RandomNormal
random_uniform = RandomUniform
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling
zeros = Zeros

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "IdentityInitializer",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "OrthogonalInitializer",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "constant",
    "deserialize",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "ones",
    "orthogonal",
    "random_normal",
    "random_uniform",
    "serialize",
    "truncated_normal",
    "variance_scaling",
    "zeros",
]
