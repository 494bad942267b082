"""Graphs of layers: what they compute, their gradients, and training with several inputs and outputs."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vivace import layers as L
from vivace.layers import (
    LSTM,
    Add,
    Bidirectional,
    Concatenate,
    Conv2D,
    Dense,
    Dot,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    MaxPooling2D,
    MultiHeadAttention,
)
from vivace.models import Functional, Model, Sequential
from vivace.step import Step
from vivace.utils import set_random_seed

D = {"dtype": "float64"}


def check_gradients(model: Model, inputs: list[np.ndarray], rng: np.random.Generator) -> None:
    """Gradients of sum(outputs * constants) for all weights and inputs against central differences."""
    x = inputs if len(inputs) > 1 else inputs[0]
    outputs, saved = model.forward(x, step := Step(training=True))
    several = isinstance(outputs, list)
    constants = [rng.normal(size=y.shape) for y in (outputs if several else [outputs])]

    def value() -> float:
        y, _ = model.forward(x, Step(training=True))
        return sum(float((a * c).sum()) for a, c in zip(y if several else [y], constants, strict=True))

    for p in model.weights:
        p.gradient.fill(0)
    dys = [c.copy() for c in constants]
    dx = model.backward(dys if several else dys[0], saved, step)
    pairs = list(zip(inputs, dx if isinstance(dx, list) else [dx], strict=True))
    pairs += [(p.value, p.gradient) for p in model.trainable_weights]
    for array, gradient in pairs:
        assert gradient is not None
        for _ in range(6):
            where = tuple(rng.integers(0, size) for size in array.shape)
            kept = array[where]
            array[where] = kept + 1e-6
            up = value()
            array[where] = kept - 1e-6
            down = value()
            array[where] = kept
            assert gradient[where] == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-6)


def diamond() -> Any:
    x = Input((5,))
    h = Dense(4, "tanh", **D)(x)
    return x, Dense(3, **D)(Add(**D)([Dense(6, "tanh", **D)(h), Dense(6, **D)(h)]))


def shared() -> Any:
    a, b, layer = Input((4,)), Input((4,)), Dense(3, "tanh", **D)
    return [a, b], Concatenate(**D)([layer(a), layer(b), layer(L.Average(**D)([a, b]))])


def nested() -> Any:
    inner = Sequential([Input((3,), dtype="float64"), Dense(4, "tanh", **D), Dense(3, **D)])
    i = Input((3,))
    graph = Model(i, [Dense(2, **D)(i), Dense(3, "tanh", **D)(i)])
    x = Input((3,))
    a, b = graph(inner(inner(x)))
    return x, L.concatenate([a, b, x], **D)


def unused_output() -> Any:
    i = Input((3,))
    graph = Model(i, [Dense(2, **D)(i), Dense(3, "tanh", **D)(i)])
    x = Input((3,))
    return x, graph(Dense(3, **D)(x))[1]


def residual() -> Any:
    x = Input((6, 6, 2))
    h = Conv2D(3, 3, padding="same", activation="tanh", **D)(x)
    y = L.add([h, Conv2D(3, 3, padding="same", **D)(h)], **D)
    y = L.add([y, L.Activation("relu", **D)(y)], **D)
    return x, Dense(2, **D)(GlobalAveragePooling2D(**D)(MaxPooling2D(**D)(y)))


def two_and_two() -> Any:
    a, b = Input((4,)), Input((3,))
    h = L.multiply([Dense(5, **D)(a), Dense(5, "sigmoid", **D)(b)], **D)
    return [a, b], [Dense(2, **D)(h), h, L.subtract([h, Dense(5, **D)(h)], **D), h]


def seq2seq() -> Any:
    encoder, decoder = Input((5, 3)), Input((4, 2))
    _, h, c = LSTM(6, return_state=True, **D)(encoder)
    y, last, _ = LSTM(6, return_sequences=True, return_state=True, **D)(decoder, initial_state=[h, c])
    attended = MultiHeadAttention(2, 3, **D)(y, encoder)
    return [encoder, decoder], [Dense(2, **D)(attended), last]


def both_ways() -> Any:
    x = Input((4, 3))
    y, *states = Bidirectional(LSTM(2, return_state=True, return_sequences=True, **D))(x)
    return x, L.concatenate([Flatten(**D)(y), states[0], states[3]], **D)


GRAPHS = [diamond, shared, nested, unused_output, residual, two_and_two, seq2seq, both_ways]


@pytest.mark.parametrize("graph", GRAPHS)
def test_gradients_are_those_of_finite_differences(graph: Callable[[], Any], rng: np.random.Generator) -> None:
    model = Model(*graph())
    inputs = [rng.normal(size=(3, *tensor.shape[1:])) for tensor in model.inputs]
    check_gradients(model, inputs, rng)


MERGES = {
    L.Add: lambda a, b, c: a + b + c,
    L.Multiply: lambda a, b, c: a * b * c,
    L.Average: lambda a, b, c: (a + b + c) / 3,
    L.Maximum: lambda a, b, c: np.maximum(np.maximum(a, b), c),
    L.Minimum: lambda a, b, c: np.minimum(np.minimum(a, b), c),
}


@pytest.mark.parametrize("shapes", [((4, 3),) * 3, ((4, 3), (1, 3), (4, 1)), ((4, 3), (3,), (1,))])
@pytest.mark.parametrize("merge", MERGES)
def test_merging_broadcasts_as_numpy_does(merge: Any, shapes: Any, rng: np.random.Generator) -> None:
    x = [rng.normal(size=(2, *shape)) for shape in shapes]
    tensors = [Input(shape) for shape in shapes]
    model = Model(tensors, merge(**D)(tensors))
    wide = [a.reshape(2, *(1,) * (3 - a.ndim), *a.shape[1:]) for a in x]
    np.testing.assert_allclose(model(x), MERGES[merge](*wide), rtol=1e-15)
    assert model.output_shape == (None, 4, 3)
    check_gradients(model, x, rng)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("merge", [*MERGES, L.Subtract, L.Concatenate, lambda: Dot(1)])
def test_an_input_that_an_embedding_takes_too_is_merged(merge: Any, swap: bool, rng: np.random.Generator) -> None:
    x, a, b = rng.integers(0, 5, (3, 4)), Input((4,)), Input((4,))

    def both(ids: Any, numbers: Any) -> Any:
        pair = [Flatten()(L.Embedding(5, 1, "ones")(ids)), numbers]
        return merge()(pair[::-1] if swap else pair)

    one, two = Model(a, both(a, a)), Model([a, b], both(a, b))
    expected = two.predict([x, x.astype("f4")], verbose=0)
    np.testing.assert_array_equal(one.predict(x, verbose=0), expected)
    for model, inputs in ((one, x), (two, [x, x.astype("f4")])):
        model.compile("sgd", "mse")
        model.train_on_batch(inputs, np.zeros_like(expected))
    np.testing.assert_array_equal(one.weights[0].value, two.weights[0].value)
    assert (one.weights[0].value != 1).any()


def test_masked_steps_are_left_out_of_products_and_extrema() -> None:
    x = [np.array([[[2.0], [2.0], [2.0]]]), np.array([[[3.0], [3.0], [1.0]]])]
    masks = [np.array([[1, 1, 0]], "u1"), np.array([[1, 0, 0]], "u1")]
    for merge, both in ((L.Multiply, 6), (L.Maximum, 3), (L.Minimum, 2)):
        step = Step(training=True)
        step.mask = masks
        y, saved = merge(**D).forward(x, step)
        np.testing.assert_array_equal(y[0, :2, 0], [both, 2])
        np.testing.assert_array_equal(step.mask, [[1, 1, 0]])
        dx = merge(**D).backward(np.ones((1, 3, 1)), saved, step)
        assert dx[1][0, 1, 0] == 0
        assert dx[0][0, 1, 0] == 1
        if merge is L.Multiply:
            assert y[0, 2, 0] == dx[0][0, 2, 0] == dx[1][0, 2, 0] == 0
            np.testing.assert_array_equal([d[0, 0, 0] for d in dx], [3, 2])


def test_equal_inputs_share_the_gradient_of_an_extremum() -> None:
    layer, x = L.Maximum(**D), np.ones((1, 2))
    _, saved = layer.forward([x, x.copy()], step := Step(training=True))
    np.testing.assert_array_equal(layer.backward(np.ones((1, 2)), saved, step), np.full((2, 1, 2), 0.5))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    ("shapes", "axes", "subscripts"),
    [
        (((5,), (5,)), 1, "ni,ni->n"),
        (((3, 5), (4, 5)), -1, "nai,nbi->nab"),
        (((5, 3), (4, 5)), (1, 2), "nia,nbi->nab"),
        (((3, 5), (5,)), (2, 1), "nai,ni->na"),
    ],
)
def test_dot(shapes: Any, axes: Any, subscripts: str, normalize: bool, rng: np.random.Generator) -> None:
    x = [rng.normal(size=(2, *shape)) for shape in shapes]
    tensors = [Input(shape) for shape in shapes]
    model = Model(tensors, Dot(axes, normalize, **D)(tensors))
    pair = (axes, axes) if isinstance(axes, int) else axes
    unit = [
        a / np.linalg.norm(a, axis=axis, keepdims=True) if normalize else a for a, axis in zip(x, pair, strict=True)
    ]
    expected = np.einsum(subscripts, *unit)
    np.testing.assert_allclose(model(x), expected if expected.ndim > 1 else expected[:, None], rtol=1e-12)
    check_gradients(model, x, rng)


def test_concatenate_joins_along_any_axis(rng: np.random.Generator) -> None:
    x = [rng.normal(size=(2, size, 4)) for size in (3, 1, 2)]
    tensors = [Input(a.shape[1:]) for a in x]
    model = Model(tensors, Concatenate(axis=1, **D)(tensors))
    np.testing.assert_array_equal(model(x), np.concatenate(x, 1))
    check_gradients(model, x, rng)


# The same as a Sequential


def chain() -> list[Any]:
    return [
        Conv2D(4, 3, activation="relu"),
        MaxPooling2D(),
        Dropout(0.3, seed=5),
        Flatten(),
        Dense(8, "relu"),
        Dense(3, "softmax"),
    ]


def test_a_graph_trains_as_the_same_sequential_bit_for_bit(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(40, 9, 9, 1)), rng.integers(0, 3, 40)
    set_random_seed(3)
    sequential = Sequential([Input((9, 9, 1)), *chain()])
    set_random_seed(3)
    tensor = start = Input((9, 9, 1))
    for layer in chain():
        tensor = layer(tensor)
    graph = Model(start, tensor)
    assert graph.final_activation == "softmax"
    assert len(graph.schedule.forwards) == 5  # the pooling runs with its convolution
    histories = []
    for model in (sequential, graph):
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        set_random_seed(4)
        histories.append(model.fit(x, y, batch_size=16, epochs=3, verbose=0, validation_split=0.2).history)
    assert histories[0] == histories[1]
    for a, b in zip(sequential.get_weights(), graph.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(sequential.predict(x), graph.predict(x, batch_size=7))


def test_a_convolution_with_two_consumers_is_not_fused() -> None:
    x = Input((8, 8, 1))
    c = Conv2D(2, 3, activation="relu")(x)
    model = Model(x, [MaxPooling2D()(c), Flatten()(c)])
    assert len(model.schedule.forwards) == 3
    assert len(Model(x, [MaxPooling2D()(c), c]).schedule.forwards) == 2


def test_masks_follow_the_tensors(rng: np.random.Generator) -> None:
    a, b = Input((4,), dtype="int32"), Input((3,), dtype="int32")
    embed = Embedding(7, 5, mask_zero=True)
    joined = Concatenate(axis=1)([embed(a), embed(b)])
    model = Model([a, b], LSTM(3)(joined))
    x = [np.array([[1, 2, 0, 0]]), np.array([[3, 0, 4]])]
    short = Sequential([Input((4,)), embed, LSTM(3)])
    short.layers[1].set_weights(model.layers[-1].get_weights())
    np.testing.assert_allclose(model(x), short(np.array([[1, 2, 3, 4]])), rtol=1e-6)


# Structure


def test_the_order_of_layers_and_weights_is_that_of_keras() -> None:
    a, b = Input((4,), name="a"), Input((3,), name="b")
    h = Dense(5, name="h")(a)
    s = Add(name="s")([h, Dense(5, name="g2")(Dense(6, name="g")(b))])
    model = Model([a, b], [Dense(1, name="o1")(s), Dense(2, name="o2")(h)])
    assert [layer.name for layer in model.layers] == ["b", "a", "g", "h", "g2", "s", "o1", "o2"]
    assert [p.path.split("/")[0] for p in model.weights[::2]] == ["g", "h", "g2", "o1", "o2"]
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert "s (Add)" in lines[0]
    assert "h, g2" in lines[0]


def test_a_shared_layer_has_its_weights_once() -> None:
    model = Model(*shared())
    assert model.count_params() == 15
    assert isinstance(model, Functional)


def test_features_come_out_of_the_middle(rng: np.random.Generator) -> None:
    x = Input((3,))
    model = Model(x, Dense(2)(Dense(4, "relu", name="middle")(x)))
    features = Model(model.inputs, model.get_layer("middle").output)
    data = rng.normal(size=(5, 3)).astype(np.float32)
    kernel, bias = model.get_layer("middle").get_weights()
    np.testing.assert_allclose(features.predict(data), np.maximum(data @ kernel + bias, 0), rtol=1e-5, atol=1e-6)
    rest = Model(model.get_layer("middle").output, model.outputs)
    np.testing.assert_array_equal(rest(features(data)), model(data))


def test_copies_and_weight_files_give_the_same_outputs(tmp_path: Path, rng: np.random.Generator) -> None:
    model = Model(*seq2seq())
    x = [rng.normal(size=(2, *tensor.shape[1:])) for tensor in model.inputs]
    model.save_weights(tmp_path / "w.safetensors")
    other = Model(*seq2seq())
    assert not np.array_equal(other(x)[0], model(x)[0])
    other.load_weights(tmp_path / "w.safetensors")
    for one in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for a, b in zip(model(x), one(x), strict=True):
            np.testing.assert_array_equal(a, b)
        assert Model(one.inputs, one.outputs[1])(x).shape == (2, 6)


def test_a_deep_graph_is_no_problem() -> None:
    tensor = x = Input((2,))
    for _ in range(1200):
        tensor = L.Identity()(tensor)
    model = Model(x, tensor)
    assert copy.deepcopy(model)(np.ones((1, 2))).tolist() == [[1, 1]]


def test_a_frozen_base_runs_in_inference_mode(rng: np.random.Generator) -> None:
    base = Sequential([Input((6, 6, 1)), Conv2D(2, 3), MaxPooling2D(), Dropout(0.5), Flatten()])
    base.trainable = False
    x = Input((6, 6, 1))
    model = Model(x, Dense(1)(base(x, training=False)))
    model.compile("sgd", "mse")
    data, before = rng.normal(size=(8, 6, 6, 1)), base.get_weights()
    kept = model.get_weights()
    model.train_on_batch(data, np.ones(8))
    np.testing.assert_array_equal(base.get_weights()[0], before[0])
    assert not np.array_equal(model.get_weights()[2], kept[2])


def test_layers_run_on_arrays(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    np.testing.assert_array_equal(L.add([a, b], dtype="float64"), a + b)
    layer = Dense(4, **D)
    np.testing.assert_allclose(layer(a), a @ layer.get_weights()[0], rtol=1e-12)
    assert Dense(2)([[1, 2], [3, 4]]).shape == (2, 2)


# Training with several inputs and outputs


def two_heads() -> Model:
    a, b = Input((4,), name="a"), Input((3,), name="b")
    h = Concatenate(**D)([a, b])
    return Model([a, b], [Dense(2, name="one", **D)(h), Dense(3, "softmax", name="two", **D)(h)])


def data_for_two(rng: np.random.Generator, n: int = 20) -> Any:
    x = [rng.normal(size=(n, 4)), rng.normal(size=(n, 3))]
    return x, [rng.normal(size=(n, 2)), rng.integers(0, 3, n)], rng.uniform(0.5, 2, n)


LOSSES = ["mse", "sparse_categorical_crossentropy"]


def test_losses_of_two_outputs_are_those_of_numpy(rng: np.random.Generator) -> None:
    model = two_heads()
    x, y, w = data_for_two(rng)
    model.compile("sgd", LOSSES, loss_weights=[2.0, 0.5], metrics=[["mae"], ["accuracy"]])
    logs = model.evaluate(x, y, sample_weight={"one": w}, verbose=0, return_dict=True)
    p, q = model.predict(x)
    one = (((p - y[0]) ** 2).mean(1) * w).mean()
    two = -np.log(q[np.arange(20), y[1]]).mean()
    expected = {
        "loss": 2 * one + 0.5 * two,
        "one_loss": one,
        "two_loss": two,
        "one_mae": np.abs(p - y[0]).mean(),
        "two_accuracy": (q.argmax(1) == y[1]).mean(),
    }
    assert list(logs) == sorted(expected) == sorted(model.metrics_names)
    assert logs == pytest.approx(expected)
    assert model.evaluate(x, y, verbose=0, batch_size=7)[2] == pytest.approx(two)


def test_an_update_follows_the_gradient_of_the_weighted_sum(rng: np.random.Generator) -> None:
    model = two_heads()
    x, y, _ = data_for_two(rng)
    before = model.get_weights()
    p, q = model.predict(x)
    model.compile("sgd", dict(zip(("two", "one"), LOSSES[::-1], strict=True)), loss_weights={"one": 3.0})
    model.train_on_batch(dict(zip("ab", x, strict=True)), dict(zip(("one", "two"), y, strict=True)))
    h = np.concatenate(x, 1)
    one = h.T @ (3 * (p - y[0]) / 20)
    two = h.T @ ((q - np.eye(3)[y[1]]) / 20)
    after = model.get_weights()
    np.testing.assert_allclose(before[0] - after[0], 0.01 * one, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(before[2] - after[2], 0.01 * two, rtol=1e-6, atol=1e-9)


def test_fit_takes_lists_and_dicts_alike(rng: np.random.Generator) -> None:
    x, y, w = data_for_two(rng)
    results = []
    for by_name in (False, True):
        set_random_seed(1)
        model = two_heads()
        model.compile("adam", LOSSES, metrics={"two": "accuracy"})
        data: Any = (dict(zip("ba", x[::-1], strict=True)), dict(zip(("one", "two"), y, strict=True)))
        history = model.fit(
            *(data if by_name else (x, y)), batch_size=6, epochs=2, verbose=0, sample_weight=w, validation_split=0.25
        ).history
        results.append((history, model.predict(x, batch_size=8)))
    assert results[0][0] == results[1][0]
    names = ["loss", "one_loss", "two_loss", "two_accuracy"]
    assert set(results[0][0]) == {*names, *(f"val_{name}" for name in names)}
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_output_without_a_loss_does_not_train(rng: np.random.Generator) -> None:
    model = two_heads()
    x, y, _ = data_for_two(rng)
    model.compile("sgd", {"two": LOSSES[1]})
    before = model.get_weights()
    assert list(model.train_on_batch(x, {"two": y[1]}, return_dict=True)) == [
        "loss"
    ]  # Keras names none if there is one
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    assert not np.array_equal(model.get_weights()[2], before[2])


def test_an_encoder_and_decoder_learn_to_copy(rng: np.random.Generator) -> None:
    encoder, decoder = Input((3,), dtype="int32"), Input((3, 1))
    _, h, c = LSTM(24, return_state=True)(Embedding(4, 8)(encoder))
    y = LSTM(24, return_sequences=True)(decoder, initial_state=[h, c])
    model = Model([encoder, decoder], Dense(4, "softmax")(y))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.learning_rate = 0.02
    x = rng.integers(0, 4, (64, 3))
    history = model.fit([x, np.ones((64, 3, 1))], x, epochs=40, verbose=0).history
    assert history["accuracy"][-1] > 0.9


# Bad input

A, B = Input((3,), name="left"), Input((3,), name="right")
SUM = L.add([A, B])


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (lambda: Model(A, SUM), ValueError, "depend on the input 'right'"),
        (lambda: Model(A, 3), TypeError, "outputs must be symbolic tensors"),
        (lambda: Model([A, A], SUM), ValueError, "inputs must differ"),
        (lambda: Dense(2)([A, B]), ValueError, "takes one input, received 2"),
        (lambda: L.add([A, np.ones((1, 3))]), TypeError, "symbolic tensors only, received also ndarray"),
        (lambda: L.add([A, Input((4,))]), ValueError, "do not broadcast"),
        (lambda: L.subtract([A, B, A]), ValueError, "takes two inputs, received 3"),
        (lambda: Add()(A), ValueError, "takes a list of inputs"),
        (lambda: L.concatenate([A, Input((3, 2))]), ValueError, "must agree but for axis -1"),
        (lambda: L.concatenate([A, B], axis=0), ValueError, "axis must name an axis"),
        (lambda: L.dot([A, Input((4,))], axes=1), ValueError, "have sizes 3 and 4"),
        (lambda: Model([A, B], SUM)(A), ValueError, "takes 2 inputs"),
        (lambda: Model(A, Dense(1)(A))(Input((4,))), ValueError, r"input 'left' has shape \(None, 3\)"),
        (lambda: Model([A, B], SUM).predict(np.ones((2, 3))), ValueError, "expected a list of 2"),
        (lambda: Model([A, B], SUM).predict({"left": np.ones((2, 3))}), ValueError, r"received \['left'\]"),
        (lambda: Model([A, B], SUM).predict([np.ones((2, 3)), np.ones((2, 4))]), ValueError, "right: expected input"),
        (lambda: Model([A, B], SUM).predict([np.ones((2, 3)), np.ones((1, 3))]), ValueError, "same number of samples"),
        (lambda: two_heads().compile("sgd", ["mse"]), ValueError, "expected a list of 2, for the outputs"),
        (lambda: two_heads().compile("sgd", {"three": "mse"}), ValueError, r"received \['three'\]"),
        (lambda: two_heads().compile("sgd", "mse", metrics=["mae"]), ValueError, "metrics: expected a list of 2"),
        (lambda: np.asarray(A), TypeError, "has no values"),
        (lambda: Input(3), ValueError, r"a tuple such as \(3,\)"),
        (lambda: Model(A, Dense(1, **D)(Dense(2)(A))), ValueError, "give all one"),
        (lambda: Model(A, Dense(1, name="x")(Dense(2, name="x")(A))), ValueError, "two layers are named 'x'"),
        (lambda: Dense(1).output, ValueError, "has not been called"),
    ],
)  # fmt: skip
def test_bad_input_raises(bad: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bad()


def test_unfreezing_inside_a_nested_model() -> None:
    x = Input((3,))
    inner_layer = Dense(3)
    inner_layer.trainable = False
    inner = Model(x, inner_layer(x))
    z = Input((3,))
    outer = Model(z, Dense(1)(inner(z)))
    data, targets = np.ones((4, 3), np.float32), np.zeros((4, 1), np.float32)
    outer.compile("sgd", "mse")
    before = inner_layer.get_weights()[0]
    outer.train_on_batch(data, targets)
    np.testing.assert_array_equal(inner_layer.get_weights()[0], before)
    inner_layer.trainable = True
    outer.compile("sgd", "mse")
    outer.train_on_batch(data, targets)
    assert (inner_layer.get_weights()[0] != before).any()


def test_an_output_may_have_no_metrics() -> None:
    x = Input((3,))
    model = Model(x, [Dense(2, name="a")(x), Dense(1, name="b")(x)])
    model.compile("sgd", "mse", metrics=[["mae"], None])
    logs = model.train_on_batch(np.ones((4, 3)), [np.zeros((4, 2)), np.zeros((4, 1))], return_dict=True)
    assert set(logs) == {"loss", "a_loss", "a_mae", "b_loss"}
