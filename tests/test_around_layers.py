"""Bidirectional and TimeDistributed where the layers inside them are not the plain case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import numeric_gradient
from test_layers import F64, check_gradients
from vivace.layers import GRU, LSTM, BatchNormalization, Bidirectional, Dense, SimpleRNN, Softmax, TimeDistributed
from vivace.regularizers import L2
from vivace.step import Step


def both_ways(backwards: bool, **kwargs: Any) -> Bidirectional:
    first = GRU(3, go_backwards=backwards, return_sequences=True, **kwargs, **F64)
    second = LSTM(3, go_backwards=not backwards, return_sequences=True, **kwargs, **F64)
    return Bidirectional(first, backward_layer=second)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_outputs_are_in_the_forward_layers_order(backwards: bool, masked: bool, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 4, 5))
    mask = np.array([[1, 1, 0, 0], [1, 0, 1, 1]], np.uint8) if masked else None
    one, other = both_ways(backwards), both_ways(backwards, return_state=True)
    y = one(x, mask=mask)
    other.build_once(x.shape)
    other.set_weights(one.get_weights())
    np.testing.assert_allclose(other(x, mask=mask)[0], y, rtol=1e-12)
    first, second = (half(x, mask=mask) for half in (one.forward_layer, one.backward_layer))
    np.testing.assert_allclose(y, np.concatenate([first, second[:, ::-1]], -1), rtol=1e-12)
    if masked:
        expected = one.forward_layer.compute_mask(x, mask)
        for layer in (one, other):
            found = layer.compute_mask(x, mask)
            np.testing.assert_array_equal(found[0] if isinstance(found, list) else found, expected)
    else:
        check_gradients(both_ways(backwards), x, rng)


@pytest.mark.parametrize("rates", [((0.5, 0.0), (0.0, 0.0)), ((0.0, 0.0), (0.3, 0.4)), ((0.0, 0.4), (0.5, 0.0))])
@pytest.mark.parametrize("masked", [False, True])
def test_each_direction_drops_by_its_own_numbers(rates: Any, masked: bool, rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 4, 5))
    mask = np.array([[1, 1, 0, 0], [1, 0, 1, 1], [1, 1, 1, 1]], np.uint8) if masked else None
    (a, b), (c, d) = rates
    halves: Any = (
        LSTM(3, dropout=a, recurrent_dropout=b, seed=7, return_sequences=True, **F64),
        GRU(6, dropout=c, recurrent_dropout=d, seed=8, return_sequences=True, go_backwards=True, **F64),
    )
    layer = Bidirectional(halves[0], backward_layer=halves[1])
    layer(x)
    assert layer.make_way(x.shape).pair is not None

    def run() -> tuple[Any, Any, Step]:
        for half in halves:
            half.stream.position = 4
        step = Step(training=True)
        step.mask = mask
        y, saved = layer.forward(x, step)
        return y.copy(), saved, step

    y, saved, step = run()
    for half in halves:
        half.stream.position = 4
    first, second = (half(x, training=True, mask=mask) for half in halves)
    np.testing.assert_allclose(y, np.concatenate([first, second[:, ::-1]], -1), rtol=1e-12)
    dy = rng.standard_normal(y.shape)
    dx = layer.backward(dy.copy(), saved, step)
    for array, gradient in [(x, dx), *((w.value, w.gradient) for w in layer.weights)]:
        expected = numeric_gradient(lambda: float((run()[0] * dy).sum()), array)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-8)


def test_a_subclass_with_its_own_forward_runs_by_it(rng: np.random.Generator) -> None:
    class Doubled(SimpleRNN):
        def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
            y, saved = super().forward(x, step)
            return 2 * y, saved

    x = rng.standard_normal((2, 4, 5))
    layer = Bidirectional(Doubled(3, **F64))
    y = layer(x)
    expected = [half(x) for half in (layer.forward_layer, layer.backward_layer)]
    np.testing.assert_allclose(y, np.concatenate(expected, -1), rtol=1e-12)


@pytest.mark.parametrize("activation", [lambda: Softmax(axis=1, **F64), lambda: BatchNormalization(**F64)])
@pytest.mark.parametrize("training", [False, True])
def test_every_step_is_a_batch_to_a_dense_layer_with_a_layer_for_activation(
    activation: Any, training: bool, rng: np.random.Generator
) -> None:
    x = rng.standard_normal((3, 4, 5))
    inner = Dense(2, activation(), **F64)
    y = TimeDistributed(inner)(x, training=training)
    expected = np.stack([inner(x[:, t], training=training) for t in range(4)], 1)
    np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_time_distributed_heeds_a_penalty_set_later(rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 4, 5))
    layer = TimeDistributed(Dense(2, **F64))
    y = layer(x)
    assert layer.losses == []
    layer.layer.activity_regularizer = L2(0.5)
    layer(x)
    early = TimeDistributed(Dense(2, activity_regularizer=L2(0.5), **F64))
    early(x)
    early.set_weights(layer.get_weights())
    early(x)
    assert layer.losses == pytest.approx(early.losses)
    assert layer.losses == pytest.approx([0.5 * (y**2).sum() / 3])
