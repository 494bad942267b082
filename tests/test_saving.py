"""Whole models in one file: what is loaded predicts the same bits, and trains on with the same bits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import vivace
from vivace import layers as L
from vivace import losses, metrics, optimizers
from vivace.callbacks import ModelCheckpoint
from vivace.layers import BatchNormalization, Conv2D, Dense, Flatten, Input
from vivace.models import Model, Sequential, load_model, save_model


class Classifier(Model):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.hidden, self.out = Dense(units, "relu"), Dense(3, "softmax")

    def call(self, x: Any) -> Any:
        return self.out(self.hidden(x))


class TwoInputs(Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = Dense(2)

    def call(self, x: Any) -> Any:
        return self.dense(x["a"]) + self.dense(x["b"])


def halved(y_true: Any, y_pred: Any) -> Any:
    return np.mean(np.abs(y_true - y_pred), axis=-1) / 2


def chain() -> Model:
    model = Sequential([Input((4, 4, 1)), Conv2D(3, 2), BatchNormalization(), Flatten(), Dense(3, "softmax")])
    model.layers[0].trainable = False
    model.compile(optimizers.Adam(0.01, use_ema=True), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def graph() -> Model:
    x = Input((4, 4, 1))
    h = Flatten()(x)
    model = Model(x, [Dense(3, name="a")(h), Dense(1, name="b")(h)])
    model.compile(
        optimizers.SGD(optimizers.schedules.ExponentialDecay(0.1, 3, 0.5), momentum=0.9),
        {"a": losses.Huber(0.5), "b": losses.mean_squared_error}, loss_weights={"a": 0.3},
        metrics={"a": ["mae", halved], "b": [metrics.RootMeanSquaredError()]}, steps_per_execution=2,
    )  # fmt: skip
    return model


def subclass() -> Model:
    model = Classifier(5)
    model.compile("nadam", losses.SparseCategoricalCrossentropy(), weighted_metrics=["accuracy"])
    return model


MODELS: dict[str, tuple[Callable[[], Model], tuple[int, ...], Any]] = {
    "chain": (chain, (4, 4, 1), np.arange(12) % 3),
    "graph": (graph, (4, 4, 1), [np.ones((12, 3)), np.zeros((12, 1))]),
    "subclass": (subclass, (6,), np.arange(12) % 3),
}
CUSTOM = {"Classifier": Classifier, "TwoInputs": TwoInputs, "halved": halved}


def outputs(model: Model, x: Any) -> list[Any]:
    y = model.predict(x, verbose=0)
    return y if isinstance(y, list) else [y]


@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_model_goes_on_with_the_same_bits(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    build, shape, y = MODELS[name]
    model, x, path = build(), rng.normal(size=(12, *shape)), tmp_path / "model.safetensors"
    model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    model.save(path)
    other = load_model(path, CUSTOM)
    assert type(other) is type(model)
    assert [layer.trainable for layer in other.layers] == [layer.trainable for layer in model.layers]
    for a, b in zip(outputs(model, x), outputs(other, x), strict=True):
        np.testing.assert_array_equal(a, b)
    assert other.get_compile_config() == model.get_compile_config()
    assert model.evaluate(x, y, verbose=0) == other.evaluate(x, y, verbose=0)
    histories = [one.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0).history for one in (model, other)]
    assert histories[0] == histories[1]
    for p, q in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(p, q)
    weights_only = load_model(path, CUSTOM, compile=False)
    assert not weights_only.compiled
    model.load_weights(path)  # the weights of a whole model are weights
    for a, b in zip(model.get_weights(), weights_only.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_inputs_by_name_and_preprocessing_are_kept(tmp_path: Path, rng: np.random.Generator) -> None:
    path, data = tmp_path / "m.safetensors", {"a": rng.normal(size=(3, 4)), "b": rng.normal(size=(3, 4))}
    model = TwoInputs()
    expected = model.predict(data, verbose=0)
    save_model(model, path)  # never compiled
    np.testing.assert_array_equal(load_model(path, CUSTOM).predict(data, verbose=0), expected)
    norm = L.Normalization()
    norm.adapt(rng.normal(3, 2, (50, 4)))
    model = Sequential([Input((4,)), norm, Dense(2)])
    model.save(path)
    np.testing.assert_array_equal(load_model(path)(data["a"]), model(data["a"]))


def test_bad_files_and_what_cannot_be_saved(tmp_path: Path) -> None:
    path, model = tmp_path / "model.safetensors", subclass()
    with pytest.raises(ValueError, match=r"save: not built yet"):
        model.save(path)
    model.build((None, 6))
    with pytest.raises(ValueError, match=r"must end in .safetensors, the one format .* received 'm.keras'"):
        model.save("m.keras")
    model.save(path)
    with pytest.raises(FileExistsError, match="overwrite is False"):
        model.save(path, overwrite=False)
    with pytest.raises(FileExistsError, match="overwrite is False"):
        model.save_weights(path, overwrite=False)
    with pytest.raises(ValueError, match="no class 'Classifier'"):
        load_model(path)
    with pytest.raises(FileNotFoundError, match="load_model: no file"):
        load_model(tmp_path / "other.safetensors")
    model.save_weights(path)
    with pytest.raises(ValueError, match=r"does not hold a whole model .* but 'vivace weights 1'"):
        load_model(path)
    save_file({"a": np.zeros(2)}, str(path), metadata={"format": "vivace model 1", "model": "{}"})
    with pytest.raises(ValueError, match="expected the JSON of a model"):
        load_model(path)
    path.write_bytes(b"no")
    with pytest.raises(ValueError, match="not a valid safetensors file"):
        load_model(path)
    model.compile("sgd", lambda y, p: np.abs(y - p).mean(-1))
    with pytest.warns(UserWarning, match="will not say how the model was compiled"):
        model.save(path)
    assert not load_model(path, CUSTOM).compiled
    assert not any(name.startswith("optimizer/") for name in load_file(str(path)))
    scaled = Sequential([Input((2,)), L.Lambda(lambda x: x * 2)])
    scaled.compile("sgd", "mse")
    with pytest.raises(TypeError, match="Lambda layer"):
        scaled.fit(np.ones((4, 2)), np.ones((4, 2)), callbacks=ModelCheckpoint(path, "loss"), verbose=0)


def test_weights_that_do_not_fit_may_be_skipped(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    first = Sequential([Input((4,)), Dense(3), Dense(2)])
    first.save_weights(path)
    other = Sequential([Input((4,)), Dense(3), Dense(5)])
    with pytest.raises(ValueError, match="1_dense/kernel has shape"):
        other.load_weights(path)
    with pytest.warns(UserWarning, match="so some weights stay: 1_dense/kernel has shape"):
        other.load_weights(path, skip_mismatch=True)
    np.testing.assert_array_equal(first.layers[0].get_weights()[0], other.layers[0].get_weights()[0])


@pytest.mark.parametrize("weights_only", [False, True])
def test_checkpoints_of_models_and_of_weights(weights_only: bool, tmp_path: Path) -> None:
    path, model = tmp_path / "best.safetensors", chain()
    x, y = np.ones((6, 4, 4, 1)), np.zeros(6, int)
    model.fit(x, y, epochs=2, callbacks=ModelCheckpoint(path, "loss", save_weights_only=weights_only), verbose=0)
    names = set(load_file(str(path)))
    assert ("optimizer/steps" in names) is not weights_only
    if not weights_only:
        assert load_model(path).optimizer.iterations == 2
    model.load_weights(path)


def test_keras_s_compile_configuration_will_do() -> None:
    model = Sequential([Input((2,)), Dense(1)])
    model.compile_from_config(
        {
            "optimizer": {"module": "keras.optimizers", "class_name": "SGD", "registered_name": None,
                          "config": {"name": "sgd", "learning_rate": 0.25, "momentum": 0.5, "loss_scale_factor": None}},
            "loss": {"module": "keras.losses", "class_name": "MeanAbsoluteError", "config": {"name": "mae",
                     "reduction": "sum_over_batch_size"}, "registered_name": None},
            "loss_weights": None, "metrics": ["mse"], "weighted_metrics": None, "run_eagerly": False,
            "steps_per_execution": 3, "jit_compile": True,
        }
    )  # fmt: skip
    assert (model.optimizer.learning_rate, model.optimizer.momentum, model.steps_per_execution) == (0.25, 0.5, 3)
    model.train_on_batch(np.ones((2, 2)), np.zeros((2, 1)))
    result = model.get_metrics_result()
    assert list(result) == ["loss", "mean_squared_error"] or list(result) == ["loss", "mse"]
    told = model.get_compile_config()
    assert told["loss"]["class_name"] == "MeanAbsoluteError"
    assert Sequential([Dense(1)]).get_compile_config() == {}


def test_chains_have_symbolic_ends(rng: np.random.Generator) -> None:
    model = Sequential([Input((4,)), Dense(3, "relu"), Dense(2)], name="chain")
    x = rng.normal(size=(2, 4)).astype("f4")
    features = Model(model.inputs, model.layers[0].output)
    np.testing.assert_array_equal(features(x), model.layers[0](x))
    np.testing.assert_array_equal(Model(model.inputs, model.outputs)(x), model(x))
    model.pop()
    model.add(Dense(5))
    assert model.outputs[0].shape == (None, 5)
    assert model.layers[-1].input is model.layers[0].output
    late = Sequential([Dense(3), Dense(1)])
    with pytest.raises(AttributeError, match="the shape of the input is not known yet"):
        _ = late.inputs
    late.fit(x, np.ones((2, 1)), verbose=0) if late.compiled else late(x)
    assert [t.shape for t in (*late.inputs, *late.outputs)] == [(None, 4), (None, 1)]


def test_weights_are_variables() -> None:
    layer = Dense(2, kernel_regularizer="l2", bias_regularizer="l1")
    assert layer.get_build_config() == {"input_shape": None}
    layer.build_from_config({"input_shape": [None, 3]})
    assert [v.path for v in layer.variables] == [f"{layer.name}/kernel", f"{layer.name}/bias"]
    assert [len(v) for v in (layer.trainable_variables, layer.non_trainable_variables)] == [2, 0]
    kernel = layer.kernel
    assert (kernel.ndim, kernel.dtype, layer.compute_dtype, layer.variable_dtype) == (2, *["float32"] * 3)
    before = kernel.numpy()
    kernel.assign_add(np.ones((3, 2)))
    kernel.assign_sub(np.full((3, 2), 0.5))
    np.testing.assert_allclose(np.asarray(kernel), before + 0.5, rtol=1e-6)
    assert not kernel.exposed
    assert np.array(kernel, "float64").dtype == np.float64
    np.testing.assert_allclose(layer.losses, [0.01 * np.sum(kernel.numpy() ** 2), 0], rtol=1e-5)
    with pytest.raises(ValueError, match="is a copy"):
        np.asarray(kernel, copy=False) if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else kernel.__array__(
            copy=False
        )
    layer.trainable = False
    assert layer.losses == []


def test_public_names() -> None:
    assert vivace.models.load_model is load_model
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Sequential([Input((2,)), Dense(1)]).get_build_config()["input_shape"] == (None, 2)
