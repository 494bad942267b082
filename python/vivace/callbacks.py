"""Callbacks: code that `fit`, `evaluate` and `predict` call at their turning points, with Keras's hooks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._typing import Array

if TYPE_CHECKING:
    from .training import Trainer

Logs = Mapping[str, float]

_HOOKS = (
    "on_train_begin",
    "on_train_end",
    "on_epoch_begin",
    "on_epoch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_test_begin",
    "on_test_end",
    "on_test_batch_begin",
    "on_test_batch_end",
    "on_predict_begin",
    "on_predict_end",
    "on_predict_batch_begin",
    "on_predict_batch_end",
)


class Callback:
    """Base of all callbacks. `self.model` is the model, `self.params` a dict with epochs, steps and verbose."""

    model: Trainer
    params: dict[str, Any]

    def set_model(self, model: Trainer) -> None:
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None: ...
    def on_train_end(self, logs: Logs | None = None) -> None: ...
    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None: ...
    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None: ...
    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None: ...
    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None: ...
    def on_test_begin(self, logs: Logs | None = None) -> None: ...
    def on_test_end(self, logs: Logs | None = None) -> None: ...
    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None: ...
    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None: ...
    def on_predict_begin(self, logs: Logs | None = None) -> None: ...
    def on_predict_end(self, logs: Logs | None = None) -> None: ...
    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None: ...
    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None: ...


def _defines(callback: Callback, hook: str) -> bool:
    return hook in vars(callback) or getattr(type(callback), hook) is not getattr(Callback, hook)


class CallbackList:
    """Calls the callbacks that define a hook, in order; a hook that none defines costs nothing."""

    def __init__(self, callbacks: Callback | Iterable[Callback] | None, model: Trainer, **params: Any) -> None:
        self.callbacks = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks must be vivace.callbacks.Callback, received {callback!r}")
            callback.set_model(model)
            callback.set_params(params)
        self._defined = {hook: [getattr(c, hook) for c in self.callbacks if _defines(c, hook)] for hook in _HOOKS}

    def wants(self, hook: str) -> bool:
        return bool(self._defined[hook])

    def call(self, hook: str, *args: Any) -> None:
        for function in self._defined[hook]:
            function(*args)


class History(Callback):
    """Records every epoch's logs; `fit` returns it. `history`: name -> list of values; `epoch`: epoch numbers."""

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class LambdaCallback(Callback):
    """A callback from functions, given by hook name: LambdaCallback(on_epoch_end=lambda epoch, logs: ...)."""

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        for hook, function in hooks.items():
            if hook not in _HOOKS:
                raise ValueError(f"LambdaCallback: unknown hook {hook!r}; known: {', '.join(_HOOKS)}")
            setattr(self, hook, function)


def _sign(owner: str, monitor: str, mode: str) -> float:
    """1 if larger values of `monitor` are better, -1 if smaller ones are."""
    if mode not in ("auto", "min", "max"):
        raise ValueError(f"{owner}: mode must be auto, min or max, received {mode!r}")
    return 1.0 if mode == "max" or (mode == "auto" and ("acc" in monitor or "auc" in monitor)) else -1.0


def _monitored(owner: str, monitor: str, logs: Logs | None) -> float:
    if not logs or monitor not in logs:
        raise ValueError(
            f"{owner}: no {monitor!r} in the logs, which hold {sorted(logs or {})}; "
            "give fit validation data, or monitor one of these"
        )
    return logs[monitor]


