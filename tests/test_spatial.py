"""What all layers over space have in common: inputs of which nothing is there give an empty result or a clear error,
and channels may come first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vivace import explain_kernels
from vivace import layers as L
from vivace._core import native
from vivace.layers import Layer
from vivace.models import Sequential
from vivace.step import Step

SIZES = (6, 5, 4)
FIRST = {"data_format": "channels_first"}


def of_rank(rank: int) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """The layers' names, arguments and options."""
    yield from ((f"{kind}{rank}D", (4, 3), {}) for kind in ("Conv", "SeparableConv") if rank < 3 or kind == "Conv")
    yield from ((f"Conv{rank}D", (4, 3), {"padding": "same", "strides": 2}), (f"Conv{rank}D", (4, 1), {}))
    yield from ((f"Conv{rank}DTranspose", (4, 3), {"padding": padding}) for padding in ("valid", "same"))
    yield from (
        (f"{kind}Pooling{rank}D", (2,), {"padding": p}) for kind in ("Max", "Average") for p in ("valid", "same")
    )
    yield from ((f"Global{kind}Pooling{rank}D", (), {}) for kind in ("Max", "Average"))
    yield from ((f"Adaptive{kind}Pooling{rank}D", (2,), {}) for kind in ("Max", "Average"))
    yield from ((f"UpSampling{rank}D", (2,), {}), (f"ZeroPadding{rank}D", (1,), {}), (f"Cropping{rank}D", (1,), {}))
    if rank < 3:
        yield f"DepthwiseConv{rank}D", (3,), {"depth_multiplier": 2}
    if rank == 2:
        yield from (("UpSampling2D", (2,), {"interpolation": kind}) for kind in ("bilinear", "lanczos3"))
        fits: list[dict[str, Any]] = [{}, {"crop_to_aspect_ratio": True}, {"pad_to_aspect_ratio": True}]
        yield from (("Resizing", (3, 4), {"interpolation": i, **fit}) for i in ("nearest", "bicubic") for fit in fits)
        yield from ((name, (2, 2), {}) for name in ("CenterCrop", "RandomCrop"))
        yield from (("RandomRotation", (0.2,), {"fill_mode": mode}) for mode in ("reflect", "wrap", "constant"))
        yield from (("RandomFlip", (), {}), ("RandomShear", (0.2, 0.2), {}), ("RandomZoom", (0.2,), {}))
        yield from ((name, (0.5,), {}) for name in ("RandomInvert", "RandomContrast", "RandomGrayscale", "RandomHue"))
        yield "SpatialDropout2D", (0.5,), {}


LAYERS = [
    (rank, *one, first)
    for rank in (1, 2, 3)
    for one in of_rank(rank)
    for first in ((False,) if one[0] == "Cropping1D" else (False, True))
]


def run(layer: Layer, shape: tuple[int, ...]) -> np.ndarray:
    """The output in training, as in inference; checks the announced shape and the gradients'."""
    x = np.ones(shape, "float32")
    inferred = layer(x)
    step = Step(training=True)
    y, saved = layer.forward(x, step)
    assert y.shape == inferred.shape == layer.compute_output_shape(shape)
    assert np.isfinite(y).all()
    dx = layer.backward(y.copy(), saved, step)
    assert dx is not None
    assert dx.shape == shape
    for weight in layer.trainable_weights:
        assert not weight.gradient.any()
    return y


@pytest.mark.parametrize(("rank", "name", "arguments", "options", "channels_first"), LAYERS, ids=str)
def test_nothing_there(rank: int, name: str, arguments: Any, options: Any, channels_first: bool) -> None:
    middle = SIZES[:rank]
    for empty in range(rank + 2):
        sizes = [0 if axis == empty else size for axis, size in enumerate((2, *middle, 3))]
        shape = (sizes[0], sizes[-1], *sizes[1:-1]) if channels_first else tuple(sizes)
        layer = getattr(L, name)(*arguments, **options, **(FIRST if channels_first else {}))
        refused = None
        try:
            y = run(layer, shape)
        except ValueError as error:
            refused = str(error)
        if refused is None:
            assert y.size == 0 or name.startswith("ZeroPadding")
        else:
            assert layer.name in refused
            assert empty > 0, shape  # no samples: no results


