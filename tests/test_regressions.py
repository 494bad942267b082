"""Defects found once, and kept from coming back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vivace import optimizers
from vivace.callbacks import Callback, EarlyStopping
from vivace.layers import LSTM, Bidirectional, Conv2D, Dense, Input, Layer, TimeDistributed
from vivace.models import Sequential
from vivace.regularizers import L2
from vivace.step import Step

X = np.linspace(-1, 1, 80, dtype=np.float32).reshape(20, 4)
Y = np.arange(20) % 3


def classifier(*layers: Layer) -> Sequential:
    model = Sequential([Input((4,)), *(layers or (Dense(5, "relu"),)), Dense(3, "softmax")])
    model.compile(optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model


class Interrupting(Layer):
    """The identity, until someone presses Ctrl-C during its backward pass."""

    pressed = False

    def forward(self, x: Any, step: Step) -> Any:
        return x, None

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        if self.pressed:
            raise KeyboardInterrupt
        return dy


def test_an_interrupted_step_leaves_no_gradient_to_the_next() -> None:
    layer = Interrupting()
    model = classifier(Dense(5, "relu"), layer)
    model.train_on_batch(X, Y)
    start = model.get_weights()
    model.train_on_batch(X, Y)
    expected = model.get_weights()
    model.set_weights(start)
    layer.pressed = True
    with pytest.raises(KeyboardInterrupt):
        model.train_on_batch(50 * X, Y)
    layer.pressed = False
    model.train_on_batch(X, Y)
    for got, want in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("shape", [(8, 4), (8, 7, 4)])
def test_the_reported_loss_holds_the_whole_penalty_once(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    x, y = rng.standard_normal(shape).astype("f4"), rng.integers(0, 3, shape[:-1])
    model = Sequential([Input(shape[1:]), Dense(3, "softmax", kernel_regularizer=L2(0.5))])
    model.compile(optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    p = np.take_along_axis(model.predict(x, verbose=0), y[..., None], -1)
    expected = -np.log(p).mean() + 0.5 * np.square(model.get_weights()[0]).sum()
    assert model.evaluate(x, y, batch_size=3, verbose=0) == pytest.approx(expected, rel=1e-5)
    assert model.fit(x, y, batch_size=3, verbose=0).history["loss"][0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [Input((7, 4)), Bidirectional(LSTM(3)), Dense(2)],
        lambda: [Input((7, 4)), TimeDistributed(Dense(3))],
        lambda: [Input((4,)), Sequential([Input((4,)), Dense(5), Sequential([Input((5,)), Dense(5)])]), Dense(3)],
    ],
)
def test_weights_of_nested_layers_load_into_another_model(layers: Callable[[], Any], tmp_path: Path) -> None:
    """The second model's layers have other automatic names."""
    first, second = Sequential(layers()), Sequential(layers())
    assert any((a != b).any() for a, b in zip(first.get_weights(), second.get_weights(), strict=True))
    first.save_weights(tmp_path / "a.safetensors")
    second.load_weights(tmp_path / "a.safetensors")
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "wrapped", [lambda: TimeDistributed(Dense(5, trainable=False)), lambda: Bidirectional(LSTM(5, trainable=False))]
)
def test_a_frozen_layer_stays_inside_a_wrapper(wrapped: Callable[[], Layer], rng: np.random.Generator) -> None:
    model = Sequential([Input((7, 3)), wrapped(), Dense(2)])
    model.compile(optimizers.SGD(0.5), "mse")
    before = model.get_weights()
    x = rng.standard_normal((4, 7, 3))
    model.train_on_batch(x, np.ones((4, *(model.output_shape or ())[1:])))
    after = model.get_weights()
    frozen = [bool((a == b).all()) for a, b in zip(before, after, strict=True)]
    assert frozen == [True] * (len(frozen) - 2) + [False, False]


def test_sizes_may_be_numpy_integers() -> None:
    assert Dense(Y.max() + 1).units == 3
    assert Conv2D(np.int64(4), 3, groups=np.int64(2)).filters == 4


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones((4, 5)), r"one entry per sample \(20\), received 20 in shape \(4, 5\)"),
        (np.full(20, np.nan), "sample_weight must be finite"),
    ],
)
def test_sample_weights_that_do_not_fit_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classifier().fit(X, Y, sample_weight=weights, verbose=0)


@pytest.mark.parametrize("x", [None, np.float32(3), (row for row in X)])
def test_predict_says_what_it_takes(x: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"\.predict: (the input must hold|expected input of shape)"):
        classifier().predict(x)


def test_validation_freq_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="validation_freq must be an integer >= 1, received 0"):
        classifier().fit(X, Y, validation_data=(X, Y), validation_freq=0, verbose=0)


class Scripted(Callback):
    """Replaces val_loss by a script, and marks the weights with the epoch."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["val_loss"] = self.values[epoch]
        self.model.set_weights([np.full((1, 1), float(epoch))])


@pytest.mark.parametrize(
    ("options", "values", "epochs", "restored"),
    [  # epochs run and epoch restored: what Keras 3.15 does
        ({"patience": 2, "baseline": 0.1}, [5, 4, 3, 2, 1, 1], 6, 4),
        ({"patience": 3, "baseline": 0.1}, [5, 4, 3, 3, 3, 3], 4, 2),
        ({"patience": 2}, [5, 3, 4, 4, 4, 4], 4, 1),
        ({"patience": 0}, [5, 6, 7, 8, 9, 9], 2, 0),
        ({"patience": 9}, [5, 3, 4, 4, 4, 4], 6, 1),
        ({"patience": 1, "min_delta": 0.5}, [5, 4.8, 4.6, 4.4, 4.3, 4.2], 2, 0),
    ],
)
def test_early_stopping_as_keras(options: dict[str, Any], values: list[float], epochs: int, restored: int) -> None:
    model = Sequential([Input((1,)), Dense(1, use_bias=False)])
    model.compile(optimizers.SGD(0.0), "mse")
    calls = [Scripted(values), EarlyStopping(mode="min", restore_best_weights=True, **options)]
    history = model.fit(np.zeros((2, 1)), np.zeros((2, 1)), epochs=6, verbose=0, callbacks=calls)
    assert (len(history.epoch), model.get_weights()[0].item()) == (epochs, restored)
