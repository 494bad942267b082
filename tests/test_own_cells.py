"""Recurrent cells of a user's own in an RNN: composed of layers, with a gradient of their own, or a derived one."""

from __future__ import annotations

import pickle
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest

from vivace import layers, models, ops, testing
from vivace.layers import AutogradLayer, Dense, Input, Layer
from vivace.saving import load_model
from vivace.step import Step

F64: dict[str, Any] = {"dtype": "float64"}
MASK = np.array([[0, 1, 0, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.uint8)


class Composed(Layer):
    """h_t = tanh(x_t W + h_(t-1) U), as the others here."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.state_size = units
        self.kernel = Dense(units, use_bias=False, dtype=self.dtype)
        self.recurrent = Dense(units, use_bias=False, dtype=self.dtype)
        self.squash = layers.Activation("tanh", dtype=self.dtype)

    def call(self, inputs: Any, states: Any) -> Any:
        h = self.squash(self.kernel(inputs) + self.recurrent(states[0]))
        return h, [h]


class Written(Layer):
    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.state_size = units

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.state_size), name="kernel")
        self.recurrent = self.add_weight(shape=(self.state_size, self.state_size), name="recurrent_kernel")

    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        x, h = x
        new = np.tanh(x @ self.kernel.value + h @ self.recurrent.value)
        return [new, new], (x, h, new)

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        (dy, dh), (x, h, new) = dy, saved
        dz = (dy + dh) * (1 - new**2)
        self.kernel.gradient += x.T @ dz
        self.recurrent.gradient += h.T @ dz
        return [dz @ self.kernel.value.T, dz @ self.recurrent.value.T]


class Derived(AutogradLayer):
    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.state_size = units

    def build(self, input_shape: Any) -> None:
        self.add_weight("kernel", (input_shape[-1], self.state_size))
        self.add_weight("recurrent_kernel", (self.state_size, self.state_size))

    def call(self, inputs: Any, states: Any, kernel: Any, recurrent_kernel: Any) -> Any:  # type: ignore[override]
        h = anp.tanh(anp.dot(inputs, kernel) + anp.dot(states[0], recurrent_kernel))
        return h, [h]


class Computed(Layer):
    """As Keras's documentation has it."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = self.state_size = units

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(self.units, self.units), name="recurrent_kernel")

    def call(self, inputs: Any, states: Any) -> Any:
        output = ops.tanh(ops.matmul(inputs, self.kernel) + ops.matmul(states[0], self.recurrent_kernel))
        return output, [output]


class Leaky(Layer):
    """Of two states of different sizes, and an output of a third."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.state_size, self.output_size = [3, 4], 2
        self.inner = [Dense(units, "tanh", dtype=self.dtype) for units in (3, 4, 2)]
        self.join = layers.Concatenate(dtype=self.dtype)

    def call(self, inputs: Any, states: Any, training: Any = None) -> Any:
        a, b = states
        first, second, out = self.inner
        new = first(self.join([inputs, a])) + 0.5 * a
        return out(self.join([inputs, b])), [new, second(new) - 0.1 * b]


WAYS = [Composed, Written, Derived, Computed]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_cell_runs_as_the_layer_of_its_formula(
    way: Any, masked: bool, sequences: bool, state: bool, backwards: bool, rng: np.random.Generator
) -> None:
    flags = {"return_sequences": sequences, "return_state": state, "go_backwards": backwards}
    one = layers.RNN(way(6, **F64), zero_output_for_mask=True, **flags)
    other = layers.SimpleRNN(6, use_bias=False, zero_output_for_mask=True, **flags, **F64)
    x, mask = rng.standard_normal((3, 5, 4)), MASK if masked else None
    if masked and not sequences and backwards:
        mask = MASK[:, ::-1].copy()  # the output of a sequence whose last step is masked is told apart below
    one(x), other(x)
    other.set_weights(one.get_weights())
    assert one.compute_output_shape(x.shape) == other.compute_output_shape(x.shape)
    assert one.count_params() == other.count_params() == 60
    found = []
    for layer in (one, other):
        step = Step(training=True)
        step.mask = mask
        y, saved = layer.forward([x, np.ones((3, 6))], step)
        outputs = [a.copy() for a in (y if state else [y])]
        dy = [np.cos(np.arange(a.size)).reshape(a.shape) for a in outputs]
        d = layer.backward(dy if state else dy[0], saved, step)
        marks = step.mask if step.mask is None else step.mask * 1
        found.append([*outputs, *d, *(w.gradient for w in layer.weights), marks])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12) if b is not None else None
        assert (a is None) == (b is None)


@pytest.mark.parametrize("make", [*(lambda way=way: [way(3, **F64)] for way in WAYS), lambda: [Leaky(**F64)],
                                  lambda: [Written(3, **F64), layers.LSTMCell(2, **F64), Leaky(**F64)]])  # fmt: skip
@pytest.mark.parametrize("flags", [{}, {"return_sequences": True, "return_state": True, "go_backwards": True}])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients(make: Any, flags: Any, masked: bool, rng: np.random.Generator) -> None:
    layer = layers.RNN(make(), **flags)
    sizes = np.ravel(np.concatenate([np.ravel(cell.state_size) for cell in layer.cells]))
    inputs = [rng.standard_normal((3, 5, 4)), *(rng.standard_normal((3, size)) for size in sizes)]
    testing.check_gradients(layer, inputs, mask=MASK if masked else None, rtol=1e-4)
    testing.check_gradients(layers.RNN(make(), **flags), inputs[0], mask=MASK if masked else None, rtol=1e-4)


def test_a_masked_step_puts_out_what_the_one_before_did(rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 5, 4))
    layer = layers.RNN(Leaky(**F64), return_sequences=True)
    y = layer(x, mask=MASK)
    np.testing.assert_array_equal(y[0, 0], 0)
    np.testing.assert_array_equal(y[0, 2], y[0, 1])
    np.testing.assert_array_equal(y[1, 4], y[1, 2])
    last = layers.RNN(layer.cell)
    np.testing.assert_array_equal(last(x, mask=MASK), y[:, -1])
    short = layer(np.ascontiguousarray(x[:1, [1, 3, 4]]))  # without the masked steps
    np.testing.assert_allclose(y[0, [1, 3, 4]], short[0], rtol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_a_stateful_rnn_goes_on_where_it_was(way: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 6, 3)).astype("float32")
    cell = way(4)
    whole, parts = layers.RNN(cell), layers.RNN(cell, stateful=True)
    expected = whole(x)
    for _ in range(2):
        parts(x[:, :3])
        np.testing.assert_allclose(parts(x[:, 3:]), expected, 1e-5, 1e-6)
        parts.reset_states()
    parts(x)
    with pytest.raises(ValueError, match="state is that of 2 sequences, received 1"):
        parts(x[:1])


def test_a_cell_may_say_what_it_starts_from(rng: np.random.Generator) -> None:
    class Started(Written):
        def get_initial_state(self, batch_size: int | None = None) -> Any:
            return np.ones((batch_size, self.state_size))

    x = rng.standard_normal((2, 6, 3)).astype("float32")
    layer = layers.RNN(Started(4))
    np.testing.assert_array_equal(layer(x), layer(x, initial_state=np.ones((2, 4), "float32")))


def test_a_composed_cell_by_itself(rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 5, 4)).astype("float32")
    cell = Leaky()
    layer = layers.RNN(cell, return_sequences=True, return_state=True)
    expected, *final = layer(x)
    states: Any = [np.zeros((3, 3), "f4"), np.zeros((3, 4), "f4")]
    for t in range(5):
        y, states = cell(x[:, t], states)
        np.testing.assert_allclose(y, expected[:, t], 1e-5, 1e-6)
    for a, b in zip(states, final, strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-6)
    inputs = Input((4,)), Input((3,)), Input((4,))
    y, states = Leaky()(inputs[0], list(inputs[1:]))
    assert y.shape == (None, 2)
    assert [state.shape for state in states] == [(None, 3), (None, 4)]


@pytest.mark.parametrize("way", WAYS)
def test_a_model_with_such_cells_trains_and_is_made_again(way: Any, rng: np.random.Generator, tmp_path: Any) -> None:
    x = Input((5,), dtype="int32")
    h = layers.Embedding(7, 4, mask_zero=True)(x)
    h = layers.Bidirectional(layers.RNN([way(3), layers.GRUCell(4)], return_sequences=True))(h)
    model = models.Model(x, Dense(1)(layers.RNN(way(2))(h)))
    model.compile("adam", "mse")
    data = rng.integers(0, 7, (8, 5))
    before = model.get_weights()
    model.fit(data, data[:, :1] / 7, verbose=0, epochs=2)
    assert all((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    assert len({weight.path for weight in model.weights}) == len(model.weights)
    known = {way.__name__: way}
    again = models.Model.from_config(model.get_config(), custom_objects=known)
    again.set_weights(model.get_weights())
    model.save(tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors", custom_objects=known)
    cloned = models.clone_model(model)
    cloned.set_weights(model.get_weights())
    for other in (again, loaded, cloned, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict(data, verbose=0), model.predict(data, verbose=0))


def test_a_subclass_of_a_known_cell_runs_by_its_own_forward(rng: np.random.Generator) -> None:
    class Slow(layers.LSTMCell):
        def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
            (y, h, c), saved = super().forward(x, step)
            return [y, x[1] + 0.1 * (h - x[1]), c], saved

    class Named(layers.LSTMCell):
        """Changes nothing."""

    x = rng.standard_normal((2, 3, 4))
    one, whole = layers.RNN(Slow(3, **F64)), layers.LSTM(3, **F64)
    one(x), whole(x)
    whole.set_weights(one.get_weights())
    assert (one(x) != whole(x)).any()
    states: Any = [np.zeros((2, 3)), np.zeros((2, 3))]
    for t in range(3):
        y, *states = one.cell.forward([np.ascontiguousarray(x[:, t]), *states], Step(training=False))[0]
    np.testing.assert_allclose(one(x), y, rtol=1e-12)
    states = [np.zeros((2, 3)), np.zeros((2, 3))]
    for t in range(3):
        y, states = one.cell(x[:, t], states)
    np.testing.assert_allclose(one(x), y, rtol=1e-12)
    same = layers.RNN(Named(3, **F64))
    same(x), same.set_weights(one.get_weights())
    np.testing.assert_array_equal(same(x), whole(x))


def test_a_model_with_a_state_size_that_is_no_cell() -> None:
    class Agent(models.Model):
        def __init__(self) -> None:
            super().__init__()
            self.state_size = 3
            self.inner = Dense(2)

        def call(self, x: Any) -> Any:
            return self.inner(x)

    assert Agent()(np.zeros((2, 4), "float32")).shape == (2, 2)


def test_what_is_random_in_a_cell_differs_between_directions(rng: np.random.Generator) -> None:
    class Dropping(Composed):
        def __init__(self, units: int, **kwargs: Any) -> None:
            super().__init__(units, **kwargs)
            self.squash = layers.Dropout(0.5, seed=1)

    layer = layers.Bidirectional(layers.RNN(Dropping(50), return_sequences=True))
    x = np.ones((1, 1, 2), "float32")
    layer(x)
    for half in (layer.forward_layer, layer.backward_layer):
        for weight in half.weights:
            weight.assign(np.ones(weight.shape))
    y = layer(x, training=True)[0, 0]
    assert sorted(set(y)) == [0, 4]
    assert (y[:50] != y[50:]).any()


class Wide(Composed):
    output_size = 4


class Short(Written):
    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        outputs, saved = super().forward(x, step)
        return outputs[:1], saved


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.RNN(Dense(3)), "RNN: cell must be .* a layer with a state_size"),
        (lambda: layers.RNN(layers.RNN(Written(3))), "RNN: cell must be"),
        (lambda: layers.RNN([layers.StackedRNNCells([Written(3)])]), "must not be stacks themselves"),
        (
            lambda: layers.RNN(Short(3))(np.zeros((2, 5, 4))),
            r"new states have shapes \[\(2, 3\), \(2, 3\)\], received \[\(2, 3\)\]",
        ),
        (
            lambda: layers.RNN(Wide(3))(np.zeros((2, 5, 4))),
            r"shapes \[\(2, 4\), \(2, 3\)\], received \[\(2, 3\), \(2, 3\)\]",
        ),
        (lambda: layers.RNN(Written(3))(np.zeros((2, 4))), "takes inputs of rank 3"),
        (lambda: layers.RNN(Written(3))(np.zeros((2, 5, 4)), [np.zeros((2, 2))]), "takes initial states"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()
