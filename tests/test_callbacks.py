"""Callbacks that act on the learning rate, on files and on a loss that is no number; losses as functions; Identity."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import vivace.layers as L
from vivace import initializers, losses, optimizers
from vivace.callbacks import (
    BackupAndRestore,
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    LearningCurves,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    SwapEMAWeights,
    TensorBoard,
    TerminateOnNaN,
)
from vivace.layers import Dense, Dropout, Input
from vivace.models import Sequential
from vivace.utils import PyDataset, set_random_seed

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

        def add_histogram(self, tag: str, values: Any, step: int) -> None:
            written.append((self.folder, tag, step))

    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=SummaryWriter))
    line().fit(X, X, epochs=2, verbose=0, validation_data=(X, X), callbacks=TensorBoard(tmp_path))
    assert written == [(part, "epoch_loss", epoch) for epoch in (0, 1) for part in ("train", "validation")]
    written.clear()
    more = TensorBoard(tmp_path, histogram_freq=2, write_steps_per_second=True, update_freq="batch")
    model = line()
    model.fit(X, X, epochs=2, batch_size=1, verbose=0, callbacks=more)
    batches = [("train", "batch_loss", step) for step in (1, 2, 3, 4)]
    of_epoch = [[("train", name, epoch) for name in ("epoch_loss", "epoch_steps_per_second")] for epoch in (0, 1)]
    weights = [("train", f"{model.weights[0].path}/histogram", 0)]
    assert written == [*batches[:2], *of_epoch[0], *weights, *batches[2:], *of_epoch[1]]
    with pytest.raises(ValueError, match="images, profiles and embeddings are not offered"):
        TensorBoard(embeddings_freq=1)


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


def test_random_layers_go_on_where_they_were(tmp_path: Path) -> None:
    """Interrupted behind the first epoch, and resumed with other seeds."""
    x = np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 3))

    def train(seed: int, *callbacks: Callback) -> list[np.ndarray]:
        set_random_seed(seed)
        noise = [L.GaussianNoise(0.5), L.GaussianDropout(0.2), L.AlphaDropout(0.2), L.Dropout(0.2)]
        tones = [L.RandomContrast(0.5), L.RandomBrightness(0.5), L.Solarization(0.2), L.RandomInvert(0.5)]
        tones += [L.RandomGrayscale(0.5), L.RandomColorDegeneration(0.5), L.RandomHue(0.5), L.RandomSaturation(0.5)]
        movements = [L.RandomFlip(), L.RandomRotation(0.3), L.RandomZoom(0.3), L.RandomTranslation(0.3, 0.3)]
        movements += [L.RandomShear(0.3, 0.3), L.SpatialDropout2D(0.3)]
        layers = [*movements, L.RandomCrop(6, 5), *tones, L.Rescaling(1 / 255), L.Flatten(), *noise, Dense(1)]
        model = Sequential([Input((8, 8, 3)), *layers])
        model.compile("sgd", "mse")
        model.fit(x, np.ones((8, 1)), epochs=3, batch_size=4, verbose=0, callbacks=list(callbacks))
        return model.get_weights()

    def interrupt(epoch: int, logs: Any) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    whole = train(1)
    with pytest.raises(KeyboardInterrupt):
        train(1, BackupAndRestore(tmp_path), LambdaCallback(on_epoch_begin=interrupt))
    for a, b in zip(train(2, BackupAndRestore(tmp_path)), whole, strict=True):
        np.testing.assert_array_equal(a, b)


class Four(PyDataset):
    """Four batches of five samples."""

    x, t = np.random.default_rng(5).standard_normal((20, 3)), np.random.default_rng(6).standard_normal((20, 1))

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> Any:
        return self.x[5 * i : 5 * i + 5], self.t[5 * i : 5 * i + 5]


def endless(rng: np.random.Generator) -> Any:
    while True:
        x = rng.standard_normal((5, 3))
        yield x, x[:, :1] ** 2


@pytest.mark.parametrize("save_freq", ["epoch", 3])
@pytest.mark.parametrize("source", ["arrays", "dataset", "generator", "steps"])
def test_data_goes_on_where_it_was(source: str, save_freq: Any, tmp_path: Path) -> None:
    """Interrupted in the third epoch, behind its second batch: the history and the weights are those of one run."""

    def train(seed: int, *callbacks: Callback) -> tuple[Any, list[np.ndarray]]:
        set_random_seed(seed)
        model = Sequential([Input((3,)), Dense(4, "tanh"), Dropout(0.5), Dense(1)])
        model.compile("adam", "mse", metrics=["mae"])
        args: Any = {"arrays": (Four.x, Four.t), "steps": (Four.x, Four.t), "dataset": (Four(),)}.get(source)
        steps: Any = {"steps": 3, "generator": 4}.get(source)
        size = {"batch_size": 5} if source in ("arrays", "steps") else {}
        args = args or (endless(np.random.default_rng(7)),)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*the data ran out")
            history = model.fit(*args, epochs=4, steps_per_epoch=steps, verbose=0, callbacks=list(callbacks), **size)
        return history.history, model.get_weights()

    count = iter(range(100))

    def interrupt(batch: int, logs: Any) -> None:
        if next(count) == {"steps": 7}.get(source, 10):
            raise KeyboardInterrupt

    whole, weights = train(1)
    with pytest.raises(KeyboardInterrupt):
        train(1, BackupAndRestore(tmp_path, save_freq), LambdaCallback(on_train_batch_begin=interrupt))
    resumed, got = train(2, BackupAndRestore(tmp_path, save_freq))
    for a, b in zip(got, weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert 1 <= len(resumed["loss"]) < 4
    assert resumed["mae"] == whole["mae"][-len(resumed["mae"]) :]


def test_the_backup_before_the_last_one(tmp_path: Path) -> None:
    backup = BackupAndRestore(tmp_path, double_checkpoint=True, delete_checkpoint=False)
    line(0.1).fit(X, X + 1, epochs=3, verbose=0, callbacks=backup)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["backup.npz", "backup.previous.npz"]
    backup.path.write_bytes(b"cut")
    begun: list[int] = []
    count = LambdaCallback(on_epoch_begin=lambda epoch, logs: begun.append(epoch))
    line().fit(X, X, epochs=4, verbose=0, callbacks=[backup, count])
    assert begun == [2, 3]
    backup.previous.unlink()
    backup.path.write_bytes(b"cut")
    with pytest.raises((ValueError, OSError, EOFError)):
        line().fit(X, X, verbose=0, callbacks=backup)


class LogValue(Callback):
    """Puts a script's values into the logs under a name."""

    def __init__(self, name: str, values: list[float]) -> None:
        self.name, self.values = name, values

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs[self.name] = self.values[epoch]


