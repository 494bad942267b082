"""Everything that a user can construct tells how it was made, and can be made again from that."""

from __future__ import annotations

import inspect
import json
from typing import Any

import numpy as np
import pytest

from vivace import constraints, initializers, layers, losses, metrics, models, optimizers, regularizers, utils
from vivace._config import REGISTERED, Configurable, custom_object_scope, deserialize, serialize, to_data
from vivace.layers import Layer
from vivace.step import Step

# Arguments other than the defaults, and the shape of a sample to run a layer on.
IMAGE, VOLUME, STEPS = (6, 5, 2), (5, 4, 4, 2), (5, 3)
KERNEL: dict[str, Any] = {
    "kernel_initializer": initializers.HeNormal(seed=3), "bias_initializer": "ones", "kernel_regularizer": "l2",
    "kernel_constraint": constraints.MaxNorm(3, axis=0), "bias_constraint": "non_neg", "activity_regularizer": "l1",
}  # fmt: skip
DEPTHWISE = {"depthwise_constraint": "unit_norm", "depthwise_regularizer": regularizers.L1L2(0.1, 0.2)}
RECURRENT = {**KERNEL, "recurrent_constraint": "max_norm", "return_sequences": True, "dropout": 0.1, "seed": 4}
CONV: dict[str, Any] = {"filters": 4, "kernel_size": 2, "activation": "relu", **KERNEL}
LAYERS: dict[str, tuple[dict[str, Any], Any]] = {
    "Activation": ({"activation": "gelu"}, STEPS),
    "ActivityRegularization": ({"l1": 0.1}, STEPS),
    "AdditiveAttention": ({"use_scale": False, "dropout": 0.2, "seed": 1}, [STEPS, STEPS]),
    "AlphaDropout": ({"rate": 0.4, "seed": 2, "noise_shape": (None, 1, 3)}, STEPS),
    "Attention": ({"use_scale": True, "use_causal_mask": True}, [STEPS, STEPS]),
    "BatchNormalization": ({"axis": 1, "momentum": 0.9, "gamma_constraint": "non_neg"}, STEPS),
    "Bidirectional": ({"layer": layers.GRU(3, return_sequences=True), "merge_mode": "sum"}, STEPS),
    "CenterCrop": ({"height": 3, "width": 2}, IMAGE),
    "Concatenate": ({"axis": 1}, [STEPS, STEPS]),
    **{f"Conv{rank}D": ({**CONV, "strides": 2, "padding": "same"}, shape)
       for rank, shape in ((1, STEPS), (2, IMAGE), (3, VOLUME))},
    **{f"Conv{rank}DTranspose": ({**CONV, "strides": 2, "output_padding": 1}, shape)
       for rank, shape in ((1, STEPS), (2, IMAGE), (3, VOLUME))},
    "Cropping1D": ({"cropping": 1}, STEPS),
    "Cropping2D": ({"cropping": ((1, 0), (2, 1))}, IMAGE),
    "Cropping3D": ({"cropping": (1, 0, 1)}, VOLUME),
    "Dense": ({"units": 4, "activation": "relu", **KERNEL}, STEPS),
    "DepthwiseConv1D": ({"kernel_size": 2, "depth_multiplier": 2, **DEPTHWISE}, STEPS),
    "DepthwiseConv2D": ({"kernel_size": (2, 1), "data_format": "channels_first", **DEPTHWISE}, IMAGE),
    "Dot": ({"axes": -1, "normalize": True}, [STEPS, STEPS]),
    "Dropout": ({"rate": 0.3, "noise_shape": (None, 1, 3), "seed": 2}, STEPS),
    "ELU": ({"alpha": 0.5}, STEPS),
    "EinsumDense": ({"equation": "abc,cde->abde", "output_shape": (None, 2, 4), "bias_axes": "de", **KERNEL}, STEPS),
    "Embedding": ({"input_dim": 4, "output_dim": 3, "embeddings_constraint": "unit_norm", "mask_zero": True}, (5,)),
    "Flatten": ({"data_format": "channels_first"}, IMAGE),
    "GRU": ({"units": 3, "reset_after": False, **RECURRENT}, STEPS),
    "GaussianDropout": ({"rate": 0.3, "seed": 1}, STEPS),
    "GaussianNoise": ({"stddev": 0.3, "seed": 1}, STEPS),
    **{f"Adaptive{kind}Pooling{rank}D": ({"output_size": (3, 2, 2)[:rank]}, shape) for kind in ("Average", "Max")
       for rank, shape in ((1, STEPS), (2, IMAGE), (3, VOLUME))},
    **{f"Global{kind}Pooling{rank}D": ({"keepdims": True}, shape) for kind in ("Average", "Max")
       for rank, shape in ((1, STEPS), (2, IMAGE), (3, VOLUME))},
    "GroupNormalization": ({"groups": 3, "beta_constraint": "non_neg"}, STEPS),
    "GroupQueryAttention": ({"head_dim": 2, "num_query_heads": 4, "num_key_value_heads": 2, **KERNEL}, [STEPS, STEPS]),
    "GetItem": ({"key": (slice(None), slice(1, None, 2), 0)}, STEPS),
    "InputLayer": ({"shape": (5, 3), "dtype": "int32"}, STEPS),
    "LSTM": ({"units": 3, "unit_forget_bias": False, "recurrent_activation": "relu", **RECURRENT}, STEPS),
    "Lambda": ({"function": np.square, "arguments": {}}, STEPS),
    "LayerNormalization": ({"axis": (1, 2), "gamma_constraint": "non_neg"}, STEPS),
    "LeakyReLU": ({"negative_slope": 0.1}, STEPS),
    "Masking": ({"mask_value": 2.0}, STEPS),
    **{f"{kind}Pooling{rank}D": ({"pool_size": 2, "strides": 1, "padding": "same"}, shape)
       for kind in ("Average", "Max") for rank, shape in ((1, STEPS), (2, IMAGE), (3, VOLUME))},
    "MultiHeadAttention": ({"num_heads": 2, "key_dim": 3, "value_dim": 2, "output_shape": 5, **KERNEL}, [STEPS, STEPS]),
    "AutoContrast": ({"value_range": (-1, 1)}, IMAGE),
    "Equalization": ({"value_range": (0, 1), "bins": 20}, IMAGE),
    "Normalization": ({"mean": [1.0, 2.0, 3.0], "variance": np.array([1.0, 2.0, 4.0])}, STEPS),
    "OutputGatedRNN": ({"units": 3, "output_units": 2}, STEPS),
    "PReLU": ({"shared_axes": [1], "alpha_constraint": "non_neg", "alpha_initializer": "ones"}, STEPS),
    "Permute": ({"dims": (2, 1)}, STEPS),
    "RMSNormalization": ({"epsilon": 1e-3}, STEPS),
    "RandomBrightness": ({"factor": 0.2, "seed": 1}, IMAGE),
    "RandomColorDegeneration": ({"factor": 0.2, "seed": 1}, (6, 5, 3)),
    "RandomColorJitter": ({"value_range": (0, 1), "contrast_factor": 0.2, "hue_factor": 0.3, "seed": 1}, (6, 5, 3)),
    "RandomContrast": ({"factor": 0.2, "seed": 1}, IMAGE),
    "RandomCrop": ({"height": 3, "width": 2, "seed": 1}, IMAGE),
    "RandomFlip": ({"mode": "horizontal", "seed": 1}, IMAGE),
    "RandomGrayscale": ({"factor": 0.2, "seed": 1}, (6, 5, 3)),
    "RandomHue": ({"factor": 0.2, "seed": 1}, (6, 5, 3)),
    "RandomInvert": ({"factor": (0.2, 0.5), "value_range": (0, 1), "seed": 1}, IMAGE),
    "RandomPosterization": ({"factor": (2, 5), "value_range": (0, 1), "seed": 1}, IMAGE),
    "RandomRotation": ({"factor": (-0.1, 0.2), "fill_mode": "wrap", "seed": 1}, IMAGE),
    "RandomSaturation": ({"factor": (0.2, 0.7), "value_range": (0, 1), "seed": 1}, (6, 5, 3)),
    "RandomShear": ({"x_factor": 0.2, "y_factor": (0.1, 0.2), "seed": 1}, IMAGE),
    "RandomTranslation": ({"height_factor": 0.1, "width_factor": (0.1, 0.2), "seed": 1}, IMAGE),
    "RandomZoom": ({"height_factor": 0.2, "seed": 1}, IMAGE),
    "ReLU": ({"max_value": 2.0, "negative_slope": 0.1}, STEPS),
    "RepeatVector": ({"n": 2}, (3,)),
    "Rescaling": ({"scale": [1.0, 2.0, 3.0], "offset": -1}, STEPS),
    "Reshape": ({"target_shape": (3, -1)}, STEPS),
    "Resizing": ({"height": 3, "width": 7, "interpolation": "nearest", "crop_to_aspect_ratio": True}, IMAGE),
    "SeparableConv1D": ({**CONV, **DEPTHWISE, "pointwise_constraint": "max_norm"}, STEPS),
    "SeparableConv2D": ({**CONV, **DEPTHWISE, "dilation_rate": 2}, IMAGE),
    "SimpleRNN": ({"units": 3, **RECURRENT, "go_backwards": True}, STEPS),
    "SimpleRNNCell": ({"units": 3, "use_bias": False}, [(5,), (3,)]),
    "GRUCell": ({"units": 3, "reset_after": False, "kernel_constraint": "non_neg"}, [(5,), (3,)]),
    "LSTMCell": ({"units": 3, "activation": "relu", "unit_forget_bias": False}, [(5,), (3,), (3,)]),
    "StackedRNNCells": ({"cells": [layers.LSTMCell(3), layers.GRUCell(3)]}, [(5,), (3,), (3,), (3,)]),
    "RNN": ({"cell": layers.StackedRNNCells([layers.LSTMCell(3), layers.GRUCell(2)]), "go_backwards": True}, STEPS),
    "Softmax": ({"axis": (1, 2)}, STEPS),
    "Solarization": ({"addition_factor": 0.1, "threshold_factor": (0.1, 0.2), "seed": 1}, IMAGE),
    **{f"SpatialDropout{rank}D": ({"rate": 0.3, "seed": 1}, shape)
       for rank, shape in ((1, STEPS), (2, IMAGE), (3, VOLUME))},
    "TimeDistributed": ({"layer": layers.Dense(2, "tanh")}, STEPS),
    "UnitNormalization": ({"axis": 1}, STEPS),
    "UpSampling1D": ({"size": 3}, STEPS),
    "UpSampling2D": ({"size": (2, 1), "interpolation": "bilinear"}, IMAGE),
    "UpSampling3D": ({"size": 2}, VOLUME),
    "ZeroPadding1D": ({"padding": (1, 2)}, STEPS),
    "ZeroPadding2D": ({"padding": ((1, 2), (0, 1))}, IMAGE),
    "ZeroPadding3D": ({"padding": 1}, VOLUME),
    **{name: ({}, [STEPS, STEPS]) for name in ("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract")},
    "Identity": ({}, STEPS),
}  # fmt: skip
for _name in ("SeparableConv1D", "SeparableConv2D"):
    for _argument in ("kernel_initializer", "kernel_regularizer", "kernel_constraint"):
        LAYERS[_name][0].pop(_argument, None)


