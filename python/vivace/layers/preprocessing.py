"""Layers that put data into shape: scaling and normalizing features by statistics learned before training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from .._core import native
from .._typing import Array, BatchShape, Shape
from ..parameters import Changes
from ..step import Step
from .base import Layer
from .preparing import gathered


class Rescaling(Layer):
    """y = x * scale + offset; both numbers, or one for each channel. Any shape.

    Args:
        scale: 1 / 255 brings pixels of 0 ... 255 to 0 ... 1; with offset, 1 / 127.5 and -1 to -1 ... 1.
        offset: 0.
    """

    def __init__(self, scale: float | Sequence[float], offset: float | Sequence[float] = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for argument, value in (("scale", scale), ("offset", offset)):
            try:
                np.asarray(value, self.dtype)
            except (TypeError, ValueError):
                rule = "must be a number, or one for each channel"
                raise ValueError(f"{self.name}: {argument} {rule}, received {value!r}") from None
        self.scale, self.offset = scale, offset

    def make_way(self, shape: Shape) -> tuple[Array, Array]:
        """Scale and offset: of the input's last axes as many as they have."""
        scale, offset = np.asarray(self.scale, self.dtype), np.asarray(self.offset, self.dtype)
        rank = max(scale.ndim, offset.ndim)
        if rank > len(shape):
            raise ValueError(f"scale and offset have {rank} axes, the input has {len(shape)}")
        wide = [np.ascontiguousarray(np.broadcast_to(one, shape[len(shape) - rank :])) for one in (scale, offset)]
        return wide[0], wide[1]

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        way = self._ways.get(x.shape) or self.new_way(x.shape)
        y = step.empty(x.shape, x.dtype)
        native.scale_channels(x, way[0], way[1], 1, y)
        return y, way

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]]:
        """See `vivace.plan`."""
        scale, offset = self._ways.get(x.shape) or self.new_way(x.shape)
        y = step.empty(x.shape, x.dtype)
        return y, [partial(native.scale_channels, x, scale, offset, 1, y)]

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if input_gradient:
            native.scale_channels(dy, saved[0], None, 1, dy)
        return dy


class Normalization(Layer):
    """y = (x - mean) / sqrt(variance), for every feature; deviations below 1e-7 count as that.

    Mean and variance are given, or learned before training: `layer.adapt(x_train)`.

    Weights (not trainable), unless mean and variance are given: mean, variance (of the kept axes), and count
    (), which nothing uses, but Keras has it.

    Args:
        axis: the axis or axes that keep statistics of their own, -1; None: one mean and variance for all.
        mean, variance: numbers, or of the shape of the kept axes; both or neither.
        invert: undo it instead: y = x * sqrt(variance) + mean.
    """

    def __init__(
        self,
        axis: int | Sequence[int] | None = -1,
        mean: Any = None,
        variance: Any = None,
        invert: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.axis = () if axis is None else (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
        if (mean is None) != (variance is None):
            raise ValueError(f"{self.name}: give mean and variance, or neither; received {mean!r} and {variance!r}")
        self.given = None if mean is None else (np.asarray(mean, self.dtype), np.asarray(variance, self.dtype))
        self.invert = invert

    def get_config(self) -> dict[str, Any]:
        mean, variance = (None, None) if self.given is None else (one.tolist() for one in self.given)
        return {**super().get_config(), "mean": mean, "variance": variance}  # not the weights of these names

    def _kept(self, rank: int) -> list[int]:
        if any(not -rank <= axis < rank for axis in self.axis):
            raise ValueError(
                f"{self.name} (Normalization): axis {self.axis} is out of bounds for inputs of rank {rank}"
            )
        return sorted(axis % rank for axis in self.axis)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        if any(input_shape[axis] is None for axis in self._kept(len(input_shape))):
            raise ValueError(f"{self.name} (Normalization): the sizes of the axes {self.axis} must be known")
        return input_shape

    def build(self, input_shape: BatchShape) -> None:
        shape = tuple(input_shape[axis] or 0 for axis in self._kept(len(input_shape)))
        if self.given is None:
            self.adapt_mean = self.add_weight("mean", shape, "zeros", trainable=False)
            self.adapt_variance = self.add_weight("variance", shape, "ones", trainable=False)
            self.add_weight("count", (), "zeros", trainable=False)

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Learn mean and variance from an array (samples, ...); or from an iterable of such batches, of which steps
        (all) are taken. Builds the layer if it is not built.
        """
        if self.given is not None:
            raise ValueError(f"{self.name}.adapt: mean and variance were given already")
        x = np.asarray(gathered(data, steps))
        self.build_once((None, *x.shape[1:]))
        others = tuple(axis for axis in range(x.ndim) if axis not in self._kept(x.ndim))
        self.adapt_mean.assign(x.mean(others, dtype=np.float64))
        self.adapt_variance.assign(x.var(others, dtype=np.float64))

    @property
    def mean(self) -> Array | None:
        """The mean in a shape that broadcasts to the input's; None before the layer is built."""
        return self._shown(0)

    @property
    def variance(self) -> Array | None:
        """The variance in such a shape."""
        return self._shown(1)

    def _shown(self, which: int) -> Array | None:
        if self.input_shape is None:
            return None
        one = (self.given or (self.adapt_mean.array, self.adapt_variance.array))[which]
        kept = self._kept(len(self.input_shape))
        sizes = tuple(size or 1 for size in self.input_shape)
        wide = np.broadcast_to(one, [sizes[axis] for axis in kept])
        return wide.reshape([size if axis in kept else 1 for axis, size in enumerate(sizes)])

    def make_way(self, shape: tuple[Shape, int]) -> tuple[Array, Array, int]:
        """Mean and deviation, from the first kept axis to the last, as of a count of changes; and the elements behind
        these axes.
        """
        sizes, _ = shape
        mean, variance = self.given or (self.adapt_mean.array, self.adapt_variance.array)
        kept = self._kept(len(sizes))
        thin = [size if axis in kept else 1 for axis, size in enumerate(sizes)]
        span = slice(min(kept, default=0), max(kept, default=-1) + 1)
        deviation = np.maximum(np.sqrt(variance), np.asarray(1e-7, variance.dtype))
        wide = []
        for one in (mean, deviation):
            alone = np.broadcast_to(one, [sizes[axis] for axis in kept]).reshape(thin[span])
            # copies: the weights themselves may change before they are looked at again
            wide.append(np.array(np.broadcast_to(alone, sizes[span]), order="C"))
        return wide[0], wide[1], math.prod(sizes[span.stop :]) if kept else 1

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        key = x.shape, Changes.count
        exposed = self.given is None and (self.adapt_mean.exposed or self.adapt_variance.exposed)
        way = self.make_way(key) if exposed else self._ways.get(key) or self.new_way(key)
        mean, deviation, inner = way
        y = step.empty(x.shape, x.dtype)
        if self.invert:
            native.scale_channels(x, deviation, mean, inner, y)
        else:
            native.standardize_channels(x, deviation, mean, inner, y)
        return y, way

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        _, deviation, inner = saved
        if self.invert:
            native.scale_channels(dy, deviation, None, inner, dy)
        else:
            native.standardize_channels(dy, deviation, None, inner, dy)
        return dy


__all__ = ["Normalization", "Rescaling"]
