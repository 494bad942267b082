"""What the less common arguments of layers do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from layer_checks import check_gradients, output
from vivace import layers as L
from vivace.layers import Bidirectional, Dropout, Embedding, Flatten, Input
from vivace.models import Model, clone_model
from vivace.step import Step

D = {"dtype": "float64"}


@pytest.mark.parametrize("kind", [Dropout, L.AlphaDropout])
def test_a_noise_shape_shares_the_mask(kind: Any, rng: np.random.Generator) -> None:
    layer = kind(0.5, noise_shape=(None, 1, 3), seed=4, **D)
    x = rng.normal(size=(40, 6, 3))
    y = output(layer, x, training=True)
    if kind is Dropout:
        scale = y / x
        assert set(np.unique(scale.round(9))) == {0.0, 2.0}
        assert (scale == scale[:, :1]).all()
        assert 0.3 < (scale[:, 0] == 0).mean() < 0.7
    else:
        values, counts = np.unique(y, return_counts=True)
        dropped = y == values[counts.argmax()]
        assert (dropped.all(1) | ~dropped.any(1)).all()
        assert 0.3 < dropped.mean() < 0.7
    np.testing.assert_array_equal(output(layer, x), x)
    y, saved = layer.forward(x, step := Step(training=True))
    dx = layer.backward(np.ones_like(y), saved, step)
    if kind is Dropout:
        np.testing.assert_array_equal(dx, 2.0 * (y != 0))
    with pytest.raises(
        ValueError, match=r"noise_shape \(2, 6, 3\) does not broadcast to an input of shape \(40, 6, 3\)"
    ):
        output(kind(0.5, noise_shape=(2, 6, 3), **D), x, training=True)


def test_flatten_moves_channels_that_come_first_to_the_end(rng: np.random.Generator) -> None:
    layer = Flatten(data_format="channels_first", **D)
    x = rng.normal(size=(2, 3, 4, 5))
    np.testing.assert_array_equal(output(layer, x), x.transpose(0, 2, 3, 1).reshape(2, -1))
    check_gradients(layer, x, rng)
    flat = rng.normal(size=(2, 7))
    np.testing.assert_array_equal(output(Flatten(data_format="channels_first", **D), flat), flat)


MASK = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1], [0, 0, 0, 0, 0]], np.uint8)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("cell", [L.SimpleRNN, L.LSTM, L.GRU])
def test_masked_steps_may_put_out_zeros(cell: Any, backwards: bool, rng: np.random.Generator) -> None:
    options = {"return_sequences": True, "go_backwards": backwards, **D}
    layer = cell(3, zero_output_for_mask=True, **options)
    x = rng.normal(size=(3, 5, 2))
    y = output(layer, x, mask=MASK)
    carried = cell(3, **options)
    carried.build_once((None, 5, 2))
    carried.set_weights(layer.get_weights())
    keep = MASK[:, ::-1] if backwards else MASK
    np.testing.assert_array_equal(y, output(carried, x, mask=MASK) * keep[..., None])
    check_gradients(layer, x, rng, mask=MASK)


def test_bidirectional_puts_out_zeros_at_masked_steps(rng: np.random.Generator) -> None:
    layer = Bidirectional(L.GRU(3, return_sequences=True, **D))
    y = output(layer, rng.normal(size=(3, 5, 2)), mask=MASK)
    assert (y[MASK == 0] == 0).all()
    assert (y[MASK == 1] != 0).all()
    check_gradients(layer, rng.normal(size=(3, 5, 2)), rng, mask=MASK)


def test_bidirectional_takes_another_backward_layer_and_weights(rng: np.random.Generator) -> None:
    other = L.SimpleRNN(2, go_backwards=True, **D)
    first = [rng.normal(size=shape) for shape in ((2, 9), (3, 9), (2, 9), (2, 2), (2, 2), (2,))]
    layer = Bidirectional(L.GRU(3, **D), backward_layer=other, weights=first)
    x = rng.normal(size=(2, 4, 2))
    y = output(layer, x)
    assert y.shape == (2, 5)
    for given, got in zip(first, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(given, got)
    np.testing.assert_array_equal(y[:, 3:], output(other, x))
    with pytest.raises(ValueError, match="must differ in go_backwards"):
        Bidirectional(L.GRU(3), backward_layer=L.GRU(3))
    with pytest.raises(ValueError, match="needs outputs of one shape"):
        Bidirectional(L.GRU(3), "sum", backward_layer=L.GRU(2, go_backwards=True)).build_once((None, 4, 2))


def test_embeddings_start_from_given_weights() -> None:
    table = np.arange(8.0).reshape(4, 2)
    for weights in (table, [table]):
        layer = Embedding(4, 2, weights=weights)
        np.testing.assert_array_equal(layer(np.array([[3, 0]])), [[[6, 7], [0, 1]]])


def test_a_clone_keeps_the_modes_of_calls(rng: np.random.Generator) -> None:
    x = Input((50,))
    model = Model(x, Dropout(0.5)(x, training=True))
    data = np.ones((2, 50), "float32")
    for one in (model, clone_model(model), Model.from_config(model.get_config())):
        assert 0 < (one(data) == 0).sum() < 100


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: L.BatchNormalization(renorm=True), "renorm is not supported, received True"),
        (lambda: L.MultiHeadAttention(2, 2, sliding_window=0), "sliding_window must be an integer >= 1, received 0"),
        (lambda: L.StringLookup(salt=3), "salt is not supported"),
        (lambda: L.TextVectorization(ragged=True), "ragged is not supported"),
        (
            lambda: L.TextVectorization(output_mode="one_hot"),
            "output_mode must be int, multi_hot, count, tf_idf",
        ),
        (lambda: L.Resizing(2, 2, fill_mode="wrap"), "fill_mode must be 'constant', received 'wrap'"),
        (lambda: L.Attention(score_mode="sum"), "score_mode must be 'dot' or 'concat', received 'sum'"),
        (lambda: L.InputLayer((3,), sparse=True), "sparse is not supported"),
        (lambda: L.Dense(2, kernel_constraint="strong"), "unknown constraint 'strong'"),
        (lambda: L.Dense(2, kernel_initializer="nice"), "unknown initializer 'nice'"),
    ],
)
def test_what_is_not_supported_is_said(bad: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bad()
