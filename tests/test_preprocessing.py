"""Preprocessing: scaling, images and their random changes, lookups; numbers as Keras gives them."""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from helpers import distinct
from layer_checks import check_gradients, output
from vivace.layers import (
    AutoContrast,
    CategoryEncoding,
    CenterCrop,
    Dense,
    Discretization,
    Equalization,
    Flatten,
    Input,
    IntegerLookup,
    Normalization,
    RandomBrightness,
    RandomColorDegeneration,
    RandomColorJitter,
    RandomContrast,
    RandomCrop,
    RandomFlip,
    RandomGrayscale,
    RandomHue,
    RandomInvert,
    RandomPosterization,
    RandomRotation,
    RandomSaturation,
    RandomShear,
    RandomTranslation,
    RandomZoom,
    Rescaling,
    Resizing,
    Solarization,
    StringLookup,
    augmentation,
    images,
    reshaping,
    tones,
)
from vivace.models import Sequential
from vivace.step import Step

F64: dict[str, Any] = {"dtype": "float64"}
RANDOM = [
    lambda **k: RandomFlip(**k),
    lambda **k: RandomRotation(0.3, **k),
    lambda **k: RandomZoom((-0.5, 0.3), **k),
    lambda **k: RandomTranslation(0.3, 0.2, **k),
    lambda **k: RandomBrightness(0.2, (-9, 9), **k),
    lambda **k: RandomContrast(0.4, (-9, 9), **k),
    lambda **k: RandomShear(0.3, (0.1, 0.2), **k),
    lambda **k: RandomInvert((0.5, 0.5), (-9, 9), **k),
    lambda **k: RandomGrayscale(0.7, **k),
    lambda **k: RandomColorDegeneration(0.9, (-9, 9), **k),
    lambda **k: RandomHue((0.1, 0.5), (-9, 9), **k),
    lambda **k: RandomSaturation((0.2, 0.7), (-9, 9), **k),
    lambda **k: Solarization(0.3, (0.2, 0.8), (-9, 9), **k),
    lambda **k: RandomPosterization(4, (-9, 9), **k),
    lambda **k: RandomColorJitter((-9, 9), 0.1, 0.4, (0.2, 0.7), 0.3, **k),
]


@pytest.mark.parametrize(
    "layer",
    [
        lambda: Rescaling(0.5, 2, **F64),
        lambda: Rescaling([1, 2, 3], [0, 1, 0], **F64),
        lambda: Normalization(mean=[1, 2, 3], variance=[4, 1, 9], **F64),
        lambda: Normalization(axis=None, mean=1, variance=4, invert=True, **F64),
        lambda: Resizing(3, 7, **F64),
        lambda: Resizing(6, 2, "nearest", crop_to_aspect_ratio=True, **F64),
        lambda: CenterCrop(3, 2, **F64),
        lambda: CenterCrop(7, 2, **F64),
        lambda: AutoContrast((-2, 3), **F64),
        lambda: AutoContrast((-2, 3), data_format="channels_first", **F64),
        lambda: Resizing(3, 7, data_format="channels_first", **F64),
    ],
)
def test_gradients(layer: Any, rng: Any) -> None:
    check_gradients(layer(), distinct(rng, (2, 4, 5, 3), "float64"), rng)


@pytest.mark.parametrize("make", [*RANDOM, lambda **k: RandomCrop(2, 3, **k)])
@pytest.mark.parametrize("options", [{}, {"data_format": "channels_first"}])
def test_gradients_of_random_layers(make: Any, options: Any, rng: Any) -> None:
    """All but colors are linear in x, but for offsets and corners, while the same numbers are drawn."""
    x, layer = rng.standard_normal((2, 3, 4, 5) if options else (2, 4, 5, 3)), make(seed=3, **F64, **options)
    again = make(seed=3, **F64, **options)
    step = Step(True)
    y, saved = layer.forward(x, step)
    dy = rng.standard_normal(y.shape)
    dx = layer.backward(dy.copy(), saved, step)
    curved = isinstance(layer, (RandomHue, RandomSaturation, RandomColorJitter))
    change = rng.standard_normal(x.shape) * (1e-6 if curved else 1e-3)
    other, _ = again.forward(x + change, Step(True))
    np.testing.assert_allclose(((other - y) * dy).sum(), (change * dx).sum(), rtol=1e-5 if curved else 1e-8)


