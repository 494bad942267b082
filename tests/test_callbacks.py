"""Callbacks that act on the learning rate, on files and on a loss that is no number; losses as functions; Identity."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vivace import initializers, losses, optimizers
from vivace.callbacks import (
    BackupAndRestore,
    Callback,
    CSVLogger,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TensorBoard,
    TerminateOnNaN,
)
from vivace.layers import Dense, Dropout, Input
from vivace.models import Sequential
from vivace.utils import set_random_seed

X = np.zeros((2, 1))


class Scripted(Callback):
    """Replaces val_loss by a script, and marks the weights with the epoch."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["val_loss"] = self.values[epoch]
        self.model.set_weights([np.full((1, 1), float(epoch))])


def line(learning_rate: float = 1.0) -> Sequential:
    model = Sequential([Input((1,)), Dense(1, use_bias=False)])
    model.compile(optimizers.SGD(learning_rate), "mse")
    return model


@pytest.mark.parametrize(
    ("options", "values", "rates"),
    [  # worked out by hand from Keras's rule: the epoch's rate is logged before it is reduced
        ({"factor": 0.5, "patience": 1}, [3, 3, 3, 2, 2], [1, 1, 0.5, 0.25, 0.25]),
        ({"factor": 0.5, "patience": 2}, [3, 3, 3, 3, 3], [1, 1, 1, 0.5, 0.5]),
        ({"factor": 0.5, "patience": 1, "cooldown": 2}, [3, 3, 3, 3, 3], [1, 1, 0.5, 0.5, 0.25]),
        ({"factor": 0.1, "patience": 1, "min_lr": 0.4}, [3, 3, 3, 3, 3], [1, 1, 0.4, 0.4, 0.4]),
        ({"factor": 0.5, "patience": 1, "min_delta": 1.5}, [3, 2, 1, 1, 1], [1, 1, 0.5, 0.5, 0.25]),
    ],
)
def test_reduce_lr_on_plateau(options: dict[str, Any], values: list[float], rates: list[float]) -> None:
    history = line().fit(X, X, epochs=5, verbose=0, callbacks=[Scripted(values), ReduceLROnPlateau(**options)])
    np.testing.assert_allclose(history.history["learning_rate"], rates)


def test_learning_rate_scheduler_is_told_the_epoch_and_the_rate() -> None:
    history = line().fit(X, X, epochs=3, verbose=0, callbacks=LearningRateScheduler(lambda epoch, lr: lr / (epoch + 1)))
    np.testing.assert_allclose(history.history["learning_rate"], [1, 1 / 2, 1 / 6])


def test_model_checkpoint_keeps_the_best(tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path / "best.safetensors", save_best_only=True)
    each = ModelCheckpoint(tmp_path / "{epoch:02d}-{val_loss:.1f}.safetensors")
    model = line()
    model.fit(X, X, epochs=4, verbose=0, callbacks=[Scripted([4, 2, 3, 2]), keep, each])
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [*(f"{n}.safetensors" for n in ("01-4.0", "02-2.0", "03-3.0", "04-2.0")), "best.safetensors"]
    model.load_weights(tmp_path / "best.safetensors")
    assert model.get_weights()[0].item() == 1


def test_csv_logger_as_keras_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    fit = {"epochs": 3, "verbose": 0, "validation_data": (X, X), "validation_freq": 2}
    line().fit(X, X, callbacks=CSVLogger(path), **fit)
    text = "epoch,loss,val_loss\n0,0.0,NA\n1,0.0,0.0\n2,0.0,NA\n"
    assert path.read_text() == text
    line().fit(X, X, callbacks=CSVLogger(path, append=True), **fit)
    assert path.read_text() == text + text.split("\n", 1)[1]
    line().fit(X, X, callbacks=CSVLogger(path, separator=";"), **fit)
    assert path.read_text() == text.replace(",", ";")


def test_terminate_on_nan_stops_within_the_epoch() -> None:
    x = np.ones((8, 1))
    x[3] = np.nan
    seen: list[int] = []
    count = LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    calls = [TerminateOnNaN(), count]
    line(0.0).fit(x, np.ones((8, 1)), batch_size=1, shuffle=False, epochs=2, verbose=0, callbacks=calls)
    assert seen == [0, 1, 2, 3]


