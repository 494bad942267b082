"""Bidirectional and TimeDistributed where the layers inside them are not the plain case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

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
