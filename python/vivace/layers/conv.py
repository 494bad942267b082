"""Convolution layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from .. import constraints, initializers, regularizers
from .._core import native
from .._typing import Array, BatchShape, Initializer, Shape
from ..constraints import Constraint
from ..parameters import Changes, Parameter, aligned_empty
from ..regularizers import L1L2
from ..step import Step
from .checks import check_rank, positive
from .core import Activated
from .geometry import (
    AXES,
    check_data_format,
    check_padding,
    filled,
    first_shape,
    format_hint,
    last_shape,
    same_padding,
    sizes,
    to_first,
    to_last,
    two,
    unknown_as,
)

_SHARED = """
        strides, dilation_rate: 1; an integer or one for each axis.
        data_format: "channels_last" (None, the default), or "channels_first", which is transposed to it and back: two
            copies each way.
        activation: a name or a function of `vivace.activations`; None, the default, is "linear".
        use_bias: add a bias (True).
        kernel_initializer, bias_initializer: names or callables; "glorot_uniform" and "zeros".
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties of `vivace.regularizers` on the weights
            and on the output, none by default.
        kernel_constraint, bias_constraint: of `vivace.constraints`, none by default."""


class Way(NamedTuple):
    """How inputs of one shape are convolved: as images, of height 1 if they are sequences, or as volumes."""

    shape: Any  # native.Conv2DShape, or of volumes and transposed convolutions native.Conv3DShape
    output: Shape  # of the layer
    form: str  # of the kernel that inference reads


class Windowed(Activated):
    """A layer that slides a window of weights over sequences (rank 1), images (2) or volumes (3).

    A subclass implements `geometry`, `output_shape_of`, `convolve` and `convolve_backward` with the channels last; the
    last two come from `OneKernel` where there is one native op.
    """

    rank = 2
    paddings: tuple[str, ...] = ("valid", "same")

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int],
        padding: str,
        data_format: str | None,
        dilation_rate: int | Sequence[int],
        activation: str | Callable[[Any], Array] | None,
        use_bias: bool,
        bias_initializer: str | Initializer,
        bias_regularizer: str | L1L2 | None,
        bias_constraint: str | Constraint | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activation, **kwargs)
        self.kernel_size = sizes(self.name, "kernel_size", kernel_size, self.rank)
        self.strides = sizes(self.name, "strides", strides, self.rank)
        self.dilation_rate = sizes(self.name, "dilation_rate", dilation_rate, self.rank)
        self.padding = check_padding(self.name, padding, self.paddings)
        self.data_format, self.channels_first = check_data_format(self.name, data_format)
        self.use_bias = use_bias
        self.bias_initializer = initializers.get(bias_initializer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.bias_constraint = constraints.get(bias_constraint)
        self.bias: Parameter | None = None

    def geometry(self, x_shape: Shape) -> Any:
        """The layer as a convolution of images or volumes, for an input of this shape. Raises ValueError if there is
        none."""
        raise TypeError(f"{type(self).__name__} must define geometry")

    def make_way(self, shape: Shape) -> Way:
        geometry = self.geometry(shape)
        return Way(geometry, (shape[0], *geometry.output[3 - self.rank :]), native.kernel_form(geometry))

    def shape_for(self, x_shape: Shape) -> Any:
        """`geometry`, worked out once."""
        way: Way = self._ways.get(x_shape) or self.new_way(x_shape)
        return way.shape

    def output_shape_of(self, shape: BatchShape) -> BatchShape:
        raise TypeError(f"{type(self).__name__} must define output_shape_of")

    def convolve(self, x: Array, step: Step, activation: Any) -> tuple[Array, Any]:
        raise TypeError(f"{type(self).__name__} must define convolve")

    def convolve_backward(self, dz: Array, saved: Any, step: Step, input_gradient: bool) -> Array | None:
        raise TypeError(f"{type(self).__name__} must define convolve_backward")

    def add_bias(self, size: int) -> None:
        if self.use_bias:
            self.bias = self.add_weight(
                "bias", (size,), self.bias_initializer, True, self.bias_regularizer, self.bias_constraint
            )

    def channels(self, input_shape: BatchShape) -> int:
        return last_shape(self.channels_first, input_shape)[-1] or 0

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        kind = f"{self.name} ({type(self).__name__})"
        axes = f"channels, {AXES[self.rank]}" if self.channels_first else f"{AXES[self.rank]}, channels"
        hint = ""
        if len(input_shape) == self.rank + 1:
            hint = "; add the channel axis with x[..., None] (or, to a single sample, the batch axis with x[None])"
        check_rank(kind, input_shape, self.rank + 2, f"(batch, {axes})", hint)
        shape = last_shape(self.channels_first, input_shape)
        if shape[-1] is None:
            raise ValueError(f"{kind}: the number of channels must be known, received shape {input_shape}")
        if self.built and shape[-1] != self.channels(self.input_shape or ()):
            raise ValueError(
                f"{kind} was built for {self.channels(self.input_shape or ())} channels, received shape {input_shape}"
                f"{format_hint(self.channels_first, input_shape)}"
            )
        try:
            output = self.output_shape_of((shape[0], *self.sample(shape)[1:]))
            return first_shape(self.channels_first, unknown_as(shape, output))
        except ValueError as error:
            raise ValueError(f"{error}{format_hint(self.channels_first, input_shape)}") from None

    def sample(self, shape: BatchShape) -> Shape:
        """One sample of this shape, channels last; where a size is unknown, it holds one window."""
        return filled(shape, [(k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation_rate, strict=True)])

    def pads(self, input_sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Zeros before and behind each axis."""
        windows = zip(input_sizes, self.kernel_size, self.strides, self.dilation_rate, strict=True)
        if self.padding == "same":
            return [same_padding(*window) for window in windows]
        return [(dilation * (k - 1) if self.padding == "causal" else 0, 0) for _, k, _, dilation in windows]

    def image_shape(self, x: Shape, kernel: Shape, groups: int) -> native.Conv2DShape:
        """The geometry of sequences (as images of height 1) or images."""
        pads = [(0, 0)] * (2 - self.rank) + self.pads(x[1:-1])
        image = (x[0], *two(x[1:-1]), x[-1])
        window = (*two(kernel[:-2]), *kernel[-2:])
        strides, dilation = two(self.strides), two(self.dilation_rate)
        return native.Conv2DShape(image, window, strides, (*pads[0], *pads[1]), dilation, groups)  # type: ignore[arg-type]

    def volume_shape(self, x: Shape, kernel: Shape, groups: int) -> native.Conv3DShape:
        """The geometry of volumes; of sequences and images as volumes of one row or slice."""
        ones: Any = (1,) * (3 - self.rank)
        pads: Any = (*(0, 0) * len(ones), *(p for pair in self.pads(x[1:-1]) for p in pair))
        volume: Any = (x[0], *ones, *x[1:])
        return native.Conv3DShape(
            volume, (*ones, *kernel), (*ones, *self.strides), pads, (*ones, *self.dilation_rate), groups
        )

    def forward_linear(self, x: Array, step: Step, activation: Any = "linear") -> tuple[Array, Any]:
        if step.mask is not None:
            self.drop_mask(step)
        if not self.channels_first:
            return self.convolve(x, step, activation)
        y, saved = self.convolve(to_last(True, x, step), step, activation)
        return to_first(True, y, step), saved

    def backward_linear(self, dz: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        dx = self.convolve_backward(to_last(self.channels_first, dz, step), saved, step, input_gradient)
        return None if dx is None else to_first(self.channels_first, dx, step)


class KernelForms:
    """A kernel in the forms that inference reads: packed or transformed once, until some parameter changes."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[int, Array]] = {}

    def __reduce__(self) -> tuple[type[KernelForms], tuple[()]]:
        return KernelForms, ()  # copies make their own

    def get(
        self, parameter: Parameter, shape: native.Conv2DShape, pool: native.Pool2DShape | None, name: str
    ) -> Array | None:
        """The form called `name`, which the shapes want; None where the kernel itself is read."""
        if name == "original" or parameter.exposed:
            return None
        made, now = self._made.get(name), Changes.count
        if made is not None and made[0] == now:
            return made[1]
        kernel = parameter.array
        form = aligned_empty((native.kernel_form_size(shape, pool, kernel),), kernel.dtype)
        native.prepare_kernel(shape, pool, kernel, form)
        self._made[name] = now, form
        return form


class OneKernel(Windowed):
    """A convolution that is one native op.

    A subclass makes `kernel` and names the op's three directions, native functions of the arguments that Conv2D's have.
    """

    kernel: Parameter
    ops = "conv2d_forward", "conv2d_weight_gradient", "conv2d_input_gradient"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.forms = KernelForms()

    def convolve(self, x: Array, step: Step, activation: Any) -> tuple[Array, Any]:
        shape, output, form_name = self._ways.get(x.shape) or self.new_way(x.shape)
        y, bias = step.empty(output, x.dtype), self.bias.array if self.bias else None
        op = getattr(native, self.ops[0])
        if step.training or form_name == "original":
            op(shape, x, self.kernel.array, bias, y, activation)
        else:
            form = self.forms.get(self.kernel, shape, None, form_name)
            op(shape, x, self.kernel.array, bias, y, activation, form)
        return y, (x, shape)

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        if self.channels_first:
            return None
        shape, output, form_name = self._ways.get(x.shape) or self.new_way(x.shape)
        y, bias = step.empty(output, x.dtype), self.bias.array if self.bias else None
        form = [] if form_name == "original" else [self.forms.get(self.kernel, shape, None, form_name)]
        op = getattr(native, self.ops[0])
        call = partial(op, shape, x, self.kernel.array, bias, y, self.fused_activation, *form)
        return y, [call, *self.bound_activation(y)]

    def convolve_backward(self, dz: Array, saved: Any, step: Step, input_gradient: bool) -> Array | None:
        x, shape = saved
        dbias = self.bias.gradient if self.bias else None
        getattr(native, self.ops[1])(shape, x, dz, self.kernel.gradient, dbias)
        if not input_gradient:
            return None
        dx = step.empty(x.shape, x.dtype)
        self.op_input_gradient(shape, dz, dx)
        return dx

    def op_input_gradient(self, shape: Any, dz: Array, dx: Array) -> None:
        getattr(native, self.ops[2])(shape, dz, self.kernel.array, dx)


class _Convolution(OneKernel):
    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        groups: int = 1,
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
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer,
            bias_regularizer, bias_constraint, activity_regularizer=activity_regularizer, **kwargs,
        )  # fmt: skip
        self.filters = positive(self.name, "filters", filters)
        self.groups = positive(self.name, "groups", groups)
        if self.filters % self.groups:
            raise ValueError(f"{self.name}: groups must divide filters ({filters}), received {groups!r}")
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)

    def build(self, input_shape: BatchShape) -> None:
        kernel = (*self.kernel_size, self.channels(input_shape) // self.groups, self.filters)
        self.kernel = self.add_weight(
            "kernel", kernel, self.kernel_initializer, True, self.kernel_regularizer, self.kernel_constraint
        )
        self.add_bias(self.filters)

    def output_shape_of(self, shape: BatchShape) -> BatchShape:
        channels = shape[-1] or 0
        if channels % self.groups:
            raise ValueError(
                f"{self.name} ({type(self).__name__}): groups={self.groups} must divide the input's {channels} channels"
            )
        output = self.shape_for((1, *(size or 0 for size in shape[1:]))).output
        return (shape[0], *output[-1 - self.rank : -1], self.filters)

    def geometry(self, x_shape: Shape) -> Any:
        kernel = (*self.kernel_size, x_shape[-1] // self.groups, self.filters)
        return self.image_shape(x_shape, kernel, self.groups)

    def flops(self) -> int:
        assert self.input_shape is not None
        return self.shape_for(self.sample(last_shape(self.channels_first, self.input_shape))).flops


class Conv1D(_Convolution):
    __doc__ = f"""1-D convolution over sequences.

    Input (batch, steps, channels); output (batch, q, filters). Weights: kernel (kernel_size, channels / groups,
    filters), bias (filters,). The formula is `Conv2D`'s with images of height 1.

    Args:
        filters: number of output channels.
        kernel_size: steps in a window.
        padding: "valid" (none), "same" (zeros, so that q = ceil(steps / strides)), or "causal" (zeros in front only, so
            that no output depends on later steps).
        groups: channels are convolved in this many separate groups, 1.{_SHARED}
    """

    rank = 1
    paddings = ("valid", "same", "causal")
    bind = OneKernel.bind


class Conv2D(_Convolution):
    __doc__ = f"""2-D convolution over images.

        y(n,p,q,o) = activation(bias(o)
                     + sum_{{i,j,c}} x(n, p*stride + i*dilation, q*stride + j*dilation, c) kernel(i,j,c,o))

    Input (batch, height, width, channels); output (batch, p, q, filters). Weights: kernel
    (height, width, channels / groups, filters), bias (filters,).

    Args:
        filters: number of output channels.
        kernel_size: an integer or (height, width).
        padding: "valid" (none), or "same" (zeros, so that p = ceil(height / stride)).
        groups: channels are convolved in this many separate groups, 1.{_SHARED}
    """

    bind = OneKernel.bind


class Conv3D(_Convolution):
    __doc__ = f"""3-D convolution over volumes.

    Input (batch, depth, height, width, channels); output (batch, o, p, q, filters). Weights: kernel
    (depth, height, width, channels / groups, filters), bias (filters,).

    Args:
        filters: number of output channels.
        kernel_size: an integer or (depth, height, width).
        padding: "valid" (none), or "same" (zeros, so that an axis has ceil(size / stride) outputs).
        groups: channels are convolved in this many separate groups, 1.{_SHARED}
    """

    rank = 3
    ops = "conv3d_forward", "conv3d_weight_gradient", "conv3d_input_gradient"
    bind = OneKernel.bind

    def geometry(self, x_shape: Shape) -> native.Conv3DShape:
        kernel = (*self.kernel_size, x_shape[-1] // self.groups, self.filters)
        return self.volume_shape(x_shape, kernel, self.groups)

    def make_way(self, shape: Shape) -> Way:
        geometry = self.geometry(shape)
        return Way(geometry, geometry.output, "original")


Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
__all__ = ["Conv1D", "Conv2D", "Conv3D", "Convolution1D", "Convolution2D", "Convolution3D", "OneKernel", "Windowed"]
