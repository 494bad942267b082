"""Inference by plans: the bits of the layers one by one, for every shape, and after every kind of change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vivace import layers as L
from vivace.layers import (
    Activation,
    Add,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    Embedding,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    MaxPooling2D,
    ReLU,
)
from vivace.models import Model, Sequential
from vivace.plan import Plan
from vivace.step import Step


def chain(*layers: Any) -> Callable[[tuple[int, ...]], Any]:
    return lambda shape: Sequential([Input(shape), *layers])


def graph(body: Callable[[Any], Any]) -> Callable[[tuple[int, ...]], Any]:
    def made(shape: tuple[int, ...]) -> Any:
        x = Input(shape)
        return Model(x, body(x))

    return made


def block(x: Any) -> Any:
    y = ReLU()(BatchNormalization()(Conv2D(4, 3, padding="same")(x)))
    y = BatchNormalization()(Conv2D(4, 3, padding="same")(y))
    return Dense(3, "softmax")(GlobalAveragePooling2D()(ReLU()(Add()([y, Conv2D(4, 1)(x)]))))


def shared(x: Any) -> Any:
    dense = Dense(6, "tanh")
    return [dense(dense(x)), dense(x) + x]


def nested(x: Any) -> Any:
    inner = Sequential([Input((6,)), Dense(6, "relu"), Dense(6)])
    return Concatenate()([inner(x), inner(inner(x)), x])


def stretched(x: Any) -> Any:
    mean, row = L.GlobalAveragePooling2D(keepdims=True)(x), L.GlobalMaxPooling2D()(x)
    return [L.Subtract()([mean, x]), L.Maximum()([x, mean, row])]


def masked(x: Any) -> Any:
    h = L.Masking()(x)
    h = Dense(4)(L.Dropout(0.5)(h)) + Dense(4)(h)
    return [L.LSTM(3)(h), L.GlobalAveragePooling1D()(h)]


def states(x: Any) -> Any:
    y, h, c = L.LSTM(3, return_sequences=True, return_state=True)(x)
    return [y, h * 2.0, c]


class Sorted(L.Layer):
    """A user's layer, which returns its input or something else, as the values are."""

    def forward(self, x: Any, step: Step) -> Any:
        return (x if x.flat[0] > 0 else -x), None


class Positives(L.Layer):
    """A user's layer whose output's shape depends on values."""

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (None, None)

    def forward(self, x: Any, step: Step) -> Any:
        return x[:, x[0] > 0], None


