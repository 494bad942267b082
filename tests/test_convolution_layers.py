"""Convolution and pooling layers of every rank against NumPy, their gradients, and the depthwise kernels."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from helpers import distinct, integers
from layer_checks import check_gradients, output
from vivace import config, layers
from vivace.layers import (
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    DepthwiseConv1D,
    DepthwiseConv2D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    GlobalMaxPooling3D,
    Layer,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
    SeparableConv1D,
    SeparableConv2D,
)

F64: dict[str, Any] = {"dtype": "float64"}


def same(size: int, window: int, stride: int) -> tuple[int, int]:
    total = max(0, (-(-size // stride) - 1) * stride + window - size)
    return total // 2, total - total // 2


def convolve(x: Any, kernel: Any, strides: Any, pads: Any, dilation: Any, groups: int = 1) -> np.ndarray:
    """Convolution of any rank, straight from the formula: one product for each element of the window."""
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    axes = range(len(strides))
    outputs = [(x.shape[1 + a] - (kernel.shape[a] - 1) * dilation[a] - 1) // strides[a] + 1 for a in axes]
    y = np.zeros((len(x), *outputs, kernel.shape[-1]))
    cg, og = kernel.shape[-2], kernel.shape[-1] // groups
    for tap in itertools.product(*(range(kernel.shape[a]) for a in axes)):
        window = tuple(
            slice(tap[a] * dilation[a], tap[a] * dilation[a] + (outputs[a] - 1) * strides[a] + 1, strides[a])
            for a in axes
        )
        part = x[(slice(None), *window)]
        for g in range(groups):
            y[..., g * og : (g + 1) * og] += part[..., g * cg : (g + 1) * cg] @ kernel[tap][:, g * og : (g + 1) * og]
    return y


CASES = [
    (Conv1D, (11,), {"kernel_size": 3}),
    (Conv1D, (11,), {"kernel_size": 4, "padding": "same", "strides": 2}),
    (Conv1D, (10,), {"kernel_size": 3, "padding": "causal", "dilation_rate": 2, "groups": 2}),
    (Conv2D, (7, 8), {"kernel_size": (3, 2), "strides": (2, 1), "padding": "same", "groups": 4}),
    (Conv3D, (4, 5, 6), {"kernel_size": (2, 3, 2)}),
    (Conv3D, (7, 5, 6), {"kernel_size": 3, "strides": (3, 2, 1), "padding": "same"}),
    (Conv3D, (6, 5, 4), {"kernel_size": (3, 2, 2), "dilation_rate": (2, 1, 2), "padding": "same", "groups": 2}),
    (Conv3D, (5, 3, 3), {"kernel_size": (2, 1, 3), "strides": (2, 1, 1)}),
]


@pytest.mark.parametrize(("kind", "size", "options"), CASES)
@pytest.mark.parametrize("channels_first", [False, True])
def test_convolution(kind: Any, size: Any, options: Any, channels_first: bool, rng: Any) -> None:
    form = "channels_first" if channels_first else None
    layer = kind(8, **options, data_format=form, **F64)
    rank = len(size)
    x = rng.standard_normal((2, *size, 4))
    y = output(layer, np.ascontiguousarray(np.moveaxis(x, -1, 1)) if channels_first else x)
    strides, dilation = layer.strides, layer.dilation_rate
    windows = [(layer.kernel_size[a] - 1) * dilation[a] + 1 for a in range(rank)]
    pads = [(0, 0)] * rank
    if layer.padding == "same":
        pads = [same(size[a], windows[a], strides[a]) for a in range(rank)]
    elif layer.padding == "causal":
        pads = [(windows[0] - 1, 0)]
    expected = convolve(x, layer.get_weights()[0], strides, pads, dilation, layer.groups)
    np.testing.assert_allclose(np.moveaxis(y, 1, -1) if channels_first else y, expected, rtol=1e-11, atol=1e-12)


def test_a_causal_convolution_does_not_see_what_comes(rng: Any) -> None:
    layer, x = Conv1D(3, 4, padding="causal", dilation_rate=2), rng.standard_normal((1, 12, 2)).astype("f4")
    before = output(layer, x)
    x[:, 7:] = 99
    np.testing.assert_array_equal(output(layer, x)[:, :7], before[:, :7])


@pytest.mark.parametrize(
    "options", [{}, {"strides": 2, "padding": "same"}, {"depth_multiplier": 3, "dilation_rate": 2, "padding": "same"}]
)
def test_depthwise_and_separable(options: Any, rng: Any) -> None:
    x, m = rng.standard_normal((2, 9, 8, 5)), options.get("depth_multiplier", 1)
    deep = DepthwiseConv2D(3, activation="relu", **options, **F64)
    y = output(deep, x)
    kernel = deep.get_weights()[0]
    assert kernel.shape == (3, 3, 5, m)
    grouped = Conv2D(5 * m, 3, groups=5, use_bias=False, dtype="float64",
                     **{k: v for k, v in options.items() if k != "depth_multiplier"})  # fmt: skip
    grouped.build_once(x.shape)
    grouped.kernel.value[...] = kernel.reshape(3, 3, 1, -1)
    between = output(grouped, x)
    windows = [(same(n, 3 if "dilation_rate" not in options else 5, options.get("strides", 1))) for n in (9, 8)]
    pads = windows if "padding" in options else [(0, 0), (0, 0)]
    s, d = options.get("strides", 1), options.get("dilation_rate", 1)
    expected = convolve(x, kernel.reshape(3, 3, 1, -1), (s, s), pads, (d, d), 5)
    np.testing.assert_allclose(between, expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(y, np.maximum(expected, 0), rtol=1e-11, atol=1e-12)

    separable = SeparableConv2D(4, 3, **options, **F64)
    separable.build_once(x.shape)
    separable.set_weights([kernel, rng.standard_normal((1, 1, 5 * m, 4)), rng.standard_normal(4)])
    _, pointwise, bias = separable.get_weights()
    np.testing.assert_allclose(output(separable, x), expected @ pointwise[0, 0] + bias, rtol=1e-11, atol=1e-11)
    assert [p.name for p in separable.weights] == ["depthwise_kernel", "pointwise_kernel", "bias"]


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("window", [2, 3, 4])
def test_a_transposed_convolution_scatters(padding: str, stride: int, window: int, rng: Any) -> None:
    layer, x = Conv1DTranspose(2, window, stride, padding, **F64), rng.standard_normal((2, 5, 3))
    y = output(layer, x)
    kernel = layer.get_weights()[0]
    full = np.zeros((2, 4 * stride + max(window, stride), 2))
    for t, i in itertools.product(range(5), range(window)):
        full[:, t * stride + i] += x[:, t] @ kernel[i].T
    before = same(5 * stride, window, stride)[0] if padding == "same" else 0
    expected = np.pad(full, [(0, 0), (0, stride), (0, 0)])[:, before : before + y.shape[1]]
    assert y.shape[1] == (5 * stride if padding == "same" else full.shape[1])
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: Conv1D(3, 2, padding="causal", dilation_rate=2, activation="tanh", **F64), (2, 5, 2)),
        (lambda: Conv1D(2, 3, data_format="channels_first", activation="softmax", **F64), (2, 2, 5)),
        (lambda: Conv2D(4, 2, groups=2, padding="same", data_format="channels_first", **F64), (1, 2, 3, 4)),
        (lambda: Conv3D(2, 2, strides=(2, 1, 1), padding="same", activation="relu", **F64), (2, 3, 3, 2, 2)),
        (lambda: Conv3D(4, (3, 1, 2), groups=2, dilation_rate=(1, 1, 2), **F64), (1, 4, 2, 3, 2)),
        (lambda: DepthwiseConv1D(3, activation="sigmoid", **F64), (2, 6, 3)),
        (lambda: DepthwiseConv2D((2, 3), padding="same", depth_multiplier=2, **F64), (2, 4, 3, 3)),
        (lambda: DepthwiseConv2D(3, 2, "same", data_format="channels_first", **F64), (1, 3, 5, 4)),
        (lambda: DepthwiseConv2D(2, dilation_rate=2, use_bias=False, **F64), (1, 5, 4, 2)),
        (lambda: SeparableConv1D(3, 2, depth_multiplier=2, activation="tanh", **F64), (2, 5, 2)),
        (lambda: SeparableConv2D(2, 2, 2, "same", **F64), (2, 3, 4, 3)),
        (lambda: Conv1DTranspose(2, 3, 2, "same", activation="relu", **F64), (2, 3, 2)),
        (lambda: Conv2DTranspose(2, (2, 3), (2, 1), output_padding=(1, 0), **F64), (1, 3, 2, 2)),
        (lambda: Conv2DTranspose(3, 3, 2, "same", use_bias=False, data_format="channels_first", **F64), (1, 2, 3, 2)),
        (lambda: Conv3DTranspose(2, (2, 1, 3), (2, 1, 2), activation="tanh", **F64), (1, 2, 2, 2, 3)),
        (lambda: Conv3DTranspose(2, 3, 2, "same", output_padding=(0, 1, 0), **F64), (1, 2, 2, 2, 2)),
        (lambda: Conv2DTranspose(2, (4, 2), 3, "same", output_padding=(0, 1), **F64), (1, 3, 2, 2)),
        (lambda: Conv3DTranspose(2, (4, 1, 2), 3, "same", output_padding=(0, 1, 2), **F64), (1, 3, 2, 2, 2)),
        (lambda: MaxPooling1D(3, 2, "same", **F64), (2, 6, 3)),
        (lambda: MaxPooling3D(2, padding="same", **F64), (2, 3, 4, 5, 2)),
        (lambda: MaxPooling3D((3, 2, 2), (1, 2, 1), **F64), (1, 4, 4, 3, 2)),
        (lambda: AveragePooling1D(2, **F64), (2, 5, 3)),
        (lambda: AveragePooling3D((2, 3, 2), (1, 2, 2), "same", **F64), (1, 3, 4, 3, 2)),
        (lambda: MaxPooling2D(2, data_format="channels_first", **F64), (2, 3, 4, 5)),
        (lambda: GlobalAveragePooling1D(**F64), (2, 5, 3)),
        (lambda: GlobalAveragePooling2D(keepdims=True, data_format="channels_first", **F64), (2, 3, 4, 2)),
        (lambda: GlobalAveragePooling3D(**F64), (2, 2, 3, 2, 3)),
        (lambda: GlobalMaxPooling1D(keepdims=True, **F64), (2, 5, 3)),
        (lambda: GlobalMaxPooling2D(data_format="channels_first", **F64), (2, 3, 4, 2)),
        (lambda: GlobalMaxPooling3D(**F64), (1, 2, 3, 2, 3)),
    ],
)
def test_gradients(layer: Any, shape: tuple[int, ...], rng: Any) -> None:
    check_gradients(layer(), distinct(rng, shape, "float64") * 10, rng)


def test_gradient_of_a_masked_mean(rng: Any) -> None:
    mask = np.array([[1, 0, 1, 1], [0, 0, 1, 0]], "u1")
    layer, x = GlobalAveragePooling1D(**F64), rng.standard_normal((2, 4, 3))
    expected = np.stack([x[0, mask[0] == 1].mean(0), x[1, 2]])
    np.testing.assert_allclose(output(layer, x, mask=mask), expected, rtol=1e-13)
    check_gradients(layer, x, rng, mask)


POOLS = [(MaxPooling1D, (9,)), (AveragePooling1D, (9,)), (MaxPooling2D, (5, 7)), (AveragePooling2D, (5, 7)),
         (MaxPooling3D, (5, 4, 6)), (AveragePooling3D, (5, 4, 6))]  # fmt: skip


@pytest.mark.parametrize(("kind", "size"), POOLS)
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize(("window", "stride"), [(2, None), (3, 2), (2, 3)])
def test_pooling(kind: Any, size: Any, padding: str, channels_first: bool, window: int, stride: Any, rng: Any) -> None:
    layer = kind(window, stride, padding, "channels_first" if channels_first else None)
    x = rng.standard_normal((2, *size, 3)).astype("f4")
    y = output(layer, np.ascontiguousarray(np.moveaxis(x, -1, 1)) if channels_first else x)
    y = np.moveaxis(y, 1, -1) if channels_first else y
    step = stride or window
    starts = [same(n, window, step)[0] if padding == "same" else 0 for n in size]
    outputs = [-(-n // step) if padding == "same" else (n - window) // step + 1 for n in size]
    for position in itertools.product(*map(range, outputs)):
        begin = [p * step - s for p, s in zip(position, starts, strict=True)]
        part = x[(slice(None), *(slice(max(0, b), b + window) for b in begin))]
        axes = tuple(range(1, part.ndim - 1))
        expected = part.max(axes) if "Max" in kind.__name__ else part.mean(axes)
        np.testing.assert_allclose(y[(slice(None), *position)], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("keepdims", [False, True])
def test_global_pooling(rank: int, keepdims: bool, rng: Any) -> None:
    x = rng.standard_normal((3, *(20, 17, 3)[:rank], 5)).astype("f4")
    axes = tuple(range(1, rank + 1))
    for name, function in (("Max", np.max), ("Average", np.mean)):
        layer: Layer = getattr(layers, f"Global{name}Pooling{rank}D")(keepdims=keepdims)
        np.testing.assert_allclose(output(layer, x, True), function(x, axes, keepdims=keepdims), rtol=1e-5, atol=1e-6)


DEPTHWISE = [
    ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    ((2, 7, 9, 16), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((2, 8, 11, 19), (3, 2), (2, 3), (1, 1, 0, 1), (1, 1), 1),
    ((1, 9, 8, 5), (5, 5), (1, 1), (2, 2, 2, 2), (1, 1), 3),
    ((3, 6, 17, 33), (2, 4), (1, 1), (0, 0, 0, 0), (2, 3), 1),
    ((2, 9, 9, 7), (3, 3), (2, 2), (2, 1, 1, 2), (2, 1), 2),
    ((1, 5, 5, 3), (1, 2), (1, 1), (3, 0, 4, 0), (1, 1), 1),
    ((2, 10, 10, 4), (2, 2), (3, 3), (0, 0, 0, 0), (1, 1), 1),
]


@pytest.mark.parametrize(("x_shape", "window", "strides", "padding", "dilation", "times"), DEPTHWISE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_depthwise_kernels_equal_the_reference(
    core: ModuleType,
    x_shape: Any,
    window: Any,
    strides: Any,
    padding: Any,
    dilation: Any,
    times: int,
    dtype: str,
    rng: Any,
) -> None:
    c = x_shape[-1]
    shape = core.Conv2DShape(x_shape, (*window, 1, c * times), strides, padding, dilation, c)
    x, kernel = integers(rng, x_shape, dtype), integers(rng, shape.kernel, dtype)
    dy, bias = integers(rng, shape.output, dtype), integers(rng, (c * times,), dtype)
    own = kernel.reshape(*window, c, times)
    for activation, b in itertools.product(("linear", "relu"), (None, bias)):
        y, expected = np.empty(shape.output, dtype), np.empty(shape.output, dtype)
        core.depthwise2d_forward(shape, x, own, b, y, activation)
        core.reference.conv2d_forward(shape, x, kernel, b, expected, activation)
        np.testing.assert_array_equal(y, expected)
    dx, expected = np.full(x_shape, np.nan, dtype), np.empty(x_shape, dtype)
    core.depthwise2d_input_gradient(shape, dy, own, dx)
    core.reference.conv2d_input_gradient(shape, dy, kernel, expected)
    np.testing.assert_array_equal(dx, expected)
    dw, db, dw2, db2 = np.ones_like(own), np.ones_like(bias), np.ones_like(kernel), np.ones_like(bias)
    core.depthwise2d_weight_gradient(shape, x, dy, dw, db)
    core.reference.conv2d_weight_gradient(shape, x, dy, dw2, db2)
    np.testing.assert_array_equal(dw.ravel(), dw2.ravel())
    np.testing.assert_array_equal(db, db2)


def test_depthwise_kernels_refuse_other_groups(core: ModuleType) -> None:
    shape, x = core.Conv2DShape((1, 4, 4, 4), (2, 2, 2, 4), groups=2), np.zeros((1, 4, 4, 4), "f4")
    with pytest.raises(ValueError, match="depthwise2d: groups must equal the input's 4 channels, received 2"):
        core.depthwise2d_forward(shape, x, np.zeros((2, 2, 4, 1), "f4"), None, np.zeros((1, 3, 3, 4), "f4"))


@pytest.mark.parametrize("stride", [1, 2])
def test_threads_do_not_change_a_bit(stride: int, rng: Any) -> None:
    from vivace.step import Step

    layer, x = DepthwiseConv2D(3, stride, "same"), rng.standard_normal((16, 28, 28, 40)).astype("f4")
    layer.build_once(x.shape)
    kept, results = config.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            config.set_num_threads(threads)
            for p in layer.weights:
                p.gradient[...] = 0
            step = Step(True)
            y, saved = layer.forward(x, step)
            dx = layer.backward(y.copy(), saved, step)
            assert dx is not None
            results.append([y.tobytes(), dx.tobytes(), *(p.gradient.tobytes() for p in layer.weights)])
    finally:
        config.set_num_threads(kept)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Conv1D(2, (3, 3)), "kernel_size must be an integer >= 1, received"),
        (lambda: Conv2D(2, 3, padding="causal"), "padding must be 'valid' or 'same', received 'causal'"),
        (
            lambda: Conv3D(2, 3).build_once((None, 2, 5, 5, 1)),
            r"conv3d: the dilated kernel does not fit the padded input \(input \(1, 2, 5, 5, 1\), kernel \(3, 3, 3, 1",
        ),
        (lambda: Conv3D(2, 3).build_once((None, 5, 5, 1)), r"add the channel axis with x\[..., None\]"),
        (lambda: Conv2D(2, 3, data_format="nchw"), "data_format must be 'channels_last' or 'channels_first'"),
        (lambda: Conv1DTranspose(2, 3, 2, output_padding=2), r"output_padding must be smaller than strides \(2,\)"),
        (lambda: DepthwiseConv2D(3, depth_multiplier=0), "depth_multiplier must be an integer >= 1, received 0"),
        (lambda: MaxPooling1D(4).build_once((None, 3, 2)), "window"),
        (
            lambda: GlobalMaxPooling2D().build_once((None, 3, 2)),
            r"takes inputs of rank 4, \(batch, height, width, channels\)",
        ),
    ],
)
def test_bad_input(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()
