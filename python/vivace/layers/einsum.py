"""EinsumDense: a dense layer over any axes, as one native op, most often one matrix product."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from .. import constraints, initializers, regularizers
from .._core import native
from .._typing import Array, BatchShape, Initializer, Shape
from ..constraints import Constraint
from ..regularizers import L1L2
from ..step import Step
from .core import Activated

_FORM = re.compile(r"(\.{3})?([A-Za-z]+)(\.{3})?,([A-Za-z]+)->(\.{3})?([A-Za-z]+)(\.{3})?")


class EinsumDense(Activated):
    """y = activation(einsum(equation, x, kernel) + bias).

    Inputs and output have the batch first. Weights: kernel, of the shape that the equation's second term tells; bias,
    of the output's axes from the first of `bias_axes` on, with 1 for those that are not among them.

    Args:
        equation: such as "ab,bc->ac", "...x,xy->...y" or "abc,cde->abde": input, kernel -> output. Each axis of the
            kernel is one of the input's or of the output's; three dots, in front or at the end, are axes that stay.
        output_shape: of one sample, an integer or several; None for an axis that is the input's, and nothing for dots.
        activation: a name or function of `vivace.activations`; None, the default, is "linear".
        bias_axes: the output's axes that have a bias, such as "de"; None: no bias.
        kernel_initializer, bias_initializer: "glorot_uniform" and "zeros".
        kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint: as of `Dense`.

    Raises:
        ValueError: an equation of another form, or one that does not fit the shapes.
    """

    def __init__(
        self,
        equation: str,
        output_shape: int | Sequence[int | None],
        activation: str | Callable[[Any], Array] | None = None,
        bias_axes: str | None = None,
        kernel_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        kernel_regularizer: str | L1L2 | None = None,
        bias_regularizer: str | L1L2 | None = None,
        kernel_constraint: str | Constraint | None = None,
        bias_constraint: str | Constraint | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activation, **kwargs)
        self.equation, self.bias_axes = equation, bias_axes
        self.partial_output_shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        form = _FORM.fullmatch(equation.replace(" ", ""))
        if form is None or (form[1], form[3]) != (form[5], form[7]) or (form[1] and form[3]):
            raise ValueError(
                f"{self.name} (EinsumDense): equation must be of the form X,Y->Z, ...X,Y->...Z or X...,Y->Z..., "
                f"received {equation!r}"
            )
        self._dots, self._terms = "front" if form[1] else "end" if form[3] else "", (form[2], form[4], form[6])
        self._check_terms()

    def _check_terms(self) -> None:
        x, kernel, y = self._terms
        wrong = [axis for term in self._terms for axis in term if term.count(axis) > 1]
        wrong += [axis for axis in kernel if axis not in x + y] + [axis for axis in y if axis not in x + kernel]
        wrong += [axis for axis in self.bias_axes or "" if axis not in y]
        if wrong:
            raise ValueError(
                f"{self.name} (EinsumDense): axis {wrong[0]!r} is in equation {self.equation!r} twice in one term, or "
                f"in one only, or among bias_axes {self.bias_axes!r} but not in the output"
            )

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"output_shape": self.partial_output_shape}

    def _spelt(self, rank: int) -> tuple[str, str, str]:
        """The terms for inputs of this rank, with letters (from chr(256) on) for the dots."""
        x, kernel, y = self._terms
        more = "".join(chr(256 + k) for k in range(rank - len(x))) if self._dots else ""
        return (more + x, kernel, more + y) if self._dots == "front" else (x + more, kernel, y + more)

    def _shapes(self, input_shape: BatchShape) -> tuple[BatchShape, Shape, Shape]:
        """Of output, kernel and bias."""
        who = f"{self.name} (EinsumDense)"
        x, kernel, y = self._spelt(len(input_shape))
        if len(x) != len(input_shape):
            raise ValueError(f"{who}: equation {self.equation!r} takes inputs of {len(x)} axes, received {input_shape}")
        sizes: dict[str, int | None] = dict(zip(x, input_shape, strict=True))
        own = self._terms[2]
        free = own if self._dots == "front" and len(y) > len(own) else own[1:]  # the batch is one of the dots' axes
        if len(free) != len(self.partial_output_shape):
            raise ValueError(
                f"{who}: output_shape must have {len(free)} sizes for equation {self.equation!r}, received "
                f"{self.partial_output_shape}"
            )
        for axis, size in zip(free, self.partial_output_shape, strict=True):
            known = sizes.get(axis)
            if None not in (known, size) and known != size:
                raise ValueError(f"{who}: axis {axis!r} of the input has size {known}, of output_shape {size}")
            sizes[axis] = size if size is not None else known
        if any(sizes[axis] is None for axis in kernel):
            raise ValueError(f"{who}: the kernel's axes {kernel!r} must have known sizes, received {input_shape}")
        output: BatchShape = tuple(sizes[axis] for axis in y)
        start = min((y.index(axis) for axis in self.bias_axes or ""), default=0)
        bias = tuple(sizes[axis] if axis in (self.bias_axes or "") else 1 for axis in y[start:])
        return output, tuple(sizes[axis] for axis in kernel), bias  # type: ignore[return-value,misc]

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        output, kernel, _ = self._shapes(input_shape)
        if self.built and kernel != self.kernel.shape:
            raise ValueError(f"{self.name} (EinsumDense) was built for a kernel of {self.kernel.shape}, not {kernel}")
        return output

    def build(self, input_shape: BatchShape) -> None:
        _, kernel, bias = self._shapes(input_shape)
        initializer = self.kernel_initializer
        if isinstance(initializer, initializers.VarianceScaling) and initializer.input_axes is None:
            _, axes, y = self._terms
            initializer = copy.copy(initializer)
            initializer.input_axes = [i for i, axis in enumerate(axes) if axis not in y]
            initializer.output_axes = [i for i, axis in enumerate(axes) if axis in y]
        self.kernel = self.add_weight(
            "kernel", kernel, initializer, True, self.kernel_regularizer, self.kernel_constraint
        )
        self.bias = None
        if self.bias_axes is not None:
            self.bias = self.add_weight(
                "bias", bias, self.bias_initializer, True, self.bias_regularizer, self.bias_constraint
            )

    def flops(self) -> int:
        x, _, y = self._spelt(len(self.input_shape or ()))
        sizes = dict(zip(x, self.input_shape or (), strict=True)) | dict(zip(y, self.output_shape or (), strict=True))
        return 2 * math.prod(size or 1 for axis, size in sizes.items() if axis != x[0])

    def make_way(self, shape: Shape) -> tuple[native.Einsum, Shape]:
        """The native op, and the output's shape."""
        op = native.Einsum(*self._spelt(len(shape)), shape, self.kernel.shape, self.bias.shape if self.bias else ())
        return op, op.output

    def forward_linear(self, x: Array, step: Step, activation: Any = "linear") -> tuple[Array, Any]:
        if step.mask is not None:
            self.drop_mask(step)
        op, shape = self._ways.get(x.shape) or self.new_way(x.shape)
        y, bias = step.empty(shape, x.dtype), self.bias
        native.einsum_forward(op, x, self.kernel.array, bias.array if bias else None, y, activation)
        return y, (op, x)

    def bind(self, x: Array, step: Step) -> tuple[Array, list[Any]]:
        """See `vivace.plan`."""
        op, shape = self._ways.get(x.shape) or self.new_way(x.shape)
        y, bias = step.empty(shape, x.dtype), self.bias.array if self.bias else None
        call = partial(native.einsum_forward, op, x, self.kernel.array, bias, y, self.fused_activation)
        return y, [call, *self.bound_activation(y)]

    def backward_linear(self, dz: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        op, x = saved
        dx = step.empty(x.shape, x.dtype) if input_gradient else None
        dbias = self.bias.gradient if self.bias else None
        native.einsum_backward(op, x, self.kernel.array, dz, (dx, self.kernel.gradient, dbias), True)
        return dx


__all__ = ["EinsumDense"]