@pytest.mark.parametrize(
    ("metric", "name", "upwards"),
    [
        ("accuracy", "val_accuracy", True), ("precision", "val_precision", True), ("r2_score", "r2_score", True),
        ("mae", "val_mae", False), ("loss", "loss", False), ("val_q_loss", "val_q_loss", False),
        (losses.mean_squared_error, "mean_squared_error", None), ("x", "learning_rate", None),
    ],
)  # fmt: skip
def test_the_better_direction_follows_from_the_metric(metric: Any, name: str, upwards: bool | None) -> None:
    model = Sequential([Input((1,)), Dense(1)])
    known = [] if metric in ("loss", "val_q_loss", "x") else [metric]
    model.compile(optimizers.SGD(0.0), "mse", metrics=known)
    rising = [LogValue(name, [1, 2, 3, 4]), EarlyStopping(name, patience=1)]
    options: Any = {"epochs": 4, "verbose": 0, "validation_data": (X, X), "callbacks": rising}
    if upwards is None:
        with pytest.raises(ValueError, match=f"cannot tell whether more or less '{name}' is better; give mode='max'"):
            model.fit(X, X, **options)
    else:
        assert len(model.fit(X, X, **options).epoch) == (4 if upwards else 2)


def test_early_stopping_tells_and_waits_for_validation(capsys: pytest.CaptureFixture[str]) -> None:
    stop = EarlyStopping(patience=1, verbose=1, restore_best_weights=True)
    options: Any = {"validation_data": (X, X), "validation_freq": 2, "epochs": 9, "verbose": 0}
    assert len(line(0.0).fit(X, X, callbacks=stop, **options).epoch) == 4
    assert stop.best == 0
    assert capsys.readouterr().out == "Epoch 4: early stopping\nThe weights are those of the best epoch, 2\n"


def test_model_checkpoint_after_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.zeros((5, 1))
    keep = ModelCheckpoint(tmp_path / "new" / "{epoch}-{batch}.safetensors", save_freq=3, verbose=1)
    line().fit(x, x, batch_size=1, epochs=2, verbose=0, callbacks=keep)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "1-3.safetensors",
        "2-1.safetensors",
        "2-4.safetensors",
    ]
    assert capsys.readouterr().out.startswith("Epoch 1: saved")


