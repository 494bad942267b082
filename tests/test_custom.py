"""Layers, losses and metrics of a user's own: the documentation's program, derived gradients, and what goes wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest

from helpers import numeric_gradient
from vivace import losses, regularizers
from vivace.layers import AutogradLayer, BatchNormalization, Dense, Dropout, Embedding, Input, Lambda, Layer, Multiply
from vivace.losses import Loss, LossFunctionWrapper
from vivace.metrics import Metric
from vivace.models import Model, Sequential
from vivace.optimizers import Adam
from vivace.step import Step
from vivace.testing import check_gradients

F64: dict[str, Any] = {"dtype": "float64"}


def test_the_program_of_the_documentation() -> None:
    text = (Path(__file__).parents[1] / "docs" / "custom.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 8
    exec("\n".join(blocks), {"__name__": "example"})


class Wrong(Dense):
    """Dense with a mistake."""

    mistake = ""

    def backward_linear(self, dz: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        if self.mistake == "overwrites":
            self.kernel.gradient.fill(0)
        dx = super().backward_linear(dz, saved, step, input_gradient)
        assert dx is not None
        if self.mistake == "kernel":
            self.kernel.gradient[2, 1] *= 1.001
        if self.mistake == "input":
            dx[1, 3] += 1e-3
        return None if self.mistake == "none" else dx[:, :-1] if self.mistake == "shape" else dx

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = super().compute_output_shape(input_shape)
        return (*shape[:-1], 7) if self.mistake == "announces" else shape


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("kernel", r"wrong\w*: the gradient of 'wrong\w*/kernel' at \(2, 1\): expected -?[\d.]+, received -?[\d.]+"),
        ("input", r"the gradient of the input at \(1, 3\): expected"),
        ("overwrites", "backward overwrites the gradient of 'wrong"),
        ("none", "backward returns None"),
        ("shape", r"the input has shape \(3, 4\), its gradient \(3, 3\)"),
        ("announces", r"compute_output_shape announces \(None, 7\), forward returns shape \(3, 2\)"),
    ],
)
def test_check_gradients_names_what_is_wrong(mistake: str, message: str) -> None:
    layer = Wrong(2, activation="tanh", **F64)
    check_gradients(layer, (4,))
    layer.mistake = mistake
    with pytest.raises(AssertionError, match=message):
        check_gradients(layer, (4,))


def test_check_gradients_leaves_the_layer_as_it_was(rng: np.random.Generator) -> None:
    layer = BatchNormalization(**F64)
    layer.build_once((None, 3))
    before = layer.get_weights()
    check_gradients(layer, rng.standard_normal((5, 3)))
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not any(p.gradient.any() for p in layer.weights)
    check_gradients(Multiply(**F64), [(4,), (4,)])
    check_gradients(Embedding(5, 2, **F64), np.array([[1, 2], [0, 4]]))
    check_gradients(Dropout(0.5, **F64), (4,), training=False)
    with pytest.raises(AssertionError, match="checked with training=False"):
        check_gradients(Dropout(0.5, **F64), (4,))
    with pytest.raises(ValueError, match="must be of dtype float64"):
        check_gradients(Dense(2), (4,))


class Bilinear(AutogradLayer):
    several_inputs = True

    def build(self, input_shape: Any) -> None:
        self.add_weight("form", (input_shape[0][-1], input_shape[1][-1]), "glorot_uniform")
        self.add_weight("bias", (), "zeros")

    def call(self, x: Any, form: Any, bias: Any) -> Any:  # type: ignore[override]
        a, b = x
        return anp.sum(anp.dot(a, form) * b, axis=-1, keepdims=True) + bias


def test_a_derived_layer_of_several_inputs(rng: np.random.Generator) -> None:
    check_gradients(Bilinear(**F64), [(3,), (4,)])
    check_gradients(Bilinear(**F64), [(3,), (4,)], training=False)
    a, b = Input((3,)), Input((4,))
    model = Model([a, b], Bilinear()([a, b]))
    x = [rng.standard_normal((64, n)).astype("f4") for n in (3, 4)]
    y = np.einsum("ni,nj,ij->n", *x, rng.standard_normal((3, 4)))[:, None].astype("f4")
    model.compile(Adam(0.03), "mse")
    history = model.fit(x, y, epochs=60, batch_size=8, verbose=0).history
    assert history["loss"][-1] < 0.1 * history["loss"][0]
    assert model.count_params() == 13
    assert model.predict(x, verbose=0).dtype == np.float32


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
def test_derived_losses_have_the_gradient_of_written_ones(rng: np.random.Generator, reduction: str) -> None:
    def squares(y_true: Any, y_pred: Any) -> Any:
        return anp.mean(anp.square(y_true - y_pred), axis=-1)

    class Squares(Loss):
        def call(self, y_true: Any, y_pred: Any) -> Any:
            return squares(y_true, y_pred)

    t, y, w = rng.standard_normal((6, 3)), rng.standard_normal((6, 3)), rng.uniform(0, 2, 6)
    written = losses.MeanSquaredError(reduction)
    for derived in (LossFunctionWrapper(squares, reduction), Squares(reduction=reduction)):
        assert derived(t, y, w) == pytest.approx(written(t, y, w), rel=1e-12)
        scale = np.asarray(derived.scale(derived.forward(y, t, Step(True)), t, w, None))
        expected = written.backward(y, t, scale, Step(True))
        np.testing.assert_allclose(derived.backward(y, t, scale, Step(True)), expected, rtol=1e-12)


def test_one_loss_for_the_whole_batch(rng: np.random.Generator) -> None:
    def largest(y_true: Any, y_pred: Any) -> Any:
        return anp.max(anp.square(y_true - y_pred))

    x, y = rng.standard_normal((8, 3)), rng.standard_normal((8, 1))
    model = Sequential([Input((3,), **F64), Dense(1, **F64)])
    model.compile("sgd", largest)
    kernel, bias = model.get_weights()

    def loss() -> float:
        return float(np.square(x @ kernel + bias - y).max())

    expected = kernel - 0.01 * numeric_gradient(loss, kernel)
    assert model.train_on_batch(x, y) == pytest.approx(loss())
    np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-6)


def test_integer_targets_stay_integers(rng: np.random.Generator) -> None:
    def nll(labels: Any, y: Any) -> Any:
        return -anp.log(y[anp.arange(len(labels)), labels])

    p, labels = rng.dirichlet(np.ones(4), 5), np.array([0, 3, 2, 1, 1])
    assert losses.get(nll)(labels, p) == pytest.approx(losses.SparseCategoricalCrossentropy()(labels, p))


def test_a_lambda_of_several_inputs(rng: np.random.Generator) -> None:
    def distance(pair: Any, power: int = 2) -> Any:
        return anp.sum((pair[0] - pair[1]) ** power, axis=-1, keepdims=True)

    def gradient(pair: Any, y: Any, dy: Any) -> Any:
        slope = 2 * (pair[0] - pair[1]) * dy
        return [slope, -slope]

    a, b = Input((3,), **F64), Input((3,), **F64)
    x = [rng.standard_normal((8, 3)) for _ in range(2)]
    trained = []
    for layer in (Lambda(distance, **F64), Lambda(distance, (1,), gradient=gradient, **F64),
                  Lambda(distance, lambda shapes: (None, len(shapes) - 1), arguments={"power": 2}, **F64)):  # fmt: skip
        check_gradients(layer, x)
        tower = Dense(3, kernel_initializer="ones", **F64)
        model = Model([a, b], layer([tower(a), tower(b)]))
        assert model.output_shape == (None, 1)
        model.compile("sgd", "mse")
        np.testing.assert_allclose(model.predict(x, verbose=0)[:, 0], 3 * np.square((x[0] - x[1]).sum(-1)))
        model.train_on_batch(x, np.zeros((8, 1)))
        trained.append(tower.get_weights()[0])
    np.testing.assert_allclose(trained[1:], [trained[0]] * 2)
    assert (trained[0] != 1).all()


@pytest.mark.parametrize(
    ("function", "message"),
    [(lambda x: np.asarray(x) * 2, "compute with autograd.numpy"), (lambda x: np.ones((3, 2)), "seems independent")],
)
def test_what_autograd_cannot_follow_says_so(function: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        check_gradients(Lambda(function, **F64), (2,))


def test_without_autograd_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['autograd'] = None; import numpy as np; from vivace.layers import Dense, Lambda; "
        "from vivace.models import Sequential; m = Sequential([Dense(2, input_shape=(3,)), Lambda(np.tanh)]); "
        "m.compile('sgd', 'mse'); x = np.ones((4, 3), 'f4'); m.predict(x, verbose=0); m.train_on_batch(x, x[:, :2])"
    )
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: lambda (Lambda): there is no gradient written for it" in failed.stderr
    assert "pip install 'vivace[autograd]'" in failed.stderr


def test_importing_does_not_import_autograd() -> None:
    code = "import sys, vivace.layers, vivace.losses, vivace.models, vivace.testing; print('autograd' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_weights_made_in_kerass_way() -> None:
    class Scaled(AutogradLayer):
        def build(self, input_shape: Any) -> None:
            self.w = self.add_weight(
                shape=[input_shape[-1]], initializer="ones", regularizer="l2", constraint="non_neg"
            )
            self.seen = self.add_weight(initializer="zeros", trainable=False, dtype="float32")
            self.v = self.add_weight(shape=(3, 2))

        def call(self, x: Any, variable: Any, variable_1: Any, variable_2: Any) -> Any:
            return anp.dot(x * variable, variable_2)

    layer = Scaled()
    assert layer(np.ones((2, 3))).shape == (2, 2)
    assert [w.name for w in layer.weights] == ["variable", "variable_1", "variable_2"]
    assert layer.seen.shape == ()
    assert layer.losses == [pytest.approx(0.03)]
    assert type(layer.w.constraint).__name__ == "NonNeg"
    with pytest.raises(TypeError, match=r"name must be a string, received \(3,\); give a shape as shape="):
        layer.add_weight((3,), "zeros")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be the layer's float32, received int32"):
        layer.add_weight("n", dtype="int32")


def test_weights_without_a_name_get_one_that_is_free() -> None:
    layer = Dense(2)
    names = [layer.add_weight(name).name for name in ("kernel", None, "variable_1", None, None)]
    assert names == ["kernel", "variable", "variable_1", "variable_2", "variable_3"]


class Counter(Metric):
    """Keras's way to write one."""

    def __init__(self, name: str = "counter", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.rows = self.add_variable(shape=(), initializer="zeros", name="rows")
        self.by_class = self.add_weight(shape=(3,), initializer="zeros", name="by_class")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.rows.assign_add(len(y_true))
        self.by_class.assign(self.by_class + np.bincount(np.asarray(y_true).ravel().astype(int), minlength=3))

    def result(self) -> Any:
        return float((self.by_class / self.rows).max())

    def reset_state(self) -> None:
        self.rows.assign(0.0)
        self.by_class.assign(np.zeros(3))


def test_a_metric_written_in_kerass_way(rng: np.random.Generator) -> None:
    metric = Counter()
    assert metric([0, 1, 1], None) == pytest.approx(2 / 3)
    metric.update_state([2], None)
    assert metric.result() == 0.5
    assert [v.shape for v in metric.variables] == [(), (3,)]
    metric.reset_state()
    assert float(metric.rows) == 0
    assert not metric.by_class.value.any()
    assert metric.rows.assign_sub(2).assign_add(5).value == 3
    model = Sequential([Input((4,)), Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[Counter()])
    x, y = rng.standard_normal((9, 4)).astype("f4"), np.array([0, 0, 0, 0, 0, 1, 1, 2, 2])
    assert model.evaluate(x, y, batch_size=2, verbose=0)[1] == pytest.approx(5 / 9)


def test_a_subclass_must_define_something() -> None:
    with pytest.raises(TypeError, match=r"must define call\(y_true, y_pred\), or forward and backward"):
        Loss()([[1.0]], [[1.0]])
    with pytest.raises(TypeError, match="must define call"):
        AutogradLayer(**F64)(np.ones((2, 3)))
    with pytest.raises(TypeError, match="must define forward"):
        Layer()(np.ones((2, 3)))


class Peaks(regularizers.Regularizer):
    def __call__(self, w: Any) -> Any:
        return anp.sum(anp.exp(-(w**2)))


def test_a_regularizer_that_is_a_formula(rng: np.random.Generator) -> None:
    w, gradient = rng.standard_normal((3, 2)), np.ones((3, 2))
    Peaks().add_gradient(w, gradient)
    np.testing.assert_allclose(gradient - 1, numeric_gradient(lambda: float(Peaks()(w)), w), rtol=1e-6)
    model = Sequential([Input((3,), **F64), Dense(2, kernel_regularizer=Peaks(), **F64)])
    model.compile("sgd", "mse")
    kernel = model.get_weights()[0]
    assert model.evaluate(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0) == pytest.approx(np.exp(-(kernel**2)).sum())