def test_tensorboard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match="pip install tensorboardX"):
        TensorBoard()
    written: list[tuple[str, str, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            self.folder = Path(folder).name

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            written.append((self.folder, tag, step))

        def flush(self) -> None: ...
        def close(self) -> None: ...

    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=SummaryWriter))
    line().fit(X, X, epochs=2, verbose=0, validation_data=(X, X), callbacks=TensorBoard(tmp_path))
    assert written == [(part, "epoch_loss", epoch) for epoch in (0, 1) for part in ("train", "validation")]


@pytest.mark.parametrize("optimizer", ["adam", "nadam"])
def test_an_interrupted_fit_goes_on_with_the_same_bits(
    optimizer: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    x, t = rng.standard_normal((20, 3)), rng.standard_normal((20, 1))

    def train(seed: int, *callbacks: Callback) -> list[np.ndarray]:
        set_random_seed(seed)
        model = Sequential([Input((3,)), Dense(4, "tanh"), Dropout(0.5), Dense(1)])
        model.compile(optimizer, "mse")
        model.fit(x, t, batch_size=6, epochs=5, verbose=0, callbacks=list(callbacks))
        return model.get_weights()

    def interrupt(epoch: int, logs: Any) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    whole = train(1)
    with pytest.raises(KeyboardInterrupt):
        train(1, LambdaCallback(on_epoch_begin=interrupt), BackupAndRestore(tmp_path))
    begun: list[int] = []
    count = LambdaCallback(on_epoch_begin=lambda epoch, logs: begun.append(epoch))
    for a, b in zip(train(2, BackupAndRestore(tmp_path), count), whole, strict=True):  # another seed: all is restored
        np.testing.assert_array_equal(a, b)
    assert begun == [2, 3, 4]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModelCheckpoint("a.h5"), "must end in .safetensors"),
        (lambda: ModelCheckpoint("a.safetensors", save_weights_only=False), "only save_weights_only=True"),
        (lambda: ModelCheckpoint("a.safetensors", mode="best"), "ModelCheckpoint: mode must be"),
        (lambda: ReduceLROnPlateau(factor=1.0), r"factor must lie in \[0, 1\), received 1.0"),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_monitor_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"ReduceLROnPlateau: no 'val_loss' .*hold \['learning_rate', 'loss'\]"):
        line().fit(X, X, verbose=0, callbacks=ReduceLROnPlateau())


def test_losses_as_functions_give_one_value_a_row(rng: np.random.Generator) -> None:
    p, labels = rng.dirichlet(np.ones(3), 5), np.array([0, 2, 1, 1, 0])
    onehot, logits = np.eye(3)[labels], rng.standard_normal((5, 3))
    expected = -np.log(p[np.arange(5), labels])
    np.testing.assert_allclose(losses.sparse_categorical_crossentropy(labels, p), expected)
    np.testing.assert_allclose(losses.categorical_crossentropy(onehot, p), expected)
    smooth = onehot * 0.7 + 0.1
    np.testing.assert_allclose(
        losses.categorical_crossentropy(onehot, p, label_smoothing=0.3), -(smooth * np.log(p)).sum(1)
    )
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(
        losses.sparse_categorical_crossentropy(labels, logits, from_logits=True), -log_p[np.arange(5), labels]
    )
    np.testing.assert_allclose(
        losses.binary_crossentropy(onehot, p), -(onehot * np.log(p) + (1 - onehot) * np.log(1 - p)).mean(1)
    )
    np.testing.assert_allclose(losses.mean_squared_error(onehot, p), np.square(p - onehot).mean(1))


def test_identity() -> None:
    np.testing.assert_array_equal(initializers.get("identity")((2, 3), "float32"), [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(initializers.Identity(2.0)((2, 2)), 2 * np.eye(2))
    with pytest.raises(ValueError, match="must have two axes"):
        initializers.Identity()((3,))
