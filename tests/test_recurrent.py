"""Recurrent layers, embeddings and masks inside models."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest

import vivace
from helpers import numeric_gradient
from test_layers import F64, check_gradients
from vivace import activations
from vivace.layers import (
    GRU,
    LSTM,
    Bidirectional,
    Dense,
    Embedding,
    Input,
    Masking,
    OutputGatedRNN,
    RepeatVector,
    SimpleRNN,
    TextVectorization,
    TimeDistributed,
)
from vivace.models import Sequential
from vivace.step import Step
from vivace.utils import pad_sequences


def cells() -> list[Any]:
    return [SimpleRNN, LSTM, GRU, lambda units, **k: OutputGatedRNN(units, 3, **k)]


@pytest.mark.parametrize("cell", cells())
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_gradients(cell: Any, return_sequences: bool, go_backwards: bool, rng: np.random.Generator) -> None:
    layer = cell(4, return_sequences=return_sequences, go_backwards=go_backwards, **F64)
    check_gradients(layer, rng.standard_normal((3, 5, 2)), rng)


def run_both_ways(layer: Any, x: Any, rng: np.random.Generator, mask: Any) -> list[Any]:
    """Outputs, input gradients and weight gradients, as one list of arrays."""
    step = Step(training=True)
    step.mask = mask
    y, saved = layer.forward(x, step)
    outputs = [a.copy() for a in (y if isinstance(y, list) else [y])]
    dy = [rng.standard_normal(a.shape) for a in outputs]
    dx = layer.backward(dy if isinstance(y, list) else dy[0], saved, step)
    gradients = [p.gradient.copy() for p in layer.weights]
    for p in layer.weights:
        p.gradient[...] = 0
    return [*outputs, *(dx if isinstance(dx, list) else [dx]), *gradients]


def in_general(layer: Any) -> Any:
    """The same layer, from the same random numbers on, that goes step by step in NumPy."""
    assert layer.fused

    class General(type(layer)):  # type: ignore[misc]
        fused = False

    layer.__class__ = General
    layer._ways.clear()
    layer.stream.position = 0
    return layer


def check_both_paths(layer: Any, inputs: list[Any], mask: Any) -> None:
    expected = run_both_ways(layer, inputs, np.random.default_rng(1), mask)
    got = run_both_ways(in_general(layer), inputs, np.random.default_rng(1), mask)
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cell", [*cells(), partial(GRU, reset_after=False)])
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("rates", [(0.0, 0.0), (0.4, 0.0), (0.4, 0.4), (0.0, 0.4)])
def test_fused_and_general_path_agree(
    cell: Any, go_backwards: bool, masked: bool, return_sequences: bool, rates: tuple[float, float]
) -> None:
    rng = np.random.default_rng(0)
    kwargs = {"return_sequences": return_sequences, "return_state": True, "go_backwards": go_backwards, **F64}
    dropout = {"dropout": rates[0], "recurrent_dropout": rates[1]}
    layer = cell(4, **dropout, seed=3, use_bias=not masked, bias_initializer="glorot_uniform", **kwargs)
    inputs = [rng.standard_normal((3, 5, 2)), *(rng.standard_normal((3, 4)) for _ in range(layer.states_count()))]
    mask = (rng.random((3, 5)) > 0.4).astype(np.uint8) if masked else None
    if masked and isinstance(layer, OutputGatedRNN):
        mask[:] = 1  # what a masked step of this cell returns is not to be used
        mask[0, :2] = 0
        if return_sequences or go_backwards:
            layer.zero_output_for_mask = True
            mask[0, :2] = 1
            mask[0, 2] = 0
            if not return_sequences:
                return
    layer.build_once([a.shape for a in inputs])
    check_both_paths(layer, inputs, mask)


@pytest.mark.parametrize("cell", [*cells(), partial(GRU, reset_after=False)])
@pytest.mark.parametrize("activation", [name for name in activations._NAMES if activations.native_form(name)])
def test_every_activation_of_single_elements_is_fused(cell: Any, activation: str, rng: np.random.Generator) -> None:
    inner = {} if cell is SimpleRNN else {"recurrent_activation": activation}
    for named in ({"activation": activation}, inner):
        layer = cell(9, return_sequences=True, **named, **F64)
        layer.build_once((None, 4, 2))
        check_both_paths(layer, rng.standard_normal((3, 4, 2)), None)


@pytest.mark.parametrize("cell", cells())
@pytest.mark.parametrize("activations", [("softmax", "sigmoid"), ("tanh", "softmax")])
def test_gradients_of_the_general_path(cell: Any, activations: tuple[str, str], rng: np.random.Generator) -> None:
    first, second = activations
    gates = {} if cell is SimpleRNN else {"recurrent_activation": second}
    layer = cell(
        4, activation=second if first == "tanh" and not gates else first, return_sequences=True, **gates, **F64
    )
    assert not layer.fused
    check_gradients(layer, rng.standard_normal((3, 5, 2)), rng)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_gru_that_resets_before_the_product(masked: bool, go_backwards: bool, rng: np.random.Generator) -> None:
    layer = GRU(3, reset_after=False, return_sequences=True, go_backwards=go_backwards, **F64)
    x = rng.standard_normal((2, 4, 2))
    if not masked:
        check_gradients(layer, x, rng)
    layer.build_once(x.shape)
    assert layer.bias.shape == (9,)
    w, u, b = layer.get_weights()
    mask = np.array([[1, 0, 1, 1], [0, 0, 1, 0]], np.uint8) if masked else np.ones((2, 4), np.uint8)
    h, expected = np.zeros((2, 3)), []
    for t in range(4)[:: -1 if go_backwards else 1]:
        zx = x[:, t] @ w + b
        z, r = (1 / (1 + np.exp(-(zx[:, i : i + 3] + h @ u[:, i : i + 3]))) for i in (0, 3))
        new = z * h + (1 - z) * np.tanh(zx[:, 6:] + (r * h) @ u[:, 6:])
        h = np.where(mask[:, t, None] != 0, new, h)
        expected.append(h)
    np.testing.assert_allclose(layer(x, mask=mask), np.stack(expected, 1), rtol=1e-12)


@pytest.mark.parametrize("cell", cells())
@pytest.mark.parametrize("general", [False, True])
def test_gradients_of_states_in_and_out(cell: Any, general: bool, rng: np.random.Generator) -> None:
    kwargs = {"activation": "softmax"} if general else {}
    for layer in (
        cell(4, return_state=True, **kwargs, **F64),
        cell(4, return_state=True, return_sequences=True, **kwargs, **F64),
        Bidirectional(cell(3, return_state=True, return_sequences=True, **kwargs, **F64)),
        Bidirectional(cell(3, return_state=True, **kwargs, **F64), merge_mode=None),
    ):
        count, units = (1, 4) if not isinstance(layer, Bidirectional) else (2, 3)
        count *= 2 if cell is LSTM else 1
        x = [rng.standard_normal((2, 5, 3)), *(rng.standard_normal((2, units)) for _ in range(count))]
        layer.build_once([a.shape for a in x])
        y = layer.forward(x, Step(training=True))[0]
        assert [a.shape for a in y] == [tuple(s) for s in layer.compute_output_shape([a.shape for a in x])]
        dy = [rng.standard_normal(a.shape) for a in y]

        def loss(layer: Any = layer, x: Any = x, dy: Any = dy) -> float:
            return float(sum((a * b).sum() for a, b in zip(layer.forward(x, Step(training=True))[0], dy, strict=True)))

        step = Step(training=True)
        saved = layer.forward(x, step)[1]
        dx = layer.backward([a.copy() for a in dy], saved, step)
        assert len(dx) == len(x)
        for array, got in zip(
            [*x, *(p.value for p in layer.weights)], [*dx, *(p.gradient for p in layer.weights)], strict=True
        ):
            np.testing.assert_allclose(got, numeric_gradient(loss, array), rtol=1e-5, atol=1e-7)


def test_a_sequential_takes_one_output_of_each_layer() -> None:
    with pytest.raises(ValueError, match="has 3 outputs; the layers of a Sequential have one each"):
        Sequential([Input((3, 2)), LSTM(4, return_state=True), Dense(1)])


def test_bad_initial_states_are_refused() -> None:
    x = np.zeros((2, 3, 4), np.float32)
    with pytest.raises(ValueError, match=r"takes 2 initial states of shape \(batch, 5\), received \(None, 5\)"):
        LSTM(5)(x, initial_state=[x[:, 0, :1].repeat(5, 1)])
    with pytest.raises(ValueError, match=r"takes 1 initial states of shape \(batch, 5\), received \(None, 4\)"):
        GRU(5)(x, initial_state=x[:, 0])


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave"])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_bidirectional(merge_mode: str, return_sequences: bool, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 4, 3))
    layer = Bidirectional(GRU(5, return_sequences=return_sequences, **F64), merge_mode)
    check_gradients(layer, x, rng)
    a = layer.forward_layer.forward(x, Step(training=False))[0]
    reverse = GRU(5, return_sequences=return_sequences, **F64)
    reverse.build_once((None, 4, 3))
    reverse.set_weights(layer.backward_layer.get_weights())
    b = reverse.forward(np.ascontiguousarray(x[:, ::-1]), Step(training=False))[0]
    b = b[:, ::-1] if return_sequences else b
    merged = {"concat": np.concatenate([a, b], -1), "sum": a + b, "mul": a * b, "ave": (a + b) / 2}[merge_mode]
    np.testing.assert_allclose(layer.forward(x, Step(training=False))[0], merged, rtol=1e-12)


def test_wrapping_layers(rng: np.random.Generator) -> None:
    check_gradients(TimeDistributed(Dense(3, "tanh", **F64)), rng.standard_normal((2, 4, 3)), rng)
    check_gradients(RepeatVector(3, **F64), rng.standard_normal((2, 4)), rng)
    model = Sequential([Input((4,)), RepeatVector(3), LSTM(5, return_sequences=True), TimeDistributed(Dense(2))])
    assert model.output_shape == (None, 3, 2)
    assert len(model.weights) == 5


def test_a_stateful_layer_goes_on_where_it_stopped(rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 8, 2)).astype("float32")
    for cell in (SimpleRNN, LSTM, GRU):
        layer = cell(4, stateful=True)
        model = Sequential([Input((None, 2)), layer])
        model(x[:, :5])
        pieces = model(x[:, 5:])
        layer.reset_states()
        np.testing.assert_allclose(model(x), pieces, atol=1e-6)
        with pytest.raises(ValueError, match="its state is that of 3 sequences, received 2"):
            model(x[:2])


def test_input_dropout_is_the_same_at_every_step(rng: np.random.Generator) -> None:
    layer = SimpleRNN(3, dropout=0.5, seed=1, use_bias=False, recurrent_initializer="zeros", return_sequences=True)
    layer.build_once((None, 4, 6))
    x = np.ones((5, 4, 6), "float32")
    step = Step(training=True)
    y, saved = layer.forward(x, step)
    assert (y == y[:, :1]).all()
    dx = layer.backward(np.ones_like(y), saved, step)
    assert dx is not None
    dropped = (dx == 0).all(1)
    assert 0.2 < dropped.mean() < 0.8
    assert (layer.forward(x, Step(training=False))[0] != y).any()


def test_weights_have_kerass_shapes_and_start_values() -> None:
    model = Sequential([Input((7, 3)), LSTM(5, return_sequences=True), GRU(4, return_sequences=True), SimpleRNN(2)])
    assert [p.shape for p in model.weights] == [
        (3, 20),
        (5, 20),
        (20,),
        (5, 12),
        (4, 12),
        (2, 12),
        (4, 2),
        (2, 2),
        (2,),
    ]
    lstm = model.layers[0].get_weights()
    np.testing.assert_array_equal(lstm[2], [0] * 5 + [1] * 5 + [0] * 10)
    np.testing.assert_allclose(lstm[1] @ lstm[1].T, np.eye(5), atol=1e-6)
    assert model.output_shape == (None, 2)
    assert model.flops() == 2 * 7 * (3 * 20 + 5 * 20 + 5 * 12 + 4 * 12 + 4 * 2 + 2 * 2)


def test_a_mask_is_the_same_as_leaving_the_steps_out(rng: np.random.Generator) -> None:
    for cell in (SimpleRNN, LSTM, GRU):
        layer = cell(6)
        model = Sequential([Input((None, 3)), Masking(), layer])
        x = rng.standard_normal((1, 6, 3)).astype("float32")
        full = x.copy()
        full[0, [0, 2, 5]] = 0  # left, interior and right padding
        np.testing.assert_allclose(model(full), model(np.ascontiguousarray(x[:, [1, 3, 4]])), atol=1e-6)
        np.testing.assert_array_equal(model(np.zeros((1, 4, 3))), np.zeros((1, 6)))  # nothing counts: the first state


def test_losses_and_metrics_count_valid_steps_only(rng: np.random.Generator) -> None:
    model = Sequential(
        [Input((4,)), Embedding(9, 5, mask_zero=True), GRU(6, return_sequences=True), Dense(3, "softmax")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = np.array([[1, 2, 0, 0], [0, 3, 0, 4]]), np.array([[0, 1, 2, 2], [2, 1, 0, 0]])
    p = model(x)
    valid = x != 0
    picked = np.take_along_axis(p, y[..., None], -1)[..., 0]
    loss, accuracy = model.evaluate(x, y, verbose=0)
    assert loss == pytest.approx(-np.log(picked[valid]).mean(), rel=1e-5)
    assert accuracy == pytest.approx((p.argmax(-1) == y)[valid].mean())
    before = model.get_weights()
    y[~valid] = 1  # what stands behind the mask must not matter
    first = model.train_on_batch(x, y)
    after = model.get_weights()
    model.set_weights(before)
    y[~valid] = 0
    assert model.train_on_batch(x, y)[0] == first[0]
    for a, b in zip(after, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_embedding_gradient(rng: np.random.Generator) -> None:
    layer = Embedding(6, 3)
    layer.build_once((None, 4))
    x = np.array([[1, 1, 5, 0], [1, 2, 2, 2]])
    y, saved = layer.forward(x, Step(training=True))
    np.testing.assert_array_equal(y, layer.embeddings.value[x])
    dy = rng.standard_normal(y.shape).astype("float32")
    layer.backward(dy, saved, Step(training=True))
    expected = np.zeros((6, 3), "float32")
    np.add.at(expected, x, dy)
    np.testing.assert_allclose(layer.embeddings.gradient, expected, rtol=1e-6)


def test_a_recurrent_classifier_learns_an_order() -> None:
    """Which of two marks came first: only a state can tell."""
    rng = np.random.default_rng(0)
    x = rng.integers(3, 10, (600, 12))
    at = np.sort(np.stack([rng.permutation(12)[:2] for _ in range(600)]), 1)
    y = rng.integers(0, 2, 600)
    x[np.arange(600), at[:, 0]], x[np.arange(600), at[:, 1]] = 1 + y, 2 - y
    for cell in (LSTM, GRU):
        vivace.utils.set_random_seed(1)
        model = Sequential([Input((12,)), Embedding(10, 8), cell(24), Dense(1, "sigmoid")])
        model.compile(vivace.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
        model.fit(x[:500], y[:500], epochs=15, verbose=0)
        assert model.evaluate(x[500:], y[500:], verbose=0)[1] >= 0.95


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Sequential([Input((5,)), LSTM(3)]),
            r"takes inputs of rank 3.*received shape \(None, 5\).*x\[\.\.\., None\]",
        ),
        (lambda: GRU(0), "units must be an integer >= 1, received 0"),
        (lambda: OutputGatedRNN(3, 0), "output_units must be an integer >= 1, received 0"),
        (lambda: Embedding(0, 3), "input_dim must be an integer >= 1, received 0"),
        (lambda: Sequential([Input((2,)), Embedding(3, 2)])([[0, 3]]), r"integers must lie in \[0, 3\), received 3"),
        (lambda: Sequential([Input((2,)), Embedding(3, 2)])([[0, 0.5]]), "must hold integers, received 0.5"),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_text_vectorization() -> None:
    vectorize = TextVectorization(max_tokens=5, output_sequence_length=4)
    vectorize.adapt(["The cat, the dog!", "the cat sat"])
    assert vectorize.get_vocabulary() == ["", "[UNK]", "the", "cat", "sat"]
    np.testing.assert_array_equal(vectorize(["THE dog sat on the mat", "cat"]), [[2, 1, 4, 1], [3, 0, 0, 0]])
    pairs = TextVectorization(ngrams=2, output_mode="count", max_tokens=9, pad_to_max_tokens=True)
    pairs.adapt(["the cat", "the cat sat"])
    assert pairs.get_vocabulary() == ["[UNK]", "the cat", "the", "cat", "sat", "cat sat"]
    np.testing.assert_array_equal(pairs(["the cat the mat"]), [[3, 1, 2, 1, 0, 0, 0, 0, 0]])
    weighed = TextVectorization(output_mode="tf_idf")
    weighed.adapt(["a b", "a"])
    weights = np.log(1 + 2 / np.array([3, 2]))
    np.testing.assert_allclose(weighed(["a a c"]), [[weights.mean(), 2 * weights[0], 0]], rtol=1e-6)
    characters = TextVectorization(split="character", standardize=None, vocabulary=["a", "b"])
    np.testing.assert_array_equal(characters(["abA", "b"]), [[2, 3, 1], [3, 0, 0]])
    with pytest.raises(ValueError, match="call adapt"):
        TextVectorization()(["a"])
    with pytest.raises(TypeError, match="a single string"):
        vectorize("the cat")


def test_pad_sequences() -> None:
    rows = [[1, 2, 3], [4], []]
    np.testing.assert_array_equal(pad_sequences(rows), [[1, 2, 3], [0, 0, 4], [0, 0, 0]])
    np.testing.assert_array_equal(pad_sequences(rows, 2, padding="post"), [[2, 3], [4, 0], [0, 0]])
    np.testing.assert_array_equal(pad_sequences(rows, 2, truncating="post", value=9), [[1, 2], [9, 4], [9, 9]])
    assert pad_sequences([np.zeros((2, 3)), np.ones((1, 3))], dtype="float32").shape == (2, 2, 3)
    with pytest.raises(ValueError, match="padding must be 'pre' or 'post', received 'left'"):
        pad_sequences(rows, padding="left")


def test_a_layer_by_itself_takes_and_returns_states(rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 8, 2)).astype("float32")
    for cell, count in ((SimpleRNN, 1), (LSTM, 2), (GRU, 1)):
        layer = cell(4, return_state=True, return_sequences=True)
        y, *states = layer(x)
        assert len(states) == count
        np.testing.assert_array_equal(y[:, -1], states[0])
        first, *middle = layer(x[:, :3])
        second, *last = layer(x[:, 3:], initial_state=middle)
        np.testing.assert_allclose(np.concatenate([first, second], 1), y, atol=1e-6)
        np.testing.assert_allclose(last, states, atol=1e-6)
        half = np.ones((3, 8))
        half[:, 5:] = 0
        np.testing.assert_allclose(layer(x, mask=half)[0][:, -1], y[:, 4], atol=1e-6)


@pytest.mark.parametrize("cell", [SimpleRNN, LSTM, GRU, partial(GRU, reset_after=False)])
@pytest.mark.parametrize("rates", [(0.5, 0.0), (0.0, 0.5), (0.4, 0.5)])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_with_dropout(cell: Any, rates: tuple[float, float], masked: bool, rng: np.random.Generator) -> None:
    layer = cell(3, dropout=rates[0], recurrent_dropout=rates[1], seed=2, return_sequences=True, **F64)
    x = rng.standard_normal((2, 4, 5))
    layer.build_once((None, 4, 5))
    mask = np.array([[1, 1, 0, 1], [1, 0, 1, 1]], np.uint8) if masked else None

    def run() -> tuple[Any, Any, Step]:
        layer.stream.position, step = 0, Step(training=True)  # the same masks every time
        step.mask = mask
        return *layer.forward(x, step), step

    y, saved, step = run()
    direction = rng.standard_normal(y.shape)
    dx = layer.backward(direction.copy(), saved, step)
    for array, gradient in [(x, dx), *((p.array, p.gradient) for p in layer.weights)]:
        expected = numeric_gradient(lambda: (run()[0] * direction).sum(), array)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("cell", [LSTM, GRU])
def test_recurrent_dropout_has_masks_for_every_gate(cell: Any) -> None:
    """One unit and one input: how often gates lose theirs together tells that each has a mask of its own."""
    for recurrent, expected in ((0.0, 0.5), (0.5, 0.25)):
        layer = cell(1, dropout=0.5, recurrent_dropout=recurrent, seed=1)
        layer.build_once((None, 2, 1))
        step = Step(training=True)
        _, saved = layer.forward(np.ones((4000, 2, 1), "float32"), step)
        *_, tape, _, _, _ = saved
        masks = layer.gates if recurrent else 1  # they are what the tape ends in
        kept = tape[tape.size - 4000 * masks * (2 if recurrent else 1) :].reshape(-1, masks, 4000)
        gates = kept[0] if recurrent else np.repeat(kept[0], 2, 0)
        both = ((gates[0] == 0) & (gates[1] == 0)).mean()
        assert abs(both - expected) < 0.03
        assert np.unique(kept).tolist() == [0, 2]
        if recurrent:
            np.testing.assert_allclose((kept[1] == 0).mean(1), 0.5, atol=0.03)
            np.testing.assert_allclose(np.corrcoef(kept[1]), np.eye(layer.gates), atol=0.07)


def test_masks_of_states_alone_are_no_mask(rng: np.random.Generator) -> None:
    for backwards in (False, True):
        layer = GRU(3, return_sequences=True, go_backwards=backwards)
        inputs = [rng.standard_normal((2, 4, 5)).astype("f4"), np.zeros((2, 3), "f4")]
        layer.build_once([a.shape for a in inputs])
        step = Step(training=False)
        step.mask = [None, np.ones((2, 3), np.uint8)]
        layer.forward(inputs, step)
        assert step.mask is None


def test_recurrent_dropout_is_for_training_only(rng: np.random.Generator) -> None:
    layer, x = GRU(16, recurrent_dropout=0.5, seed=1), rng.standard_normal((4, 6, 3)).astype("float32")
    layer.build_once((None, 6, 3))
    plain = layer.forward(x, Step(training=False))[0]
    assert (layer.forward(x, Step(training=True))[0] != plain).any()
    np.testing.assert_array_equal(layer.forward(x, Step(training=False))[0], plain)


def test_regularizers_enter_the_loss_and_the_gradient() -> None:
    x, y = np.eye(3, dtype="float32"), np.zeros((3, 2))

    def model(**options: Any) -> Sequential:
        vivace.utils.set_random_seed(0)
        m = Sequential([Input((3,)), Dense(2, bias_initializer="ones", **options)])
        m.compile("sgd", "mse")
        return m

    plain, penalised = model(), model(kernel_regularizer=vivace.regularizers.L1L2(0.1, 0.2), bias_regularizer="l2")
    w, b = plain.get_weights()
    penalty = 0.1 * np.abs(w).sum() + 0.2 * (w**2).sum() + 0.01 * (b**2).sum()
    assert penalised.evaluate(x, y, verbose=0) == pytest.approx(plain.evaluate(x, y, verbose=0) + penalty, rel=1e-6)
    assert penalised.train_on_batch(x, y) == pytest.approx(plain.train_on_batch(x, y) + penalty, rel=1e-6)
    step = 0.01 * (0.1 * np.sign(w) + 0.4 * w)
    np.testing.assert_allclose(penalised.get_weights()[0], plain.get_weights()[0] - step, atol=1e-7)
    np.testing.assert_allclose(penalised.get_weights()[1], plain.get_weights()[1] - 0.01 * 0.02 * b, atol=1e-7)


def test_what_is_set_after_a_call_counts_in_the_next(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 4, 3)).astype("float32")

    def inner(layer: Any) -> Any:
        return getattr(layer, "forward_layer", getattr(layer, "cell", layer))

    for layer in (LSTM(4), Bidirectional(LSTM(4)), vivace.layers.RNN(vivace.layers.LSTMCell(4))):
        first, again = layer(x), layer(x)
        np.testing.assert_array_equal(first, again)
        one = inner(layer) if not isinstance(layer, LSTM) else layer
        one.activation = "relu"
        assert np.abs(layer(x) - first).max() > 1e-3
        one.activation = "tanh"
        np.testing.assert_array_equal(layer(x), first)
        one.dropout = 0.5
        assert np.abs(layer(x, training=True) - first).max() > 1e-3
        copied = pickle.loads(pickle.dumps(layer))
        np.testing.assert_array_equal(copied(x), first)
        np.testing.assert_array_equal(layer(x[:1]), first[:1])


def test_masks_of_padding() -> None:
    words = np.array([[0, 2, 0], [3, 1, 0]])
    layer = Embedding(4, 2, mask_zero=True)
    np.testing.assert_array_equal(layer.compute_mask(words), words != 0)
    np.testing.assert_array_equal(layer(words), layer.embeddings.value[words])
    for dtype in ("float32", "float64"):
        for value in (0.0, -1.0):
            x = np.array([[[value, value], [value, 2]], [[np.nan, value], [1, value]]], dtype)
            masking = Masking(value, dtype=dtype)
            np.testing.assert_array_equal(masking.compute_mask(x), [[False, True], [True, True]])
            expected = x.copy()
            expected[0, 0] = 0
            np.testing.assert_array_equal(masking(x), expected)
            _, saved = masking.forward(x, Step(training=True))
            d = masking.backward(np.ones_like(x), saved, Step(training=True))
            np.testing.assert_array_equal(d, [[[0, 0], [1, 1]], [[1, 1], [1, 1]]])
