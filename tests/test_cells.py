"""Recurrent cells and RNN, dense layers over any axes, and layers as activations."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from layer_checks import check_gradients, output
from test_layers import F64
from vivace import layers, models, testing
from vivace.layers import Input

KINDS = [
    (layers.SimpleRNNCell, layers.SimpleRNN),
    (layers.LSTMCell, layers.LSTM),
    (layers.GRUCell, layers.GRU),
    (lambda n, **k: layers.GRUCell(n, reset_after=False, **k), lambda n, **k: layers.GRU(n, reset_after=False, **k)),
]
MASK = np.array([[0, 1, 0, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.uint8)


@pytest.mark.parametrize(("cell", "whole"), KINDS)
@pytest.mark.parametrize("go_backwards", [False, True])
def test_a_cell_in_rnn_is_the_layer_of_its_kind(cell: Any, whole: Any, go_backwards: bool, rng: Any) -> None:
    x = rng.standard_normal((3, 5, 4))
    flags = {"go_backwards": go_backwards, "return_sequences": True, "return_state": True}
    one, other = layers.RNN(cell(6, **F64), **flags), whole(6, **flags, **F64)
    one(x), other(x)
    other.set_weights(one.get_weights())
    assert [w.shape for w in one.weights] == [w.shape for w in other.weights]
    for a, b in zip(one(x, mask=MASK), other(x, mask=MASK), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("cell", "whole"), KINDS)
def test_steps_by_hand_are_those_of_rnn(cell: Any, whole: Any, rng: Any) -> None:
    x = rng.standard_normal((3, 5, 4)).astype("float32")
    cells = [cell(6), layers.LSTMCell(2)]
    stack, shared = layers.StackedRNNCells(cells), layers.RNN(cells, return_sequences=True, return_state=True)
    expected, *final = shared(x)
    states: Any = stack.get_initial_state(3)
    assert stack.state_size == [cells[0].state_size, [2, 2]]
    assert stack.output_size == shared.compute_output_shape((None, 5, 4))[0][-1] == 2
    for t in range(5):
        y, states = stack(x[:, t], states)
        np.testing.assert_allclose(y, expected[:, t], 1e-5, 1e-6)
    for a, b in zip(states, final, strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-6)


@pytest.mark.parametrize(("cell", "whole"), KINDS)
def test_gradients(cell: Any, whole: Any, rng: Any) -> None:
    one = cell(3, **F64)
    states = [rng.standard_normal((2, 3)) for _ in range(one.states_count())]
    testing.check_gradients(one, [rng.standard_normal((2, 4)), *states])
    check_gradients(layers.RNN([one, cell(2, **F64)]), rng.standard_normal((3, 5, 4)), rng, MASK)
    stack = layers.RNN([cell(2, **F64), cell(3, **F64)], return_sequences=True, return_state=True, go_backwards=True)
    sizes = [2] * one.states_count() + [3] * one.states_count()
    testing.check_gradients(stack, [rng.standard_normal((3, 5, 4)), *(rng.standard_normal((3, n)) for n in sizes)])


@pytest.mark.parametrize(("cell", "whole"), KINDS)
@pytest.mark.parametrize("training", [False, True])
def test_later_calls_of_a_cell_are_like_the_first(cell: Any, whole: Any, training: bool, rng: Any) -> None:
    """The first call looks at what it gets; those that follow leave that to the kernel."""
    one = cell(6)
    x = rng.standard_normal((3, 4)).astype("float32")
    states = [rng.standard_normal((3, 6)).astype("float32") for _ in range(one.states_count())]
    y, after = one(x, states, training=training)
    expected = [y, *after]
    assert len({one.ctypes.data for one in expected}) == len(expected)  # each has its own memory
    given: list[tuple[Any, Any]] = [
        (x, states),
        (x, tuple(states)),
        (x, [states]),
        (x.tolist(), states),
        (x.astype("float64"), states),
        (x, [state.astype("float64") for state in states]),
        (np.asfortranarray(x), [np.asfortranarray(state) for state in states]),
    ]
    for inputs, before in given + ([(x, states[0])] if len(states) == 1 else []):
        y, after = one(inputs, before, training=training)
        for a, b in zip([y, *after], expected, strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one(x[:2], [state[:2] for state in states])[0], expected[0][:2])
    for wrong in ([], [*states, *states], [None] * len(states), [states[0], None][: len(states) + 1]):
        with pytest.raises(
            (TypeError, ValueError), match="initial states of shape|takes the states too|expected numbers"
        ):
            one(x, wrong)
    with pytest.raises(ValueError, match="was built for 4 features"):
        one(x[:, :3], states)
    one.activation = "relu"
    other = cell(6, activation="relu")
    other(x, states), other.set_weights(one.get_weights())
    np.testing.assert_array_equal(one(x, states)[0], other(x, states)[0])
    one.activation = "softmax"
    np.testing.assert_array_equal(one(x, states)[0], one(x, states)[1][0])


def test_a_cell_drops_in_training_only(rng: Any) -> None:
    x, h = rng.standard_normal((3, 4)).astype("float32"), np.zeros((3, 6), "float32")
    one = layers.GRUCell(6, dropout=0.5, seed=1)
    first = one(x, h)[0]
    np.testing.assert_array_equal(one(x, h)[0], first)
    drops = [one(x, h, training=True)[0] for _ in range(2)]
    assert (drops[0] != first).any()
    assert (drops[0] != drops[1]).any()


def test_a_penalty_on_a_cells_output_is_told(rng: Any) -> None:
    x, h = rng.standard_normal((3, 4)).astype("float32"), np.zeros((3, 6), "float32")
    one = layers.SimpleRNNCell(6, activity_regularizer="l2")
    for _ in range(2):
        y, (state,) = one(x, h)
        assert one.losses == [pytest.approx(0.01 * ((y**2).sum() + (state**2).sum()) / 3)]


def test_a_stateful_rnn_goes_on_where_it_was(rng: Any) -> None:
    x = rng.standard_normal((2, 6, 3)).astype("float32")
    cells = [layers.LSTMCell(4), layers.GRUCell(2)]
    whole, parts = layers.RNN(cells), layers.RNN(cells, stateful=True)
    expected = whole(x)
    for _ in range(2):
        parts(x[:, :3])
        np.testing.assert_allclose(parts(x[:, 3:]), expected, 1e-5, 1e-6)
        parts.reset_states()
    np.testing.assert_array_equal(whole(x), expected)  # the cells are shared, what each does with them is not


def test_a_model_with_cells_trains_and_is_made_again(rng: Any) -> None:
    x = Input((5, 4))
    y = layers.Dense(1)(layers.RNN([layers.LSTMCell(3), layers.GRUCell(4)])(x))
    model = models.Model(x, y)
    model.compile("adam", "mse")
    data = rng.standard_normal((8, 5, 4)).astype("float32")
    before = model.get_weights()
    model.fit(data, data[:, :1, 0], verbose=0)
    assert all((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    again = models.model_from_json(model.to_json())
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(data), model(data))


@pytest.mark.parametrize(("cell", "whole"), KINDS)
def test_rnn_both_ways(cell: Any, whole: Any, rng: Any) -> None:
    x = rng.standard_normal((3, 5, 4))
    one = layers.Bidirectional(layers.RNN(cell(6, **F64), return_sequences=True))
    other = layers.Bidirectional(whole(6, return_sequences=True, **F64))
    one(x), other(x)
    other.set_weights(one.get_weights())
    np.testing.assert_array_equal(one(x, mask=MASK), other(x, mask=MASK))
    check_gradients(one, x, rng, MASK)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.RNN(layers.LSTM(3)), "RNN: cell must be"),
        (lambda: layers.RNN([]), "RNN: cell must be"),
        (lambda: layers.Bidirectional(layers.GRUCell(3)), "layer must be a recurrent layer"),
        (lambda: layers.StackedRNNCells([layers.Dense(3)]), "cells must be SimpleRNNCell"),
        (lambda: layers.LSTMCell(3)(np.zeros((2, 4))), "takes the states too"),
        (lambda: layers.LSTMCell(3)(np.zeros((2, 4)), [np.zeros((2, 3))]), "2 initial states"),
        (lambda: layers.StackedRNNCells([layers.GRUCell(3)])(np.zeros((2, 4))), "takes the states too"),
        (
            lambda: layers.StackedRNNCells([layers.GRUCell(3)])(np.zeros((2, 4)), [np.zeros((2, 3))] * 2),
            "of all cells, 1",
        ),
        (lambda: layers.GRUCell(3)(np.zeros((2, 5, 4)), [np.zeros((2, 3))]), "takes one step"),
        (lambda: layers.RNN(layers.GRUCell(3))(np.zeros((2, 4))), "takes inputs of rank 3"),
        (lambda: layers.RNN(layers.GRUCell(3))(np.zeros((2, 5, 4)), [np.zeros((2, 2))]), "takes initial states"),
    ],
)
def test_what_cells_refuse(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


EQUATIONS: list[tuple[str, Any, tuple[int, ...], str | None]] = [
    ("ab,bc->ac", 5, (4,), "c"),
    ("abc,cde->abde", (None, 2, 5), (3, 4), "de"),
    ("abcd,cde->abe", (None, 5), (3, 4, 2), "e"),
    ("...x,xy->...y", 5, (2, 3, 4), "y"),
    ("ab...,bc->ac...", 5, (4, 2, 3), "c"),
    ("abc,bcd->abd", (3, 5), (3, 4), "bd"),
    ("abc,bd->adc", (5, 4), (3, 4), "d"),
    ("abc,bd->ad", 5, (3, 4), None),
]


@pytest.mark.parametrize(("equation", "size", "shape", "bias"), EQUATIONS)
def test_einsum_dense(equation: str, size: Any, shape: Any, bias: Any, rng: Any) -> None:
    layer = layers.EinsumDense(equation, size, "tanh", bias, bias_initializer="glorot_uniform", **F64)
    x = rng.standard_normal((2, *shape))
    y = output(layer, x)
    kernel, *rest = layer.get_weights()
    expected = np.einsum(equation, x, kernel)
    np.testing.assert_allclose(y, np.tanh(expected + (rest[0] if rest else 0)), 1e-12)
    check_gradients(layer, x, rng)


def test_einsum_dense_starts_as_wide_as_its_axes_ask() -> None:
    layer = layers.EinsumDense("abc,cde->abde", (None, 20, 30), kernel_initializer="he_normal")
    layer.build_once((None, 3, 50))
    assert layer.kernel.value.var() == pytest.approx(2 / 50, rel=0.05)


@pytest.mark.parametrize(
    ("equation", "size", "bias", "message"),
    [
        ("ab,bc", 3, None, "must be of the form"),
        ("...a,ab->b", 3, None, "must be of the form"),
        ("ab,bcd->ac", 3, None, "axis 'd'"),
        ("ab,bc->ac", 3, "b", "bias_axes 'b'"),
        ("ab,bc->ac", (3, 4), None, "output_shape must have 1 sizes"),
        ("abc,cd->abd", 3, None, "takes inputs of 3 axes"),
        ("ab,ab->ab", 3, None, "axis 'b' of the input has size 4, of output_shape 3"),
    ],
)
def test_what_einsum_dense_refuses(equation: str, size: Any, bias: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layers.EinsumDense(equation, size, bias_axes=bias).build_once((None, 4))


@pytest.mark.parametrize("kind", [layers.LeakyReLU, layers.PReLU, layers.Softmax, layers.ELU])
def test_a_layer_as_an_activation(kind: Any, rng: Any) -> None:
    x = rng.standard_normal((3, 4, 5))
    for make in (lambda a: layers.Dense(3, a, **F64), lambda a: layers.Conv1D(3, 2, activation=a, **F64)):
        layer, plain, alone = make(kind(**F64)), make(None), kind(**F64)
        y = output(layer, x)
        plain(x)
        plain.set_weights(layer.get_weights()[:2])
        z = plain(x)
        alone(z)
        alone.set_weights(layer.get_weights()[2:])
        np.testing.assert_allclose(y, alone(z), 1e-12)
        check_gradients(layer, x, rng)


def test_a_model_with_layers_as_activations(rng: Any) -> None:
    stack = [Input((4,)), layers.Dense(5, layers.PReLU("ones")), layers.Dense(2, layers.LeakyReLU(0.1))]
    model = models.Sequential(stack)
    x = rng.standard_normal((8, 4)).astype("float32")
    assert [w.shape for w in model.weights] == [(4, 5), (5,), (5,), (5, 2), (2,)]
    np.testing.assert_allclose(model.predict(x, verbose=0), model(x), 1e-6)
    np.testing.assert_allclose(model.predict(x, verbose=0), model(x), 1e-6)
    again = models.model_from_json(model.to_json())
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(x), model(x))
    model.compile("sgd", "mse")
    model.fit(x, np.ones((8, 2)), verbose=0)
    assert (model.get_weights()[2] != 1).any()


def test_a_copy_of_an_rnn_has_weights_of_its_own(rng: Any) -> None:
    x = rng.standard_normal((2, 5, 3)).astype("float32")
    layer = layers.RNN([layers.LSTMCell(4), layers.GRUCell(2)])
    expected = layer(x)
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(again(x), expected)
        again.set_weights([w * 2 for w in again.get_weights()])
        assert (again(x) != expected).any()
    np.testing.assert_array_equal(layer(x), expected)