@pytest.mark.parametrize("make", RANDOM)
def test_random_layers_act_in_training_only(make: Any, rng: Any) -> None:
    layer, x = make(seed=1), rng.standard_normal((6, 8, 9, 3)).astype("f4")
    np.testing.assert_array_equal(output(layer, x), x)
    first, second = output(layer, x, True), output(layer, x, True)
    assert (first != x).any()
    assert (first != second).any()
    np.testing.assert_array_equal(output(make(seed=1), x, True), first)


@pytest.mark.parametrize("make", [*RANDOM, lambda **k: RandomCrop(3, 2, **k), lambda **k: CenterCrop(3, 4, **k)])
def test_the_place_of_the_channels_changes_nothing(make: Any, rng: Any) -> None:
    x = rng.standard_normal((6, 5, 7, 3))
    options: dict[str, Any] = (
        F64 if isinstance(make(), CenterCrop) and not isinstance(make(), RandomCrop) else F64 | {"seed": 4}
    )
    last, first = make(**options), make(data_format="channels_first", **options)
    y, saved = last.forward(x, step := Step(True))
    z, saved_first = first.forward(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), step_first := Step(True))
    np.testing.assert_allclose(z.transpose(0, 2, 3, 1), y, rtol=1e-12, atol=1e-13)
    dy = rng.standard_normal(y.shape)
    dz = np.ascontiguousarray(dy.transpose(0, 3, 1, 2))
    dx, dx_first = last.backward(dy, saved, step), first.backward(dz, saved_first, step_first)
    assert dx_first is not None
    np.testing.assert_allclose(dx_first.transpose(0, 2, 3, 1), dx, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("layer", "attribute", "value"),
    [
        (lambda **k: RandomRotation(0.3, "wrap", **k), "fill_mode", "constant"),
        (lambda **k: RandomTranslation(0.3, 0.3, **k), "interpolation", "nearest"),
        (lambda **k: RandomZoom((0.3, 0.3), **k), "height_factor", (0.5, 0.5)),
        (lambda **k: RandomFlip(**k), "mode", "vertical"),
        (lambda **k: RandomBrightness(0.5, (0, 1), **k), "value_range", (-1, 1)),
        (lambda **k: RandomCrop(3, 3, **k), "height", 2),
    ],
)
def test_an_attribute_counts_from_the_next_call_on(layer: Any, attribute: str, value: Any, rng: Any) -> None:
    x = rng.uniform(-1, 1, (4, 6, 5, 2)).astype("f4")
    changed, fresh = layer(seed=2), layer(seed=2)
    changed(x, training=True)
    fresh.stream.next()
    setattr(changed, attribute, value)
    setattr(fresh, attribute, value)
    np.testing.assert_array_equal(changed(x, training=True), expected := fresh(x, training=True))
    same = layer(seed=2)
    same.stream.next()
    before = same(x, training=True)
    assert before.shape != expected.shape or (before != expected).any()


@pytest.mark.parametrize("make", [CenterCrop, RandomCrop])
@pytest.mark.parametrize("height", [2, 9])
def test_a_crop_of_another_size_counts_from_the_next_call_on(make: Any, height: int, rng: Any) -> None:
    x, layer = rng.standard_normal((2, 6, 5, 3)).astype("f4"), make(3, 4)
    for training in (False, True):
        layer(x, training=training)
    layer.height = height
    for training in (False, True):
        assert layer(x, training=training).shape == layer.compute_output_shape(x.shape) == (2, height, 4, 3)
    np.testing.assert_array_equal(layer(x), make(height, 4)(x))


@pytest.mark.parametrize("make", RANDOM)
def test_no_channels_are_no_work(make: Any) -> None:
    layer = make(seed=1)
    channels = (3,) if isinstance(layer, RandomColorJitter) else getattr(layer, "channels", (0,))
    if 0 in channels:
        assert output(layer, np.zeros((2, 4, 5, 0), "f4"), True).shape == (2, 4, 5, 0)


@pytest.mark.parametrize("make", [*RANDOM, lambda **k: RandomCrop(2, 3, **k)])
def test_one_image_is_changed_as_a_batch_of_one(make: Any, rng: Any) -> None:
    x = rng.standard_normal((5, 6, 3)).astype("f4")
    layer, again = make(seed=3), make(seed=3)
    for training in (True, False, True):
        y = layer(x, training=training)
        np.testing.assert_array_equal(y, again(x[None], training=training)[0])
        assert y.base is None or not np.shares_memory(y, x)