def public(module: Any, base: type) -> dict[str, type]:
    found = {name: getattr(module, name) for name in getattr(module, "__all__", vars(module)) if name[:1] != "_"}
    classes = {name: one for name, one in found.items() if isinstance(one, type) and issubclass(one, base)}
    return {name: one for name, one in classes.items() if one is not base and one.__name__ == name}


def made(name: str) -> tuple[Layer, Any]:
    arguments, shapes = LAYERS[name]
    layer = getattr(layers, name)(**arguments, trainable=False, name="its_name") if name != "InputLayer" else (
        layers.InputLayer(**arguments, name="its_name")
    )  # fmt: skip
    return layer, shapes


def test_every_public_layer_is_in_the_table() -> None:
    lookups = {"StringLookup", "IntegerLookup", "Discretization", "CategoryEncoding", "TextVectorization"}
    assert set(public(layers, Layer)) == {*LAYERS, *lookups, "AutogradLayer"}
    assert set(public(layers, Configurable)) == {*LAYERS, *lookups, "AutogradLayer", "Layer"}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_made_again_computes_the_same(name: str, rng: np.random.Generator) -> None:
    layer, shapes = made(name)
    config = layer.get_config()
    data = json.loads(json.dumps(to_data(config, ""))) if name != "Lambda" else config
    again = type(layer).from_config(data)
    assert type(layer).from_config(config).get_config() == config
    assert name == "Lambda" or to_data(again.get_config(), "") == data
    assert (again.name, again.dtype) == ("its_name", layer.dtype)
    if name == "InputLayer":
        return
    assert again.trainable is False
    for argument, value in LAYERS[name][0].items():
        assert argument in config, f"{argument}={value} is not in the configuration"
    several = isinstance(shapes, list)
    x: Any = [rng.normal(size=(2, *shape)).astype("float32") for shape in (shapes if several else [shapes])]
    if layer.input_dtype is not None:
        x = [rng.integers(0, 4, (2, *shapes))]
    shape = [(None, *array.shape[1:]) for array in x]
    for one in (layer, again):
        one.build_once(shape if several else shape[0])  # type: ignore[arg-type]
    again.set_weights(layer.get_weights())
    for training in (False, True):  # seeds are arguments too
        ys = [one.forward(x if several else x[0], Step(training))[0] for one in (layer, again)]
        np.testing.assert_array_equal(*ys)
    constraint = {p.name.rsplit("/")[-1]: type(p.constraint) for p in layer.weights}
    assert {p.name.rsplit("/")[-1]: type(p.constraint) for p in again.weights} == constraint


