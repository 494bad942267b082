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
from .base import check_rank, positive, same_padding
from .core import Activated
from .geometry import (
    AXES,
    check_data_format,
    check_padding,
    filled,
    first_shape,
    format_hint,
    last_shape,
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
    """How inputs of one shape are convolved: as images, of height 1 if they are sequences."""

    shape: native.Conv2DShape
    output: Shape  # of the layer
    form: str  # of the kernel that inference reads


class Windowed(Activated):
    """A layer that slides a window of weights over sequences (rank 1), images (2) or volumes (3).

    A subclass implements `geometry`, `output_shape_of`, `convolve` and `convolve_backward` with the channels last.
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

    def geometry(self, x_shape: Shape) -> native.Conv2DShape:
        """The layer as a convolution of images, for an input of this shape. Raises ValueError if it is none."""
        raise TypeError(f"{type(self).__name__} must define geometry")

    def make_way(self, shape: Shape) -> Way:
        geometry = self.geometry(shape)
        return Way(geometry, (shape[0], *geometry.output[3 - self.rank :]), native.kernel_form(geometry))

    def shape_for(self, x_shape: Shape) -> native.Conv2DShape:
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


class _Convolution(Windowed):
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
        self.forms = KernelForms()

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
        return (shape[0], *output[3 - self.rank : -1], self.filters)

    def geometry(self, x_shape: Shape) -> native.Conv2DShape:
        kernel = (*self.kernel_size, x_shape[-1] // self.groups, self.filters)
        return self.image_shape(x_shape, kernel, self.groups)

    def flops(self) -> int:
        assert self.input_shape is not None
        return self.shape_for(self.sample(last_shape(self.channels_first, self.input_shape))).flops

    def convolve(self, x: Array, step: Step, activation: Any) -> tuple[Array, Any]:
        shape, output, form_name = self._ways.get(x.shape) or self.new_way(x.shape)
        y = step.empty(output, x.dtype)
        bias, form = self.bias.array if self.bias else None, None
        if not step.training and form_name != "original":
            form = self.forms.get(self.kernel, shape, None, form_name)
        native.conv2d_forward(shape, x, self.kernel.array, bias, y, activation, form)
        return y, (x, shape)

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        if self.channels_first:
            return None
        shape, output, form_name = self._ways.get(x.shape) or self.new_way(x.shape)
        y, form = step.empty(output, x.dtype), self.forms.get(self.kernel, shape, None, form_name)
        bias, fused = self.bias.array if self.bias else None, self.fused_activation
        call = partial(native.conv2d_forward, shape, x, self.kernel.array, bias, y, fused, form)
        return y, [call, *self.bound_activation(y)]

    def convolve_backward(self, dz: Array, saved: Any, step: Step, input_gradient: bool) -> Array | None:
        x, shape = saved
        native.conv2d_weight_gradient(shape, x, dz, self.kernel.gradient, self.bias.gradient if self.bias else None)
        if not input_gradient:
            return None
        dx = step.empty(x.shape, x.dtype)
        native.conv2d_input_gradient(shape, dz, self.kernel.array, dx)
        return dx


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
    bind = _Convolution.bind


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

    bind = _Convolution.bind


class VolumeWay(NamedTuple):
    """How volumes of one shape are convolved."""

    shape: native.Conv2DShape  # of the images
    output: Shape  # of the layer
    split: Shape  # of the volumes with their channels in groups
    gathered: Shape  # of the images with the slices apart that stand side by side
    taps: list[tuple[Any, Any]]  # for each slice of the kernel, where the two hold the same elements


_ALL = slice(None)


class Volumes(Windowed):
    """Convolution of volumes as one of images: the slices that meet in a kernel stand side by side as channels, one
    image for each output slice."""

    rank = 3

    def volume_shape(self, x: Shape, outputs: int, groups: int) -> native.Conv2DShape:
        """The geometry of those images (batch * output slices, ...), for a volume x."""
        slices, (top, left) = self.slices(x), self.pads(x[1:-1])[1:]
        if slices < 1:
            raise ValueError(
                f"conv3d: kernel depth {self.kernel_size[0]} does not fit the padded input's {x[1]} slices"
            )
        kernel = (*self.kernel_size[1:], self.kernel_size[0] * x[-1] // groups, outputs)
        image = (x[0] * slices, x[2], x[3], self.kernel_size[0] * x[-1])
        strides, dilation = two(self.strides[1:]), two(self.dilation_rate[1:])
        return native.Conv2DShape(image, kernel, strides, (*top, *left), dilation, groups)  # type: ignore[arg-type]

    def slices(self, x: Shape) -> int:
        """How many output slices there are."""
        (before, behind), *_ = self.pads(x[1:-1])
        return (x[1] + before + behind - (self.kernel_size[0] - 1) * self.dilation_rate[0] - 1) // self.strides[0] + 1

    def volume_way(self, shape: native.Conv2DShape, output: Shape, x: Shape, groups: int) -> VolumeWay:
        """x: the shape of the volumes that the images are gathered from."""
        n, depth, h, w, c = x
        outputs, kd, stride = shape.input[0] // n, self.kernel_size[0], self.strides[0]
        before, taps = self.pads(x[1:-1])[0][0], []
        for i in range(kd):
            start = i * self.dilation_rate[0] - before  # of x, for output 0
            first = min(outputs, max(0, -(start // stride)))
            last = max(first, min(outputs, (depth - 1 - start) // stride + 1))
            if last > first:
                own = slice(start + first * stride, start + (last - 1) * stride + 1, stride)
                taps.append(((_ALL, own), (_ALL, slice(first, last), ..., i, _ALL)))
        split, gathered = (n, depth, h, w, groups, c // groups), (n, outputs, h, w, groups, kd, c // groups)
        return VolumeWay(shape, output, split, gathered, taps)

    def gather(self, x: Array, way: VolumeWay, step: Step) -> Array:
        images = step.empty(way.shape.input, x.dtype)
        if self.padding == "same":
            images.fill(0)
        split, gathered = x.reshape(way.split), images.reshape(way.gathered)
        for own, of_images in way.taps:
            gathered[of_images] = split[own]
        return images

    def scatter(self, images: Array, x_shape: Shape, way: VolumeWay, step: Step) -> Array:
        x = step.empty(x_shape, images.dtype)
        x.fill(0)
        split, gathered = x.reshape(way.split), images.reshape(way.gathered)
        for own, of_images in way.taps:
            split[own] += gathered[of_images]
        return x

    def by_image(self, kernel: Array) -> Array:
        """The 2-D kernel's elements in the order of the layer's own."""
        split = kernel.reshape(*kernel.shape[:2], self.kernel_size[0], -1, kernel.shape[-1])
        return split.transpose(2, 0, 1, 3, 4)

    def image_kernel(self, kernel: Array, shape: native.Conv2DShape, step: Step) -> Array:
        image_kernel = step.empty(shape.kernel, kernel.dtype)
        self.by_image(image_kernel)[...] = kernel
        return image_kernel

    def add_kernel_gradient(
        self, shape: native.Conv2DShape, images: Array, dz: Array, gradient: Array, dbias: Array | None, step: Step
    ) -> None:
        dkernel = step.empty(shape.kernel, gradient.dtype)
        dkernel.fill(0)
        native.conv2d_weight_gradient(shape, images, dz, dkernel, dbias)
        gradient += self.by_image(dkernel)


class Conv3D(Volumes, _Convolution):
    __doc__ = f"""3-D convolution over volumes.

    Input (batch, depth, height, width, channels); output (batch, o, p, q, filters). Weights: kernel
    (depth, height, width, channels / groups, filters), bias (filters,).

    The slices that meet in a kernel are put side by side as channels, one image for each output slice: then it is a
    `Conv2D`. That copy is as large as the input times the kernel's depth (over its stride).

    Args:
        filters: number of output channels.
        kernel_size: an integer or (depth, height, width).
        padding: "valid" (none), or "same" (zeros, so that an axis has ceil(size / stride) outputs).
        groups: channels are convolved in this many separate groups, 1.{_SHARED}
    """

    def geometry(self, x_shape: Shape) -> native.Conv2DShape:
        return self.volume_shape(x_shape, self.filters, self.groups)

    def make_way(self, shape: Shape) -> VolumeWay:  # type: ignore[override]
        images = self.geometry(shape)
        count, *rest = images.output
        return self.volume_way(images, (shape[0], count // shape[0], *rest), shape, self.groups)

    def output_shape_of(self, shape: BatchShape) -> BatchShape:
        super().output_shape_of(shape)
        sample = (1, *(size or 0 for size in shape[1:]))
        return (shape[0], self.slices(sample), *self.shape_for(sample).output[1:])

    def convolve(self, x: Array, step: Step, activation: Any) -> tuple[Array, Any]:
        way: VolumeWay = self._ways.get(x.shape) or self.new_way(x.shape)
        shape, bias = way.shape, self.bias
        images, kernel = self.gather(x, way, step), self.image_kernel(self.kernel.array, shape, step)
        y = step.empty(way.output, x.dtype)
        native.conv2d_forward(shape, images, kernel, bias.array if bias else None, y.reshape(shape.output), activation)
        return y, (x.shape, images, kernel, way)

    def convolve_backward(self, dz: Array, saved: Any, step: Step, input_gradient: bool) -> Array | None:
        x_shape, images, kernel, way = saved
        shape = way.shape
        dz, dbias = dz.reshape(shape.output), self.bias.gradient if self.bias else None
        self.add_kernel_gradient(shape, images, dz, self.kernel.gradient, dbias, step)
        if not input_gradient:
            return None
        dimages = step.empty(shape.input, dz.dtype)
        native.conv2d_input_gradient(shape, dz, kernel, dimages)
        return self.scatter(dimages, x_shape, way, step)


Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
__all__ = ["Conv1D", "Conv2D", "Conv3D", "Convolution1D", "Convolution2D", "Convolution3D", "Volumes", "Windowed"]
