"""Layers that are plain functions of their inputs and weights, for users' own."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._typing import Array, BatchShape
from ..differentiation import pullback
from ..step import Step
from .base import Layer
from .own_cells import flat, is_cell, output_size, state_sizes


class AutogradLayer(Layer):
    """A layer that says only what it computes; the autograd library (the extra `autograd`) derives its gradient.

    A subclass makes its weights in `build` and defines `call`, a function of the inputs and, by their names, of the
    weights. It computes with `autograd.numpy` in place of `numpy`, writes into no array, and changes nothing else.

        import autograd.numpy as np

        class Gate(AutogradLayer):
            def build(self, input_shape):
                self.add_weight("slope", (input_shape[-1],), "ones")

            def call(self, x, slope):
                return x / (1 + np.exp(-slope * x))

    A layer of several inputs sets `several_inputs = True`, and gets a list. A recurrent cell, which has a `state_size`,
    defines `call(inputs, states, **weights)` and returns its output and the list of new states (see `RNN`).

    The shape of the output is found by a trial with zeros, unless the subclass defines `compute_output_shape`. Training
    runs `call` through autograd, which is slower than a layer with a gradient of its own; inference does not.
    """

    def call(self, x: Any, **weights: Any) -> Any:
        """The output for inputs (batch, ...) and the weights that `build` made."""
        raise TypeError(f"{type(self).__name__} must define call(x, **weights)")

    def _names(self) -> list[str]:
        return [parameter.key for parameter in self.parameters]

    def _function(self, *arrays: Any) -> Any:
        """`call` as a function of all arrays, the inputs, then the weights; of a cell with the output and the states
        side by side.
        """
        names = self._names()
        inputs = list(arrays[: len(arrays) - len(names)])
        weights = dict(zip(names, arrays[len(inputs) :], strict=True))
        if not is_cell(self):
            return self.call(inputs if self.several_inputs else inputs[0], **weights)
        from autograd import numpy

        call: Any = self.call
        return numpy.concatenate(flat(call(inputs[0], inputs[1:], **weights)), -1)

    def compute_output_shape(self, input_shape: Any) -> BatchShape:
        if not self.built:
            self.build(input_shape)
            self.built = True
        if is_cell(self):
            return (input_shape[0], output_size(self))
        shapes = input_shape if isinstance(input_shape, list) else [input_shape]
        zeros = [np.zeros([1 if size is None else size for size in shape], self.dtype) for shape in shapes]
        return (None, *np.shape(self._function(*zeros, *(p.array for p in self.parameters)))[1:])

    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        arrays = [*(x if isinstance(x, list) else [x]), *(p.array for p in self.parameters)]
        if step.training:
            value, pull = pullback(f"{self.name} ({type(self).__name__})", self._function, arrays)
        else:
            value, pull = np.asarray(self._function(*arrays)), None
        if is_cell(self):
            parts = np.split(value, np.cumsum([output_size(self), *state_sizes(self)[:-1]]), -1)
            return [np.ascontiguousarray(one, self.dtype) for one in parts], (arrays, pull)
        return np.ascontiguousarray(value, self.dtype), (arrays, pull)

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        arrays, pull = saved
        if is_cell(self):
            dy = np.concatenate(dy, -1)
        if pull is None:  # the forward pass was one of inference
            pull = pullback(f"{self.name} ({type(self).__name__})", self._function, arrays)[1]
        gradients = pull(dy)
        inputs = len(arrays) - len(self.parameters)
        for parameter, gradient in zip(self.parameters, gradients[inputs:], strict=True):
            parameter.gradient += gradient
        return gradients[:inputs] if self.several_inputs or is_cell(self) else gradients[0]


__all__ = ["AutogradLayer"]