@pytest.fixture
def _every_level(core: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (augmentation, images, reshaping, tones):
        monkeypatch.setattr(module, "native", core)


@pytest.mark.usefixtures("_every_level")
def test_known_movements() -> None:
    x = np.arange(12, dtype="f4").reshape(1, 3, 4, 1)
    image = x[0, ..., 0]
    shifted = output(RandomTranslation((1 / 3, 1 / 3), (-0.25, -0.25), "constant", fill_value=-1), x, True)[0, ..., 0]
    np.testing.assert_allclose(shifted, np.pad(image, ((1, 0), (0, 1)), constant_values=-1)[:3, 1:], atol=1e-5)
    square = np.arange(9, dtype="f4").reshape(1, 3, 3, 1)
    quarter = output(RandomRotation((0.25, 0.25)), square, True)[0, ..., 0]
    np.testing.assert_allclose(quarter, np.rot90(square[0, ..., 0]), atol=1e-5)  # counterclockwise
    wrapped = output(RandomTranslation(0.0, (0.5, 0.5), "wrap"), x, True)[0, ..., 0]
    np.testing.assert_allclose(wrapped, np.roll(image, 2, 1), atol=1e-5)
    reflected = output(RandomTranslation((2 / 3, 2 / 3), 0.0), x, True)[0, ..., 0]
    np.testing.assert_allclose(reflected, image[[1, 0, 0]], atol=1e-5)
    flips = output(RandomFlip("horizontal", seed=1), np.repeat(x, 40, 0), True)[..., 0]
    kinds = {("same" if (f == image).all() else "mirrored" if (f == image[:, ::-1]).all() else "other") for f in flips}
    assert kinds == {"same", "mirrored"}


@pytest.mark.usefixtures("_every_level")
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("fill_mode", ["reflect", "wrap", "nearest", "constant"])
def test_a_shift_equals_padding_and_slicing(interpolation: str, fill_mode: str, rng: Any) -> None:
    x = rng.standard_normal((1, 8, 4, 3)).astype("f4")
    mode: dict[str, Any] = {"reflect": {"mode": "symmetric"}, "wrap": {"mode": "wrap"}, "nearest": {"mode": "edge"}}
    wide = np.pad(x[0], ((2, 2), (2, 2), (0, 0)), **mode.get(fill_mode, {"constant_values": 2}))
    # down and to the left by 1 1/4 pixels
    far = 0.25 if interpolation == "bilinear" else 0.0
    rows = far * wide[0:8] + (1 - far) * wide[1:9]
    expected = far * rows[:, 4:8] + (1 - far) * rows[:, 3:7]
    shift = RandomTranslation((1.25 / 8,) * 2, (-1.25 / 4,) * 2, fill_mode, interpolation, fill_value=2.0)
    np.testing.assert_allclose(output(shift, x, True)[0], expected, atol=1e-6)


@pytest.mark.usefixtures("_every_level")
def test_resizing_and_cropping() -> None:
    x = np.arange(24, dtype="f4").reshape(1, 4, 6, 1)
    np.testing.assert_array_equal(output(CenterCrop(2, 3), x)[0, ..., 0], x[0, 1:3, 1:4, 0])
    np.testing.assert_array_equal(output(Resizing(2, 3, "nearest"), x)[0, ..., 0], x[0, 1::2, 1::2, 0])
    np.testing.assert_allclose(output(Resizing(2, 3), x)[0, ..., 0], x.reshape(2, 2, 3, 2).mean((1, 3)))
    np.testing.assert_array_equal(output(Resizing(4, 4, crop_to_aspect_ratio=True), x)[0, ..., 0], x[0, :, 1:5, 0])
    crop = output(RandomCrop(2, 2, seed=1), x, True)[0, ..., 0]
    assert crop[0, 1] == crop[0, 0] + 1
    assert crop[1, 0] == crop[0, 0] + 6
    assert output(RandomCrop(2, 2), x).shape == (1, 2, 2, 1)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"])
@pytest.mark.parametrize("options", [{}, {"antialias": True}, {"pad_to_aspect_ratio": True, "fill_value": 0.5}])
def test_resizing_keeps_what_is_even(interpolation: str, options: Any, rng: Any) -> None:
    layer = Resizing(3, 7, interpolation, **options, **F64)
    y = output(layer, np.full((2, 5, 4, 2), 0.5))
    np.testing.assert_allclose(y, np.full((2, 3, 7, 2), 0.5), rtol=1e-12)
    check_gradients(Resizing(3, 7, interpolation, **options, **F64), rng.standard_normal((2, 5, 4, 2)), rng)


def test_padding_to_the_aspect_ratio_keeps_proportions() -> None:
    x = np.arange(8, dtype="f4").reshape(1, 4, 2, 1)
    y = output(Resizing(4, 4, pad_to_aspect_ratio=True, fill_value=-1), x)[0, ..., 0]
    np.testing.assert_array_equal(y, np.pad(x[0, ..., 0], ((0, 0), (1, 1)), constant_values=-1))
    shrunk = output(Resizing(1, 2, antialias=True), x)  # every row has its share
    assert 2 < shrunk[0, 0, 0, 0] < 4
    with pytest.raises(ValueError, match="only one of crop_to_aspect_ratio"):
        Resizing(2, 2, crop_to_aspect_ratio=True, pad_to_aspect_ratio=True)


@pytest.mark.parametrize(
    ("axis", "shape"), [(None, (3, 4)), (-1, (5, 4, 3)), (1, (2, 3, 4)), ((1, 2), (2, 3, 4)), ((1, 3), (2, 3, 4, 5))]
)
@pytest.mark.parametrize("invert", [False, True])
def test_normalization_of_any_axes(axis: Any, shape: Any, invert: bool, rng: Any) -> None:
    kept = () if axis is None else (axis,) if isinstance(axis, int) else axis
    thin = [n if i in [k % len(shape) for k in kept] else 1 for i, n in enumerate(shape)]
    mean, variance, x = rng.standard_normal(thin), rng.uniform(0.5, 2, thin), rng.standard_normal(shape)
    sizes = [shape[k] for k in kept]
    layer = Normalization(axis, mean.reshape(sizes), variance.reshape(sizes), invert, **F64)
    expected = x * np.sqrt(variance) + mean if invert else (x - mean) / np.sqrt(variance)
    np.testing.assert_allclose(output(layer, x), expected, rtol=1e-13, atol=1e-14)
    check_gradients(layer, x, rng)


def test_rescaling_by_numbers_of_several_axes(rng: Any) -> None:
    x, scale, offset = rng.standard_normal((2, 3, 4)), rng.standard_normal((3, 1)), rng.standard_normal(4)
    layer = Rescaling(scale, offset, **F64)
    np.testing.assert_allclose(output(layer, x), x * scale + offset, rtol=1e-13, atol=1e-14)
    check_gradients(layer, x, rng)
    layer.offset = 1
    np.testing.assert_allclose(output(layer, x), x * scale + 1, rtol=1e-13, atol=1e-14)


@pytest.mark.usefixtures("_every_level")
def test_tones() -> None:
    x = np.arange(8, dtype="f4").reshape(1, 2, 2, 2)
    np.testing.assert_allclose(output(RandomBrightness((0.5, 0.5), (0, 10)), x, True), np.minimum(x + 5, 10))
    y = output(RandomContrast((0.0, 0.0), (-9, 9)), x, True)
    np.testing.assert_allclose(y, x, rtol=1e-5)
    y = output(RandomContrast(0.5, (-99, 99), seed=2), x, True)
    np.testing.assert_allclose(y.mean((1, 2)), x.mean((1, 2)), rtol=1e-5)


@pytest.mark.usefixtures("_every_level")
def test_colors(rng: Any) -> None:
    x = rng.uniform(-1, 1, (40, 3, 5, 3)).astype("f4")
    gray = np.repeat(x @ np.array([0.2989, 0.587, 0.114], "f4")[:, None], 3, -1)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    close(output(RandomGrayscale(1.0), x, True), gray)
    close(output(RandomColorDegeneration((0.25, 0.25), (-1, 1)), x, True), 0.75 * x + 0.25 * gray)
    close(output(RandomInvert((1.0, 1.0), (-1, 1)), x, True), 1 - x)
    close(output(Solarization(value_range=(-1, 1)), x, True), -x)  # all lie above the threshold
    bright = np.minimum(x + 0.5, 1)
    close(output(Solarization((0.25, 0.25), (0.6, 0.6), (-1, 1)), x, True), np.where(bright < 0.2, bright, -bright))
    tripled = output(
        RandomHue((2 / 3, 2 / 3), (-1, 1), seed=1), x, True
    )  # a third of a circle: the channels change places
    close(np.sort(tripled, -1), np.sort(x, -1), atol=1e-5)
    assert {tuple(np.argsort(one)) for one in (x[0, 0, 0], tripled[0, 0, 0])} != {tuple(np.argsort(x[0, 0, 0]))}
    close(output(RandomSaturation((0.5, 0.5)), np.abs(x), True), np.abs(x), atol=1e-5)
    close(output(RandomSaturation((0.0, 0.0)), np.abs(x), True), np.repeat(np.abs(x).max(-1, keepdims=True), 3, -1))
    for layer, other in ((RandomGrayscale(0.4, seed=1), gray), (RandomInvert((0.4, 0.4), (-1, 1), seed=1), 1 - x)):
        changed = [np.allclose(a, b, atol=1e-6) for a, b in zip(output(layer, x, True), other, strict=True)]
        same = [(a == b).all() for a, b in zip(output(layer, x), x, strict=True)]
        assert all(same)
        assert 5 < sum(changed) < 28
    with pytest.raises(ValueError, match="RandomGrayscale\\) takes images of 1 or 3 channels, not 2"):
        RandomGrayscale()(x[..., :2])


def equalized(x: np.ndarray, bins: int, low: float, high: float) -> np.ndarray:
    v = (x - low) / (high - low) * 255
    bin_of = np.clip(v * (bins - 1) / 255, 0, bins - 1).astype(int)
    up_to = np.bincount(bin_of.ravel(), minlength=bins).cumsum()
    first = up_to[up_to > 0][0]
    return np.round((up_to[bin_of] - first) * 255 / (x.size - first)) / 255 * (high - low) + low


@pytest.mark.parametrize("options", [{}, {"data_format": "channels_first"}])
@pytest.mark.parametrize(("low", "high"), [(0, 255), (-1, 2)])
def test_even_contrasts(options: Any, low: float, high: float, rng: Any) -> None:
    x = rng.uniform(low, high, (2, 3, 40, 50)) * 0.7 + 0.1 * (high - low)
    x[1, 1] = 0.5  # stays
    layers: list[Any] = [AutoContrast((low, high), **options, **F64), Equalization((low, high), 60, **options, **F64)]
    for layer in layers:
        turned = x if options else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        step = Step(True)
        y, saved = layer.forward(turned, step)
        dx = layer.backward(np.ones_like(y), saved, step)
        images = y if options else y.transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(images[1, 1], x[1, 1])
        for channel, got in zip(x.reshape(6, -1)[[0, 1, 2, 3, 5]], images.reshape(6, -1)[[0, 1, 2, 3, 5]], strict=True):
            if isinstance(layer, AutoContrast):
                expected = (channel - channel.min()) / np.ptp(channel) * (high - low) + low
            else:
                expected = equalized(channel, 60, low, high)
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12 * (high - low))
        assert isinstance(layer, AutoContrast) or not dx.any()
        np.testing.assert_array_equal(layer(turned), y)
        np.testing.assert_array_equal(layer(turned[1]), y[1])
    x[0, 0, 0, 0] = np.nan
    first = AutoContrast((low, high), data_format="channels_first", **F64)
    np.testing.assert_array_equal(first(x)[0, 0], x[0, 0])


