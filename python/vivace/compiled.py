"""What `compile` makes of a model: an optimizer, losses and metrics, and one step of training or testing with them."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from types import FunctionType
from typing import Any

import numpy as np

from . import data, losses, optimizers
from ._config import plain, revived, serialize
from ._typing import Array
from .heads import Heads
from .layers.base import Layer
from .metrics import Mean, Metric
from .parameters import Changes, FlatParameters, Parameter
from .regularizers import L1L2
from .step import Step
from .watching import watched

Logs = dict[str, Any]
_KEPT_STEPS = 8  # batch shapes whose buffers are kept


class Compiled(Layer):
    """What a model adds to a layer so that it can be trained on one batch."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.compiled = False
        self.debug_nans = self.run_eagerly = False
        self.jit_compile: str | bool = "auto"
        self._compile_given: dict[str, Any] = {}
        self.steps_per_execution = 1
        self._flat: FlatParameters | None = None
        self._frozen: list[Parameter] = []
        self._views: list[Array] = []
        self._seen = -1  # of `Changes.layers`, when what trains was found
        self._regularized: list[tuple[Parameter, L1L2]] = []
        self._local = threading.local()  # buffers belong to a thread: a model may serve several at once

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # inference does not depend on what changes in a model itself
        if name == "trainable":
            self._pass_on(value)
            Changes.note_layer()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_local": None, "_flat": None, "_fused": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()

    # What a model must offer besides a layer's methods.

    final_activation: str | None = None  # the last layer's, if training may leave it to the loss
    output_names: Sequence[str] = ()

    def forward_linear(self, x: Array, step: Step) -> tuple[Array, Any]:
        """Forward, but for the final activation."""
        raise TypeError(f"{type(self).__name__} must define forward_linear(x, step)")

    def backward_linear(self, dz: Array, saved: Any, step: Step, input_gradient: bool = True) -> Array | None:
        raise TypeError(f"{type(self).__name__} must define backward_linear(dz, saved, step, input_gradient)")

    # Compiling

    def compile(
        self,
        optimizer: str | Mapping[str, Any] | optimizers.Optimizer = "rmsprop",
        loss: str | Mapping[str, Any] | Sequence[Any] | Callable[..., Any] | losses.Loss | None = None,
        loss_weights: float | Sequence[float] | Mapping[str, float] | None = None,
        metrics: Sequence[Any] | Mapping[str, Any] | None = None,
        weighted_metrics: Sequence[Any] | Mapping[str, Any] | None = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: str | bool = "auto",
        auto_scale_loss: bool = True,
        *,
        debug_nans: bool = False,
    ) -> None:
        """Choose how to train.

        Args:
            optimizer: a name such as "adam", or an object of `vivace.optimizers`.
            loss: a name such as "sparse_categorical_crossentropy", or an object or function of `vivace.losses`;
                "crossentropy" is the one that fits the first targets. Several outputs: one for all, a list, or a dict
                by output name; None for an output that does not train.
            loss_weights: each loss's factor in the total: a number or, of several outputs, a list or a dict by name; 1.
            metrics: names such as "accuracy", functions of (y_true, y_pred), or objects of `vivace.metrics`. Several
                outputs: a list of such lists, or a dict by name. They know nothing of sample and class weights.
            weighted_metrics: the same, with each sample weighted by `sample_weight` or `class_weight`.
            run_eagerly, jit_compile, auto_scale_loss: accepted for programs written for Keras, without effect. There is
                nothing to trace or compile, since the kernels are native code already; and no loss to scale, since
                float32 is the smallest type that trains.
            steps_per_execution: so many batches between two calls of the callbacks' batch hooks.
            debug_nans: raise FloatingPointError as soon as anything is not finite, naming the first layer (or the loss,
                or the optimizer) that made it, forward or backward. Slow; without it nothing is checked.

        Raises:
            ValueError: an unknown name; a list or dict that does not fit the outputs; nothing to train with.
        """
        owner = f"{self.name}.compile"
        self._compile_given = {
            "loss": loss, "loss_weights": loss_weights, "metrics": metrics, "weighted_metrics": weighted_metrics,
            "run_eagerly": run_eagerly, "steps_per_execution": steps_per_execution, "jit_compile": jit_compile,
            "auto_scale_loss": auto_scale_loss, "debug_nans": debug_nans,
        }  # fmt: skip
        self.optimizer = optimizers.get(optimizer)
        self.steps_per_execution = data.positive(owner, "steps_per_execution", steps_per_execution, 1)
        self._heads = Heads(owner, self.output_names, loss, loss_weights, metrics, weighted_metrics)
        self._loss_mean = Mean("loss")
        self.loss = loss
        self.run_eagerly, self.jit_compile, self.debug_nans = run_eagerly, jit_compile, debug_nans
        self._flat = None
        self.compiled = True

    def get_compile_config(self) -> dict[str, Any]:
        """What `compile` was given, as plain data but for functions of one's own; the optimizer as it is now. Empty
        before.
        """
        if not self.compiled:
            return {}
        given = {name: _told(value) for name, value in self._compile_given.items()}
        return {"optimizer": serialize(self.optimizer), **given}

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """`compile` with what `get_compile_config` told, Keras's too; the optimizer starts anew."""
        known = inspect.signature(Compiled.compile).parameters
        self.compile(**{name: revived(value) for name, value in config.items() if name in known})

    def get_metrics_result(self) -> Logs:
        """The running loss and metrics by name, as logs have them."""
        self._check_compiled("get_metrics_result")
        return self._logs()

    @property
    def metrics(self) -> list[Metric]:
        """The running total loss, the losses of several outputs, and the metrics."""
        return [self._loss_mean, *self._heads.metrics] if hasattr(self, "_heads") else []

    @property
    def metrics_names(self) -> list[str]:
        """What logs and the results of `evaluate` hold, in this order: "loss", losses of several outputs, metrics."""
        self._check_compiled("metrics_names")
        if not hasattr(self, "_heads"):  # a class with a `call` is compiled when its outputs are known
            self.check_built("metrics_names")
        return list(self._heads.log_names)

    def reset_metrics(self) -> None:
        """Forget what the running loss and metrics have seen."""
        self._loss_mean.reset_state()
        self._heads.reset()

    def _check_compiled(self, what: str) -> None:
        if not self.compiled:
            raise ValueError(
                f"You must call `compile()` before `{what}`: {self.name} has no optimizer and no loss yet, "
                "for example model.compile(optimizer='adam', loss='mse')"
            )

    # One step

    def train_step(self, x: Any, targets: Any, weights: Any = None) -> None:
        """Forward, loss, backward and update for one batch; adds to the running loss and metrics.

        x: (n, ...) of the model's dtype; targets: as `loss.prepare` returns them; weights: (n,) or None.
        Of several inputs or outputs each is a list.
        """
        try:
            if self.debug_nans:
                with self._watched():
                    self._train_step(x, targets, weights)
            else:
                self._train_step(x, targets, weights)
        except BaseException:  # Ctrl-C, most likely: half a gradient must not enter the next step
            for parameter in self.weights:
                parameter.gradient.fill(0)
            raise

    def _train_step(self, x: Any, targets: Any, weights: Any) -> None:
        step = self._step(data.samples(x), training=True)
        flat = self._flat_parameters()
        head = self._heads.only
        if head is None:
            outputs, saved = self.forward(x, step)
            self._check_loss(step)
            total, gradients = self._heads.account(outputs, targets, weights, step)  # type: ignore[arg-type]
            self._add_loss(total, step, len(outputs[0]))
            self.backward(gradients, saved, step, input_gradient=False)  # type: ignore[arg-type]
        elif self._loss_takes_logits():
            loss: Any = head.loss
            z, saved = self.forward_linear(x, step)
            rows, y = loss.forward_logits(z, targets, step)
            value, scale = head.account(rows, y, targets, weights, step.mask)
            self._add_loss(value, step, len(y))
            self.backward_linear(loss.backward_logits(y, targets, scale, step), saved, step, input_gradient=False)
        else:
            y, saved = self.forward(x, step)
            self._check_loss(step)
            value, scale = head.account(head.losses_of(y, targets, step), y, targets, weights, step.mask)
            self._add_loss(value, step, len(y))
            self.backward(head.gradient(y, targets, scale, step), saved, step, input_gradient=False)
        for parameter in self._frozen:
            parameter.gradient.fill(0)
        for parameter, regularizer in self._regularized:
            regularizer.add_gradient(parameter.array, parameter.gradient)
        self.optimizer.apply(flat)

    def test_step(self, x: Any, targets: Any, weights: Any = None) -> None:
        """Forward and loss for one batch; adds to the running loss and metrics."""
        with self._watched() if self.debug_nans else nullcontext():
            step = self._step(data.samples(x), training=False)
            self._flat_parameters()
            head = self._heads.only
            if head is None:
                outputs: Any = self.forward(x, step)[0]
                self._add_loss(self._heads.account(outputs, targets, weights, step)[0], step, len(outputs[0]))
                return
            rows: Array | None
            if self._loss_takes_logits():
                loss: Any = head.loss
                rows, y = loss.forward_logits(self.forward_linear(x, step)[0], targets, step)
            else:
                y = self.forward(x, step)[0]
                rows = head.losses_of(y, targets, step)
            self._add_loss(head.account(rows, y, targets, weights, step.mask)[0], step, len(y))

    def _loss_takes_logits(self) -> bool:
        """Whether the loss replaces the model's final activation (softmax with cross-entropy, say)."""
        head = self._heads.only
        loss = None if head is None else head.loss
        return (
            loss is not None
            and loss.fused_activation is not None
            and loss.fused_activation == self.final_activation
            and not loss.from_logits
        )

    def _add_loss(self, value: float, step: Step, samples: int) -> None:
        """Add a batch's loss, with what regularizers and layers add to that of every row."""
        for parameter, regularizer in self._regularized:
            value += regularizer(parameter.array)
        self._loss_mean.add((value + step.penalty) * samples, samples)

    def _check_loss(self, step: Step) -> None:
        if not self._heads.trains and not self._regularized and not step.penalty:
            raise ValueError(f"{self.name}: no loss to train with; give compile one, such as loss='mse'")

    def metric_named(self, name: str) -> Metric | None:
        """The metric that logs call so; None if there is none."""
        return self._heads.metric(name) if hasattr(self, "_heads") else None

    def _watched(self) -> Any:
        return watched(self, [head.loss for head in self._heads.heads if head.loss is not None])

    def _step(self, rows: int, training: bool) -> Step:
        steps: dict[tuple[int, bool], Step] | None = getattr(self._local, "steps", None)
        if steps is None:
            steps = self._local.steps = {}
        step = steps.get((rows, training))
        if step is None:
            if len(steps) >= _KEPT_STEPS:
                steps.pop(next(iter(steps)))
            step = steps[rows, training] = Step(training)
        return step.start()

    def _forget_step(self, rows: int) -> None:
        """Let go of the buffers of inference over so many samples."""
        getattr(self._local, "steps", {}).pop((rows, False), None)

    def _flat_parameters(self) -> FlatParameters:
        """The block the optimizer works on; rebuilt if others train now, or if a parameter has moved to another model's
        block since.
        """
        flat = self._flat
        if flat is not None and self._seen != Changes.layers:
            self._seen = Changes.layers
            if list(flat.parameters) != self.trainable_weights:
                flat = None
        if flat is None or any([p.array is not v for p, v in zip(flat.parameters, self._views)]):  # noqa: B905 (half the time)
            trainable = self.trainable_weights
            pending = [p.gradient.copy() for p in trainable]
            flat = self._flat = FlatParameters(trainable)
            for parameter, gradient in zip(trainable, pending, strict=True):
                parameter.gradient[...] = gradient
            self._views = [p.array for p in trainable]
            self._frozen = self.non_trainable_weights
            self._regularized = [(p, p.regularizer) for p in trainable if p.regularizer is not None]
        return flat

    # Preparing data

    def _prepare_x(self, what: str, x: Any) -> Any:
        if data.by_name(x) and len(x) == 1:
            (x,) = x.values()
        elif isinstance(x, (list, tuple)) and len(x) == 1 and isinstance(x[0], np.ndarray) and self._is_batch(x[0]):
            (x,) = x
        x = data.as_input(f"{self.name}.{what}", x, self.input_dtype or self.dtype)
        if not self.built:
            self.build_once((None, *x.shape[1:]))
        assert self.input_shape is not None
        return data.of_samples(f"{self.name}.{what}", x, self.input_shape)

    def _is_batch(self, x: Array) -> bool:
        """Whether an array may be a batch, rather than a sample."""
        return x.ndim == (2 if self.input_shape is None else len(self.input_shape))

    def _prepare(
        self, what: str, x: Any, y: Any, class_weight: Mapping[int, float] | None = None, sample_weight: Any = None
    ) -> tuple[Any, Any, Any]:
        """Inputs, targets and weights as `train_step` takes them, but for images of bytes, which stay bytes."""
        x = self._prepare_x(what, x)
        shape: Any = self.output_shape or ()
        targets, weights = self._heads.prepare(
            f"{self.name}.{what}", y, sample_weight, class_weight, shape, data.samples(x), self.dtype
        )
        return x, targets, weights

    def _logs(self) -> Logs:
        return {"loss": self._loss_mean.result(), **self._heads.logs()}


def _told(value: Any) -> Any:
    """An argument of `compile` as plain data; our own functions by their names."""
    if isinstance(value, (list, tuple)):
        return [_told(one) for one in value]
    if isinstance(value, Mapping):
        return {name: _told(one) for name, one in value.items()}
    if isinstance(value, FunctionType) and value.__module__.split(".")[0] == __package__:
        return value.__name__
    return plain(value)
