"""Layers that act in training only, and those that do nothing or what a function says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._core import native
from .._typing import Array, BatchShape
from ..differentiation import pullback
from ..regularizers import L1L2
from ..step import Step, Stream
from .base import Layer, unchanged
from .checks import check_rank
from .core import masked_shape
from .geometry import AXES, check_data_format


class _SpatialDropout(Layer):
    """In training, sets whole channels of a sample to 0 with probability `rate` and divides the rest by 1 - rate.

    Args:
        rate: in [0, 1]; 1 leaves nothing.
        data_format: "channels_last" (None, the default) or "channels_first".
        seed: fixes the sequence of masks; by default the next seed of the global stream.
    """

    rank = 2

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: int | None = None,
        name: str | None = None,
        dtype: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, dtype=dtype, **kwargs)
        if not 0 <= rate <= 1:
            raise ValueError(f"{self.name}: rate must lie in [0, 1], received {rate!r}")
        self.rate = float(rate)
        self.data_format, self.channels_first = check_data_format(self.name, data_format)
        self.seed = seed
        self.stream = Stream(seed)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        if self.trainable:  # an argument that Keras does not have
            del config["trainable"]
        return config

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        if len(input_shape) != self.rank + 2:
            axes = f"channels, {AXES[self.rank]}" if self.channels_first else f"{AXES[self.rank]}, channels"
            check_rank(f"{self.name} ({type(self).__name__})", input_shape, self.rank + 2, f"(batch, {axes})")
        return input_shape

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if not step.training or self.rate == 0:
            return x, None
        number = self.stream.next()
        y = step.empty(x.shape, x.dtype)
        native.spatial_dropout(x, self.channels_first, self.rate, self.stream.seed, number, y)
        return y, number

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if saved is not None and input_gradient:
            native.spatial_dropout(dy, self.channels_first, self.rate, self.stream.seed, saved, dy)
        return dy


class SpatialDropout1D(_SpatialDropout):
    __doc__ = f"(batch, steps, channels). {_SpatialDropout.__doc__}"
    rank = 1

    bind = unchanged

    def __init__(
        self,
        rate: float,
        seed: int | None = None,
        name: str | None = None,
        dtype: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(rate, None, seed, name, dtype, **kwargs)


class SpatialDropout2D(_SpatialDropout):
    __doc__ = f"(batch, height, width, channels). {_SpatialDropout.__doc__}"
    bind = unchanged


class SpatialDropout3D(_SpatialDropout):
    __doc__ = f"(batch, depth, height, width, channels). {_SpatialDropout.__doc__}"
    rank = 3
    bind = unchanged


def _rate(owner: str, rate: float) -> float:
    if not 0 <= rate < 1:
        raise ValueError(f"{owner}: rate must lie in [0, 1), received {rate!r}")
    return float(rate)


class GaussianNoise(Layer):
    """In training, adds normal noise of mean 0.

    Args:
        stddev: the noise's standard deviation, at least 0.
        seed: fixes the noise; by default the next seed of the global stream.
    """

    bind = unchanged

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not stddev >= 0:
            raise ValueError(f"{self.name}: stddev must not be negative, received {stddev!r}")
        self.stddev = float(stddev)
        self.seed = seed
        self.stream = Stream(seed)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if not step.training or self.stddev == 0:
            return x, None
        number = self.stream.next()
        y = step.empty(x.shape, x.dtype)
        native.add_noise(x, self.stddev, self.stream.seed, number, y)
        return y, None

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return dy


class GaussianDropout(Layer):
    """In training, multiplies by normal noise of mean 1 and standard deviation sqrt(rate / (1 - rate)).

    Args:
        rate: in [0, 1).
        seed: fixes the noise; by default the next seed of the global stream.
    """

    bind = unchanged

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = _rate(self.name, rate)
        self.seed = seed
        self.stream = Stream(seed)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if not step.training or self.rate == 0:
            return x, None
        number = self.stream.next()
        y = step.empty(x.shape, x.dtype)
        native.multiply_noise(x, (self.rate / (1 - self.rate)) ** 0.5, self.stream.seed, number, y)
        return y, number

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if saved is not None and input_gradient:
            native.multiply_noise(dy, (self.rate / (1 - self.rate)) ** 0.5, self.stream.seed, saved, dy)
        return dy


class AlphaDropout(Layer):
    """Dropout that keeps mean and variance of what `selu` puts out: dropped elements get selu's lowest value, and all
    are scaled and shifted. G. Klambauer et al., 2017.

    Args:
        rate: in [0, 1).
        noise_shape: the mask's shape, as of `Dropout`.
        seed: fixes the sequence of masks; by default the next seed of the global stream.
    """

    bind = unchanged

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rate = _rate(self.name, rate)
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)
        self.seed = seed
        self.stream = Stream(seed)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if not step.training or self.rate == 0:
            return x, None
        number = self.stream.next()
        if self.noise_shape is not None:
            return self._dropped_together(x, number, step)
        y = step.empty(x.shape, x.dtype)
        native.alpha_dropout_forward(x, self.rate, self.stream.seed, number, y)
        return y, number

    def _dropped_together(self, x: Array, number: int, step: Step) -> tuple[Array, Array]:
        """The same with a mask of noise_shape: what it makes of ones and zeros tells what it does."""
        shape = masked_shape(self.name, x.shape, self.noise_shape)
        factor, offset = step.empty(shape, x.dtype), step.empty(shape, x.dtype)
        factor.fill(1)
        offset.fill(0)
        for one in (factor, offset):
            native.alpha_dropout_forward(one, self.rate, self.stream.seed, number, one)
        factor -= offset
        y = step.empty(x.shape, x.dtype)
        np.multiply(x, factor, y)
        return np.add(y, offset, y), factor

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if saved is None or not input_gradient:
            return dy
        if type(saved) is int:
            native.alpha_dropout_backward(dy, self.rate, self.stream.seed, saved, dy)
        else:
            dy *= saved
        return dy


class ActivityRegularization(Layer):
    """Passes its input on, and adds l1 * sum(abs(x)) + l2 * sum(x^2), the mean over the samples, to the loss.

    Args:
        l1, l2: the penalty's factors, at least 0.
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not (l1 >= 0 and l2 >= 0):
            raise ValueError(f"{self.name}: l1 and l2 must not be negative, received {l1!r} and {l2!r}")
        self.penalty = L1L2(l1, l2)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        step.penalty += native.penalty(x, self.penalty.l1, self.penalty.l2) / (len(x) or 1)
        return x, x

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if input_gradient:
            rows = len(dy) or 1
            native.add_penalty_gradient(saved, self.penalty.l1 / rows, self.penalty.l2 / rows, dy)
        return dy