def test_posterization_keeps_the_first_bits() -> None:
    x = np.arange(256.0).reshape(1, 16, 16, 1)
    for bits in (1, 3, 8):
        kept = np.arange(256) >> 8 - bits << 8 - bits
        np.testing.assert_array_equal(output(RandomPosterization((bits, bits), **F64), x, True).ravel(), kept)
        y = output(RandomPosterization((bits, bits), (-1, 1), **F64), (x + 0.5) / 127.5 - 1, True)
        np.testing.assert_allclose(y.ravel(), kept / 127.5 - 1, rtol=1e-12, atol=1e-12)
    many = output(RandomPosterization(3, seed=2), np.full((200, 1, 1, 1), 255, "f4"), True)
    assert set(many.ravel()) == {128.0, 192.0}  # one bit or two


def test_color_jitter_is_its_parts(rng: Any) -> None:
    x = rng.uniform(0, 1, (5, 6, 7, 3))
    whole = RandomColorJitter((0, 1), (0.1, 0.1), None, (0.3, 0.3), None, seed=3, **F64)
    expected = RandomBrightness((0.1, 0.1), (0, 1), **F64)(x, training=True)
    expected = RandomSaturation((0.3, 0.3), (0, 1), **F64)(expected, training=True)
    np.testing.assert_array_equal(whole(x, training=True), expected)
    np.testing.assert_array_equal(RandomColorJitter(**F64)(x, training=True), x)
    both = RandomColorJitter((-9, 9), 0.5, 0.5, seed=3, **F64)  # of numbers of their own
    first, second = both._changes
    assert first.stream is second.stream is both.stream


