"""Input, Dense, Activation, Flatten and Dropout."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import activations, constraints, initializers, regularizers
from .._config import take_former
from .._core import native
from .._typing import Array, BatchShape, Initializer, Shape
from ..constraints import Constraint
from ..parameters import Parameter
from ..regularizers import L1L2
from ..step import Step, Stream
from .base import Layer, unchanged
from .checks import check_rank, only_off, positive
from .geometry import check_data_format, to_first, to_last
from .symbolic import Node, SymbolicTensor


class InputLayer(Layer):
    """States the shape of one sample; dtype: as of a layer, an integer type or "string". Made by `Input(shape)`."""

    def __init__(
        self,
        shape: Sequence[int | None] | None = None,
        batch_size: int | None = None,
        dtype: str | None = None,
        sparse: bool | None = None,
        ragged: bool | None = None,
        batch_shape: Sequence[int | None] | None = None,
        input_tensor: Any = None,
        optional: bool = False,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if shape is None:
            shape = take_former(kwargs, "input_shape", "call it shape")
        if batch_shape is None:
            batch_shape = take_former(kwargs, "batch_input_shape", "call it batch_shape")
        if (shape is None) == (batch_shape is None):
            raise ValueError(f"Input: give either shape or batch_shape, received {shape!r} and {batch_shape!r}")
        if isinstance(shape, int):
            raise ValueError(f"Input: shape must be a tuple such as ({shape},), received {shape!r}")
        only_off("Input", sparse=sparse, ragged=ragged, input_tensor=input_tensor, optional=optional)
        if any(not (size is None or isinstance(size, (int, np.integer))) for size in shape or batch_shape or ()):
            raise ValueError(f"Input: a shape holds integers and None, received {shape or batch_shape}")
        sample = batch_shape[1:] if batch_shape is not None else shape
        kind = "U" if dtype in (str, "string") else np.dtype(dtype or "f").kind
        if kind in "iubU":
            self.input_dtype = "string" if kind == "U" else "int32"
        super().__init__(name=name, dtype=None if self.input_dtype else dtype, input_shape=sample, **kwargs)
        self.build_once((None, *(self.declared_input_shape or ())))
        self._nodes.append(Node(self, [], False, None, self.output_shape))

    def get_config(self) -> dict[str, Any]:
        dtype = self.input_dtype or self.dtype
        return {"batch_shape": self.output_shape, "dtype": dtype, "name": self.name}

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        return x, None

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return dy


def Input(
    shape: Sequence[int | None] | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    sparse: bool | None = None,
    ragged: bool | None = None,
    batch_shape: Sequence[int | None] | None = None,
    name: str | None = None,
    tensor: Any = None,
    optional: bool = False,
) -> SymbolicTensor:
    """An input of a model: a symbolic tensor to call layers on, or the first entry of a Sequential.

    Args:
        shape: of one sample, without the batch, such as (28, 28, 1).
        batch_size: accepted for Keras's sake; a model takes batches of any size.
        dtype: "float32", "float64", an integer type, such as for an Embedding, or "string", for a StringLookup.
        batch_shape: in place of `shape`: with the batch axis first.
        sparse, ragged, tensor, optional: not supported; None or False.
    """
    made: SymbolicTensor = InputLayer(
        shape, batch_size, dtype, sparse, ragged, batch_shape, tensor, optional, name
    ).output
    return made


class Activated(Layer):
    """A layer that ends in an activation, and can also stop before it.

    A loss that is fused with the activation (softmax with cross-entropy) takes the values before it, the logits:
    training then calls `forward_linear` and `backward_linear` on the model's last layer.

    activation: by name; a layer, such as LeakyReLU(0.1), whose weights are then this layer's too; or a function of
    one's own, of arrays, that computes with `vivace.ops` or `autograd.numpy`.
    """

    def __init__(self, activation: str | Layer | Callable[[Any], Array] | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        own = activations.function_of_ones_own(activation)
        if own is not None:
            from .regularization import Lambda

            activation = Lambda(own, dtype=self.dtype, name=f"{self.name}_activation")
        self._own_function = own
        self.activation: Any = activation if isinstance(activation, Layer) else activations.name_of(activation)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "activation" and not isinstance(value, (str, Layer)):
            value = activations.name_of(value)
        super().__setattr__(name, value)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return config if self._own_function is None else config | {"activation": self._own_function}

    def sublayers(self) -> dict[str, Layer]:
        return {"activation": self.activation} if isinstance(self.activation, Layer) else {}

    @property
    def weights(self) -> list[Parameter]:
        return [*self.parameters, *(self.activation.weights if isinstance(self.activation, Layer) else ())]

    def build_once(self, input_shape: BatchShape) -> BatchShape:
        output_shape = super().build_once(input_shape)
        if isinstance(self.activation, Layer):
            self.activation.build_once(output_shape)
        return output_shape

    def forward_linear(self, x: Array, step: Step, activation: Any = "linear") -> tuple[Array, Any]:
        """The layer with one of the fused activations in place of its own."""
        raise TypeError(f"{type(self).__name__} must define forward_linear")

    def backward_linear(self, dz: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        raise TypeError(f"{type(self).__name__} must define backward_linear")

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if self.activation in activations.FUSED:
            y, saved = self.forward_linear(x, step, self.activation)
            return y, (None, y, saved)
        z, saved = self.forward_linear(x, step)
        if isinstance(self.activation, Layer):
            mask, step.mask = step.mask, None  # which the activation does not see
            y, inner = self.activation.forward(z, step)
            step.mask = mask
            return y, (z, inner, saved)
        y = step.empty(z.shape, z.dtype) if step.keeps or z is x else z  # the input is not ours to overwrite
        form = activations.native_form(self.activation)
        if form is not None:
            function, a, b, c = form
            native.function_forward(function, z, y, a, b, c)
        elif self.activation == "softmax":
            native.softmax_forward(z, y)
        else:
            activations.pair(self.activation)[0](z, out=y)
        return y, (z, y, saved)

    @property
    def fused_activation(self) -> Any:
        """What the layer's own op applies: its activation, or nothing."""
        return self.activation if self.activation in activations.FUSED else "linear"

    def bound_activation(self, y: Array) -> list[Any]:
        """What applies an activation that `forward_linear` does not, in place; see `vivace.plan`."""
        if self.activation in activations.FUSED:
            return []
        if self.activation == "softmax":
            return [partial(native.softmax_forward, y, y)]
        if isinstance(self.activation, Layer):
            layer = self.activation
            return [lambda: np.copyto(y, layer.forward(y, Step(training=False))[0])]
        form = activations.native_form(self.activation)
        if form is not None:
            function, *parameters = form
            return [partial(native.function_forward, function, y, y, *parameters)]
        return [partial(activations.pair(self.activation)[0], y, out=y)]

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        z, y, inner = saved
        if isinstance(self.activation, Layer):
            of_output = self.activation.backward(dy, y, step)
            assert of_output is not None
            dy = of_output
        elif self.activation in activations.FUSED:
            if self.activation != "linear":
                native.activation_backward(self.activation, y, dy, dy)
        elif (form := activations.native_form(self.activation)) is not None:
            function, a, b, c = form
            native.function_backward(function, z, y, dy, dy, a, b, c)
        elif self.activation == "softmax":
            native.softmax_backward(y, dy, dy)
        else:
            activations.pair(self.activation)[1](z, y, dy, out=dy)
        return self.backward_linear(dy, inner, step, input_gradient)