class EarlyStopping(Callback):
    """Stops training when `monitor` has not improved by `min_delta` for `patience` epochs.

    Args:
        monitor: name of a value in the logs, "val_loss".
        min_delta: smallest change that counts, 0.
        patience: epochs without improvement before stopping, 0.
        mode: "min", "max", or "auto" (max for accuracies).
        baseline: the patience counts from the start unless an epoch beats this value too.
        restore_best_weights: at the end, put back the weights of the best epoch.
        start_from_epoch: epochs before the first that counts.
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
        self.monitor, self.patience, self.baseline = monitor, patience, baseline
        self.verbose = verbose
        self.min_delta = abs(min_delta)
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        self.sign = _sign("EarlyStopping", monitor, mode)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best = -np.inf
        self.best_epoch = 0
        self.best_weights: list[Array] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if epoch < self.start_from_epoch:
            return
        value = self.sign * _monitored("EarlyStopping", self.monitor, logs)
        better = value - self.min_delta > self.best
        if self.restore_best_weights and (better or self.best_weights is None):
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if better:
            self.best, self.best_epoch = value, epoch
            if self.baseline is None or value - self.min_delta > self.sign * self.baseline:
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.best_weights is not None:
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(Callback):
    """Saves the model's weights after epochs.

    Args:
        filepath: a `.safetensors` path; `{epoch}` (counted from 1) and the logs' names are filled in, as in
            "{epoch:02d}-{loss:.3f}.safetensors".
        monitor: what "best" means, "val_loss".
        save_best_only: save only when `monitor` improved.
        save_weights_only: True; whole models are not saved.
        mode: "min", "max", or "auto" (max for accuracies).
        save_freq: "epoch"; saving within an epoch is not offered.
        initial_value_threshold: the value that the first "best" must beat.
    """

    def __init__(
        self,
        filepath: str | Path,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = True,
        mode: str = "auto",
        save_freq: str = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        if not save_weights_only or save_freq != "epoch":
            raise ValueError("ModelCheckpoint: only save_weights_only=True and save_freq='epoch' are offered")
        if not str(filepath).endswith(".safetensors"):
            raise ValueError(f"ModelCheckpoint: filepath must end in .safetensors, received {str(filepath)!r}")
        self.filepath, self.monitor, self.verbose, self.save_best_only = str(filepath), monitor, verbose, save_best_only
        self.sign = _sign("ModelCheckpoint", monitor, mode)
        self.best = -np.inf if initial_value_threshold is None else self.sign * initial_value_threshold

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_best_only:
            value = self.sign * _monitored("ModelCheckpoint", self.monitor, logs)
            if not value > self.best:
                return
            self.best = value
        self.model.save_weights(self.filepath.format(epoch=epoch + 1, **(logs or {})))


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch to schedule(epoch, learning_rate); the logs tell it."""

    def __init__(self, schedule: Callable[[int, float], float], verbose: int = 0) -> None:
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self.model.optimizer.learning_rate = self.schedule(epoch, self.model.optimizer.learning_rate)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        _add_learning_rate(self.model, logs)


class ReduceLROnPlateau(Callback):
    """Multiplies the learning rate by `factor` when `monitor` has not improved for `patience` epochs.

    Args:
        monitor: "val_loss".
        factor: below 1, 0.1.
        patience: epochs without improvement, 10.
        mode: "min", "max", or "auto" (max for accuracies).
        min_delta: smallest change that counts, 1e-4.
        cooldown: epochs to wait after a reduction, 0.
        min_lr: smallest learning rate, 0.
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
        if not 0 <= factor < 1:
            raise ValueError(f"ReduceLROnPlateau: factor must lie in [0, 1), received {factor!r}")
        self.monitor, self.factor, self.patience, self.verbose = monitor, factor, patience, verbose
        self.min_delta, self.cooldown, self.min_lr = min_delta, cooldown, min_lr
        self.sign = _sign("ReduceLROnPlateau", monitor, mode)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.best, self.wait, self.cooling = -np.inf, 0, 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        _add_learning_rate(self.model, logs)
        value = self.sign * _monitored("ReduceLROnPlateau", self.monitor, logs)
        if self.cooling:
            self.cooling, self.wait = self.cooling - 1, 0
        if value > self.best + self.min_delta:
            self.best, self.wait = value, 0
        elif not self.cooling:
            self.wait += 1
            rate = self.model.optimizer.learning_rate
            if self.wait >= self.patience and rate > self.min_lr:
                self.model.optimizer.learning_rate = max(rate * self.factor, self.min_lr)
                self.cooling, self.wait = self.cooldown, 0


def _add_learning_rate(model: Trainer, logs: Logs | None) -> None:
    if isinstance(logs, dict):
        logs["learning_rate"] = model.optimizer.learning_rate


class CSVLogger(Callback):
    """Writes each epoch's logs as a line of a CSV file, with a header line.

    Args:
        filename: the file to write.
        separator: ",".
        append: keep what the file holds.
    """

    def __init__(self, filename: str | Path, separator: str = ",", append: bool = False) -> None:
        self.filename, self.separator, self.append = Path(filename), separator, append

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.names: list[str] | None = None
        if not self.append:
            self.filename.write_text("")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        lines = []
        if self.names is None:
            # An epoch without validation must not hide the columns of those with it.
            own = [name for name in logs if not name.startswith("val_") and name != "learning_rate"]
            validated = [f"val_{name}" for name in own] if self.params.get("do_validation") else []
            self.names = sorted({*logs, *validated})
            if not self.filename.exists() or self.filename.stat().st_size == 0:
                lines.append(self.separator.join(("epoch", *self.names)))
        values = (str(logs[name]) if name in logs else "NA" for name in self.names)
        lines.append(self.separator.join((str(epoch), *values)))
        with self.filename.open("a") as file:  # closed after each epoch: what is written survives a crash
            file.writelines(line + "\n" for line in lines)


class TerminateOnNaN(Callback):
    """Stops training when the loss is no longer finite."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if not np.isfinite((logs or {}).get("loss", 0.0)):
            self.model.stop_training = True


