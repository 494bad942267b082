"""What Keras users reach for, found by comparing random configurations with Keras itself: one row or test for each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vivace
from vivace import (
    activations,
    callbacks,
    config,
    constraints,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    utils,
)
from vivace.layers import Dense, Input
from vivace.models import Model, Sequential, clone_model
from vivace.testing import check_gradients

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


# Structures


def ends(structure: str) -> tuple[Any, Any]:
    a, b = Input((3,), name="a"), Input((3,), name="b")
    o, p = Dense(2, name="o")(a), layers.Add(name="p")([a, b])
    return {
        "list": ([a, b], [o, p]),
        "tuple": ((a, b), (o, p)),
        "dict": ({"a": a, "b": b}, {"y": o, "z": p}),
        "one": ([a, b], p),
    }[structure]


def shape_of(given: Any) -> Any:
    """A structure with shapes for arrays and tensors."""
    if isinstance(given, dict):
        return {key: shape_of(one) for key, one in given.items()}
    return type(given)(map(shape_of, given)) if isinstance(given, (list, tuple)) else given.shape[1:]


@pytest.mark.parametrize("structure", ["list", "tuple", "dict", "one"])
def test_models_keep_the_structure_of_their_ends(structure: str) -> None:
    inputs, outputs = ends(structure)
    made = Model(inputs, outputs)
    again = Model.from_config(made.get_config())
    for model in (made, clone_model(made)) if structure == "tuple" else (made, clone_model(made), again):
        assert shape_of(model.input) == shape_of(inputs)
        assert shape_of(model.output) == shape_of(outputs)
        assert isinstance(model.inputs, list)
        given = {"a": X, "b": X} if structure == "dict" else [X, X]
        for result in (model(given), model(given, training=True), model.predict(given, batch_size=2, verbose=0),
                       model.predict_on_batch(given)):  # fmt: skip
            assert shape_of(result) == shape_of(outputs)
        assert shape_of(model([Input((3,)), Input((3,))])) == shape_of(outputs)


def test_a_dict_of_one_output_stays_one() -> None:
    a = Input((3,))
    model = Model({"a": a}, {"y": Dense(2)(a)})
    assert list(model({"a": X})) == list(model.predict(X, verbose=0)) == list(model.output) == ["y"]
    assert list(model.input) == ["a"]
    single = Model(a, Dense(2)(a))
    assert single.input is a
    assert Sequential([Input((3,)), Dense(2)]).output.shape == (None, 2)


@pytest.mark.parametrize("shape", [(1,), (4, 4, 1), (4, 4)])
def test_a_last_axis_of_one_may_be_there_or_not(shape: tuple[int, ...]) -> None:
    x = np.arange(float(2 * math.prod(shape))).reshape(2, *shape)
    other = x[..., None] if shape[-1] != 1 else x[..., 0]
    i = Input(shape)
    for model in (Model(i, layers.Flatten()(i)), Sequential([Input(shape), layers.Flatten()])):
        model.compile("sgd", "mse")
        for given in (x, other):
            np.testing.assert_array_equal(model.predict(given, verbose=0), x.reshape(2, -1))
            assert model.evaluate(given, x.reshape(2, -1), verbose=0) == 0
        with pytest.raises(ValueError, match="expected input of shape"):
            model.predict(np.zeros((*x.shape, 3)))


# Layers


def test_build_builds_once() -> None:
    layer = Dense(2)
    layer.build((None, 3))
    before = layer.get_weights()
    layer(X)
    assert layer.built
    assert len(layer.weights) == 2
    np.testing.assert_array_equal(layer.get_weights()[0], before[0])
    layer.set_weights([np.ones((3, 2)), np.zeros(2)])
    layers.Flatten().set_weights([])
    for attention in (layers.MultiHeadAttention(1, 2), layers.GroupQueryAttention(2, 2, 1)):
        attention.build((4, 5, 3), (4, 6, 3))
        assert attention.compute_output_shape((4, 5, 3), (4, 6, 3)) == (4, 5, 3)
        assert attention.compute_output_shape(query_shape=(4, 5, 3), value_shape=(4, 6, 3)) == (4, 5, 3)


def test_trainable_is_said_of_what_is_inside() -> None:
    norm = layers.BatchNormalization()
    inner = Sequential([Input((3,)), norm])
    inner.trainable = False
    model = Sequential([inner, Dense(1)])
    model.compile("sgd", "mse")
    model.fit(X, X[:, :1], verbose=0)
    assert not norm.trainable
    np.testing.assert_array_equal(norm.get_weights()[2], np.zeros(3))
    inner.trainable = True
    assert norm.trainable
    norm.trainable = False  # one that is frozen by itself stays so in copies
    assert not Sequential.from_config(inner.get_config()).layers[0].trainable


def test_weights_have_names_and_paths() -> None:
    class Block(Model):
        def __init__(self) -> None:
            super().__init__(name="block")
            self.out = Dense(2, name="out")

        def call(self, x: Any) -> Any:
            return self.out(x)

    x = Input((4, 3))
    model = Sequential([Input((4, 3)), layers.Bidirectional(layers.GRU(2, name="g"), name="b"), Block()], name="m")
    assert [w.name for w in model.weights[:3]] == ["kernel", "recurrent_kernel", "bias"]
    assert [w.path for w in model.weights[2::3]] == [
        "m/b/forward_g/gru_cell/bias", "m/b/backward_g/gru_cell/bias",
    ]  # fmt: skip
    assert model.weights[-1].path == "m/block/out/bias"
    assert Dense(1, name="d")(Input((2,))).node.layer.weights[0].path == "d/kernel"
    attention = layers.MultiHeadAttention(1, 2, name="att")
    attention(x, x)
    assert [w.path for w in attention.weights[::7]] == ["att/query/kernel", "att/attention_output/bias"]


def test_masks_and_penalties_of_single_calls() -> None:
    words = np.array([[1, 2, 0], [3, 0, 0]])
    mask = layers.Embedding(4, 2, mask_zero=True).compute_mask(words)
    np.testing.assert_array_equal(mask, words != 0)
    assert mask.dtype == bool
    np.testing.assert_array_equal(layers.Masking().compute_mask(np.array([[[0.0], [1]]])), [[False, True]])
    assert layers.Embedding(4, 2).compute_mask(words) is None
    assert layers.LSTM(2).compute_mask(np.ones((2, 3, 1)), words != 0) is None
    layer = Dense(2, kernel_regularizer="l2", activity_regularizer="l1")
    y = layer(X)
    np.testing.assert_allclose(layer.losses, [0.01 * np.abs(y).sum() / 4, 0.01 * np.square(layer.kernel.value).sum()],
                               rtol=1e-5)  # fmt: skip
    penalty = layers.ActivityRegularization(l2=0.5)
    penalty(X)
    np.testing.assert_allclose(penalty.losses, [0.5 * np.square(X).sum() / 4], rtol=1e-5)


def test_the_statistics_of_normalization_broadcast() -> None:
    layer = layers.Normalization()
    assert layer.mean is None
    layer.adapt(X)
    np.testing.assert_allclose(layer.mean, X.mean(0, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(layer.variance, X.var(0, keepdims=True), rtol=1e-5)


# Arguments and configurations


ARGUMENTS: list[tuple[str, Callable[[], Any], Any]] = [
    ("options behind Adam's own", lambda: optimizers.Adam(0.1, 0.9, 0.99, 1e-7, True, 0.01, 2.0).clipnorm, 2.0),
    ("options behind SGD's own", lambda: optimizers.SGD(0.1, 0.9, True, 0.01).get_config()["weight_decay"], 0.01),
    ("name of an Input by position", lambda: Input((2,), None, "float32", False, False, None, "n").name, "n"),
    ("input's sparse and ragged", lambda: Input((2,), sparse=False, ragged=None).shape, (None, 2)),
    ("set_floatx(value=...)", lambda: config.set_floatx(value="float32"), None),
    ("sparse of CategoryEncoding", lambda: layers.CategoryEncoding(3, sparse=False).num_tokens, 3),
    ("a single number", lambda: layers.CategoryEncoding(3)(1).tolist(), [0, 1, 0]),
    ("in a row of its own", lambda: layers.CategoryEncoding(3, "one_hot")(1).tolist(), [[0, 1, 0]]),
    ("its output shape", lambda: layers.CategoryEncoding(3, "one_hot").compute_output_shape((2, 4)), (2, 4, 3)),
    ("OrthogonalInitializer", lambda: type(initializers.get("OrthogonalInitializer")).__name__, "Orthogonal"),
    ("glu by name", lambda: activations.get("glu"), activations.glu),
    ("its name", lambda: activations.serialize(activations.glu), "glu"),
    ("activation of a number", lambda: activations.relu(2.0).shape, ()),
    ("activation of a list", lambda: activations.tanh([0.0, 1.0]).dtype, np.float32),
    ("labels that are floats", lambda: utils.to_categorical([0.0, 1.0]).tolist(), [[1, 0], [0, 1]]),
    ("normalize of a list", lambda: utils.normalize([3.0, 4.0]).shape, (2,)),
    ("padding told for one axis", lambda: layers.ZeroPadding1D(1).get_config()["padding"], (1, 1)),
    ("cropping told for one axis", lambda: layers.Cropping1D(1).get_config()["cropping"], (1, 1)),
    ("size told for one axis", lambda: layers.UpSampling1D(3).get_config()["size"], 3),
    ("an argument Keras lacks", lambda: "data_format" in layers.UpSampling1D(3).get_config(), False),
    ("arguments Keras lacks", lambda: sorted(layers.SpatialDropout1D(0.1).get_config()),
     ["dtype", "name", "rate", "seed"]),
    ("the class's own defaults", lambda: regularizers.get("L1L2").get_config(), {"l1": 0.0, "l2": 0.0}),
    ("the function's of old", lambda: regularizers.get("l1_l2").get_config(), {"l1": 0.01, "l2": 0.01}),
    ("axes of fans are told", lambda: initializers.HeNormal(1, [0], [1]).get_config(),
     {"seed": 1, "input_axes": [0], "output_axes": [1]}),
    ("metrics by their classes' names",
     lambda: [type(metrics.get(n)).__name__ for n in ("LogCoshError", "BinaryIoU", "FBetaScore", "log_cosh_error")],
     ["LogCoshError", "BinaryIoU", "FBetaScore", "LogCoshError"]),
    ("initializers by short names", lambda: [initializers.get(n)((1,)).item() for n in ("one", "zero")], [1, 0]),
    ("normal ones", lambda: type(initializers.get("normal")), initializers.RandomNormal),
    ("an array for an initializer", lambda: initializers.get(np.arange(3.0))((3,)).tolist(), [0, 1, 2]),
    ("a class of initializers", lambda: initializers.get(initializers.Ones)((2,)).tolist(), [1, 1]),
    ("a class of regularizers", lambda: regularizers.get(regularizers.L2)(np.ones(2)), 0.02),
    ("a class of constraints", lambda: constraints.get(constraints.NonNeg)(np.array([-1.0])).tolist(), [0]),
    ("a class of losses", lambda: type(losses.get(losses.Huber)), losses.Huber),
    ("a class of metrics", lambda: type(metrics.get(metrics.AUC)), metrics.AUC),
    ("weights of labels before the first", lambda: metrics.AUC(multi_label=True, label_weights=[1, 2]).result(), 0.0),
    ("summary before the weights", lambda: Sequential([Dense(1)]).summary(print_fn=str), None),
]  # fmt: skip


@pytest.mark.parametrize(("ask", "expected"), [row[1:] for row in ARGUMENTS], ids=[row[0] for row in ARGUMENTS])
def test_arguments(ask: Callable[[], Any], expected: Any) -> None:
    assert ask() == expected


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: utils.pad_sequences(3), "a list of lists or arrays"),  # type: ignore[arg-type]
    (lambda: utils.pad_sequences([[1, 2], [[3]]]), "one shape"),
    (lambda: Sequential([Input((2,)), Dense(1)]).get_layer(index=9), "index must be less than 1"),
    (lambda: optimizers.SGD(loss_scale_factor=2.0), "loss_scale_factor"),
    (lambda: metrics.Precision(class_id=0).update_state([1, 0], [0.2, 0.4]), "class_id"),
    (lambda: metrics.AUC(multi_label=True).update_state([1, 0], [0.2, 0.4]), "multi_label"),
    (lambda: metrics.Mean().update_state([1, 2, 3], [1.0]), "sample_weight has shape"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[row[1] for row in REFUSED])
def test_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_program_of_classes() -> None:
    model = Sequential(
        [Input((3,)), Dense(1, kernel_initializer=initializers.Ones, kernel_regularizer=regularizers.L2)]
    )
    model.compile("sgd", losses.MeanSquaredError, metrics=[metrics.MeanAbsoluteError])
    assert model.get_weights()[0].tolist() == [[1], [1], [1]]
    assert list(model.evaluate(X, X[:, :1], verbose=0, return_dict=True)) == ["loss", "mean_absolute_error"]


@pytest.mark.parametrize(
    ("axes", "fans"),
    [((None, None), (20, 30)), (([0], [1]), (5, 4)), (([0, 2], [1]), (30, 4)), (([0], None), (20, 30))],
)
def test_fans_are_counted_over_the_axes_told(axes: tuple[Any, Any], fans: tuple[int, int]) -> None:
    """Of a shape (5, 4, 6), by the width of a uniform distribution."""
    for mode, count in zip(("fan_in", "fan_out"), fans, strict=True):
        drawn = initializers.VarianceScaling(3.0, mode, "uniform", 1, *axes)((5, 4, 6))
        wanted = 3 / math.sqrt(count)  # sqrt(3 variance)
        assert 0.9 * wanted < np.abs(drawn).max() <= wanted


@pytest.mark.parametrize("front", [layers.Rescaling(2.0), layers.Dense(4), layers.Dropout(0.5), layers.Reshape((2, 2))])
def test_an_embedding_takes_what_a_layer_makes(front: layers.Layer) -> None:
    x = Input((4,))
    made = layers.Embedding(9, 3)(front(x))
    model = Model(x, layers.Dense(2)(layers.Flatten()(made)))
    if front.weights:
        front.set_weights([np.eye(4), np.full(4, 0.5)])
    model.compile(optimizers.SGD(1.0), "mse")
    ids = np.arange(8.0).reshape(2, 4) // 2
    before = [w.copy() for w in model.get_weights()]
    table = before[-3]
    rows = (2 * ids if isinstance(front, layers.Rescaling) else ids).astype(int)
    inner = Model(x, made)
    np.testing.assert_array_equal(inner.predict(ids, verbose=0), table[rows].reshape(2, *made.shape[1:]))
    model.train_on_batch(ids, np.ones((2, 2)))
    for weight, (old, new) in enumerate(zip(before[:-3], model.get_weights(), strict=False)):
        np.testing.assert_array_equal(old, new, err_msg=f"weight {weight} in front of the rows has no gradient")
    assert not np.array_equal(model.get_weights()[-3], table)


NAMED: list[tuple[Callable[[], Any], dict[str, Any]]] = [
    (lambda: Dense(2), {"inputs": X}),
    (lambda: layers.Dropout(0.5), {"inputs": X, "training": False}),
    (lambda: layers.Add(), {"inputs": [X, X]}),
    (lambda: layers.Conv1D(2, 2), {"inputs": X[None]}),
    (lambda: layers.LSTM(2), {"sequences": X[None]}),
    (lambda: Sequential([Dense(2)]), {"inputs": X}),
    (lambda: Model(x := Input((3,)), Dense(2)(x)), {"inputs": X}),
]


@pytest.mark.parametrize(("make", "arguments"), NAMED)
def test_the_input_may_be_named(make: Callable[[], Any], arguments: dict[str, Any]) -> None:
    layer = make()
    first, *more = arguments
    plain = layer(arguments[first], **{name: arguments[name] for name in more})
    np.testing.assert_array_equal(layer(**arguments), plain)
    tensors: Any = arguments[first]
    tensors = [Input(one.shape[1:]) for one in tensors] if isinstance(tensors, list) else Input(tensors.shape[1:])
    assert layer(**{first: tensors}).shape[1:] == plain.shape[1:]


def test_a_chain_by_position_and_its_clone() -> None:
    model = Sequential([Dense(2)], False, "chain")
    assert (model.trainable, model.name) == (False, "chain")
    model.build((None, 3))
    clone = clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(X), model(X))


def test_layers_of_a_chain_have_symbolic_outputs() -> None:
    chain = Sequential([Input((3,)), Dense(4, "tanh"), Dense(2)])
    features = chain.layers[-2].output  # before anybody asked for the chain's own
    assert (features.shape, chain.layers[0].input.shape) == ((None, 4), (None, 3))
    np.testing.assert_array_equal(Model(chain.inputs, features).predict(X, verbose=0), chain.layers[0](X))
    with pytest.raises(ValueError, match="nor is its chain built"):
        _ = Sequential([Dense(2)]).layers[0].output
    chain.pop()
    chain.add(Dense(5))
    assert chain.layers[-1].output.shape == (None, 5)


def test_a_schedule_of_ones_own_needs_no_name() -> None:
    class Halving(optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: int) -> float:
            return float(0.5**step)

    model = Sequential([Input((3,)), Dense(1)])
    model.compile(optimizers.SGD(Halving()), "mse")
    model.fit(X, X[:, :1], batch_size=2, verbose=0)
    assert (Halving().name, model.optimizer.learning_rate) == ("Halving", 0.25)


CALLED: list[layers.Layer] = [
    *(layers.Activation(name) for name in activations._NAMES),
    layers.ReLU(), layers.LeakyReLU(), layers.ELU(), layers.PReLU(), layers.Softmax(), layers.Softmax(axis=1),
    layers.Dropout(0.5), layers.GaussianNoise(0.5), layers.AlphaDropout(0.5), layers.SpatialDropout1D(0.5),
    layers.BatchNormalization(), layers.LayerNormalization(), layers.RMSNormalization(), layers.UnitNormalization(),
    layers.Masking(0.5), layers.Rescaling(2.0), layers.ActivityRegularization(0.1), layers.Flatten(), layers.Identity(),
    layers.Dense(4, "gelu"), layers.Conv1D(4, 1, activation="softmax"),
]  # fmt: skip


@pytest.mark.parametrize("layer", CALLED, ids=[f"{type(one).__name__} {k}" for k, one in enumerate(CALLED)])
def test_a_call_leaves_its_input_alone(layer: layers.Layer, rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 5, 4)).astype(np.float32)
    kept = x.copy()
    for training in (False, True):
        for _ in range(2):  # the second call takes the short way
            layer(x, training=training)
            np.testing.assert_array_equal(x, kept)


# Losses and metrics


def test_losses_before_their_reduction() -> None:
    t, y = np.array([[0.0, 1], [1, 1]], np.float32), np.array([[0.5, 0.5], [1, 0]], np.float32)
    np.testing.assert_allclose(losses.MeanSquaredError().call(t, y), [0.25, 0.5])
    weighted = losses.MeanSquaredError(reduction="none")(t, y, [2.0, 1.0])
    assert weighted.dtype == np.float32
    assert losses.MeanSquaredError(reduction=None)([1.0], [0.0], [2.0, 3.0]).tolist() == [2, 3]
    # One loss for the whole batch counts once for each sample's weight.
    whole = losses.Dice()(t, y)
    for reduction, expected in (("sum", 3), ("mean", 1.5), ("mean_with_sample_weight", 1)):
        np.testing.assert_allclose(losses.Dice(reduction=reduction)(t, y, [1.0, 2.0]), expected * whole, rtol=1e-6)


MEANS: list[tuple[Any, Any, tuple[float, float]]] = [  # values, weights, total and count
    (np.arange(6.0).reshape(2, 3), None, (5.0, 2)),
    (np.arange(6.0).reshape(2, 3), [1.0, 2.0], (9.0, 3)),
    (np.arange(6.0).reshape(2, 3), [[1.0], [2.0]], (9.0, 3)),
    (np.arange(6.0).reshape(2, 3), 2.0, (5.0, 2)),
    (3.0, 2.0, (6.0, 2)),
]


@pytest.mark.parametrize(("values", "weights", "expected"), MEANS)
def test_a_mean_counts_samples(values: Any, weights: Any, expected: tuple[float, float]) -> None:
    mean = metrics.Mean()
    mean.update_state(values, weights)
    np.testing.assert_allclose((mean.total, mean.count), expected)


def test_weights_of_a_column_are_those_of_its_samples() -> None:
    t, y = np.array([[0, 1], [1, 0]]), np.array([[0.9, 0.2], [0.7, 0.8]])
    for metric in (metrics.FalsePositives(), metrics.MeanSquaredError(), metrics.RecallAtPrecision(0.5)):
        results = []
        for weights in (np.array([1.0, 3.0]), np.array([[1.0], [3.0]])):
            metric.reset_state()
            metric.update_state(t, y, weights)
            results.append(metric.result())
        assert results[0] == results[1]


def test_metrics_are_numbered_and_keep_their_columns() -> None:
    utils.clear_session()
    assert [metrics.AUC().name, metrics.AUC().name, metrics.MeanIoU(2).name] == ["auc", "auc_1", "mean_io_u"]
    assert [metrics.Accuracy().name, metrics.Accuracy().name, metrics.Mean().name] == ["accuracy", "accuracy", "mean"]
    for metric in (metrics.F1Score(), metrics.R2Score(None)):
        metric.update_state(np.eye(3), np.eye(3))
        metric.reset_state()
        assert metric.result().shape == (3,)


# Training


def test_logs_go_by_name() -> None:
    model = Sequential([Input((3,)), Dense(1)])
    model.compile("sgd", "mse", metrics=["mse", "mae"], weighted_metrics=["mae"])
    names = ["loss", "mae", "mse", "weighted_mae"]
    history = model.fit(X, X[:, :1], verbose=0, validation_split=0.5).history
    assert list(history) == sorted([*names, *(f"val_{name}" for name in names)])
    assert list(model.evaluate(X, X[:, :1], verbose=0, return_dict=True)) == names


def test_a_schedule_of_the_epoch_alone() -> None:
    model = Sequential([Input((3,)), Dense(1)])
    model.compile("sgd", "mse")
    schedule = callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1))
    rates = model.fit(X, X[:, :1], epochs=2, verbose=0, callbacks=[schedule]).history["learning_rate"]
    np.testing.assert_allclose(rates, [0.1, 0.05])


def test_classes_of_ones_own() -> None:
    assert (vivace.Layer, vivace.Loss, vivace.Metric) == (layers.Layer, losses.Loss, metrics.Metric)

    @vivace.saving.register_keras_serializable(package="mine")
    class Twice(vivace.Layer):
        def forward(self, x: Any, step: Any) -> tuple[Any, Any]:
            return 2 * x, None

    assert utils.get_custom_objects().pop("Twice") is Twice
    utils.get_custom_objects()["Twice"] = Twice
    try:
        again = Sequential.from_config(Sequential([Input((3,)), Twice()]).get_config())
        np.testing.assert_array_equal(again(X), 2 * X)
    finally:
        del utils.get_custom_objects()["Twice"]


def test_each_step_is_a_batch_of_its_own_to_a_normalization_in_time(rng: np.random.Generator) -> None:
    x = rng.normal(size=(5, 3, 2))
    layer = layers.TimeDistributed(layers.BatchNormalization(momentum=0.0, dtype="float64"))
    y = layer(x, training=True)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(layer.get_weights()[2], x[:, -1].mean(0))
    check_gradients(layer, x)


def test_one_input_in_a_list_or_dict() -> None:
    model = Sequential([Input((3,)), Dense(1, name="out")])
    model.compile("sgd", "mse")
    y = model.predict(X, verbose=0)
    for given in ([X], (X,), {"x": X}):
        np.testing.assert_array_equal(model.predict(given, verbose=0), y)
        model.fit(given, {"out": y} if isinstance(given, dict) else [y], verbose=0)
    np.testing.assert_array_equal(Dense(1).call(X).shape, (4, 1))


def test_states_and_columns() -> None:
    assert [state.shape for state in layers.LSTM(2).get_initial_state(3)] == [(3, 2), (3, 2)]
    assert losses.Huber(reduction=None)(np.zeros((3, 1)), np.ones(3)).shape == (3,)


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "Lion"])
def test_steps_of_gradients_and_weights(name: str) -> None:
    """As a model's own step, and the model goes on from there."""
    made = [Sequential([Input((3,)), Dense(2)]) for _ in range(2)]
    made[1].set_weights(made[0].get_weights())
    y = X[:, :2]
    for model in made:
        model.compile(getattr(optimizers, name)(0.1, clipnorm=0.5), "mse")
    by_fit, by_hand = made
    for step in range(3):
        by_fit.train_on_batch(X, y)
        difference = (by_hand.predict(X, verbose=0) - y) / y.size * 2
        grads = [X.T @ difference, difference.sum(0)]
        if step == 2:
            by_hand.train_on_batch(X, y)
        elif step:
            by_hand.optimizer.apply(grads)
        else:
            by_hand.optimizer.apply_gradients(zip(grads, by_hand.trainable_variables, strict=True))
        for a, b in zip(by_fit.get_weights(), by_hand.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="received 1 gradients for 2 weights"):
        by_hand.optimizer.apply([X], by_hand.weights)
    with pytest.raises(ValueError, match="kernel has shape"):
        by_hand.optimizer.apply([X, X], by_hand.weights)
