"""compile, fit, evaluate and predict: epochs, batches and callbacks around one `train_step`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import data, losses, metrics, optimizers, random
from ._typing import Array, BatchShape
from .callbacks import Callback, CallbackList, History
from .heads import Heads
from .layers.base import Layer
from .layers.symbolic import is_symbolic
from .metrics import Mean
from .parameters import FlatParameters, Parameter
from .progress import Progress
from .regularizers import L1L2
from .step import Step

Logs = dict[str, float]
_KEPT_STEPS = 8  # batch shapes whose buffers are kept


class Trainer(Layer):
    """What a model adds to a layer: training and inference over data sets."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.compiled = False
        self.stop_training = False
        self.history: History | None = None
        self.shuffling: np.random.Generator | None = None  # of the samples, in `fit`
        self.first_epoch = 0  # of `fit`; a callback may set it as training begins
        self._plan: Any = None  # how a graph runs; made at first use
        self._flat: FlatParameters | None = None
        self._frozen: list[Array] = []
        self._views: list[Array] = []
        self._regularized: list[tuple[Parameter, L1L2]] = []
        self._local = threading.local()  # buffers belong to a thread: a model may serve several at once
        self._ones: dict[int, Array] = {}
        self._heads: Heads | None = None  # of a model of several outputs

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_local": None, "_flat": None, "_fused": None, "history": None}

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

    def save_weights(self, filepath: str | Path) -> None:
        raise TypeError(f"{type(self).__name__} must define save_weights(filepath)")

    # Compiling

    def compile(
        self,
        optimizer: str | Mapping[str, Any] | optimizers.Optimizer = "adam",
        loss: str | Mapping[str, Any] | Sequence[Any] | Callable[..., Any] | losses.Loss | None = None,
        loss_weights: Sequence[float] | Mapping[str, float] | None = None,
        metrics: Sequence[Any] | Mapping[str, Any] | None = None,
    ) -> None:
        """Choose how to train.

        Args:
            optimizer: a name such as "adam", or an object of `vivace.optimizers`.
            loss: a name such as "sparse_categorical_crossentropy", or an object or function of `vivace.losses`.
                Several outputs: one for all, a list, or a dict by output name; None for an output that does not train.
            loss_weights: of several outputs: each loss's factor in the total, a list or a dict by name; 1.
            metrics: names such as "accuracy", functions of (y_true, y_pred), or objects of `vivace.metrics`. Several
                outputs: a list of such lists, or a dict by name.

        Raises:
            ValueError: an unknown name; a list or dict that does not fit the outputs.
        """
        if loss is None:
            raise ValueError(f"{self.name}.compile: give a loss, such as loss='sparse_categorical_crossentropy'")
        self.optimizer = optimizers.get(optimizer)
        self._loss_mean = Mean("loss")
        self._flat = self._heads = None
        _forget_plans(self)
        self.compiled = True
        names, owner = self.output_names, f"{self.name}.compile"
        if len(names) > 1:
            self._heads = Heads(owner, list(names), loss, loss_weights, metrics)
            return
        if loss_weights is not None:
            raise ValueError(f"{owner}: loss_weights are for several outputs, received {loss_weights!r}")
        one: Any = loss
        if isinstance(loss, (list, tuple)):
            (one,) = loss
        elif data.by_name(loss):
            (one,) = data.in_order(f"{owner}: loss", "output", loss, names)
        if data.by_name(metrics):
            (metrics,) = data.in_order(f"{owner}: metrics", "output", metrics, names)
            metrics = metrics if isinstance(metrics, (list, tuple)) else [metrics]
        self.loss = losses.get(one)
        if self.loss.reduction in ("none", None):
            raise ValueError(f"{self.name}.compile: training needs one number, so the loss needs a reduction")
        self._metric_identifiers: list[Any] = list(metrics or ())
        self._metrics: list[Any] | None = None  # resolved with the first targets

    @property
    def metrics_names(self) -> list[str]:
        """ "loss" and the names of the metrics."""
        self._check_compiled("metrics_names")
        if self._heads is not None:
            return ["loss", *self._heads.names()]
        return ["loss", *map(metrics.name_of, self._metric_identifiers)]

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
            self._train_step(x, targets, weights)
        except BaseException:  # Ctrl-C, most likely: half a gradient must not enter the next step
            for parameter in self.weights:
                parameter.gradient.fill(0)
            raise

    def _train_step(self, x: Any, targets: Any, weights: Any) -> None:
        step = self._step(data.samples(x), training=True)
        flat = self._flat_parameters()
        if self._heads is not None:
            outputs, saved = self.forward(x, step)
            self.backward(self._account_heads(self._heads, outputs, targets, weights, step), saved, step, False)  # type: ignore[arg-type]
            self._update(flat)
            return
        fused = self._loss_takes_logits()
        loss = self.loss
        if fused:
            z, saved = self.forward_linear(x, step)
            losses_, y = loss.forward_logits(z, targets, step)
            scale = self._account(losses_, y, targets, weights, step)
            self.backward_linear(loss.backward_logits(y, targets, scale, step), saved, step, input_gradient=False)
        else:
            y, saved = self.forward(x, step)
            losses_ = loss.forward_logits(y, targets, step)[0] if loss.from_logits else loss.forward(y, targets, step)
            scale = self._account(losses_, y, targets, weights, step)
            dy = self._loss_gradient(y, targets, scale, step)
            self.backward(dy, saved, step, input_gradient=False)
        self._update(flat)

    def _update(self, flat: FlatParameters) -> None:
        for gradient in self._frozen:
            gradient.fill(0)
        for parameter, regularizer in self._regularized:
            regularizer.add_gradient(parameter.array, parameter.gradient)
        self.optimizer.apply(flat)

    def _loss_gradient(self, y: Array, targets: Array, scale: Array, step: Step) -> Array:
        if not self.loss.from_logits:
            return self.loss.backward(y, targets, scale, step)
        p = self.loss.forward_logits(y, targets, step)[1]
        return self.loss.backward_logits(p, targets, scale, step)

    def _loss_takes_logits(self) -> bool:
        """Whether the loss replaces the model's final activation (softmax with cross-entropy, say)."""
        loss = self.loss
        return (
            loss.fused_activation is not None
            and loss.fused_activation == self.final_activation
            and not loss.from_logits
        )

    def test_step(self, x: Any, targets: Any, weights: Any = None) -> None:
        """Forward and loss for one batch; adds to the running loss and metrics."""
        step = self._step(data.samples(x), training=False)
        self._flat_parameters()
        if self._heads is not None:
            self._account_heads(self._heads, self.forward(x, step)[0], targets, weights, step)
            return
        if self._loss_takes_logits():
            losses_, y = self.loss.forward_logits(self.forward_linear(x, step)[0], targets, step)
        else:
            y = self.forward(x, step)[0]
            from_logits = self.loss.from_logits
            losses_ = (
                self.loss.forward_logits(y, targets, step)[0] if from_logits else self.loss.forward(y, targets, step)
            )
        self._account(losses_, y, targets, weights, step)

    def _penalty(self) -> float:
        """What the regularizers add to the loss of every row."""
        return sum(regularizer(parameter.array) for parameter, regularizer in self._regularized)

    def _account(self, losses_: Array, y: Array, targets: Array, weights: Array | None, step: Step) -> Array:
        """Add a batch to the running loss and metrics; returns each row's factor in the batch's loss.

        Where the output has steps and a mask, only the steps that count enter the loss and the metrics.
        """
        mask = step.mask
        if mask is not None:
            mask = mask.astype(bool) if mask.shape == losses_.shape else None
        samples = len(y)
        loss, scale = self.loss.reduce(losses_, targets, weights, mask)
        if scale is None:
            scale = self._mean_scale(losses_.size, losses_.dtype).reshape(losses_.shape)
        self._loss_mean.add((loss + self._penalty() + step.penalty) * samples, samples)
        for metric in self._metrics or ():
            if mask is None:
                metric.update_state(targets, y)
            else:
                metric.update_state(targets[mask], y[mask])
        return scale

    def _account_heads(self, heads: Heads, y: Any, targets: Any, weights: Any, step: Step) -> list[Array | None]:
        """The same for several outputs; returns their gradients."""
        total, gradients = heads.account(y, targets, weights, step)
        self._loss_mean.add((total + self._penalty() + step.penalty) * len(y[0]), len(y[0]))
        return gradients

    def _mean_scale(self, rows: int, dtype: Any) -> Array:
        scale = self._ones.get(rows)
        if scale is None:
            if len(self._ones) >= _KEPT_STEPS:
                self._ones.clear()
            scale = self._ones[rows] = np.full(rows, 1 / rows, dtype)
        return scale

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

    def _flat_parameters(self) -> FlatParameters:
        """The block the optimizer works on; rebuilt if a parameter has moved to another model's block since."""
        flat = self._flat
        if flat is None or any(p.array is not v for p, v in zip(flat.parameters, self._views, strict=True)):
            trainable = self.trainable_weights
            pending = [p.gradient.copy() for p in trainable]
            flat = self._flat = FlatParameters(trainable)
            for parameter, gradient in zip(trainable, pending, strict=True):
                parameter.gradient[...] = gradient
            self._views = [p.array for p in trainable]
            self._frozen = [p.gradient for p in self.non_trainable_weights]
            self._regularized = [(p, p.regularizer) for p in trainable if p.regularizer is not None]
        return flat

    # Preparing data

    def _prepare_x(self, what: str, x: Any) -> Any:
        x = data.as_input(f"{self.name}.{what}", x, self.input_dtype or self.dtype)
        if not self.built:
            self.build_once((None, *x.shape[1:]))
        assert self.input_shape is not None
        data.check_sample_shape(f"{self.name}.{what}", x, self.input_shape)
        return x

    def _prepare(
        self, what: str, x: Any, y: Any, class_weight: Mapping[int, float] | None = None, sample_weight: Any = None
    ) -> tuple[Any, Any, Any]:
        owner = f"{self.name}.{what}"
        self._check_compiled(what)
        if y is None:
            raise ValueError(f"{owner}: the targets y are missing")
        x = self._prepare_x(what, x)
        count = data.samples(x)
        if self._heads is not None:
            if class_weight is not None:
                raise ValueError(f"{owner}: class_weight is for a single output; use sample_weight")
            shapes: Any = self.output_shape
            several, weights = self._heads.prepare(owner, y, sample_weight, shapes, self.dtype)
            for name, one in zip(self.output_names, several, strict=True):
                if one is not None and len(one) != count:
                    raise ValueError(f"{owner}: x has {count} samples, y of output {name!r} has {len(one)}")
            return x, several, weights
        output_shape: BatchShape = self.output_shape or ()
        if data.by_name(y) or (isinstance(y, (list, tuple)) and len(y) == 1 and isinstance(y[0], np.ndarray)):
            (y,) = data.in_order(f"{owner}: y", "output", y, self.output_names or ("output",))
        raw_rank = np.ndim(y)
        targets = self.loss.prepare(y, output_shape, self.dtype)
        if len(targets) != count:
            raise ValueError(f"{owner}: x has {count} samples, y has {len(targets)}")
        if self._metrics is None:
            shaped = np.shape(y)
            sparse_column = raw_rank == len(output_shape) and shaped[-1] == 1
            rank = raw_rank - 1 if sparse_column else raw_rank
            self._metrics = [metrics.get(m, rank, output_shape) for m in self._metric_identifiers]
        return x, targets, data.row_weights(owner, targets, class_weight, sample_weight, self.dtype)

    def _reset_metrics(self) -> None:
        self._loss_mean.reset_state()
        if self._heads is not None:
            self._heads.reset()
            return
        for metric in self._metrics or ():
            metric.reset_state()

    def _logs(self) -> Logs:
        if self._heads is not None:
            return {"loss": self._loss_mean.result(), **self._heads.logs()}
        return {"loss": self._loss_mean.result(), **{m.name: m.result() for m in self._metrics or ()}}

    # Loops

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Callback | Sequence[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Sequence[Any] | None = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
    ) -> History:
        """Train for `epochs - initial_epoch` epochs.

        Args:
            x: inputs (samples, ...): an array, or whatever NumPy makes one of. Converted to the model's dtype once
                (images of bytes batch by batch).
                Several inputs: a list of arrays, or a dict by input name.
            y: targets (samples, ...); of several outputs a list, or a dict by output name.
            batch_size: samples per update, 32. The last batch of an epoch may be smaller.
            epochs: number of the epoch to stop before.
            verbose: 0 silent; 1 or "auto" a live line on a terminal and otherwise as 2; 2 one line per epoch.
            callbacks: see `vivace.callbacks`.
            validation_split: this last fraction of the samples validates instead of training.
            validation_data: (x, y) or (x, y, sample_weight) to validate on after each epoch.
            shuffle: a new random order for each epoch.
            class_weight: label -> weight of its samples in the loss.
            sample_weight: (samples,) weights in the loss; for several outputs also a list or dict of such.
            initial_epoch: number of the first epoch.
            steps_per_epoch: stop each epoch after this many batches.
            validation_batch_size: batch size of the validation; default batch_size.
            validation_freq: validate after every so many epochs.

        Returns:
            A History; its `history` maps "loss", each metric and their "val_" twins to a list with one value per epoch.

        Raises:
            ValueError, TypeError: data that does not fit the model or the loss; the message says what would.
        """
        size = data.positive(f"{self.name}.fit", "batch_size", batch_size, 32)
        validation_freq = data.positive(f"{self.name}.fit", "validation_freq", validation_freq, 1)
        x, targets, weights = self._prepare("fit", x, y, class_weight, sample_weight)
        validation = None
        if validation_data is not None:
            if len(validation_data) not in (2, 3):
                raise ValueError(f"{self.name}.fit: validation_data must be (x, y) or (x, y, sample_weight)")
            vx, vy, *vw = validation_data
            validation = self._prepare("fit(validation_data)", vx, vy, None, vw[0] if vw else None)
        elif validation_split:
            (x, targets, weights), held_out = data.split_validation(
                f"{self.name}.fit", (x, targets, weights), validation_split
            )
            validation = (held_out[0], held_out[1], held_out[2])

        steps = -(-data.samples(x) // size)
        if steps_per_epoch is not None:
            steps = min(steps, data.positive(f"{self.name}.fit", "steps_per_epoch", steps_per_epoch, steps))
        self.history = History()
        self.stop_training = False
        given = [callbacks] if isinstance(callbacks, Callback) else callbacks or ()
        calls = CallbackList(
            [*given, self.history],  # last, so that it sees what the others add to the logs
            self, epochs=epochs, steps=steps, verbose=verbose, do_validation=validation is not None,
        )  # fmt: skip
        rng = self.shuffling = random.generator() if shuffle else None
        self.first_epoch = initial_epoch
        self._flat_parameters()
        logs: Logs = {}
        calls.call("on_train_begin", {})
        for epoch in range(self.first_epoch, epochs):
            calls.call("on_epoch_begin", epoch, {})
            progress = Progress(f"Epoch {epoch + 1}/{epochs}", steps, verbose)
            order = None if rng is None else random.permutation(rng, data.samples(x))
            self._train_epoch(x, targets, weights, order, size, steps, calls, progress)
            logs = self._logs()
            if validation is not None and (epoch + 1) % validation_freq == 0:
                tested = self._test(*validation, validation_batch_size or size, calls)
                logs |= {f"val_{name}": value for name, value in tested.items()}
            progress.close(steps, logs)
            calls.call("on_epoch_end", epoch, logs)
            if self.stop_training:
                break
        self.optimizer.finalize(self._flat_parameters())
        calls.call("on_train_end", logs)
        return self.history

    def _train_epoch(
        self,
        x: Any,
        targets: Any,
        weights: Any,
        order: Array | None,
        size: int,
        steps: int,
        calls: CallbackList,
        progress: Progress,
    ) -> None:
        self._reset_metrics()
        begin, end = calls.wants("on_train_batch_begin"), calls.wants("on_train_batch_end")
        buffers, count = Step(training=True), data.samples(x)
        for i in range(steps):
            if begin:
                calls.call("on_train_batch_begin", i, {})
            rows = slice(i * size, min((i + 1) * size, count))
            if order is None:
                batch = data.batch_of(x, rows), data.rows_of(targets, rows), data.rows_of(weights, rows)
            else:
                picked = order[rows]
                buffers.start()
                batch = (
                    data.gather(x, picked, buffers),
                    data.gather(targets, picked, buffers),
                    data.gather(weights, picked, buffers),
                )
            self.train_step(*batch)
            if end:
                calls.call("on_train_batch_end", i, self._logs())
            progress.update(i + 1, self._logs)
            if self.stop_training:
                break

    def _test(
        self, x: Any, targets: Any, weights: Any, size: int, calls: CallbackList,
        progress: Progress | None = None,
    ) -> Logs:  # fmt: skip
        self._reset_metrics()
        calls.call("on_test_begin", {})
        for i in range(-(-data.samples(x) // size)):
            calls.call("on_test_batch_begin", i, {})
            rows = slice(i * size, (i + 1) * size)
            self.test_step(data.batch_of(x, rows), data.rows_of(targets, rows), data.rows_of(weights, rows))
            if calls.wants("on_test_batch_end"):
                calls.call("on_test_batch_end", i, self._logs())
            if progress:
                progress.update(i + 1, self._logs)
        logs = self._logs()
        calls.call("on_test_end", logs)
        return logs

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        callbacks: Callback | Sequence[Callback] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Loss and metrics over a data set, in inference mode.

        Returns:
            The loss; or [loss, metric, ...] with metrics; or a dict by name with `return_dict=True`.
        """
        size = data.positive(f"{self.name}.evaluate", "batch_size", batch_size, 32)
        prepared = self._prepare("evaluate", x, y, None, sample_weight)
        steps = -(-data.samples(prepared[0]) // size)
        progress = Progress("Evaluate", steps, verbose)
        calls = CallbackList(callbacks, self, epochs=1, steps=steps, verbose=verbose)
        logs = self._test(*prepared, size, calls, progress)
        progress.close(steps, logs)
        return _as_result(logs, return_dict)

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:  # fmt: skip
        """One update on one batch. Returns this batch's loss and metrics as `evaluate` does."""
        batch = self._prepare("train_on_batch", x, y, class_weight, sample_weight)
        self._flat_parameters()
        self._reset_metrics()
        self.train_step(data.batch_of(batch[0]), *batch[1:])
        return _as_result(self._logs(), return_dict)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Loss and metrics of one batch, as `evaluate` returns them."""
        batch = self._prepare("test_on_batch", x, y, None, sample_weight)
        self._reset_metrics()
        self.test_step(data.batch_of(batch[0]), *batch[1:])
        return _as_result(self._logs(), return_dict)

    def __call__(self, *args: Any, training: bool | None = None, mask: Any = None, **kwargs: Any) -> Any:
        """The output for one batch, as a new array (several: a list). The same path, and bits, as `predict_on_batch`.

        On symbolic tensors the model is a layer in the graph that they belong to.
        """
        inputs = self.call_inputs(*args, **kwargs)
        if is_symbolic(inputs):
            return super().__call__(inputs, training=training)
        x = data.batch_of(self._prepare_x("__call__", inputs))
        return _copied(self.forward(x, self._step(data.samples(x), bool(training)))[0])

    def predict_on_batch(self, x: Any) -> Any:
        """The output for one batch, as a new array."""
        return self(x)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        callbacks: Callback | Sequence[Callback] | None = None,
    ) -> Any:
        """The outputs (samples, ...) for all inputs, computed in batches (of 32) in inference mode; several: a list.

        verbose: "auto" shows a live line on a terminal if there are several batches; 0 nothing; 1 or 2 as in `fit`.
        """
        size = data.positive(f"{self.name}.predict", "batch_size", batch_size, 32)
        x = self._prepare_x("predict", x)
        count = data.samples(x)
        if callbacks is None and count <= size:
            return _copied(self.forward(data.batch_of(x), self._step(count, training=False))[0])
        steps = -(-count // size)
        import sys

        quiet = verbose == "auto" and not sys.stdout.isatty()
        progress = Progress("Predict", steps, 0 if quiet else verbose)
        calls = CallbackList(callbacks, self, epochs=1, steps=steps, verbose=verbose)
        calls.call("on_predict_begin", {})
        out: list[Array] = []
        several = False
        for i in range(steps):
            calls.call("on_predict_batch_begin", i, {})
            rows = slice(i * size, min((i + 1) * size, count))
            y, _ = self.forward(data.batch_of(x, rows), self._step(rows.stop - rows.start, training=False))
            several = isinstance(y, list)
            parts = y if several else [y]
            out = out or [np.empty((count, *part.shape[1:]), part.dtype) for part in parts]
            for whole, part in zip(out, parts, strict=True):
                whole[rows] = part
            calls.call("on_predict_batch_end", i, {})
            progress.update(i + 1, dict)
        progress.close(steps, {})
        calls.call("on_predict_end", {})
        return out if several else out[0]


def _copied(y: Any) -> Any:
    return [one.copy() for one in y] if isinstance(y, list) else y.copy()


def _forget_plans(layer: Layer) -> None:
    """Which layers train may have changed, in the model and in those inside it."""
    if isinstance(layer, Trainer):
        layer._plan = None
    for inner in layer.sublayers().values():
        _forget_plans(inner)


def _as_result(logs: Logs, return_dict: bool) -> Any:
    if return_dict:
        return logs
    values = list(logs.values())
    return values[0] if len(values) == 1 else values