def test_normalization_adapts(rng: Any) -> None:
    x = rng.standard_normal((50, 4, 3)).astype("f4") * [1, 2, 3] + [5, 0, -5]
    layer = Normalization(**F64)
    layer.adapt(x)
    y = output(layer, x)
    np.testing.assert_allclose(y.mean((0, 1)), 0, atol=1e-6)
    np.testing.assert_allclose(y.std((0, 1)), 1, rtol=1e-6)
    one = Normalization(axis=None, **F64)
    one.adapt(x)
    np.testing.assert_allclose(output(one, x), (x - x.mean()) / x.std(), rtol=1e-5, atol=1e-6)
    back = Normalization(mean=[5, 0, -5], variance=[1, 4, 9], invert=True, **F64)
    np.testing.assert_allclose(output(back, (x - [5, 0, -5]) / [1, 2, 3]), x, rtol=1e-6, atol=1e-6)
    assert not layer.trainable_weights
    assert [w.shape for w in layer.get_weights()] == [(3,), (3,), ()]


def test_a_model_with_augmentation_trains(rng: Any) -> None:
    model = Sequential([Input((8, 8, 1)), Rescaling(1 / 255), RandomFlip("horizontal"), RandomRotation(0.05), Flatten(),
                        Dense(2, "softmax")])  # fmt: skip
    model.compile("adam", "sparse_categorical_crossentropy")
    y = rng.integers(0, 2, 64)
    x = rng.integers(0, 50, (64, 8, 8, 1)) + 200 * y[:, None, None, None]
    model.fit(x, y, batch_size=8, epochs=80, verbose=0)
    assert (model.predict(x, verbose=0).argmax(1) == y).mean() > 0.95


