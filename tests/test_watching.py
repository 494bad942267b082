"""compile(debug_nans=True): the first thing that made a NaN or an infinity is named, and nothing stays behind."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from vivace import layers as L
from vivace import losses, optimizers
from vivace.layers import Conv2D, Dense, Flatten, Input, MaxPooling2D
from vivace.models import Model, Sequential
from vivace.utils import set_random_seed

X = np.linspace(-1, 1, 24, dtype="float32").reshape(6, 4)
Y = np.zeros((6, 2), "float32")


class Bad(L.Identity):
    """Makes a NaN or an infinity in one direction."""

    forward_value = backward_value = 0.0

    def forward(self, x: Any, step: Any) -> Any:
        y = x.copy()
        y[-1, 0] += self.forward_value
        return y, None

    def backward(self, dy: Any, saved: Any, step: Any, input_gradient: bool = True) -> Any:
        dy[-1, 0] += self.backward_value
        return dy


def bad(**values: float) -> Bad:
    layer = Bad(name="bad")
    for name, value in values.items():
        setattr(layer, name, value)
    return layer


def chain(layer: Any) -> Sequential:
    return Sequential([Input((4,)), Dense(3, "tanh", name="first"), layer, Dense(2, name="last")])


def graph(layer: Any) -> Model:
    x = Input((4,))
    return Model(x, Dense(2, name="last")(layer(Dense(3, "tanh", name="first")(x))))


def nested(layer: Any) -> Sequential:
    inner = Sequential([Input((3,)), layer, Dense(3)])
    return Sequential([Input((4,)), Dense(3, "tanh", name="first"), inner, Dense(2, name="last")])


@pytest.mark.parametrize("make", [chain, graph, nested])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"forward_value": np.inf}, r"^bad made it in the forward pass: 1 of 18 numbers are not finite, the first, inf,"
                                    r" at \(5, 0\); input min -0\.\d+, max 0\.\d+, mean .*, shape \(6, 3\)"),
        ({"backward_value": np.nan}, "^bad made it in the backward pass, in the gradient of its input: 1 of 18"),
    ],
)  # fmt: skip
def test_the_first_layer_is_named(make: Any, values: Any, message: str) -> None:
    model = make(bad(**values))
    before = model.get_weights()
    model.compile("sgd", "mse", debug_nans=True)
    with pytest.raises(FloatingPointError, match=message):
        model.fit(X, Y, verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not any("forward" in vars(layer) for layer in model.layers)
    if "forward_value" in values:
        with pytest.raises(FloatingPointError, match="bad made it"):
            model.evaluate(X, Y, verbose=0)
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)  # without it, nobody looks


def test_inputs_weights_losses_and_updates_are_named() -> None:
    def fails(message: str, x: Any = X, y: Any = Y, rate: float = 0.1, weight: float = 0.0) -> None:
        model = chain(bad())
        model.compile(optimizers.SGD(rate), losses.MeanSquaredError(), debug_nans=True)
        model.layers[0].kernel.value[0, 0] += weight
        with pytest.raises(FloatingPointError, match=message):
            model.train_on_batch(x, y)

    fails("^the input of first is not finite: 1 of 24", np.where(X[2, 1] == X, np.nan, X))
    fails("^first: its weight kernel is not finite", weight=np.inf)
    fails("^the loss mean_squared_error made it in the forward pass", y=Y + 1e30)
    fails(r"^the optimizer made it when it updated .*first/kernel.*input gradient: min", rate=1e39)


def test_a_fused_convolution_is_told_apart() -> None:
    set_random_seed(0)
    model = Sequential([Input((8, 8, 1)), Conv2D(4, 3, activation="relu", name="conv"), MaxPooling2D(), Flatten(),
                        Dense(2)])  # fmt: skip
    model.compile("sgd", "mse", debug_nans=True)
    x = np.ones((6, 8, 8, 1))
    other = copy.deepcopy(model)
    model.fit(x, Y, verbose=0, epochs=2)
    other.compile("sgd", "mse")
    other.fit(x, Y, verbose=0, epochs=2)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    model.layers[0].kernel.value[...] = 3e38
    with pytest.raises(FloatingPointError, match="^conv made it in the forward pass"):
        model.fit(x, Y, verbose=0)


def test_a_model_with_a_call() -> None:
    class Own(Model):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.bad, self.last = Dense(3), bad(), Dense(2)

        def call(self, x: Any) -> Any:
            return self.last(self.bad(self.first(x)))

    model = Own()
    model.compile("sgd", "mse", debug_nans=True)
    assert model.metrics == []
    with pytest.raises(ValueError, match="metrics_names: not built yet"):
        model.metrics_names  # noqa: B018
    model(X)
    model.fit(X, Y, verbose=0)
    model.bad.backward_value = np.inf
    with pytest.raises(FloatingPointError, match="^bad made it in the backward pass"):
        model.fit(X, Y, verbose=0)
    model.bad.backward_value = 0.0
    model(X)
    model.bad.forward_value = np.inf
    assert not np.isfinite(model(X)).all()  # nobody watches behind a step


def test_recurrent_bidirectional_and_several_outputs() -> None:
    a = Input((5, 3))
    h = L.Bidirectional(L.LSTM(4, return_sequences=True))(a)
    one, two = Dense(1, name="one")(L.GlobalAveragePooling1D()(h)), Dense(1, name="two")(L.Flatten()(bad()(h)))
    model = Model(a, [one, two])
    model.compile("adam", "mse", debug_nans=True)
    x, y = np.random.default_rng(0).normal(size=(6, 5, 3)), [np.zeros(6), np.zeros(6)]
    model.fit(x, y, verbose=0, epochs=2)
    model.get_layer("bad").forward_value = np.nan
    with pytest.raises(FloatingPointError, match="^bad made it in the forward pass"):
        model.fit(x, y, verbose=0)
