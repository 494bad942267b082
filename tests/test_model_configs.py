"""Models are made again from their configuration, from JSON, and as clones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from test_functional import GRAPHS
from test_subclassing import Plain
from vivace import layers as L
from vivace.layers import Conv2D, Dense, Flatten, Input, Lambda, Layer, MaxPooling2D
from vivace.models import Functional, Model, Sequential, clone_model, model_from_json
from vivace.step import Step


def again_equals(model: Model, other: Model, rng: np.random.Generator) -> None:
    """Equal outputs with equal weights, and nothing shared."""
    assert not set(map(id, model.weights)) & set(map(id, other.weights))
    assert [p.shape for p in model.weights] == [p.shape for p in other.weights]
    other.set_weights(model.get_weights())
    shapes = model.input_shape if isinstance(model.input_shape, list) else [model.input_shape]
    x = [rng.normal(size=(3, *shape[1:])) for shape in shapes]
    ys = [one(x if len(x) > 1 else x[0]) for one in (model, other)]
    for a, b in zip(*(y if isinstance(y, list) else [y] for y in ys), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize(
    "again",
    [
        lambda model: model_from_json(model.to_json()),
        lambda model: Functional.from_config(model.get_config()),
        clone_model,
        lambda model: clone_model(model, None, lambda la: type(la).from_config(la.get_config()), recursive=True),
    ],
)  # fmt: skip
def test_graphs(graph: Callable[[], Any], again: Callable[[Model], Model], rng: np.random.Generator) -> None:
    model = Model(*graph(), name="mine")
    other = again(model)
    assert other.name == "mine"
    assert [layer.name for layer in other.layers] == [layer.name for layer in model.layers]
    again_equals(model, other, rng)
    if again is not clone_model:
        assert json.loads(other.to_json()) == json.loads(model.to_json())


CHAIN = [Conv2D(4, 3, activation="relu"), MaxPooling2D(), Flatten(), Dense(3, "softmax", dtype="float32")]


@pytest.mark.parametrize("first", [[Input((8, 8, 1))], []])
@pytest.mark.parametrize("again", [lambda model: model_from_json(model.to_json(indent=1)), clone_model])
def test_chains(first: list[Any], again: Callable[[Model], Model], rng: np.random.Generator) -> None:
    layers = [type(layer).from_config(layer.get_config()) for layer in CHAIN]
    model = Sequential([*first, *layers], name="mine")
    unbuilt = again(model)
    assert unbuilt.built == bool(first)
    assert unbuilt.name == "mine"
    model.build((None, 8, 8, 1))
    other = again(model)
    other.build((None, 8, 8, 1))
    again_equals(model, other, rng)


def test_an_input_in_the_middle_of_a_graph(rng: np.random.Generator) -> None:
    x = Input((4,))
    h = Dense(3, name="h")(x)
    model = Model(h, Dense(2)(h))
    again_equals(model, model_from_json(model.to_json()), rng)


def test_outputs_in_a_dict_are_called_by_its_keys(rng: np.random.Generator) -> None:
    x = Input((4,))
    model = Model(x, {"price": Dense(1)(x), "kind": Dense(3, "softmax")(x)}, name="m")
    for one in (model, clone_model(model), model_from_json(model.to_json()), Model.from_config(model.get_config())):
        assert one.output_names == ["kind", "price"]  # sorted, as in Keras
        one.compile("sgd", {"kind": "sparse_categorical_crossentropy", "price": "mse"})
        targets = {"kind": np.zeros(5, int), "price": np.ones(5)}
        history = one.fit(rng.normal(size=(5, 4)), targets, verbose=0).history
        assert {"price_loss", "kind_loss"} <= set(history)
    chain = Sequential([Input((4,)), Dense(2)])
    assert isinstance(Model.from_config(chain.get_config()), Sequential)


def test_integer_inputs_stay_integers() -> None:
    words = Input((4,), dtype="int32")
    for model in (Model(words, L.Embedding(5, 2)(words)), Sequential([Input((4,), dtype="int32"), L.Embedding(5, 2)])):
        for other in (model_from_json(model.to_json()), clone_model(model)):
            other.set_weights(model.get_weights())
            data = np.array([[0, 1, 2, 4]])
            np.testing.assert_array_equal(other.predict(data), model.predict(data))


class Doubled(Layer):
    """A layer of a user's."""

    def __init__(self, factor: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.times = factor

    def forward(self, x: Any, step: Step) -> Any:
        return x * x.dtype.type(self.times), None

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        return dy * dy.dtype.type(self.times)


def test_custom_objects(rng: np.random.Generator) -> None:
    x = Input((4,))
    model = Model(x, Doubled(3.0)(Dense(2)(x)))
    text = model.to_json()
    with pytest.raises(ValueError, match=r"no class 'Doubled'; if it is yours, give it in custom_objects="):
        model_from_json(text)
    again_equals(model, model_from_json(text, {"Doubled": Doubled}), rng)
    again_equals(model, Functional.from_config(model.get_config(), custom_objects={"Doubled": Doubled}), rng)
    again_equals(model, clone_model(model), rng)
    own = Plain(5, name="own")
    other = model_from_json(own.to_json(), {"Plain": Plain})
    for one in (own, other):
        one.build((None, 8, 8, 1))
    again_equals(own, other, rng)


def test_a_function_is_never_written() -> None:
    x = Input((4,))
    model = Model(x, Lambda(np.tanh, name="f")(x), name="m")
    with pytest.raises(
        TypeError, match=r"to_json: m: the Lambda layer 'f' holds a Python function, which is never written"
    ):
        model.to_json()
    with pytest.raises(TypeError, match="to_json: s.*: the Lambda layer"):
        Sequential([Sequential([Lambda(np.tanh)])], name="s").to_json()
    other = clone_model(model)
    np.testing.assert_array_equal(other(np.ones((1, 4))), model(np.ones((1, 4))))
    text = Model(x, Dense(1)(x)).to_json().replace('"Dense"', '"Lambda"')
    with pytest.raises((TypeError, ValueError)):
        model_from_json(text)


def test_clones_on_other_tensors_and_of_other_layers(rng: np.random.Generator) -> None:
    x = Input((4,))
    model = Model(x, Dense(2, name="out")(Dense(3, "relu", name="hidden")(x)))
    z = Input((4,), name="z")
    features = Dense(4)(z)
    on_features = clone_model(model, input_tensors=features)
    whole = Model(z, on_features.outputs)
    assert whole.count_params() == model.count_params() + 20
    assert clone_model(model, [z]).input_names == ["z"]

    def wider(layer: Layer) -> Layer:
        config = layer.get_config()
        return type(layer).from_config(config | {"units": 2 * config["units"]})

    assert clone_model(model, clone_function=wider).output_shape == (None, 4)
    called = []
    clone_model(model, call_function=lambda layer, *args, **kw: called.append(layer.name) or layer(*args, **kw))
    assert called == ["hidden", "out"]
    shared = clone_model(model, clone_function=lambda layer: layer)
    assert shared.weights == model.weights
    with pytest.raises(ValueError, match="has 1 inputs, received 2 tensors"):
        clone_model(model, [z, x])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected the JSON of a model"),
        ('{"class_name": "Dense", "module": "keras.layers", "config": {"units": 1}}', "a model, received a Dense"),
        ('{"class_name": "system", "module": "os", "config": {"command": "true"}}', "vivace has no class 'system'"),
        ('{"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense"}]}}', "has no class 'Dense'"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_from_json(text)


def mutated(value: Any, rng: np.random.Generator) -> Any:
    """The same with one place changed at random."""
    if rng.random() < 0.15 or not isinstance(value, (dict, list)) or not value:
        return [None, -1, 3, "Dense", [], {}, [1], {"class_name": "Dense", "config": {}}, True][rng.integers(9)]
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[rng.integers(len(keys))]
    if isinstance(value, dict) and rng.random() < 0.1:
        return {k: v for k, v in value.items() if k != key}
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[key] = mutated(value[key], rng)  # type: ignore[index]
    return changed


def test_a_spoiled_description_is_refused_or_makes_a_model(rng: np.random.Generator) -> None:
    refused = 0
    for graph in GRAPHS[:5]:
        good = json.loads(Model(*graph()).to_json())
        for _ in range(80):
            try:
                assert isinstance(model_from_json(json.dumps(mutated(good, rng))), Model)
            except (ValueError, TypeError):
                refused += 1
    assert 100 < refused < 400


def test_a_call_of_what_no_layer_makes_is_refused() -> None:
    x = Input((4,))
    config = json.loads(Model(x, Dense(2, name="d")(Dense(3, name="c")(x))).to_json())
    config["config"]["layers"] = [entry for entry in config["config"]["layers"] if entry["name"] != "c"]
    with pytest.raises(ValueError, match="calls of d depend on tensors that no layer makes"):
        model_from_json(json.dumps(config))
