"""python -m vivace: trains the reference CNN on handwritten digits and shows what it learned."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import vivace
from vivace._core import native
from vivace._typing import Array
from vivace.datasets import digits, mnist
from vivace.layers import Conv2D, Dense, Flatten, MaxPooling2D
from vivace.models import Sequential


def resize(images: Array, size: int) -> Array:
    """(n, h, w) -> float32 (n, size, size), bilinear, with the corners on the corners."""

    def weights(old: int) -> Array:
        positions = np.linspace(0, old - 1, size)
        matrix: Array = np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(old)))
        return matrix.astype(np.float32)

    result: Array = np.einsum(
        "ih,nhw,jw->nij", weights(images.shape[1]), images.astype(np.float32), weights(images.shape[2])
    )
    return result


def reference_cnn() -> Sequential:
    """Two convolutions with pooling and two dense layers: 225,034 weights, 5.26 MFLOP per image."""
    model = Sequential()
    model.add(Conv2D(32, (3, 3), activation="relu", input_shape=(28, 28, 1)))
    model.add(MaxPooling2D((2, 2)))
    model.add(Conv2D(64, (3, 3), activation="relu"))
    model.add(MaxPooling2D((2, 2)))
    model.add(Flatten())
    model.add(Dense(128, activation="relu"))
    model.add(Dense(10, activation="softmax"))
    return model


def load(folder: str | None) -> tuple[str, int, tuple[tuple[Array, Array], tuple[Array, Array]]]:
    """(what it is, epochs that suit it, data as float32 images (n, 28, 28, 1) in [0, 1] with labels)."""
    try:
        (x, y), (x_test, y_test) = mnist.load_data(folder, download=False)
        scaled = [images.astype(np.float32)[..., None] / 255 for images in (x, x_test)]
        return "MNIST", 5, ((scaled[0], y), (scaled[1], y_test))
    except FileNotFoundError:
        if folder is not None:
            raise
    (x, y), (x_test, y_test) = digits.load_data()
    scaled = [resize(images, 28)[..., None] / 16 for images in (x, x_test)]
    text = "the 1,797 digits that come with vivace, resized to 28x28 (MNIST is not here; --data DIR names its folder)"
    return text, 20, ((scaled[0], y), (scaled[1], y_test))


def picture(history: object, x: Array, y: Array, probabilities: Array, folder: Path) -> str:
    """Writes the PNG and says so, or says what is missing. Mistakes come first: they are what one wants to see."""
    try:
        from vivace.plotting import plot_training

        order = np.argsort(probabilities.argmax(-1) == y, kind="stable")
        wrong = int((probabilities.argmax(-1) != y).sum())
        shown = np.concatenate([order[: min(wrong, 6)], order[wrong:]])[:16]
        path = folder / "vivace-training.png"
        plot_training(history, x[shown], y[shown], probabilities[shown], path)
        return f"Learning curve and predictions: {path}"
    except ImportError:
        return "No picture, since matplotlib is missing: pip install 'vivace[plot]'"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vivace", description=__doc__)
    parser.add_argument(
        "command", nargs="?", choices=("train", "info"), default="train", help="train (default) or info"
    )
    parser.add_argument("--data", metavar="DIR", help="folder with MNIST's four IDX files")
    parser.add_argument("--epochs", type=int, help="default: 5 for MNIST, 20 for the small digits")
    parser.add_argument("--batch-size", type=int, default=32, help="default: 32")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--output", type=Path, default=Path("."), metavar="DIR", help="where to write the picture")
    arguments = parser.parse_args()
    if arguments.command == "info":
        print(vivace.show_config())
        return

    vivace.utils.set_random_seed(arguments.seed)
    try:
        name, epochs, ((x, y), (x_test, y_test)) = load(arguments.data)
        arguments.output.mkdir(parents=True, exist_ok=True)  # fail before the training, not after it
    except (OSError, ValueError) as error:
        parser.error(str(error))
    epochs = arguments.epochs or epochs
    print(f"Data: {name}")
    model = reference_cnn()
    model.summary()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    started = time.perf_counter()
    history = model.fit(x, y, epochs=epochs, batch_size=arguments.batch_size, validation_data=(x_test, y_test))
    seconds = time.perf_counter() - started
    accuracy = model.evaluate(x_test, y_test, verbose=0, return_dict=True)["accuracy"]
    print(f"Test accuracy {accuracy:.2%} on {len(y_test):,} images never trained on")
    print(
        f"{len(history.epoch) * len(x) / seconds:,.0f} samples/s (validation included), "
        f"ISA level {native.isa}, {native.get_num_threads()} threads"
    )
    print(picture(history, x_test, y_test, model.predict(x_test, verbose=0), arguments.output))


if __name__ == "__main__":
    main()