class Activation(Activated):
    """Applies an activation of `vivace.activations`, by name or function. Any input shape."""

    def __init__(self, activation: str | Callable[[Any], Array], **kwargs: Any) -> None:
        super().__init__(activation, **kwargs)

    def forward_linear(self, x: Array, step: Step, activation: Any = "linear") -> tuple[Array, Any]:
        if activation == "linear":
            return x, None
        y = step.empty(x.shape, x.dtype)
        native.activation_forward(activation, x, y)
        return y, None

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]]:
        """See `vivace.plan`."""
        y = step.empty(x.shape, x.dtype)
        return y, [partial(native.activation_forward, self.fused_activation, x, y), *self.bound_activation(y)]

    def backward_linear(self, dz: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return dz


class Dense(Activated):
    """Fully connected: y = activation(x @ kernel + bias).

    Input (batch, features), output (batch, units). Inputs of higher rank are transformed along their last axis.
    Weights: kernel (features, units), bias (units,).

    Args:
        units: number of outputs, at least 1.
        activation: a name or function of `vivace.activations`; None, the default, is "linear".
        use_bias: add a bias (True).
        kernel_initializer, bias_initializer: names or callables; "glorot_uniform" and "zeros".
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties of `vivace.regularizers` on the weights
            and on the output, none by default.
        kernel_constraint, bias_constraint: of `vivace.constraints`, none by default.
    """

    def __init__(
        self,
        units: int,
        activation: str | Callable[[Any], Array] | None = None,
        use_bias: bool = True,
        kernel_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        kernel_regularizer: str | L1L2 | None = None,
        bias_regularizer: str | L1L2 | None = None,
        activity_regularizer: str | L1L2 | None = None,
        kernel_constraint: str | Constraint | None = None,
        bias_constraint: str | Constraint | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activation, activity_regularizer=activity_regularizer, **kwargs)
        self.units = positive(self.name, "units", units)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    def build(self, input_shape: BatchShape) -> None:
        features = input_shape[-1]
        assert features is not None
        shape = (features, self.units)
        self.kernel = self.add_weight(
            "kernel", shape, self.kernel_initializer, True, self.kernel_regularizer, self.kernel_constraint
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                "bias", (self.units,), self.bias_initializer, True, self.bias_regularizer, self.bias_constraint
            )

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        if len(input_shape) < 2 or input_shape[-1] is None:
            raise ValueError(
                f"{self.name} (Dense) takes inputs of shape (batch, ..., features) with known features; "
                f"received shape {input_shape}"
            )
        if self.built and input_shape[-1] != self.kernel.shape[0]:
            raise ValueError(
                f"{self.name} (Dense) was built for {self.kernel.shape[0]} features, received shape {input_shape}"
            )
        return (*input_shape[:-1], self.units)

    def flops(self) -> int:
        rows = math.prod(size or 1 for size in (self.output_shape or (1, 1))[1:-1])
        return 2 * rows * math.prod(self.kernel.shape)

    def forward_linear(self, x: Array, step: Step, activation: Any = "linear") -> tuple[Array, Any]:
        kernel, bias = self.kernel.array, self.bias
        y = step.empty(x.shape[:-1] + kernel.shape[1:], x.dtype)
        native.dense_forward(x, kernel, bias.array if bias else None, y, activation)
        return y, x

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]]:
        """See `vivace.plan`."""
        y = step.empty((*x.shape[:-1], self.units), x.dtype)
        kernel, bias, fused = self.kernel.array, self.bias.array if self.bias else None, self.fused_activation
        call = partial(native.dense_forward, x, kernel, bias, y, fused)
        return y, [call, *self.bound_activation(y)]

    def backward_linear(self, dz: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return product_backward(self.kernel, self.bias, saved, dz, step, input_gradient)


def product_backward(
    kernel: Parameter, bias: Parameter | None, x: Array, dy: Array, step: Step, input_gradient: bool
) -> Array | None:
    """The way back through x @ kernel + bias: adds the weights' gradients, and returns that of x if it is wanted."""
    native.dense_weight_gradient(x, dy, kernel.gradient, bias.gradient if bias else None)
    if not input_gradient:
        return None
    dx = step.empty(x.shape, x.dtype)
    native.dense_input_gradient(dy, kernel.array, dx)
    return dx


class Cast(Layer):
    """Brings arrays to another dtype where a layer makes integers and the next one takes numbers, or the reverse."""

    def __init__(self, to: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.to = self.output_dtype = to

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        return x.astype(self.to, copy=False), None

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return None


def _flat(x: Array) -> Array:
    return x.reshape(x.shape[0], -1 if x.size else math.prod(x.shape[1:]))


class Flatten(Layer):
    """(batch, a, b, ...) -> (batch, a * b * ...), in row-major order, without copying.

    Args:
        data_format: "channels_last" (None, the default); "channels_first" moves the channels to the end first, a copy.
    """

    passes_on = True

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format, self.channels_first = check_data_format(self.name, data_format)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        known = [size for size in input_shape[1:] if size is not None]
        return (input_shape[0], math.prod(known) if len(known) == len(input_shape) - 1 else None)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if step.mask is not None:
            self.drop_mask(step)
        if self.channels_first:
            x = to_last(x.ndim > 2, x, step)
        return _flat(x), x.shape

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        return None if self.channels_first else (_flat(x), [])

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return to_first(self.channels_first and len(saved) > 2, dy.reshape(saved), step)


class Constant(Layer):
    """The same value for every sample, whatever the input: positions, say, that a class's `call` gives to an Embedding.

    value: an array of the shape of a sample; whole: of the shape of the output instead.
    """

    takes_any = True

    def __init__(self, value: Any, whole: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.value, self.whole = np.asarray(value), whole
        self.output_dtype = None if self.value.dtype.kind == "f" else self.value.dtype.name

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        return self.value.shape if self.whole else (input_shape[0], *self.value.shape)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        y = step.empty(self.value.shape if self.whole else (len(x), *self.value.shape), self.value.dtype)
        y[...] = self.value
        step.mask = None
        return y, None

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return None


class RepeatVector(Layer):
    """(batch, features) -> (batch, n, features): the same vector at every step."""

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = positive(self.name, "n", n)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        check_rank(f"{self.name} (RepeatVector)", input_shape, 2, "(batch, features)")
        return (input_shape[0], self.n, input_shape[1])

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        y = step.empty((len(x), self.n, x.shape[1]), x.dtype)
        y[...] = x[:, None]
        return y, None

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        return dy.sum(1, out=step.empty((len(dy), dy.shape[2]), dy.dtype))


class Dropout(Layer):
    """In training, sets a fraction `rate` of the inputs to 0 and divides the rest by 1 - rate; identity otherwise.

    The mask comes from a counter-based generator: it is not stored, and is the same for every thread count.

    Args:
        rate: in [0, 1]; 1 leaves nothing.
        noise_shape: shape of the mask, with 1 along the axes on which all elements share their fate, and None for the
            input's size, such as (None, 1, 8) for sequences of 8 features; None: every element has its own.
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
        if not 0 <= rate <= 1:
            raise ValueError(f"{self.name}: rate must lie in [0, 1], received {rate!r}")
        self.rate = float(rate)
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)
        self.seed = seed
        self.stream = Stream(seed)

    def forward(self, x: Array, step: Step) -> tuple[Array, Any]:
        if not step.training or self.rate == 0:
            return x, None
        y = step.empty(x.shape, x.dtype)
        number = self.stream.next()
        if self.noise_shape is None and self.rate < 1:
            native.dropout(x, self.rate, self.stream.seed, number, y)
            return y, number
        shape = masked_shape(self.name, x.shape, self.noise_shape)
        keep = keep_mask(shape, self.rate, self.stream.seed, number, x.dtype, step)
        return np.multiply(x, keep, out=y), keep

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        if saved is None or not input_gradient:
            return dy
        if isinstance(saved, int):
            native.dropout(dy, self.rate, self.stream.seed, saved, dy)
        else:
            dy *= saved
        return dy


def keep_mask(shape: Shape, rate: float, seed: int, number: int, dtype: Any, step: Step) -> Array:
    """What drops a fraction `rate` when it is multiplied with: 0 there, 1 / (1 - rate) elsewhere."""
    keep = step.empty(shape, dtype)
    keep.fill(rate < 1)
    if rate < 1:
        native.dropout(keep, rate, seed, number, keep)
    return keep


def masked_shape(owner: str, shape: Shape, noise_shape: Sequence[int | None] | None) -> Shape:
    """The shape of a mask over inputs of this shape: noise_shape, where None stands for the input's size."""
    if noise_shape is None:
        return shape
    fits = len(noise_shape) == len(shape) and all(m in (None, 1, n) for m, n in zip(noise_shape, shape, strict=True))
    if not fits:
        raise ValueError(f"{owner}: noise_shape {tuple(noise_shape)} does not broadcast to an input of shape {shape}")
    return tuple(n if m is None else m for m, n in zip(noise_shape, shape, strict=True))


__all__ = ["Activated", "Activation", "Constant", "Dense", "Dropout", "Flatten", "Input", "InputLayer", "RepeatVector"]