OTHERS: dict[str, dict[str, Any]] = {
    "losses.BinaryFocalCrossentropy": {"alpha": 0.3, "from_logits": True, "label_smoothing": 0.1},
    "losses.Tversky": {"alpha": 0.3, "axis": (1, 2)},
    "losses.Huber": {"delta": 0.3, "reduction": "sum", "name": "mine"},
    "losses.CategoricalFocalCrossentropy": {"alpha": [0.1, 0.2]},
    "metrics.AUC": {"thresholds": [0.2, 0.4], "label_weights": [1.0, 2.0], "multi_label": True},
    "metrics.IoU": {"num_classes": 4, "target_class_ids": [1, 2]},
    "metrics.BinaryIoU": {"threshold": 0.3},
    "metrics.MeanIoU": {"num_classes": 4, "ignore_class": 1},
    "metrics.OneHotIoU": {"num_classes": 4, "target_class_ids": [1, 2], "sparse_y_pred": True},
    "metrics.OneHotMeanIoU": {"num_classes": 4},
    "metrics.MeanRelativeError": {"normalizer": [1.0, 2.0]},
    "metrics.Precision": {"thresholds": [0.2, 0.3], "top_k": 2, "class_id": 1},
    "metrics.PrecisionAtRecall": {"recall": 0.3, "num_thresholds": 10},
    "metrics.RecallAtPrecision": {"precision": 0.3},
    "metrics.SensitivityAtSpecificity": {"specificity": 0.3},
    "metrics.SpecificityAtSensitivity": {"sensitivity": 0.3},
    "metrics.BinaryCrossentropy": {"from_logits": True, "label_smoothing": 0.1},
    "metrics.SparseCategoricalCrossentropy": {"ignore_class": 2},
    "metrics.MeanMetricWrapper": {"fn": losses.mean_squared_error, "name": "mine"},
    "metrics.CosineSimilarity": {"axis": 0},
    "optimizers.Adam": {"learning_rate": optimizers.schedules.CosineDecay(0.1, 20, warmup_target=0.3), "clipnorm": 1.0},
    "optimizers.SGD": {"momentum": 0.9, "nesterov": True, "use_ema": True},
    "optimizers.AdamW": {"weight_decay": 0.3},
    "optimizers.schedules.PiecewiseConstantDecay": {"boundaries": [2, 3], "values": [0.1, 0.2, 0.3]},
    "initializers.VarianceScaling": {"scale": 2.0, "mode": "fan_out", "distribution": "uniform", "seed": 3},
    "initializers.Orthogonal": {"gain": 2.0, "seed": 3},
    "regularizers.OrthogonalRegularizer": {"factor": 0.2, "mode": "columns"},
    "constraints.MinMaxNorm": {"min_value": 0.2, "rate": 0.5, "axis": (0, 1)},
    "losses.LossFunctionWrapper": {"fn": losses.mean_squared_error, "reduction": "sum"},
    "layers.StringLookup": {"vocabulary": ["b", "a"], "mask_token": "", "output_mode": "count"},
    "layers.IntegerLookup": {"vocabulary": [3, 9], "num_oov_indices": 2},
    "layers.Discretization": {"num_bins": 3, "dtype": "float64"},
    "layers.CategoryEncoding": {"num_tokens": 4, "output_mode": "count"},
    "layers.TextVectorization": {"vocabulary": ["the", "a"], "output_sequence_length": 4},
}
MODULES: dict[str, tuple[Any, type]] = {
    "losses": (losses, losses.Loss),
    "metrics": (metrics, metrics.Metric),
    "optimizers": (optimizers, optimizers.Optimizer),
    "optimizers.schedules": (optimizers.schedules, optimizers.schedules.LearningRateSchedule),
    "initializers": (initializers, initializers.Initializer),
    "regularizers": (regularizers, Configurable),
    "constraints": (constraints, constraints.Constraint),
}
FIRST = {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5, "first_decay_steps": 5}
ALL = {
    f"{family}.{name}": one for family, (module, base) in MODULES.items() for name, one in public(module, base).items()
}
ALL |= {name: getattr(layers, name.split(".")[1]) for name in OTHERS if name.startswith("layers.")}