@pytest.mark.parametrize(("rank", "name", "arguments", "options"), [row[:4] for row in LAYERS if row[4]], ids=str)
def test_channels_that_come_first(rank: int, name: str, arguments: Any, options: Any, rng: np.random.Generator) -> None:
    """The same as with the channels last, but for the place of the channels: outputs and gradients."""
    seed = {"seed": 3} if name.startswith(("Random", "Spatial")) else {}
    last = getattr(L, name)(*arguments, **options, **seed, dtype="float64")
    first = getattr(L, name)(*arguments, **options, **seed, **FIRST, dtype="float64")
    x = rng.uniform(0, 255, (2, *SIZES[:rank], 3))
    turned = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    expected_y = last(x)
    y = first(turned)
    first.set_weights(last.get_weights())
    y = first(turned)
    assert y.shape == first.compute_output_shape(turned.shape)
    np.testing.assert_allclose(y, np.moveaxis(expected_y, -1, 1) if y.ndim > 2 else expected_y, rtol=1e-12)
    step, other = Step(training=True), Step(training=True)
    expected_y, expected_saved = last.forward(x, step)
    y, saved = first.forward(turned, other)
    np.testing.assert_allclose(y, np.moveaxis(expected_y, -1, 1) if y.ndim > 2 else expected_y, rtol=1e-12)
    dy = rng.standard_normal(expected_y.shape)
    turned_dy = np.ascontiguousarray(np.moveaxis(dy, -1, 1)) if dy.ndim > 2 else dy.copy()
    expected_dx, dx = last.backward(dy, expected_saved, step), first.backward(turned_dy, saved, other)
    assert expected_dx is not None
    assert dx is not None
    assert dx.flags.c_contiguous
    np.testing.assert_allclose(dx, np.moveaxis(expected_dx, -1, 1), rtol=1e-10, atol=1e-12)
    for one, two in zip(last.trainable_weights, first.trainable_weights, strict=True):
        np.testing.assert_allclose(one.gradient, two.gradient, rtol=1e-10, atol=1e-10)
    inferred = Sequential([first])
    np.testing.assert_allclose(inferred.predict(turned, verbose=0), first(turned), rtol=1e-12)


def test_the_way_of_channels_that_come_first_is_explained() -> None:
    texts: list[str] = []
    for shape, options in (((20, 24, 16), {}), ((16, 20, 24), FIRST)):
        model = Sequential([L.Input(shape), L.Conv2D(16, 3, name="a", **options), L.Conv2D(3, 1, name="b", **options)])
        explain_kernels(model, print_fn=texts.append)
    assert texts[0] == texts[1]
    assert "winograd" in texts[0]


def test_no_samples_for_a_fused_model() -> None:
    for channels in (1, 16):  # convolved with pooling in two ways
        model = Sequential([L.Conv2D(4, 3, activation="relu"), L.MaxPooling2D(), L.Flatten(), L.Dense(3)])
        model.build((None, 8, 8, channels))
        step = Step(training=True)
        y, saved = model.forward(np.empty((0, 8, 8, channels), "float32"), step)
        assert y.shape == (0, 3)
        dx = model.backward(y.copy(), saved, step)
        assert dx is not None
        assert dx.shape == (0, 8, 8, channels)
        assert not any(weight.gradient.any() for weight in model.weights)


def test_native_values_refuse_negative_sizes() -> None:
    zeros = ((0, 0),) * 3
    for sizes in ((-1, 1, 2, 2, 1), (1, 1, -2, -2, 1), (1, 1, 2, 2, -3)):
        with pytest.raises(ValueError, match=r"Margins: input must not have negative sizes, received \(-?1, 1, "):
            native.Margins(sizes, zeros)
    with pytest.raises(ValueError, match=r"margins must not be negative, received \(0, -1\)"):
        native.Margins((1, 1, 2, 2, 1), ((0, 0), (0, 0), (0, -1)))
    none = np.empty(0, np.int32), np.empty((0, 1))
    with pytest.raises(ValueError, match="must not have a negative number of inputs, received -2"):
        native.Resampling(1, [(-2, *none), (-2, *none)], 1)
    with pytest.raises(ValueError, match="channels must not be negative, received -1"):
        native.Resampling(1, [(2, *none)], -1)
    y = np.ones((1, 2, 2), "f4")
    native.resample(
        native.Resampling(1, [(0, np.zeros(2, np.int32), np.empty((2, 0)))], 2), np.empty((1, 0, 2), "f4"), y
    )
    assert not y.any()  # sums of nothing