class BackupAndRestore(Callback):
    """Saves the state of training after each epoch; a `fit` that was interrupted goes on from it with the same bits.

    The state is the weights, the optimizer, the order of the samples, the streams of dropout and the number of epochs
    done. Call the same program again: `fit` finds the backup, and starts with the epoch after it.

    Args:
        backup_dir: a folder for the backup, of this training alone; made if there is none.
        delete_checkpoint: remove the backup when `fit` comes to its end, True.
    """

    def __init__(self, backup_dir: str | Path, delete_checkpoint: bool = True) -> None:
        self.path, self.delete_checkpoint = Path(backup_dir) / "backup.npz", delete_checkpoint

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            return
        model = self.model
        with np.load(self.path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        told = json.loads(str(arrays.pop("told")))
        weights = [arrays[f"weight/{i}"] for i in range(sum(name.startswith("weight/") for name in arrays))]
        model.set_weights(weights)
        state = {name.split("/", 1)[1]: a for name, a in arrays.items() if name.startswith("optimizer/")}
        model.optimizer.set_state(model._flat_parameters(), state)
        for layer, (seed, position) in zip(_random_layers(model), told["streams"], strict=True):
            layer.stream.seed, layer.stream.position = seed, position
        if model.shuffling is not None and told["shuffling"] is not None:
            model.shuffling.bit_generator.state = told["shuffling"]
        model.first_epoch = told["epoch"] + 1

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        model = self.model
        shuffling = None if model.shuffling is None else model.shuffling.bit_generator.state
        streams = [(layer.stream.seed, layer.stream.position) for layer in _random_layers(model)]
        told = json.dumps({"epoch": epoch, "streams": streams, "shuffling": shuffling}, default=lambda a: a.tolist())
        arrays = {f"weight/{i}": w for i, w in enumerate(model.get_weights())}
        arrays |= {f"optimizer/{name}": a for name, a in model.optimizer.get_state().items()}
        temporary = self.path.with_suffix(".part.npz")  # moved into place: a crash never leaves half a backup
        np.savez(temporary, told=np.array(told), **arrays)  # type: ignore[arg-type]
        temporary.replace(self.path)

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.delete_checkpoint:
            self.path.unlink(missing_ok=True)


def _random_layers(layer: Any) -> list[Any]:
    inside = [found for sub in layer.sublayers().values() for found in _random_layers(sub)]
    return [layer, *inside] if hasattr(layer, "stream") else inside


class TensorBoard(Callback):
    """Writes each epoch's logs for TensorBoard: training into log_dir/train, validation into log_dir/validation.

    Tags are as in "epoch_loss". Needs the package tensorboardX; ImportError says so where it is missing.

    Args:
        log_dir: "logs".
    """

    def __init__(self, log_dir: str | Path = "logs") -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError("TensorBoard: needs the package tensorboardX; pip install tensorboardX") from None
        self.log_dir, self._writer = Path(log_dir), SummaryWriter

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._open: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        for name, value in (logs or {}).items():
            part = "validation" if name.startswith("val_") else "train"
            if part not in self._open:
                self._open[part] = self._writer(str(self.log_dir / part))
            self._open[part].add_scalar(f"epoch_{name.removeprefix('val_')}", value, epoch)
        for writer in self._open.values():
            writer.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        for writer in self._open.values():
            writer.close()