def test_terminate_on_nan_may_raise(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="the loss is nan at batch 0"):
        line().fit(X * np.nan, X, verbose=0, callbacks=TerminateOnNaN(raise_error=True))


@pytest.mark.parametrize("on_epoch", [False, True])
def test_swap_ema_weights(on_epoch: bool, rng: np.random.Generator) -> None:
    x = rng.standard_normal((20, 1))
    seen: dict[str, float] = {}

    class Look(Callback):
        def look(self, when: str) -> None:
            seen[when] = self.model.get_weights()[0].item()

        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            self.look("test")

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.look("epoch")
            seen["average"] = float(self.model.optimizer.average[0])

    def train(*callbacks: Callback) -> list[np.ndarray]:
        model = Sequential([Input((1,)), Dense(1, use_bias=False, kernel_initializer="ones")])
        model.compile(optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9), "mse")
        model.fit(x, 3 * x, validation_data=(x, x), epochs=3, batch_size=5, shuffle=False, verbose=0,
                  callbacks=list(callbacks))  # fmt: skip
        return model.get_weights()

    plain = train(Look())[0].item()
    raw = seen["epoch"]
    assert seen["test"] == raw != seen["average"] == plain
    assert train(SwapEMAWeights(on_epoch), Look())[0].item() == plain  # training is the same
    assert seen == {"test": plain, "epoch": plain if on_epoch else raw, "average": plain}
    with pytest.raises(ValueError, match="the optimizer must have use_ema=True"):
        line().evaluate(X, X, callbacks=SwapEMAWeights(), verbose=0)


def test_hooks_by_their_older_names() -> None:
    seen: list[int] = []

    class Old(Callback):
        def on_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(batch)

    line().fit(X, X, batch_size=1, verbose=0, callbacks=Old())
    assert seen == [0, 1]


def test_a_history_that_is_given_is_used() -> None:
    mine = History()
    model = line()
    assert model.fit(X, X, verbose=0, callbacks=[mine]) is mine is model.history
    model.fit(X, X, verbose=0, callbacks=[mine], epochs=2)
    assert (mine.epoch, len(mine.history["loss"])) == ([0, 1], 3)


def test_learning_curves_are_drawn_while_they_grow(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    path = tmp_path / "new" / "curves.png"
    sizes: list[int] = []
    watch = LambdaCallback(on_epoch_end=lambda epoch, logs: sizes.append(path.stat().st_size))
    curves = LearningCurves(path, seconds=0)
    line(0.1).fit(X, X + 1, epochs=3, verbose=0, validation_data=(X, X), validation_freq=2, callbacks=[curves, watch])
    assert min(sizes) > 5000
    assert len(set(sizes)) == 3
    assert [p.name for p in path.parent.iterdir()] == ["curves.png"]
    np.testing.assert_equal(curves.curves["val_loss"][0], np.nan)
    seldom = LearningCurves(path, seconds=1e9)
    line(0.1).fit(X, X + 1, epochs=3, verbose=0, callbacks=[seldom, watch])
    assert len(set(sizes[3:])) == 1  # after the first epoch, and once more in the end
    assert path.stat().st_size != sizes[-1]


def test_learning_curves_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    monkeypatch.setitem(sys.modules, "IPython", None)
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(ImportError, match="without one it needs a notebook"):
        LearningCurves()
    shown: list[bytes] = []
    handle = SimpleNamespace(update=shown.append)
    module = SimpleNamespace(Image=lambda data: data, display=lambda image, display_id: shown.append(image) or handle)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=module))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    line().fit(X, X, epochs=2, verbose=0, callbacks=LearningCurves(seconds=0))
    assert len(shown) == 2
    assert all(image.startswith(b"\x89PNG") for image in shown)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModelCheckpoint("a.h5"), "must end in .safetensors"),
        (lambda: ModelCheckpoint("a.safetensors", mode="best"), "ModelCheckpoint: mode must be"),
        (lambda: ModelCheckpoint("a.safetensors", save_freq=0), "save_freq must be 'epoch' or a number of batches"),
        (lambda: BackupAndRestore("a", save_freq="batch"), "BackupAndRestore: save_freq must be"),
        (lambda: BackupAndRestore(""), "backup_dir must name a folder"),
        (lambda: ReduceLROnPlateau(factor=1.0), r"factor must lie in \[0, 1\), received 1.0"),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_monitor_that_is_not_there_is_named() -> None:
    with pytest.warns(UserWarning, match=r"ReduceLROnPlateau .*no 'val_loss' .*hold \['learning_rate', 'loss'\]"):
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