IMAGE, ROW, SEQUENCE = (8, 8, 3), (6,), (5, 6)
MODELS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "cnn": (chain(Conv2D(4, 3, activation="relu"), MaxPooling2D(), Flatten(), Dense(3, "softmax")), IMAGE),
    "cnn graph": (graph(lambda x: Dense(3, "gelu")(Flatten()(MaxPooling2D()(Conv2D(4, 3)(x))))), IMAGE),
    "residual": (graph(block), IMAGE),
    "shared": (graph(shared), ROW),
    "nested": (graph(nested), ROW),
    "stretched": (graph(stretched), IMAGE),
    "masked": (graph(masked), SEQUENCE),
    "states": (graph(states), SEQUENCE),
    "operators": (graph(lambda x: 1 - x[:, ::2] * 3.0 / 2), ROW),
    "input is output": (graph(lambda x: [x, Dense(2)(x)]), ROW),
    "penalized": (graph(lambda x: Dense(3, activity_regularizer="l2")(x)), ROW),
    "attention": (graph(lambda x: L.LayerNormalization()(x + L.MultiHeadAttention(2, 3)(x, x))), SEQUENCE),
    "cross attention": (graph(lambda x: L.MultiHeadAttention(2, 3, value_dim=2)(x, x[:, :3], x[:, 1:4])), SEQUENCE),
    "causal": (graph(lambda x: L.MultiHeadAttention(2, 3, output_shape=4)(x, x, use_causal_mask=True)), SEQUENCE),
    "window": (graph(lambda x: L.MultiHeadAttention(2, 3, sliding_window=2)(x, x)), SEQUENCE),
    "groups": (graph(lambda x: L.GroupQueryAttention(3, 4, 2, use_bias=False)(x, x[:, :2])), SEQUENCE),
    "scores": (graph(lambda x: L.MultiHeadAttention(2, 3)(x, x, return_attention_scores=True)), SEQUENCE),
    "user": (graph(lambda x: [Dense(2)(Sorted()(x)), Dense(2)(x), Activation("relu")(x)]), ROW),
    "varies": (graph(lambda x: [Positives()(x), Dense(2)(x)]), ROW),
    **{
        type(layer).__name__ + f" {i}": (graph(lambda x, layer=layer: layer(x)), shape)
        for shape, layers in {
            IMAGE: [
                Conv2D(4, 3, strides=2, padding="same", activation="softmax"), Conv2D(6, 3, groups=3, use_bias=False),
                Conv2D(4, 3, data_format="channels_first"), L.AveragePooling2D(3, 2, "same"), L.MaxPooling2D(3, 1),
                L.GlobalMaxPooling2D(keepdims=True), L.SpatialDropout2D(0.3), L.DepthwiseConv2D(3),
                L.DepthwiseConv2D(3, depth_multiplier=2, activation="gelu"), L.SeparableConv2D(4, 3, activation="relu"),
                L.SeparableConv2D(4, 3, use_bias=False, data_format="channels_first"),
                BatchNormalization(axis=1), BatchNormalization(axis=3, center=False), L.LayerNormalization(axis=[2, 3]),
                L.GroupNormalization(3), L.ZeroPadding2D(), L.Reshape((4, -1)), Conv2D(8, 3, padding="same"),
                L.ZeroPadding2D(((1, 0), (0, 2)), data_format="channels_first"), L.Cropping2D(1), L.UpSampling2D(2),
                L.UpSampling2D((2, 1), interpolation="bicubic"), L.UpSampling2D(2, data_format="channels_first"),
                L.Conv2DTranspose(4, 3, 2, activation="relu"),
                L.Conv2DTranspose(4, 3, use_bias=False, activation="elu"), L.AdaptiveMaxPooling2D(3),
                L.Conv2DTranspose(4, 3, data_format="channels_first"),
                L.AdaptiveAveragePooling2D((3, 2), data_format="channels_first"),
            ],
            (4, 5, 4, 2): [
                L.Conv3D(4, 3, padding="same", activation="tanh"), L.Conv3D(4, 2, activation="softmax", use_bias=False),
                L.Conv3DTranspose(3, 2, 2), L.MaxPooling3D(), L.AveragePooling3D(3, 1, "same"), L.UpSampling3D(),
                L.AdaptiveMaxPooling3D(2), L.ZeroPadding3D(), L.Cropping3D(1), L.GlobalMaxPooling3D(),
            ],
            SEQUENCE: [
                L.Conv1D(4, 3, padding="causal", activation="relu"), L.MaxPooling1D(2), L.AdaptiveAveragePooling1D(2),
                L.Conv1DTranspose(4, 2, activation="sigmoid"), L.ZeroPadding1D(2), L.Cropping1D(1), L.UpSampling1D(3),
                L.AveragePooling1D(3, 1, "same"), L.GlobalMaxPooling1D(), L.LayerNormalization(axis=1),
                L.Permute((2, 1)), Dense(4, "sigmoid"),
                L.DepthwiseConv1D(2), L.SeparableConv1D(4, 2, activation="softmax"),
                L.LSTM(3), L.SimpleRNN(3, go_backwards=True), L.LSTM(3, activation="elu"),
                L.LSTM(3, return_sequences=True, use_bias=False), L.GRU(3, reset_after=False),
                L.GRU(3, return_sequences=True), L.TimeDistributed(Dense(2)), L.Bidirectional(L.SimpleRNN(2)),
            ],
            ROW: [
                Activation("softmax"), Activation("relu"), Activation("elu"), ReLU(max_value=1.0), ReLU(),
                L.Softmax(), L.UnitNormalization(), L.RMSNormalization(), L.LeakyReLU(), L.Identity(),
                L.GaussianNoise(1.0), L.Rescaling(2.0, 1.0), L.RepeatVector(3), L.Lambda(lambda x: x * 2),
            ],
        }.items()
        for i, layer in enumerate(layers)
    },
}  # fmt: skip


def one_by_one(model: Any, x: Any) -> list[Any]:
    """What the layers make of x, without a plan."""
    y = model.forward(x, Step(training=False))[0]
    return [one.copy() for one in (y if isinstance(y, list) else [y])]


