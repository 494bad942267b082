"""Layers that run as one do what they do one by one, to the last bit; memory given up in a pass is used again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vivace.fusion
import vivace.models.graph
from vivace import layers as L
from vivace.fusion import Normalized
from vivace.layers import Activation, Add, BatchNormalization, Conv2D, Dense, Input, Masking, ReLU
from vivace.models import Model, Sequential
from vivace.step import Step
from vivace.utils import set_random_seed

Build = Callable[[], Any]


def chain(relu: Build) -> Model:
    return Sequential([Input((6, 5, 3)), Conv2D(4, 3), BatchNormalization(), relu(), L.Flatten(), Dense(2)])


def block(relu: Build, first: bool = True, project: bool = False) -> Model:
    """A residual block; the normalized array is the sum's first or second part."""
    x = Input((6, 5, 4))
    y = BatchNormalization()(Conv2D(4, 3, padding="same")(relu()(BatchNormalization()(x))))
    way = BatchNormalization()(Conv2D(4, 1)(x)) if project else x
    y = relu()(Add()([y, way] if first else [way, y]))
    return Model(x, Dense(2)(L.GlobalAveragePooling2D()(y)))


def same_tensor_twice() -> Model:
    x = Input((4,))
    h = Dense(4)(x)
    return Model(x, Dense(2)(ReLU()(h + BatchNormalization()(h))))


def no_relu() -> Model:
    x = Input((4,))
    return Model(x, Dense(2)(Add()([x, BatchNormalization(center=False)(Dense(4)(x))])))


def frozen() -> Model:
    x = Input((4,))
    norm = BatchNormalization(trainable=False)
    return Model(x, Dense(2)(ReLU()(norm(Dense(4)(x)))))


def masked() -> Model:
    x = Input((5, 4))
    h = Masking()(x)
    return Model(x, L.LSTM(2)(ReLU()(h + BatchNormalization()(h))))


FUSED = {
    "chain": (lambda: chain(ReLU), 1),
    "activation": (lambda: chain(lambda: Activation("relu")), 1),
    "block": (lambda: block(ReLU), 2),
    "second": (lambda: block(ReLU, first=False), 2),
    "projected": (lambda: block(ReLU, project=True), 2),
    "twice": (same_tensor_twice, 1),
    "no relu": (no_relu, 1),
    "frozen": (frozen, 1),
    "masked": (masked, 1),
    "other slope": (lambda: chain(lambda: ReLU(negative_slope=0.1)), 0),
    "penalized": (lambda: chain(lambda: ReLU(activity_regularizer="l2")), 0),
}


def trained(build: Build, x: Any, debug_nans: bool = False) -> tuple[Model, list[Any]]:
    set_random_seed(3)
    model = build()
    rng = np.random.default_rng(1)
    model.set_weights([w + 0.3 * np.abs(rng.normal(size=w.shape)) for w in model.get_weights()])
    model.compile("adam", "mse", debug_nans=debug_nans)
    model.fit(x, np.ones((len(x), 2)), batch_size=4, epochs=2, verbose=0)
    return model, [*model.get_weights(), model.predict(x, verbose=0)]


@pytest.mark.parametrize("name", FUSED)
def test_fused_layers_give_the_same_bits(name: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    build, count = FUSED[name]
    x = rng.normal(size=(10, *build().input_shape[1:])).astype("f4")
    x[:, 3:] *= name != "masked"
    model, fused = trained(build, x)
    assert sum(isinstance(unit, Normalized) for unit in model.running()) == count
    watched = trained(build, x, debug_nans=True)[1]  # every layer by itself
    monkeypatch.setattr(vivace.fusion, "fuse_pair", lambda *_: None)
    monkeypatch.setattr(vivace.models.graph, "fuse_pair", lambda *_: None)
    model, separate = trained(build, x)
    assert not any(isinstance(unit, Normalized) for unit in model.running())
    for a, b, c in zip(fused, separate, watched, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_what_others_see_is_not_fused() -> None:
    x = Input((4,))
    norm = BatchNormalization()(x)
    assert len(Model(x, [ReLU()(norm), norm]).schedule.forwards) == 2
    first = BatchNormalization(axis=1)(Input((4, 3)))
    assert not any(isinstance(u, Normalized) for u in Model(first.node.inputs, ReLU()(first)).running())
    wide = Input((1, 4))
    h = BatchNormalization()(wide)
    assert len(Model([wide, y := Input((3, 4))], h + y).schedule.forwards) == 2  # they broadcast


def test_summary_knows_what_is_not_stored() -> None:
    text: list[str] = []
    chain(ReLU).summary(print_fn=text.append)
    row = next(line for line in "\n".join(text).split("\n") if "BatchNormalization" in line)
    assert "KiB" not in row
    assert " B " not in row


def test_memory_given_up_is_used_again() -> None:
    step = Step(training=True)
    for _ in range(2):
        step.start()
        a, b = step.empty((3, 4), np.float32), step.empty((3, 4), np.float32)
        step.give_up(a, a[1:])  # the result lives there
        assert step.empty((3, 4), np.float32) is not a
        step.give_up(a, [None, b])
        step.give_up(a)  # once is enough
        step.give_up(np.zeros((3, 4), np.float32))  # nobody's
        assert step.empty((4, 3), np.float32) is not a
        assert step.empty((3, 4), np.float64) is not a
        assert step.empty((3, 4), np.float32) is a
        assert step.empty((3, 4), np.float32) is not a


def test_gradients_of_deep_graphs_keep_little_memory(rng: np.random.Generator) -> None:
    x = Input((8, 8, 4))
    h = x
    for _ in range(12):
        h = ReLU()(h + BatchNormalization()(Conv2D(4, 3, padding="same")(h)))
    model = Model(x, Dense(1)(L.GlobalAveragePooling2D()(h)))
    model.compile("sgd", "mse")
    model.train_on_batch(rng.normal(size=(4, 8, 8, 4)), np.ones((4, 1)))
    step = next(iter(model._local.steps.values()))
    images = sum(shape == (4, 8, 8, 4) for shape, _, _ in step._buffers)
    assert images <= 24 + 5  # forward two a block; backward a handful in all