@pytest.mark.parametrize("name", ALL)
def test_everything_else_is_made_again(name: str) -> None:
    parameters = inspect.signature(ALL[name].__init__).parameters
    needed = {p: FIRST[p] for p in parameters if p in FIRST and name not in OTHERS}
    one = ALL[name](**OTHERS.get(name, needed))
    config = one.get_config()
    assert set(OTHERS.get(name, needed)) <= set(config)
    functions = name in ("metrics.MeanMetricWrapper", "losses.LossFunctionWrapper")
    described = serialize(one) if functions else json.loads(json.dumps(to_data(serialize(one), "")))
    again = deserialize(described)
    assert type(again) is ALL[name]
    assert to_data(serialize(again), "") == to_data(serialize(one), "")
    assert ALL[name].from_config(config).get_config() == config
    family = name.rsplit(".", 1)[0]
    if family not in ("metrics", "layers"):
        assert type(MODULES[family][0].get(described)) is ALL[name]
    module = layers if family == "layers" else MODULES[family][0]
    assert type(module.deserialize(module.serialize(one))) is ALL[name]


def test_what_changed_later_is_told() -> None:
    optimizer = optimizers.Adam(0.1)
    optimizer.learning_rate = 0.2
    assert optimizers.Adam.from_config(optimizer.get_config()).learning_rate == 0.2
    lookup = layers.StringLookup()
    lookup.adapt(["a", "b", "a"])
    assert layers.StringLookup.from_config(lookup.get_config()).get_vocabulary() == lookup.get_vocabulary()
    layer = layers.Dense(3)
    layer.trainable = False
    assert layers.Dense.from_config(layer.get_config()).trainable is False