def _mean_penalty(regularizer: L1L2, y: Array, parts: int = 1) -> float:
    """A penalty on a layer's output, of which every sample has its share: it does not grow with the batch.

    parts: how many rows of y are of one sample.
    """
    return regularizer(y) * parts / max(1, len(y))


def _add_mean_gradient(regularizer: L1L2, y: Array, dy: Array, parts: int = 1) -> None:
    slope = np.zeros_like(dy)
    regularizer.add_gradient(y, slope)
    slope *= parts / max(1, len(y))
    dy += slope


class Penalized:
    """A layer with a penalty on what it puts out: the loss gets the penalty, the gradient its derivative."""

    def __init__(self, layer: Layer, parts: int = 1) -> None:
        self.layer, self.parts = layer, parts

    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        y: Any
        y, saved = self.layer.forward(x, step)
        assert self.layer.activity_regularizer is not None
        for one in y if isinstance(y, list) else [y]:
            step.penalty += _mean_penalty(self.layer.activity_regularizer, one, self.parts)
        return y, (y, saved)

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        y: Any
        y, inner = saved
        assert self.layer.activity_regularizer is not None
        several = isinstance(y, list)
        for one, d in zip(y if several else [y], dy if several else [dy], strict=True):
            _add_mean_gradient(self.layer.activity_regularizer, one, d, self.parts)
        return self.layer.backward(dy, inner, step, input_gradient)


def unit_of(layer: Layer, parts: int = 1) -> Any:
    """What runs a layer that is not fused."""
    return layer if layer.activity_regularizer is None else Penalized(layer, parts)


def runs_as_written(layer: Layer) -> bool:
    """Whether a layer computes what its class says that has the native call: a class that inherits `bind`, or an object
    whose `forward` was replaced, may do something else.
    """
    return "bind" in vars(type(layer)) and "forward" not in vars(layer)


class Identity(Layer):
    """Passes its input on."""

    bind = unchanged

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        return x, None

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return dy


class Lambda(Layer):
    """Applies a function of NumPy arrays.

    To train through the layer, give the function's derivative too; or the autograd library (the extra `autograd`)
    derives it, if the function computes with `autograd.numpy`.

    Args:
        function: x (batch, ...) -> y (batch, ...), plus the arguments by name. Of several inputs x is a list.
        gradient: (x, y, dy) -> dx, for several inputs a list, plus the arguments by name; None: autograd's.
        output_shape: the shape of a sample of the output, or a function of the input's; by default what the function
            makes of zeros.
        mask: the output's mask, or a function (inputs, mask) -> mask; None: the output has none.
        arguments: further arguments of the function, by name.
    """

    several_inputs = True

    def __init__(
        self,
        function: Callable[..., Array],
        output_shape: Any = None,
        mask: Any = None,
        arguments: dict[str, Any] | None = None,
        gradient: Callable[..., Array] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for argument, value in (("function", function), ("gradient", gradient)):
            if not callable(value) and (argument == "function" or value is not None):
                raise TypeError(f"{self.name}: {argument} must be a function, received {value!r}")
        self.function, self.gradient = function, gradient
        self.sample_shape, self.mask = output_shape, mask
        self.arguments = dict(arguments or {})

    def compute_output_shape(self, input_shape: Any) -> BatchShape:
        several = isinstance(input_shape, list)
        if callable(self.sample_shape):
            return (None, *tuple(self.sample_shape(input_shape))[1:])
        if self.sample_shape is not None:
            return (None, *self.sample_shape)
        known = [(1, *(size or 1 for size in shape[1:])) for shape in (input_shape if several else [input_shape])]
        zeros = [np.zeros(shape, self.dtype) for shape in known]
        return (None, *np.shape(self.function(zeros if several else zeros[0], **self.arguments))[1:])

    def forward(self, x: Any, step: Step) -> tuple[Array, Any]:
        y = np.ascontiguousarray(self.function(x, **self.arguments), self.dtype)
        step.mask = self.mask(x, step.mask) if callable(self.mask) else self.mask
        return y, (x, y)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        if not input_gradient:
            return None
        several = isinstance(saved[0], list)
        if self.gradient is None:
            arrays = saved[0] if several else saved[:1]
            parts = pullback(f"{self.name} (Lambda)", self._of_arrays if several else self._of_array, arrays)[1](dy)
        else:
            given = self.gradient(*saved, dy, **self.arguments)
            parts = [np.ascontiguousarray(part, self.dtype) for part in (given if several else [given])]
        return parts if several else parts[0]

    def _of_array(self, x: Any) -> Any:
        return self.function(x, **self.arguments)

    def _of_arrays(self, *x: Any) -> Any:
        return self.function(list(x), **self.arguments)


__all__ = [
    "ActivityRegularization",
    "AlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "Lambda",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
]
