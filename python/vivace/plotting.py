"""Pictures of training. Needs matplotlib: pip install 'vivace[plot]'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._typing import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TRAIN, _VALIDATION, _WRONG = "#1f5fa8", "#d9822b", "#b3261e"


def require() -> type[Figure]:
    """Matplotlib's Figure. Raises ImportError, saying what to install, where it is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plotting needs matplotlib: pip install 'vivace[plot]'") from None
    return Figure


def _figure(width: float, height: float) -> Figure:
    return require()(figsize=(width, height), layout="constrained")  # no pyplot: no global state, no display


def _draw_curves(
    axes: Any, history: Mapping[str, Sequence[float]], name: str, epochs: Sequence[int] | None = None
) -> None:
    for key, label, color in ((name, "training", _TRAIN), (f"val_{name}", "validation", _VALIDATION)):
        if key in history:
            values = np.asarray(history[key], dtype=np.float64)
            at = np.asarray(epochs or range(1, len(values) + 1))[: len(values)]
            told = ~np.isnan(values)  # a line through the epochs that have a value
            axes.plot(at[told], values[told], "o-", ms=3.5, lw=1.6, color=color, label=label)
    axes.set_xlabel("epoch")
    axes.set_title(name, loc="left", fontsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if f"val_{name}" in history:
        axes.legend(frameon=False, fontsize=9)


def _draw_prediction(axes: Any, image: Array, label: int, probabilities: Array) -> None:
    guess = int(probabilities.argmax())
    axes.imshow(image, cmap="gray_r", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    right = guess == label
    text = f"{guess}  {probabilities[guess]:.0%}" if right else f"{guess}  {probabilities[guess]:.0%}, is {label}"
    axes.set_title(text, fontsize=8, color="black" if right else _WRONG, pad=3)
    for spine in axes.spines.values():
        spine.set_color("#cccccc" if right else _WRONG)


def plot_history(history: Any, path: str | Path | None = None, epochs: Sequence[int] | None = None) -> Figure:
    """Learning curves, one panel for each quantity; training and validation together.

    Args:
        history: what `fit` returned, or its `history` dict; an epoch that has no value may be NaN.
        path: file to write (PNG, SVG or PDF by its ending).
        epochs: the numbers of the epochs; 1, 2, ...
    """
    curves: Mapping[str, Sequence[float]] = getattr(history, "history", history)
    names = [name for name in curves if not name.startswith("val_")]
    columns = min(3, max(1, len(names)))
    rows = max(1, -(-len(names) // columns))
    figure = _figure(4.4 * columns, 3.2 * rows)
    for i, name in enumerate(names):
        _draw_curves(figure.add_subplot(rows, columns, i + 1), curves, name, epochs)
    if path is not None:
        figure.savefig(path, dpi=130)
    return figure


def plot_predictions(images: Array, labels: Array, probabilities: Array, path: str | Path | None = None) -> Figure:
    """Images with the predicted class and its probability; wrong ones are marked red and name the right class.

    Args:
        images: (n, height, width) or (n, height, width, 1).
        labels: (n,) integers.
        probabilities: (n, classes).
        path: file to write.
    """
    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    figure = _figure(1.1 * columns, 1.35 * rows)
    for i in range(len(images)):
        axes = figure.add_subplot(rows, columns, i + 1)
        _draw_prediction(axes, np.squeeze(images[i]), int(labels[i]), np.asarray(probabilities[i]))
    if path is not None:
        figure.savefig(path, dpi=130)
    return figure


def plot_training(history: Any, images: Array, labels: Array, probabilities: Array, path: str | Path) -> Figure:
    """The learning curves above a row or two of predictions, in one picture."""
    curves: Mapping[str, Sequence[float]] = getattr(history, "history", history)
    names = [name for name in curves if not name.startswith("val_")]
    figure = _figure(9, 6)
    panels: Any = figure.subfigures(2, 1, height_ratios=(3, 2.6))
    upper, lower = panels
    for i, name in enumerate(names):
        _draw_curves(upper.add_subplot(1, len(names), i + 1), curves, name)
    for i in range(min(16, len(images))):
        axes = lower.add_subplot(2, 8, i + 1)
        _draw_prediction(axes, np.squeeze(images[i]), int(labels[i]), np.asarray(probabilities[i]))
    figure.savefig(path, dpi=130)
    return figure