class Scaled(Layer):
    """A user's layer, whose attributes are not its arguments."""

    def __init__(self, factor: float, table: np.ndarray, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = layers.Rescaling(factor)
        self.table = table


@utils.register_keras_serializable("mine")
class Manifold(layers.Layer):
    def __init__(self, by: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.by = by

    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        return x * self.by, None


@utils.register_keras_serializable(name="a_loss_of_mine")
def absolute(y_true: Any, y_pred: Any) -> Any:
    return abs(y_true - y_pred)


def test_what_is_registered_needs_no_custom_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.Sequential([layers.Input((3,)), Manifold(5), layers.Dense(1)])
    again = models.model_from_json(model.to_json())
    assert isinstance(again.layers[0], Manifold)
    assert again.layers[0].by == 5
    assert metrics.get("absolute").name == "absolute"
    assert losses.get("absolute").name == losses.get("a_loss_of_mine").name == "absolute"
    monkeypatch.setitem(REGISTERED, "Dense", Fixed)  # ours stays what it is
    assert type(deserialize(serialize(layers.Dense(3)))) is layers.Dense


class Fixed(layers.Dense):
    def __init__(self, scale: int, **kwargs: Any) -> None:
        super().__init__(4 * scale, **kwargs)


def test_a_users_class_remembers_what_it_was_given() -> None:
    table = np.arange(3, dtype="float32")
    layer = Scaled(2.5, table=table, name="s")
    config = layer.get_config()
    assert (config["factor"], config["name"]) == (2.5, "s")
    again = Scaled.from_config(json.loads(json.dumps(to_data(config, ""))))
    np.testing.assert_array_equal(again.table, table)
    assert again.table.dtype == table.dtype
    fixed = Fixed.from_config(Fixed(2, use_bias=False).get_config())
    assert (fixed.units, fixed.use_bias) == (8, False)


def test_custom_objects_come_before_our_own_and_nothing_else_is_found() -> None:
    described = serialize(Scaled(1.0, np.zeros(2)))
    with pytest.raises(ValueError, match=r"no class 'Scaled'; if it is yours, give it in custom_objects"):
        deserialize(described)
    with custom_object_scope({"Scaled": Scaled}):
        assert isinstance(deserialize(described), Scaled)
    with custom_object_scope({"Dense": Fixed}):
        assert isinstance(deserialize({"class_name": "Dense", "config": {"scale": 1}}), Fixed)
    for module in ("os", "vivace._core", "builtins", "keras.layers.os", None):
        with pytest.raises(ValueError, match="has no class 'system'"):
            deserialize({"module": module, "class_name": "system", "config": {}})
    for name in ("_Seeded", "np", "Any", "lookup"):
        with pytest.raises(ValueError, match="has no class"):
            deserialize({"module": "vivace.initializers", "class_name": name, "config": {}})


def constant(shape: Any, dtype: Any = "float32") -> np.ndarray:
    return np.full(shape, 7, dtype)


def test_custom_objects_by_name_alone() -> None:
    custom = {"mine": constant, "Odd": type("Odd", (regularizers.L2,), {}), "halved": lambda w: w / 2}
    with custom_object_scope(custom):
        layer = layers.Dense(
            2, kernel_initializer="mine", bias_initializer="ones", kernel_regularizer="Odd", kernel_constraint="halved"
        )
    assert layer.kernel_initializer is constant
    assert type(layer.kernel_regularizer) is custom["Odd"]
    assert layer.kernel_constraint is custom["halved"]
    with pytest.raises(ValueError, match="unknown initializer 'mine'"):
        initializers.get("mine")


def test_functions_are_written_by_name_and_found_among_the_custom_objects() -> None:
    layer = layers.Dense(2, kernel_initializer=constant)
    data = to_data(serialize(layer), "")
    with pytest.raises(ValueError, match=r"the function 'constant' is not known; give it in custom_objects"):
        deserialize(data)
    with custom_object_scope({"constant": constant}):
        assert deserialize(data).kernel_initializer is constant
    with pytest.raises(TypeError, match="is not plain data"):
        to_data(serialize(layers.Dense(2, kernel_initializer=lambda shape, dtype: np.ones(shape, dtype))), "model")


def test_a_configuration_of_keras_fits() -> None:
    config = {
        "name": "dense", "trainable": True, "units": 3, "activation": "linear", "use_bias": True,
        "dtype": {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float64"}},
        "kernel_initializer": {"module": "keras.initializers", "class_name": "GlorotUniform", "registered_name": None,
                               "config": {"seed": 3, "input_axes": None, "output_axes": None}},
        "bias_initializer": {"module": "keras.initializers", "class_name": "Zeros", "config": {}},
        "kernel_constraint": {"module": "keras.constraints", "class_name": "MaxNorm",
                              "config": {"max_value": 2, "axis": 0}},
        "kernel_regularizer": None, "quantization_config": None,
    }  # fmt: skip
    layer = layers.Dense.from_config(config)
    assert (layer.dtype, layer.kernel_initializer.seed) == ("float64", 3)
    assert isinstance(layer.kernel_constraint, constraints.MaxNorm)
    with pytest.raises(TypeError, match="lora_rank"):
        layers.Dense.from_config({**config, "lora_rank": 4})
