"""fit, evaluate and predict: epochs, batches and callbacks around one `train_step`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from . import data
from ._typing import FLOATS, Array
from .batches import Arrays, Batch, Feed, is_stream, source_of, unpack
from .callbacks import Callback, CallbackList, History
from .compiled import Compiled, Logs
from .layers.checks import step_masks
from .layers.symbolic import is_symbolic, with_masks
from .plan import Plan, Varies, Wiring
from .progress import Progress

_KEPT_PLANS = 8  # batch shapes for which inference is prepared
Callbacks = Callback | Sequence[Callback] | None


class Trainer(Compiled):
    """What a model adds to a layer: training and inference over data sets."""

    _adds_loss = False  # whether a `call` adds to the loss

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stop_training = self.stop_evaluating = self.stop_predicting = False  # callbacks set them
        self.history: History | None = None
        self.feed: Feed | None = None  # of the `fit` that runs
        self.first_epoch = self.first_batch = 0  # of `fit`; a callback may set them as training begins

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"history": None, "feed": None}

    def save(self, filepath: str | Path, overwrite: bool = True) -> None:
        raise TypeError(f"{type(self).__name__} must define save(filepath)")

    def save_weights(self, filepath: str | Path, overwrite: bool = True) -> None:
        raise TypeError(f"{type(self).__name__} must define save_weights(filepath)")

    # Training

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Callbacks = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
    ) -> History:
        """Train for `epochs - initial_epoch` epochs.

        Args:
            x: inputs (samples, ...): an array, or whatever NumPy makes one of (a tensor, a table). Converted to the
                model's dtype once (images of bytes batch by batch). Several inputs: a list, or a dict by input name.
                Or a source of batches: a `vivace.utils.PyDataset` (or anything with `__len__` and `__getitem__`), a
                generator or another iterable, of (x, y) or (x, y, sample_weight). Then y, sample_weight and
                validation_split must not be given, and batch_size means nothing.
            y: targets (samples, ...); of several outputs a list, or a dict by output name.
            batch_size: samples per update; 32, or what makes steps_per_epoch batches. The last one may be smaller.
            epochs: number of the epoch to stop before.
            verbose: 0 silent; 1 or "auto" a live line on a terminal and otherwise as 2; 2 one line per epoch.
            callbacks: see `vivace.callbacks`.
            validation_split: this last fraction of the samples validates instead of training.
            validation_data: (x, y), (x, y, sample_weight) or a source of batches, to validate on after epochs.
            shuffle: a new random order for each epoch: of samples, of a PyDataset's batches, or ("batch") of the
                samples within their batches. Generators come as they come.
            class_weight: label -> weight of its samples in the loss and the weighted metrics, for a single output. Not
                together with sample_weight.
            sample_weight: (samples,) weights in the loss and the weighted metrics, or (samples, steps) where the output
                has steps; for several outputs also a list or dict of such.
            initial_epoch: number of the first epoch.
            steps_per_epoch: batches of an epoch. The next epoch goes on with the batch after; once the data has been
                seen whole, it begins anew. Without it an epoch is all of the data.
            validation_steps: validate on this many batches, each time from the first on.
            validation_batch_size: batch size of the validation; default batch_size.
            validation_freq: validate after every so many epochs, or after the epochs in this list (counted from 1).

        Returns:
            A History; its `history` maps "loss", each metric and their "val_" twins to a list with one value per epoch.

        Raises:
            ValueError, TypeError: data that does not fit the model or the loss; the message says what would.
            FloatingPointError: with `compile(debug_nans=True)`.
        """
        self._check_compiled("fit")
        if not isinstance(epochs, (int, np.integer)) or not isinstance(initial_epoch, (int, np.integer)):
            raise TypeError(f"{self.name}.fit: epochs must be integers, received {epochs!r} and {initial_epoch!r}")
        given = (x, y, sample_weight)
        if validation_split and validation_data is None:
            given, validation_data = self._split(given, validation_split)
        feed = self.feed = self._feed("fit", *given, batch_size, steps_per_epoch, shuffle, class_weight)
        validation = None
        if validation_data is not None:
            parts = unpack(f"{self.name}.fit(validation_data)", validation_data)
            size = validation_batch_size or batch_size
            validation = self._feed("fit(validation_data)", *parts, size, validation_steps)

        calls = CallbackList(
            callbacks, self, history=True, epochs=epochs, steps=feed.steps, verbose=verbose,
            do_validation=validation is not None,
        )  # fmt: skip
        try:
            self.stop_training = False
            self.first_epoch, self.first_batch = initial_epoch, 0
            self._flat_parameters()
            logs: Logs = {}
            calls.call("on_train_begin", {})
            for epoch in range(self.first_epoch, epochs):
                if not self.first_batch:
                    self.reset_metrics()
                calls.call("on_epoch_begin", epoch, {})
                progress = Progress(f"Epoch {epoch + 1}/{epochs}", feed.steps, verbose)
                done = self._loop(
                    "train", self.train_step, feed.epoch(self.first_batch), calls, progress, self.first_batch
                )
                if not done:  # the data has run out
                    progress.close(0, {})
                    break
                self.first_batch = 0
                logs = _sorted(self._logs())
                if validation is not None and _due(f"{self.name}.fit", validation_freq, epoch + 1):
                    self.stop_evaluating = False
                    validation.restart()
                    tested = self._test(validation, calls, None)
                    logs = _sorted(logs | {f"val_{name}": value for name, value in tested.items()})
                progress.close(done, logs)
                calls.call("on_epoch_end", epoch, logs)
                if self.stop_training:
                    break
            self.optimizer.finalize(self._flat_parameters())
            calls.call("on_train_end", logs)
        finally:
            self.feed = None
        assert self.history is not None
        return self.history

    def _loop(
        self, kind: str, run: Callable[..., Any], batches: Iterable[Batch], calls: CallbackList,
        progress: Progress | None, done: int = 0,
    ) -> int:  # fmt: skip
        """Run each batch, with the callbacks' hooks around every `steps_per_execution` of them; returns how many."""
        begin, end, stop = f"on_{kind}_batch_begin", f"on_{kind}_batch_end", _STOPS[kind]
        tell_begin, tell_end, every = calls.wants(begin), calls.wants(end), self.steps_per_execution
        outputs: Any = None
        for batch in batches:
            if tell_begin and done % every == 0:
                calls.call(begin, done, {})
            outputs = run(*batch)
            done += 1
            if done % every:
                continue
            if tell_end:
                calls.call(end, done - 1, self._logs() if outputs is None else {"outputs": outputs})
            if progress is not None:
                progress.update(done, self._logs if outputs is None else dict)
            if getattr(self, stop):
                break
        if done % every and tell_end:
            calls.call(end, done - 1, self._logs() if outputs is None else {"outputs": outputs})
        return done

    # Testing

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Callbacks = None,
        return_dict: bool = False,
    ) -> Any:
        """Loss and metrics over a data set, in inference mode. Arguments are those of `fit`; steps: batches to take.

        Returns:
            The loss; or, with metrics, a list in the order of `metrics_names`; with `return_dict=True` a dict by name.
        """
        self._check_compiled("evaluate")
        feed = self._feed("evaluate", x, y, sample_weight, batch_size, steps)
        progress = Progress("Evaluate", feed.steps, verbose)
        calls = CallbackList(callbacks, self, epochs=1, steps=feed.steps, verbose=verbose)
        self.stop_evaluating = False
        return _as_result(self._test(feed, calls, progress), return_dict)

    def _test(self, feed: Feed, calls: CallbackList, progress: Progress | None) -> Logs:
        self.reset_metrics()
        calls.call("on_test_begin", {})
        done = self._loop("test", self.test_step, feed.epoch(), calls, progress)
        logs = self._logs() if done else {}
        if progress is not None:
            progress.close(done, logs)
        calls.call("on_test_end", logs)
        return logs

    # Single batches

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:  # fmt: skip
        """One update on one batch. Returns this batch's loss and metrics as `evaluate` does."""
        self._check_compiled("train_on_batch")
        batch = self._prepare("train_on_batch", x, y, class_weight, sample_weight)
        self._flat_parameters()
        self.reset_metrics()
        self.train_step(data.batch_of(batch[0]), *batch[1:])
        return _as_result(self._logs(), return_dict)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Loss and metrics of one batch, as `evaluate` returns them."""
        self._check_compiled("test_on_batch")
        batch = self._prepare("test_on_batch", x, y, None, sample_weight)
        self.reset_metrics()
        self.test_step(data.batch_of(batch[0]), *batch[1:])
        return _as_result(self._logs(), return_dict)

    def __call__(self, *args: Any, training: bool | None = None, mask: Any = None, **kwargs: Any) -> Any:
        """The output for one batch, as a new array (several: a list). The same path, and bits, as `predict_on_batch`.

        On symbolic tensors the model is a layer in the graph that they belong to.
        """
        if len(args) == 1 and not kwargs and not training and mask is None and self._takes_as_it_is(args[0]):
            y = self._inferred(args[0])
            return self.as_given(y.copy() if type(y) is np.ndarray else _copied(y))
        inputs = self.call_inputs(*args, **kwargs)
        if is_symbolic(inputs):
            return self._record(inputs if mask is None else with_masks(inputs, mask), training)
        x = data.batch_of(self._prepare_x("__call__", inputs))
        if self._adds_loss or mask is not None:
            step = self._step(data.samples(x), bool(training))
            step.mask = None if mask is None else step_masks(mask, isinstance(x, list))
            outputs, self._penalties = _copied(self.forward(x, step)[0]), [step.penalty]
            return self.as_given(outputs)
        if training:
            return self.as_given(_copied(self.forward(x, self._step(data.samples(x), training=True))[0]))
        return self.infer(x)

    def as_given(self, outputs: Any) -> Any:
        """The output, or the list of several, in the structure in which the model's outputs were given."""
        return outputs

    def infer(self, x: Any) -> Any:
        """The output for a batch that fits, as a new array."""
        return self.as_given(_copied(self._inferred(x)))

    def _inferred(self, x: Any) -> Any:
        """The output for a batch that fits, in inference mode, valid until the next pass."""
        return self.forward(x, self._step(data.samples(x), training=False))[0]

    def _planned(self, wiring: Wiring, x: Any) -> Any:
        """The same by a plan, from the second time on: what runs once is not worth one."""
        try:
            plans = self._local.plans
        except AttributeError:
            plans = self._local.plans = {}
        key = tuple([one.shape for one in x]) if type(x) is list else x.shape
        plan: Plan | None = plans.get(key)
        if plan is not None and plan.holds(wiring):
            if not plan.bound:
                self._forget_step(data.samples(x))  # the plan has arrays of its own
            try:
                return plan.run(x)
            except Varies:
                plan.varies = True
        elif plan is None or not plan.varies:
            if len(plans) >= _KEPT_PLANS:
                plans.clear()
            plans[key] = Plan(wiring)
        return Trainer._inferred(self, x)

    def _takes_as_it_is(self, x: Any) -> bool:
        """Whether x needs neither conversion nor a check: what a service that predicts again and again should send."""
        return (
            type(x) is np.ndarray
            and self.built
            and not self._adds_loss
            and self.input_dtype is None
            and x.dtype is FLOATS[self.dtype]
            and x.flags.c_contiguous
            and self.input_shape is not None
            and x.shape[1:] == self.input_shape[1:]
            and len(x) > 0
        )

    def predict_on_batch(self, x: Any) -> Any:
        """The output for one batch, as a new array."""
        return self(x)

    # Inference

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Callbacks = None,
    ) -> Any:
        """The outputs (samples, ...) for all inputs, computed in batches (of 32) in inference mode.

        Several come in the structure that the model was made with: a list, a tuple or a dict.


        x: as in `fit`; a source of batches may hand out x, (x,), (x, y) and so on, of which only x counts.
        verbose: "auto" shows a live line on a terminal if there are several batches; 0 nothing; 1 or 2 as in `fit`.
        steps: batches to take.
        """
        size = data.positive(f"{self.name}.predict", "batch_size", batch_size, 32)
        if callbacks is None and steps is None and not is_stream(x):
            if not self._takes_as_it_is(x):
                x = self._prepare_x("predict", x)
            if data.samples(x) <= size:  # the way of small inputs, without machinery
                return self.infer(data.batch_of(x))
        feed = self._feed("predict", x, None, None, batch_size, steps)
        quiet = verbose == "auto" and not sys.stdout.isatty()
        progress = Progress("Predict", feed.steps, 0 if quiet else verbose)
        calls = CallbackList(callbacks, self, epochs=1, steps=feed.steps, verbose=verbose)
        outputs = _Outputs(feed)
        self.stop_predicting = False
        calls.call("on_predict_begin", {})
        done = self._loop("predict", partial(self._predict_step, outputs), feed.epoch(), calls, progress)
        progress.close(done, {})
        calls.call("on_predict_end", {})
        return self.as_given(outputs.result(f"{self.name}.predict"))

    def _predict_step(self, outputs: _Outputs, x: Any, *_: Any) -> Any:
        return self.as_given(outputs.add(self._inferred(x)))

    # Data

    def _feed(
        self,
        what: str,
        x: Any,
        y: Any,
        sample_weight: Any,
        batch_size: int | None,
        steps: int | None,
        shuffle: bool | str = False,
        class_weight: Mapping[int, float] | None = None,
    ) -> Feed:
        """The batches of what a user handed over."""
        owner, predicts = f"{self.name}.{what}", what == "predict"
        if steps is not None:
            steps = data.positive(owner, _STEPS.get(what, "steps"), steps, 1)
        if isinstance(shuffle, str) and shuffle != "batch":
            raise ValueError(f"{owner}: shuffle must be True, False or 'batch', received {shuffle!r}")
        if not is_stream(x):
            if predicts:
                prepared = self._prepare_x(what, x), None, None
            else:
                prepared = self._prepare(what, x, y, class_weight, sample_weight)
            count = data.samples(prepared[0])
            size = data.positive(owner, "batch_size", batch_size, 32 if steps is None else -(-count // steps))
            return Feed(owner, Arrays(prepared, size, shuffle == "batch"), steps, bool(shuffle))
        for argument, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(f"{owner}: {argument} must be part of the batches of a {type(x).__name__}")

        def prepare(batch: Any) -> Batch:
            inputs, targets, weights = unpack(owner, batch)
            if predicts:
                return data.batch_of(self._prepare_x(what, inputs)), None, None
            inputs, targets, weights = self._prepare(what, inputs, targets, class_weight, weights)
            return data.batch_of(inputs), targets, weights

        ready = self.built and (predicts or self._heads.ready)
        return Feed(owner, source_of(x, prepare, ready), steps, bool(shuffle))

    def _split(self, given: tuple[Any, Any, Any], fraction: float) -> tuple[Any, Any]:
        """(x, y, sample_weight) to train and to validate on, as arrays."""
        if is_stream(given[0]):
            raise ValueError(f"{self.name}.fit: validation_split is for arrays; received a {type(given[0]).__name__}")
        inputs, outputs = len(getattr(self, "input_names", "x")), len(self.output_names)
        parts = [data.as_arrays(part, count) for part, count in zip(given, (inputs, outputs, outputs), strict=True)]
        return data.split_validation(f"{self.name}.fit", parts, fraction)


_STEPS = {"fit": "steps_per_epoch", "fit(validation_data)": "validation_steps"}  # what the argument is called
_STOPS = {"train": "stop_training", "test": "stop_evaluating", "predict": "stop_predicting"}


class _Outputs:
    """What `predict` returns, gathered batch by batch: in place if the number of samples is known."""

    def __init__(self, feed: Feed) -> None:
        source = feed.source
        self.count = source.count if isinstance(source, Arrays) and feed.given is None else None
        self.done = 0
        self.parts: list[list[Array]] = []  # of each output
        self.wholes: list[Array] = []
        self.several = False

    def add(self, y: Any) -> Any:
        """Keep a batch's outputs; returns what is kept of them."""
        self.several = isinstance(y, list)
        ys = y if self.several else [y]
        if self.count is None:
            self.parts = self.parts or [[] for _ in ys]
            kept = [one.copy() for one in ys]
            for part, one in zip(self.parts, kept, strict=True):
                part.append(one)
        else:
            self.wholes = self.wholes or [np.empty((self.count, *one.shape[1:]), one.dtype) for one in ys]
            rows = slice(self.done, self.done + len(ys[0]))
            kept = [whole[rows] for whole in self.wholes]
            for place, one in zip(kept, ys, strict=True):
                place[...] = one
            self.done = rows.stop
        return kept if self.several else kept[0]

    def result(self, owner: str) -> Any:
        if self.count is None:
            self.wholes = [np.concatenate(part) for part in self.parts]
        if not self.wholes:
            raise ValueError(f"{owner}: there was no batch")
        wholes = self.wholes if self.count is None else [whole[: self.done] for whole in self.wholes]
        return wholes if self.several else wholes[0]


def _due(owner: str, validation_freq: int | Sequence[int], epoch: int) -> bool:
    """Whether to validate after an epoch, counted from 1."""
    if isinstance(validation_freq, (list, tuple, set)):
        return epoch in validation_freq
    return epoch % data.positive(owner, "validation_freq", validation_freq, 1) == 0  # type: ignore[arg-type]


def _copied(y: Any) -> Any:
    return [one.copy() for one in y] if isinstance(y, list) else y.copy()


def _sorted(logs: Logs) -> Logs:
    """By name, as dicts of logs are for whom they are handed out."""
    return dict(sorted(logs.items()))


def _as_result(logs: Logs, return_dict: bool) -> Any:
    if return_dict:
        return _sorted(logs)
    values = list(logs.values())
    return values[0] if len(values) == 1 else values