def test_string_lookup() -> None:
    data = [["b", "a", "c"], ["a", "b", "zz"], ["b", "", ""]]
    asked = [["a", "q", ""], ["c", "x", "b"]]
    plain = StringLookup()
    plain.adapt(data)
    assert plain.get_vocabulary() == ["[UNK]", "b", "a", "", "zz", "c"]
    np.testing.assert_array_equal(plain(asked), [[2, 0, 3], [5, 0, 1]])
    masked = StringLookup(mask_token="")
    masked.adapt(data)
    assert masked.get_vocabulary() == ["", "[UNK]", "b", "a", "zz", "c"]
    np.testing.assert_array_equal(masked(asked), [[3, 1, 0], [5, 1, 2]])
    short = StringLookup(max_tokens=3)
    short.adapt(data)
    np.testing.assert_array_equal(short(asked), [[2, 0, 0], [0, 0, 1]])
    words = ["a", "b"]
    np.testing.assert_array_equal(
        StringLookup(vocabulary=words, output_mode="multi_hot")([["a", "q"], ["b", "b"]]), [[1, 1, 0], [0, 0, 1]]
    )
    np.testing.assert_array_equal(
        StringLookup(vocabulary=words, output_mode="count", mask_token="")([["a", "q", "a", ""]]), [[1, 2, 0]]
    )
    one_hot = StringLookup(vocabulary=words, output_mode="one_hot")(["a", "q"])
    np.testing.assert_array_equal(one_hot, [[0, 1, 0], [1, 0, 0]])
    back = StringLookup(vocabulary=words, invert=True, mask_token="")
    assert back([[0, 1, 2, 3, 9]]).tolist() == [["", "[UNK]", "a", "b", "[UNK]"]]
    assert StringLookup(vocabulary=plain.get_vocabulary()).get_vocabulary() == plain.get_vocabulary()


