"""Callbacks that write files: tables, events, pictures, and backups to go on from."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from .. import plotting
from .base import Callback, Logs
from .monitors import BatchCount


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


class BackupAndRestore(Callback):
    """Saves the state of training now and then; a `fit` that was interrupted goes on from it with the same bits.

    The state is the weights, the optimizer, the order of the data, the streams of dropout, how far the epoch is, and
    what the running metrics have seen. Call the same program again: `fit` finds the backup and goes on behind it.

    Arrays and PyDatasets go on where they were. A generator cannot: it is asked again for the batches that were seen,
    and these are dropped. So the bits are the same if it makes the same batches, and going on takes the time they take.

    Args:
        backup_dir: a folder for the backup, of this training alone; made if there is none.
        save_freq: "epoch", or a number of batches, counted across epochs.
        double_checkpoint: keep the backup before the last one too, and go on from it if the last cannot be read.
        delete_checkpoint: remove the backup when `fit` comes to its end, True.

    Raises:
        ValueError: another save_freq; no folder.
    """

    def __init__(
        self,
        backup_dir: str | Path,
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        if not str(backup_dir):
            raise ValueError("BackupAndRestore: backup_dir must name a folder")
        self.path, self.previous = Path(backup_dir) / "backup.npz", Path(backup_dir) / "backup.previous.npz"
        self.every = BatchCount("BackupAndRestore", save_freq)
        self.double_checkpoint, self.delete_checkpoint = double_checkpoint, delete_checkpoint

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for path in (self.path, self.previous):
            if path.exists():
                try:
                    with np.load(path) as stored:
                        arrays = {name: stored[name] for name in stored.files}
                except (OSError, ValueError, EOFError, BadZipFile):
                    if path == self.path and self.previous.exists():
                        continue
                    raise
                self._restore(arrays)
                return

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch = epoch
        self.every.last = self.model.first_batch - 1

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if self.every.due(batch):
            self._save(self.epoch, batch + 1)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.every.batches is None:
            self._save(epoch + 1, 0)

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.delete_checkpoint:
            self.path.unlink(missing_ok=True)
            self.previous.unlink(missing_ok=True)

    def _save(self, epoch: int, batch: int) -> None:
        model = self.model
        assert model.feed is not None
        told = {
            "epoch": epoch,
            "batch": batch,
            "unsaved_batches": self.every.seen,
            "streams": [(layer.stream.seed, layer.stream.position) for layer in _random_layers(model)],
            "feed": model.feed.get_state(),
        }
        arrays = {f"weight/{i}": w for i, w in enumerate(model.get_weights())}
        arrays |= {f"optimizer/{name}": a for name, a in model.optimizer.get_state().items()}
        if batch:
            for i, metric in enumerate(model.metrics):
                arrays |= {f"metric/{i}/{name}": np.array(value) for name, value in _numbers(metric)}
        temporary = self.path.with_suffix(".part.npz")  # moved into place: a crash never leaves half a backup
        np.savez(temporary, told=np.array(json.dumps(told, default=lambda a: a.tolist())), **arrays)  # type: ignore[arg-type]
        if self.double_checkpoint and self.path.exists():
            self.path.replace(self.previous)
        temporary.replace(self.path)

    def _restore(self, arrays: dict[str, Any]) -> None:
        model = self.model
        assert model.feed is not None
        told = json.loads(str(arrays.pop("told")))
        model.set_weights([arrays[f"weight/{i}"] for i in range(sum(name.startswith("weight/") for name in arrays))])
        state = {name.split("/", 1)[1]: a for name, a in arrays.items() if name.startswith("optimizer/")}
        model.optimizer.set_state(model._flat_parameters(), state)
        for layer, (seed, position) in zip(_random_layers(model), told["streams"], strict=True):
            layer.stream.seed, layer.stream.position = seed, position
        model.feed.set_state(told["feed"])
        model.first_epoch, model.first_batch, self.every.seen = told["epoch"], told["batch"], told["unsaved_batches"]
        model.reset_metrics()
        for i, metric in enumerate(model.metrics):
            for name, value in vars(metric).items():
                if (stored := arrays.get(f"metric/{i}/{name}")) is not None:
                    setattr(metric, name, stored if isinstance(value, np.ndarray) else stored.item())


def _numbers(metric: Any) -> list[tuple[str, Any]]:
    """What a metric has counted: its attributes that are numbers or arrays of them."""
    return [
        (name, value)
        for name, value in vars(metric).items()
        if isinstance(value, (int, float, np.number)) or (isinstance(value, np.ndarray) and value.dtype.kind in "biuf")
    ]


def _random_layers(layer: Any) -> list[Any]:
    inside = [found for sub in layer.sublayers().values() for found in _random_layers(sub)]
    return [layer, *inside] if hasattr(layer, "stream") else inside


class TensorBoard(Callback):
    """Writes logs for TensorBoard: training into log_dir/train, validation into log_dir/validation.

    Tags are as in "epoch_loss" and "batch_loss". Needs the package tensorboardX; ImportError says so if it is missing.

    Args:
        log_dir: "logs".
        histogram_freq: write histograms of all weights after every so many epochs; 0: never.
        write_graph: accepted, without effect: there is no graph of TensorFlow's to show.
        write_images, profile_batch, embeddings_freq, embeddings_metadata: not offered.
        write_steps_per_second: write how many batches a second were trained on.
        update_freq: "epoch", or also after every batch ("batch") or so many batches.

    Raises:
        ValueError: what is not offered. ImportError: no tensorboardX.
    """

    def __init__(
        self,
        log_dir: str | Path = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: int = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: Any = None,
    ) -> None:
        if write_images or profile_batch or embeddings_freq or embeddings_metadata:
            raise ValueError("TensorBoard: images, profiles and embeddings are not offered")
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError("TensorBoard: needs the package tensorboardX; pip install tensorboardX") from None
        self.log_dir, self._writer, self.histogram_freq = Path(log_dir), SummaryWriter, histogram_freq
        self.write_steps_per_second = write_steps_per_second
        self.every = BatchCount("TensorBoard", 1 if update_freq == "batch" else update_freq)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._open: dict[str, Any] = {}
        self._steps = 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._began, self._before, self.every.last = time.perf_counter(), self.model.optimizer.iterations, -1

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._steps += 1
        if self.every.due(batch):
            for name, value in (logs or {}).items():
                self._add(f"batch_{name}", value, self._steps, "train")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        for name, value in (logs or {}).items():
            part = "validation" if name.startswith("val_") else "train"
            self._add(f"epoch_{name.removeprefix('val_')}", value, epoch, part)
        if self.write_steps_per_second:
            steps = self.model.optimizer.iterations - self._before
            self._add("epoch_steps_per_second", steps / (time.perf_counter() - self._began), epoch, "train")
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for parameter in self.model.weights:
                self._part("train").add_histogram(f"{parameter.path}/histogram", parameter.array, epoch)
        for writer in self._open.values():
            writer.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        for writer in self._open.values():
            writer.close()

    def _part(self, part: str) -> Any:
        if part not in self._open:
            self._open[part] = self._writer(str(self.log_dir / part))
        return self._open[part]

    def _add(self, tag: str, value: Any, step: int, part: str) -> None:
        if np.ndim(value) == 0:
            self._part(part).add_scalar(tag, value, step)


class LearningCurves(Callback):
    """Draws the learning curves while they grow: into a picture file, or below the cell of a notebook.

    Needs matplotlib (pip install 'vivace[plot]'); ImportError says so where it is missing.

    Args:
        path: a file (PNG, SVG or PDF by its ending), replaced after epochs, so that a viewer always finds a whole
            picture; None: show it in the notebook that runs.
        seconds: draw at most so often, 1; the last epoch is drawn in any case.
    """

    def __init__(self, path: str | Path | None = None, seconds: float = 1.0) -> None:
        self.path, self.seconds = None if path is None else Path(path), seconds
        if path is None:
            try:
                from IPython.display import Image, display
            except ImportError:
                raise ImportError("LearningCurves: give a path; without one it needs a notebook (IPython)") from None
            self._image, self._display = Image, display
        plotting.require()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.curves: dict[str, list[float]] = {}
        self._epochs: list[int] = []
        self._drawn = self._shown = float("-inf")
        self._handle: Any = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._epochs.append(epoch + 1)
        for name, value in (logs or {}).items():
            if np.ndim(value) == 0:
                # An epoch without a value (no validation, say) is a gap, not a shorter curve.
                curve = self.curves.setdefault(name, [])
                curve += [float("nan")] * (len(self._epochs) - 1 - len(curve)) + [float(value)]
        if time.perf_counter() - self._shown >= self.seconds:
            self._draw()

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._epochs and self._drawn != self._epochs[-1]:
            self._draw()

    def _draw(self) -> None:
        figure = plotting.plot_history(self.curves, epochs=self._epochs)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_name(f".part-{self.path.name}")
            figure.savefig(temporary, dpi=130)
            temporary.replace(self.path)
        else:
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=110)
            image = self._image(data=buffer.getvalue())
            if self._handle is None:
                self._handle = self._display(image, display_id=True)
            else:
                self._handle.update(image)
        self._drawn, self._shown = self._epochs[-1], time.perf_counter()