def same(model: Any, x: Any) -> None:
    y = model.predict_on_batch(x)
    y = list(y.values()) if isinstance(y, dict) else y if isinstance(y, list) else [y]
    for a, b in zip(y, one_by_one(model, x), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.flags.owndata
        assert a.flags.writeable


def plans(model: Any) -> list[Plan]:
    return list(model._local.plans.values())


@pytest.mark.parametrize("name", MODELS)
def test_a_plan_gives_the_same_bits(name: str, rng: np.random.Generator) -> None:
    build, shape = MODELS[name]
    model = build(shape)
    model.set_weights([rng.uniform(0.1, 1, w.shape) for w in model.get_weights()])
    for batch in (3, 1, 3):
        for _ in range(4):  # the first run has no plan, the second makes it
            x = rng.normal(size=(batch, *shape)).astype("f4")
            x[:, 2:] *= name != "masked"
            same(model, x)
    assert sorted((plan.bound and not plan.varies) for plan in plans(model)) == [name != "varies"] * 2


def test_several_inputs_and_integers(rng: np.random.Generator) -> None:
    words, x = Input((4,), dtype="int32", name="words"), Input((6,), name="x")
    h = Flatten()(Embedding(9, 2)(words))
    joined = [Concatenate()([h, x]), Concatenate()([x, words]), L.add([words, words])]
    model = Model([words, x], {"a": Dense(2)(joined[0]), "b": Dense(1)(x), "c": joined[1], "d": joined[2]})
    for _ in range(4):
        same(model, [rng.integers(0, 9, (3, 4), dtype="int64"), rng.normal(size=(3, 6)).astype("f4")])
    with pytest.raises(ValueError, match="integers must lie in"):
        model([np.full((3, 4), 9), np.zeros((3, 6), "f4")])
    same(model, [np.ones((3, 4), int), np.zeros((3, 6), "f4")])


def test_plans_follow_every_change(rng: np.random.Generator) -> None:
    x = Input((8, 8, 16))
    conv, norm, dense = Conv2D(32, 3, padding="same"), BatchNormalization(), Dense(3, "relu")
    model = Model(x, dense(Flatten()(norm(conv(x)))))
    data = rng.normal(size=(2, 8, 8, 16)).astype("f4")
    model.compile("sgd", "mse")

    def write() -> None:
        conv.kernel.value[...] *= 2

    def change() -> None:
        dense.activation = "tanh"
        norm.epsilon = 0.5

    before = model(data)
    for what in (
        lambda: conv.kernel.assign(conv.kernel.array * 0.5),
        lambda: model.train_on_batch(data, np.ones((2, 3))),
        write,
        write,
        lambda: norm.set_weights([rng.uniform(1, 2, 32) for _ in range(4)]),
        change,
        lambda: model(data, training=True),
    ):
        for _ in range(3):
            same(model, data)
        what()
        after = model(data)
        assert not np.array_equal(before, after)
        same(model, data)
        before = after


def test_a_chain_that_grows_has_another_plan(rng: np.random.Generator) -> None:
    model = Sequential([Input((6,)), Dense(4)])
    x = rng.normal(size=(2, 6)).astype("f4")
    for _ in range(3):
        same(model, x)
    model.add(Dense(2))
    for _ in range(3):
        same(model, x)
    model.pop()
    same(model, x)


def test_states_move_once_in_a_pass(rng: np.random.Generator) -> None:
    """A plan is bound in a pass like every other: a layer with states of its own does not run twice."""
    x = Input((3, 2))
    model = Model(x, L.LSTM(2, stateful=True)(x))
    data = rng.normal(size=(4, 1, 3, 2)).astype("f4")
    steps = [model(one) for one in data]
    model.layers[-1].reset_state()
    for one, expected in zip(data, steps, strict=True):
        np.testing.assert_array_equal(one_by_one(model, one)[0], expected)


def test_threads_have_plans_of_their_own(rng: np.random.Generator) -> None:
    model = graph(block)(IMAGE)
    inputs = rng.normal(size=(4, 2, *IMAGE)).astype("f4")
    expected = [model(x) for x in inputs]
    wrong: list[int] = []

    def serve(i: int) -> None:
        wrong.extend(i for _ in range(50) if not np.array_equal(model(inputs[i]), expected[i]))

    threads = [threading.Thread(target=serve, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_plans_are_few_and_hold_no_second_set_of_buffers(rng: np.random.Generator) -> None:
    model = graph(block)(IMAGE)
    for batch in range(1, 20):
        for _ in range(2):
            model(np.zeros((batch, *IMAGE), "f4"))
    assert len(plans(model)) <= 8
    assert (19, False) not in model._local.steps