def test_integer_lookup() -> None:
    layer = IntegerLookup()
    layer.adapt([[5, 5, 7], [7, 5, -2]])
    assert layer.get_vocabulary() == [-1, 5, 7, -2]
    np.testing.assert_array_equal(layer([5, 7, -2, 9]), [1, 2, 3, 0])
    several = IntegerLookup(vocabulary=[10, 20], num_oov_indices=3, mask_token=0)
    np.testing.assert_array_equal(several([10, 20, 0, 5, 6, 7, 8]), [4, 5, 0, 3, 1, 2, 3])
    np.testing.assert_array_equal(IntegerLookup(vocabulary=[10, 20], invert=True)([0, 1, 2]), [-1, 10, 20])


def test_discretization_and_category_encoding() -> None:
    x = np.array([[-1.5, 1.0, 3.4, 0.5], [0.0, 3.0, 1.3, 0.0]])
    np.testing.assert_array_equal(Discretization([0.0, 1.0, 2.0])(x), [[0, 2, 3, 1], [1, 3, 2, 1]])
    for bins, data, expected in (
        (4, x, [0.0, 0.5, 1.3]),
        (3, np.arange(10.0) ** 2, [5.666666, 32.333332]),
        (5, np.arange(1000.0), [198.99983, 398.99982, 598.99994, 798.99994]),
    ):
        layer = Discretization(num_bins=bins)
        layer.adapt(data)
        np.testing.assert_allclose(layer.bin_boundaries, expected, rtol=1e-5)
    np.testing.assert_array_equal(CategoryEncoding(4)([[0, 2, 2], [3, 1, 0]]), [[1, 0, 1, 0], [1, 1, 0, 1]])
    np.testing.assert_array_equal(CategoryEncoding(4, "count")([[0, 2, 2]]), [[1, 0, 2, 0]])
    np.testing.assert_array_equal(CategoryEncoding(3, "one_hot")([[2], [0]]), [[0, 0, 1], [1, 0, 0]])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Resizing(0, 3), "height must be an integer >= 1, received 0"),
        (lambda: Resizing(3, 3, "cubic"), "lanczos3, lanczos5, received 'cubic'"),
        (lambda: RandomShear(-0.1), r"x_factor must be in \[0, 1\], received -0.1"),
        (lambda: RandomInvert(1.5), r"factor must be a number or two in \[0, 1\], received 1.5"),
        (lambda: RandomPosterization(9), r"factor must be an integer or two in \[1, 8\], received 9"),
        (lambda: AutoContrast((1, 1)), r"value_range must be \(lower, upper\), received \(1, 1\)"),
        (lambda: Equalization(bins=0), "bins must be an integer >= 1, received 0"),
        (lambda: RandomColorJitter(hue_factor=0.1).build_once((None, 3, 3, 1)), "takes images of 3 channels, not 1"),
        (lambda: RandomGrayscale(-1), r"factor must lie in \[0, 1\], received -1"),
        (lambda: Solarization(0.1, (0.2, 2)), r"threshold_factor must be a number or two in \[0, 1\]"),
        (lambda: Rescaling("x"), "scale must be a number, or one for each channel, received 'x'"),
        (lambda: RandomFlip("diagonal"), "mode must be 'horizontal', 'vertical'"),
        (lambda: RandomRotation(0.1, fill_mode="black"), "fill_mode must be 'reflect' or"),
        (lambda: RandomZoom((-2, 1)), "height_factor must be a number or two, at least -1.0"),
        (lambda: RandomContrast(2), r"factor must be a number in \[0, 1\]"),
        (lambda: RandomBrightness(0.1, (3, 3)), r"value_range must be \(lower, upper\)"),
        (lambda: Normalization(mean=1), "give mean and variance, or neither"),
        (lambda: Normalization(axis=5).build_once((None, 3)), "axis .* is out of bounds"),
        (lambda: StringLookup()(["a"]), r"call adapt\(data\) first"),
        (lambda: StringLookup(vocabulary=["a"], num_oov_indices=0)(["b"]), "'b' is not in the vocabulary"),
        (lambda: StringLookup(vocabulary=["a", "a"]), "holds a token twice"),
        (lambda: StringLookup(output_mode="tf"), "output_mode must be int, one_hot, multi_hot, count"),
        (lambda: CategoryEncoding(3)([[3]]), "integers must lie below 3, received 3"),
        (lambda: CategoryEncoding(3)([[-1]]), "integers must not be negative, received -1"),
        (lambda: Discretization(), "give either bin_boundaries or num_bins"),
    ],
)
def test_bad_input(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()
