"""Callbacks: code that `fit`, `evaluate` and `predict` call at their turning points, with Keras's hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"EarlyStopping: mode must be auto, min or max, received {mode!r}")
        self.monitor, self.patience, self.baseline = monitor, patience, baseline
        self.verbose = verbose
        self.min_delta = abs(min_delta)
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        larger = mode == "max" or (mode == "auto" and ("acc" in monitor or "auc" in monitor))
        self.sign = 1.0 if larger else -1.0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best = -np.inf
        self.best_epoch = 0
        self.best_weights: list[Array] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if epoch < self.start_from_epoch:
            return
        if not logs or self.monitor not in logs:
            raise ValueError(
                f"EarlyStopping: no {self.monitor!r} in the logs, which hold {sorted(logs or {})}; "
                "give fit validation data, or monitor one of these"
            )
        value = self.sign * logs[self.monitor]
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
