"""What users of Keras are used to: sizes that are not known when a model is made, arguments of earlier versions,
calls on single images and on lists of one, names of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vivace import layers as L
from vivace import losses, metrics, optimizers, utils
from vivace.models import Model, Sequential, clone_model

IMAGES, SEQUENCES = (None, None, 3), (None, 3)
CHAINS: dict[str, tuple[tuple[Any, ...], list[Any]]] = {
    "images": (
        IMAGES,
        [
            lambda: L.Conv2D(4, 3, activation="relu"),
            lambda: L.MaxPooling2D(2),
            lambda: L.SeparableConv2D(4, 3, padding="same"),
            lambda: L.UpSampling2D(),
            lambda: L.ZeroPadding2D(1),
            lambda: L.Cropping2D(1),
            lambda: L.Conv2DTranspose(3, 2, 2),
            lambda: L.DepthwiseConv2D(3),
            lambda: L.AveragePooling2D(2, padding="same"),
        ],
    ),
    "channels first": (
        (3, None, None),
        [
            lambda: L.Conv2D(4, 3, data_format="channels_first"),
            lambda: L.MaxPooling2D(2, data_format="channels_first"),
        ],
    ),
    "sequences": (
        SEQUENCES,
        [
            lambda: L.Conv1D(4, 3, strides=2),
            lambda: L.MaxPooling1D(2),
            lambda: L.Conv1DTranspose(2, 3, 2),
            lambda: L.DepthwiseConv1D(3, dilation_rate=2),
            lambda: L.ZeroPadding1D(2),
            lambda: L.LSTM(3, return_sequences=True),
        ],
    ),
    "volumes": (
        (None, 9, None, 3),
        [lambda: L.Conv3D(2, 3), lambda: L.MaxPooling3D(2), lambda: L.Conv3DTranspose(2, 2, 2)],
    ),
    "flat": (SEQUENCES, [lambda: L.Flatten()]),
}


@pytest.mark.parametrize("name", CHAINS)
def test_models_of_unknown_sizes_compute_as_those_of_known_ones(name: str, rng: np.random.Generator) -> None:
    shape, makers = CHAINS[name]
    model = Sequential([L.Input(shape), *(make() for make in makers)])
    model.summary(print_fn=lambda line: None)
    for size in (19, 24):
        sample = tuple(size if n is None else n for n in shape)
        x = rng.normal(size=(2, *sample)).astype("float32")
        known = Sequential([L.Input(sample), *(make() for make in makers)])
        known.set_weights(model.get_weights())
        y = model.predict(x, verbose=0)
        np.testing.assert_array_equal(y, known.predict(x, verbose=0))
        unknown = tuple(model.output_shape or ())
        assert len(unknown) == y.ndim
        assert all(n in (None, m) for n, m in zip(unknown, y.shape, strict=True))
        assert None in unknown[1:]
    if name != "flat":
        model.compile("sgd", "mse")
        for size in (19, 24):
            x = rng.normal(size=(2, *(size if n is None else n for n in shape))).astype("float32")
            before = model.get_weights()
            model.train_on_batch(x, np.zeros_like(model.predict(x, verbose=0)))
            assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


def test_channels_must_be_known() -> None:
    with pytest.raises(ValueError, match="the number of channels must be known"):
        L.Conv1D(3, 2)(L.Input((4, None)))
    with pytest.raises(ValueError, match=r"a shape holds integers and None, received \(3, 'a'\)"):
        L.Input((3, "a"))  # type: ignore[arg-type]


def test_a_sample_may_be_a_single_number() -> None:
    assert L.Input(()).shape == (None,)


def test_a_single_image_needs_no_batch(rng: np.random.Generator) -> None:
    x = rng.uniform(0, 255, (6, 7, 3)).astype("float32")
    for layer in (L.Resizing(3, 4), L.CenterCrop(2, 2), L.RandomFlip(seed=1), L.RandomContrast((0.0, 0.0))):
        np.testing.assert_array_equal(layer(x), layer(x[None])[0])
    assert L.RandomZoom(0.2)(x, training=True).shape == x.shape
    assert L.RandomCrop(2, 3)(x, training=True).shape == (2, 3, 3)
    with pytest.raises(ValueError, match="rank 4"):
        L.Resizing(3, 4)(x[0])


@pytest.mark.parametrize("kind", [L.Add, L.Multiply, L.Average, L.Maximum, L.Minimum, L.Concatenate])
def test_a_list_may_hold_a_single_input(kind: Any, rng: np.random.Generator) -> None:
    x = rng.normal(size=(4, 3)).astype("float32")
    np.testing.assert_array_equal(kind()([x]), x)
    i = L.Input((3,))
    model = Model(i, L.Dense(2)(kind()([i])))
    model.compile("sgd", "mse")
    model.fit(x, x[:, :2], verbose=0)
    assert clone_model(model).predict(x, verbose=0).shape == (4, 2)
    with pytest.raises(ValueError, match="takes a list of inputs"):
        kind()(x)


def test_everything_may_be_dropped(rng: np.random.Generator) -> None:
    x = rng.normal(size=(4, 3, 2)).astype("float32")
    for layer in (L.Dropout(1), L.Dropout(1.0, noise_shape=(None, 1, 2)), L.SpatialDropout1D(1)):
        assert not layer(x, training=True).any()
        np.testing.assert_array_equal(layer(x), x)
        model = Sequential([L.Input((3, 2)), L.Dense(2), layer])
        model.compile("sgd", "mse")
        before = model.get_weights()
        model.train_on_batch(x, x)
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"rate must lie in \[0, 1\]"):
        L.Dropout(1.1)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: L.Embedding(5, 3, input_length=4), "input_length"),
        (lambda: L.LeakyReLU(alpha=0.1), "alpha"),
        (lambda: L.LSTM(2, implementation=1), "implementation"),
        (lambda: L.InputLayer(input_shape=(3,)), "input_shape"),
        (lambda: L.InputLayer(batch_input_shape=(None, 3)), "batch_input_shape"),
        (lambda: optimizers.Adam(decay=0.1), "decay"),
    ],
)
def test_arguments_of_earlier_kerases_are_taken_with_a_warning(make: Any, argument: str) -> None:
    with pytest.warns(UserWarning, match=f"the argument {argument} is one of earlier versions of Keras"):
        made = make()
    assert argument not in made.get_config()
    assert type(made).from_config(made.get_config()).get_config() == made.get_config()
    if argument == "alpha":
        assert made.negative_slope == 0.1


def test_input_dim_stands_for_a_shape_of_one_axis() -> None:
    model = Sequential([L.Dense(4, input_dim=3), L.Dense(2)])
    assert model.built
    assert model.count_params() == 26
    assert "input_dim" not in model.layers[0].get_config()
    assert L.Embedding(5, 3).get_config()["input_dim"] == 5
    with pytest.raises(TypeError, match="no argument 'lr'"):
        optimizers.Adam(lr=0.1)


def test_one_weight_may_be_for_all_samples() -> None:
    t, y = np.ones((2, 3)), np.zeros((2, 3))
    assert losses.MeanSquaredError()(t, y, 0.5) == 0.5
    assert losses.MeanSquaredError(reduction="sum")(t, y, 2) == 4


def test_categories_may_count_for_more_than_one() -> None:
    x, w = np.array([[0, 1, 1], [2, 2, 0]]), np.array([[0.5, 1, 2], [1, 1, 3]])
    encoded = L.CategoryEncoding(3, "count")(x, count_weights=w)
    np.testing.assert_array_equal(encoded, [[0.5, 3, 0], [3, 0, 2]])
    with pytest.raises(ValueError, match="count_weights need output_mode='count'"):
        L.CategoryEncoding(3)(x, count_weights=w)


def test_weights_go_by_keras_names() -> None:
    layer = L.BatchNormalization(name="norm")
    layer(np.ones((2, 3)))
    for kind in ("", "trainable_", "non_trainable_"):
        assert [w.path for w in getattr(layer, f"{kind}variables")] == [
            f"norm/{w.name}" for w in getattr(layer, f"{kind}weights")
        ]
    assert (layer.compute_dtype, layer.variable_dtype) == ("float32", "float32")
    gamma = layer.variables[0]
    assert (gamma.path, gamma.dtype, gamma.ndim) == ("norm/gamma", "float32", 1)
    gamma.assign_add([1, 2, 3])
    gamma.assign_sub(0.5)
    copy = gamma.numpy()
    np.testing.assert_array_equal(copy, [1.5, 2.5, 3.5])
    copy[0] = 7
    np.testing.assert_array_equal(layer.get_weights()[0], [1.5, 2.5, 3.5])


def test_shapes_that_only_keras_could_have_thought_of() -> None:
    accuracy = metrics.sparse_categorical_accuracy
    for labels, scores, expected in (((5,), 3, (5,)), ((5, 1), 3, (5,)), ((5, 1, 1), 2, (5, 1))):
        rows = labels[: max(1, len(labels) - 1)]
        assert accuracy(np.zeros(labels), np.ones((*rows, scores))).shape == expected
    np.testing.assert_allclose(utils.normalize(np.array([3.0, 4.0])), [[0.6, 0.8]])
    np.testing.assert_allclose(utils.normalize([[3.0, 0.0], [4.0, 0.0]], axis=0), [[0.6, 0], [0.8, 0]])
