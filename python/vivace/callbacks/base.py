"""What every callback is, the list of them that `fit` calls, and those that only listen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from .._naming import shown

if TYPE_CHECKING:
    from ..training import Trainer

Logs = Mapping[str, Any]

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
    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None: ...
    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None: ...

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self.on_batch_begin(batch, logs)  # the hooks' older names

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs: Logs | None = None) -> None: ...
    def on_test_end(self, logs: Logs | None = None) -> None: ...
    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None: ...
    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None: ...
    def on_predict_begin(self, logs: Logs | None = None) -> None: ...
    def on_predict_end(self, logs: Logs | None = None) -> None: ...
    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None: ...
    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None: ...


def _defines(callback: Callback, hook: str) -> bool:
    if hook in vars(callback) or getattr(type(callback), hook) is not getattr(Callback, hook):
        return True
    return hook.startswith("on_train_batch") and _defines(callback, hook.replace("_train", ""))


class CallbackList:
    """Calls the callbacks that define a hook, in order; a hook that none defines costs nothing.

    callbacks: one, a list, or lists in lists. history: add a `History` unless there is one, last, so that it sees what
    the others add to the logs; it becomes the model's. params: what callbacks find in their `params`.
    """

    def __init__(self, callbacks: Any, model: Trainer, history: bool = False, **params: Any) -> None:
        self.callbacks = _flat(callbacks)
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks must be vivace.callbacks.Callback, received {shown(callback)}")
        if history:
            given = [callback for callback in self.callbacks if isinstance(callback, History)]
            model.history = given[0] if given else History()
            self.callbacks += [] if given else [model.history]
        for callback in self.callbacks:
            callback.set_model(model)
            callback.set_params(params)
        self._defined = {hook: [getattr(c, hook) for c in self.callbacks if _defines(c, hook)] for hook in _HOOKS}

    def wants(self, hook: str) -> bool:
        return bool(self._defined[hook])

    def call(self, hook: str, *args: Any) -> None:
        for function in self._defined[hook]:
            function(*args)


def _flat(callbacks: Any) -> list[Any]:
    if callbacks is None:
        return []
    if isinstance(callbacks, Iterable) and not isinstance(callbacks, str):
        return [callback for part in callbacks for callback in _flat(part)]
    return [callbacks]


class History(Callback):
    """Records every epoch's logs; `fit` returns it. `history`: name -> list of values; `epoch`: epoch numbers."""

    def __init__(self) -> None:
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class LambdaCallback(Callback):
    """A callback from functions, given by hook name: LambdaCallback(on_epoch_end=lambda epoch, logs: ...).

    Raises:
        ValueError: a hook that callbacks do not have.
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
        **hooks: Callable[..., Any],
    ) -> None:
        hooks |= {
            hook: function
            for hook, function in (
                ("on_epoch_begin", on_epoch_begin),
                ("on_epoch_end", on_epoch_end),
                ("on_train_begin", on_train_begin),
                ("on_train_end", on_train_end),
                ("on_train_batch_begin", on_train_batch_begin),
                ("on_train_batch_end", on_train_batch_end),
            )
            if function is not None
        }
        for hook, function in hooks.items():
            if hook not in _HOOKS:
                raise ValueError(f"LambdaCallback: unknown hook {hook!r}; known: {', '.join(_HOOKS)}")
            setattr(self, hook, function)


class TerminateOnNaN(Callback):
    """Stops training when the loss is no longer finite.

    raise_error: raise RuntimeError instead, so that nothing that belongs to an orderly end is called.
    """

    def __init__(self, raise_error: bool = False) -> None:
        self.raise_error = raise_error

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(f"TerminateOnNaN: the loss is {loss} at batch {batch}")
        say(f"Batch {batch}: the loss is {loss}; training stops")
        self.model.stop_training = True


def say(text: str, verbose: int = 1) -> None:
    """What a callback tells whoever watches, if asked to by `verbose`."""
    if verbose > 0:
        print(text, flush=True)  # noqa: T201
