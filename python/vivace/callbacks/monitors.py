"""Callbacks that watch one value of the logs, and act on whether it gets better."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._config import serialize, to_data
from .._typing import Array
from .base import Callback, Logs, say

# Metrics of which more is better, and less; those of Keras's rule. Of others the user must say it.
_UP = {
    "Accuracy", "BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy", "TopKCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy", "Precision", "Recall", "AUC", "PrecisionAtRecall", "RecallAtPrecision",
    "SensitivityAtSpecificity", "SpecificityAtSensitivity", "FBetaScore", "F1Score", "IoU", "BinaryIoU", "MeanIoU",
    "OneHotIoU", "OneHotMeanIoU", "CosineSimilarity", "R2Score", "PearsonCorrelation", "ConcordanceCorrelation",
}  # fmt: skip
_DOWN = {
    "BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy", "Hinge", "SquaredHinge",
    "CategoricalHinge", "KLDivergence", "Poisson", "LogCoshError", "MeanAbsoluteError", "MeanAbsolutePercentageError",
    "MeanSquaredError", "MeanSquaredLogarithmicError", "RootMeanSquaredError", "MeanRelativeError",
}  # fmt: skip


class MonitorCallback(Callback):
    """What callbacks that watch a value share.

    Args:
        monitor: name of a value in the logs, "val_loss".
        mode: "min", "max", or "auto": by the metric's kind ("min" for losses).
        min_delta: smallest change that counts, 0.

    Raises:
        ValueError: another mode; or, at the end of the first epoch, a value of which "auto" does not know the better
            direction.

    A value that is not there draws a warning, and nothing happens.
    """

    def __init__(self, monitor: str = "val_loss", mode: str = "auto", min_delta: float = 0.0) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"{type(self).__name__}: mode must be auto, min or max, received {mode!r}")
        self.monitor, self.mode, self.min_delta = monitor, mode, abs(min_delta)
        self.best: float | None = None

    def value(self, logs: Logs | None) -> float | None:
        """The value to watch; None after an epoch without it, with a warning unless others have one."""
        if logs and self.monitor in logs:
            return float(logs[self.monitor])
        name = self.monitor.removeprefix("val_")
        if self.mode == "auto":
            if name != "loss" and not name.endswith("_loss") and self.model.metric_named(name) is None:
                known = [metric.name for metric in self.model.metrics]
                raise ValueError(
                    f"{type(self).__name__}: there is no {self.monitor!r} to watch; the model has {known}, and with "
                    "validation data the same with val_ in front"
                )
            self.mode = self._direction()
        if name == self.monitor or not self.params.get("do_validation") or name not in (logs or {}):
            warnings.warn(
                f"{type(self).__name__} does nothing: no {self.monitor!r} in the logs, which hold "
                f"{sorted(logs or {})}; give fit validation data, or monitor one of these",
                stacklevel=2,
            )
        return None

    def improved(self, value: float, reference: float | None) -> bool:
        """Whether the value is better than another one (or the first), by more than `min_delta`."""
        if reference is None:
            return True
        return value - self.min_delta > reference if self._upwards() else value + self.min_delta < reference

    def _upwards(self) -> bool:
        if self.mode == "auto":
            self.mode = self._direction()
        return self.mode == "max"

    def _direction(self) -> str:
        name = self.monitor.removeprefix("val_")
        if name == "loss" or name.endswith("_loss"):
            return "min"
        metric = self.model.metric_named(name)
        kinds = {kind.__name__ for kind in type(metric).__mro__}
        if kinds & _UP:
            return "max"
        if kinds & _DOWN:
            return "min"
        raise ValueError(
            f"{type(self).__name__}: cannot tell whether more or less {self.monitor!r} is better; "
            "give mode='max' or mode='min'"
        )


class EarlyStopping(MonitorCallback):
    """Stops training when `monitor` has not improved by `min_delta` for `patience` epochs.

    Args:
        monitor: name of a value in the logs, "val_loss".
        min_delta: smallest change that counts, 0.
        patience: epochs without improvement, 0.
        verbose: 1 tells when training stops.
        mode: "min", "max", or "auto" (by the metric's kind).
        baseline: a value that must be beaten for the wait to begin anew.
        restore_best_weights: go back to the weights of the best epoch in the end.
        start_from_epoch: do nothing before this epoch.

    Raises:
        ValueError: as in `MonitorCallback`.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best = None
        self.best_weights: list[Array] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self.value(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        better = self.improved(value, self.best)
        if self.restore_best_weights and (better or self.best_weights is None):
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if better:
            self.best, self.best_epoch = value, epoch
            if self.baseline is None or self.improved(value, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch:
            say(f"Epoch {self.stopped_epoch + 1}: early stopping", self.verbose)
        if self.best_weights is not None:
            say(f"The weights are those of the best epoch, {self.best_epoch + 1}", self.verbose)
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(MonitorCallback):
    """Saves the model, or its weights, after epochs, or after so many batches.

    Args:
        filepath: a `.safetensors` path; `{epoch}` (counted from 1), `{batch}` and the logs' names are filled in, as in
            "{epoch:02d}-{loss:.3f}.safetensors". Folders are made.
        monitor: what "best" means, "val_loss".
        verbose: 1 tells of each file.
        save_best_only: save only when `monitor` improved.
        save_weights_only: write the weights alone instead of the whole model (`Model.save`), False.
        mode: "min", "max", or "auto" (by the metric's kind).
        save_freq: "epoch", or a number of batches.
        initial_value_threshold: the value that the first "best" must beat.

    Raises:
        ValueError: another ending, and as in `MonitorCallback`. TypeError, as training begins: a model that cannot be
            saved whole, such as one with a Lambda layer.
    """

    def __init__(
        self,
        filepath: str | Path,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        if not str(filepath).endswith(".safetensors"):
            raise ValueError(
                "ModelCheckpoint: filepath must end in .safetensors, the one format for weights and models here; "
                f"received {str(filepath)!r}"
            )
        self.filepath, self.verbose, self.save_best_only = str(filepath), verbose, save_best_only
        self.save_weights_only = save_weights_only
        self.best = initial_value_threshold
        self.every = BatchCount("ModelCheckpoint", save_freq)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        super().on_train_begin(logs)
        if not self.save_weights_only:
            to_data(serialize(self.model), "ModelCheckpoint")  # what cannot be saved is said before an epoch has passed

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch = epoch
        self.every.last = -1

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if self.every.due(batch):
            self._save({"batch": batch + 1, **(logs or {})})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.every.batches is None:
            self._save(logs or {})

    def _save(self, logs: Logs) -> None:
        if self.save_best_only:
            value = self.value(logs)
            if value is None or not self.improved(value, self.best):
                return
            self.best = value
        path = Path(self.filepath.format(epoch=self.epoch + 1, **logs))
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)
        say(f"Epoch {self.epoch + 1}: saved {path}", self.verbose)


class BatchCount:
    """When to save: "epoch", or every so many batches, counted across epochs."""

    def __init__(self, owner: str, save_freq: str | int) -> None:
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(f"{owner}: save_freq must be 'epoch' or a number of batches, received {save_freq!r}")
        self.batches = save_freq if isinstance(save_freq, int) else None
        self.seen, self.last = 0, -1

    def due(self, batch: int) -> bool:
        """Whether to save behind this batch of the epoch."""
        if self.batches is None:
            return False
        self.seen += batch - self.last
        self.last = batch
        if self.seen < self.batches:
            return False
        self.seen = 0
        return True


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch to schedule(epoch, learning_rate), or schedule(epoch); the logs tell it.

    verbose: 1 tells of each change.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        rate = self.schedule(epoch, self.model.optimizer.learning_rate) if self._takes_rate() else self.schedule(epoch)
        self.model.optimizer.learning_rate = rate
        say(f"Epoch {epoch + 1}: the learning rate is {rate}", self.verbose)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        _add_learning_rate(self.model, logs)

    def _takes_rate(self) -> bool:
        try:
            inspect.signature(self.schedule).bind(0, 0.0)
        except TypeError:
            return False
        return True


class ReduceLROnPlateau(MonitorCallback):
    """Multiplies the learning rate by `factor` when `monitor` has not improved for `patience` epochs.

    Args:
        monitor: "val_loss".
        factor: below 1, 0.1.
        patience: epochs without improvement, 10.
        verbose: 1 tells of each reduction.
        mode: "min", "max", or "auto" (by the metric's kind).
        min_delta: smallest change that counts, 1e-4.
        cooldown: epochs to wait after a reduction, 0.
        min_lr: smallest learning rate, 0.

    Raises:
        ValueError: a factor outside [0, 1), and as in `MonitorCallback`.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if not 0 <= factor < 1:
            raise ValueError(f"ReduceLROnPlateau: factor must lie in [0, 1), received {factor!r}")
        self.factor, self.patience, self.verbose, self.cooldown, self.min_lr = (
            factor,
            patience,
            verbose,
            cooldown,
            min_lr,
        )

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.best, self.wait, self.cooldown_counter = None, 0, 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        _add_learning_rate(self.model, logs)
        value = self.value(logs)
        if value is None:
            return
        if self.cooldown_counter:
            self.cooldown_counter, self.wait = self.cooldown_counter - 1, 0
        if self.improved(value, self.best):
            self.best, self.wait = value, 0
        elif not self.cooldown_counter:
            self.wait += 1
            rate = self.model.optimizer.learning_rate
            if self.wait >= self.patience and rate > self.min_lr:
                self.model.optimizer.learning_rate = rate = max(rate * self.factor, self.min_lr)
                self.cooldown_counter, self.wait = self.cooldown, 0
                say(f"Epoch {epoch + 1}: the learning rate is reduced to {rate}", self.verbose)


def _add_learning_rate(model: Any, logs: Logs | None) -> None:
    if isinstance(logs, dict):
        logs["learning_rate"] = model.optimizer.learning_rate


class SwapEMAWeights(Callback):
    """Tests and predicts with the moving average of the weights, which an optimizer with `use_ema=True` keeps.

    Args:
        swap_on_epoch: have the average in the model also from the end of an epoch to the beginning of the next, for
            callbacks behind this one, such as ModelCheckpoint.

    Raises:
        ValueError: the optimizer keeps no average.
    """

    def __init__(self, swap_on_epoch: bool = False) -> None:
        self.swap_on_epoch = swap_on_epoch
        self._trained: Array | None = None  # the weights that training goes on with, while the average is in the model

    def _swap(self, to_average: bool) -> None:
        optimizer, values = self.model.optimizer, self.model._flat_parameters().values
        if not optimizer.use_ema:
            raise ValueError("SwapEMAWeights: the optimizer must have use_ema=True")
        if to_average and self._trained is None and optimizer.average is not None:
            self._trained = values.copy()
            values[:] = optimizer.average
        elif not to_average and self._trained is not None:
            values[:] = self._trained
            self._trained = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._trained = None

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._swap(False)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.swap_on_epoch:
            self._swap(True)

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._trained = None  # the optimizer has left the average in the model

    def on_test_begin(self, logs: Logs | None = None) -> None:
        self._swap(True)

    def on_test_end(self, logs: Logs | None = None) -> None:
        self._swap(False)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        self._swap(True)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        self._swap(False)
