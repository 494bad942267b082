"""Convolution: every path, every ISA level, against the naive reference; gradients by finite differences."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest

from helpers import integers, numeric_gradient, rounding


class Case(NamedTuple):
    input: tuple[int, int, int, int]
    kernel: tuple[int, int, int, int]
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


CASES = [
    Case((1, 1, 1, 1), (1, 1, 1, 1)),
    Case((2, 28, 28, 1), (3, 3, 1, 32)),  # the reference CNN's convolutions
    Case((3, 13, 13, 32), (3, 3, 32, 64)),
    Case((2, 7, 5, 3), (3, 2, 3, 5), padding=(1, 1, 1, 0)),
    Case((1, 9, 9, 4), (3, 3, 4, 17), strides=(2, 2), padding=(1, 1, 1, 1)),
    Case((2, 11, 8, 2), (5, 1, 2, 16), strides=(3, 1), padding=(2, 0, 0, 0)),
    Case((1, 12, 12, 3), (3, 3, 3, 15), dilation=(2, 3), padding=(2, 2, 3, 3)),
    Case((1, 10, 11, 3), (3, 3, 3, 33), strides=(2, 3), dilation=(2, 2), padding=(3, 1, 0, 4)),
    Case((2, 8, 8, 6), (3, 3, 2, 9), groups=3),
    Case((1, 9, 7, 8), (3, 3, 1, 8), padding=(1, 1, 1, 1), groups=8),  # depthwise
    Case((1, 8, 8, 16), (1, 1, 16, 48)),
    Case((1, 9, 9, 5), (1, 1, 5, 31), strides=(2, 2)),  # input pixels that no window meets
    Case((1, 5, 5, 2), (3, 3, 2, 2), strides=(4, 4), padding=(3, 3, 3, 3)),  # padding wider than the kernel needs
    Case((4, 4, 4, 65), (2, 2, 65, 31)),
]
# Enough channels and pixels for Winograd's algorithm; ragged tiles, channels and filters; several chunks of tiles.
CASES += [
    Case((1, 17, 18, 24), (3, 3, 24, 25)),
    Case((3, 11, 10, 33), (3, 3, 33, 47), padding=(1, 2, 0, 2)),
    Case((2, 17, 23, 97), (3, 3, 97, 100), padding=(2, 1, 1, 1)),
    Case((9, 7, 7, 96), (3, 3, 96, 129), padding=(1, 1, 1, 1)),
]
CASES += [Case((1, 4, 6, c), (3, 3, c, o), padding=(1, 1, 1, 1)) for c, o in [(15, 16), (16, 15), (17, 32), (31, 35)]]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_directions_equal_the_reference(core: ModuleType, case: Case, dtype: str, rng: np.random.Generator) -> None:
    """Exactly, but where Winograd's larger tiles round."""
    shape = core.Conv2DShape(*case)
    x, kernel = integers(rng, shape.input, dtype), integers(rng, shape.kernel, dtype)
    bias, dy = integers(rng, case.kernel[3], dtype), integers(rng, shape.output, dtype)
    results = []
    for path in (core.reference, core.im2col, core):
        y, dx = np.full(shape.output, 9, dtype), np.full(shape.input, 9, dtype)
        dkernel, dbias = np.ones(shape.kernel, dtype), np.ones(case.kernel[3], dtype)
        path.conv2d_forward(shape, x, kernel, bias, y, "relu")
        path.conv2d_input_gradient(shape, dy, kernel, dx)
        path.conv2d_weight_gradient(shape, x, dy, dkernel, dbias)
        results.append((y, dx, dkernel, dbias))
    near = [rounding(core, shape, direction, dtype) for direction in ("forward", "input_gradient", "weight_gradient")]
    for path_results, tolerances in zip(results[1:], ([0, 0, 0], near), strict=True):
        for expected, actual, tolerance in zip(results[0], path_results, [*tolerances, 0], strict=True):
            np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_prepared_kernel_gives_the_same_bits(
    core: ModuleType, case: Case, dtype: str, rng: np.random.Generator
) -> None:
    shape = core.Conv2DShape(*case)
    x, kernel = rng.standard_normal(shape.input).astype(dtype), rng.standard_normal(shape.kernel).astype(dtype)
    form = np.empty(core.kernel_form_size(shape, None, kernel), dtype)
    if core.kernel_form(shape) == "original":
        assert form.size == 0
        return
    core.prepare_kernel(shape, None, kernel, form)
    expected, got = np.empty(shape.output, dtype), np.empty(shape.output, dtype)
    core.conv2d_forward(shape, x, kernel, None, expected)
    core.conv2d_forward(shape, x, np.zeros_like(kernel), None, got, form=form)  # the form alone is read
    np.testing.assert_array_equal(got, expected)
    with pytest.raises(ValueError, match=r"conv2d_forward: form must have shape"):
        core.conv2d_forward(shape, x, kernel, None, got, form=form[1:].copy())


def test_gradients_are_those_of_the_forward_pass(case: Case, rng: np.random.Generator) -> None:
    from vivace._core import native

    if np.prod(case.input) * np.prod(case.kernel) > 2e5:
        case = case._replace(input=(1, *(min(n, 6) for n in case.input[1:3]), case.input[3]))
    shape = native.Conv2DShape(*case)
    if np.prod(shape.kernel) > 3000:
        pytest.skip("covered exactly by the smaller cases")
    x, kernel = rng.standard_normal(shape.input), rng.standard_normal(shape.kernel)
    bias, dy = rng.standard_normal(case.kernel[3]), rng.standard_normal(shape.output)
    y = np.empty(shape.output)

    def loss() -> float:
        native.conv2d_forward(shape, x, kernel, bias, y)
        return float((y * dy).sum())

    dx, dkernel, dbias = np.empty_like(x), np.zeros_like(kernel), np.zeros_like(bias)
    native.conv2d_input_gradient(shape, dy, kernel, dx)
    native.conv2d_weight_gradient(shape, x, dy, dkernel, dbias)
    for array, gradient in ((x, dx), (kernel, dkernel), (bias, dbias)):
        np.testing.assert_allclose(gradient, numeric_gradient(loss, array), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("activation", ["linear", "relu", "sigmoid", "tanh"])
def test_float32_agrees_with_float64(core: ModuleType, activation: str, rng: np.random.Generator) -> None:
    shape = core.Conv2DShape((2, 13, 13, 32), (3, 3, 32, 64))
    x, kernel, bias = (rng.standard_normal(s) for s in (shape.input, shape.kernel, 64))
    kernel /= np.sqrt(288)
    y = {}
    for dtype in ("float32", "float64"):
        y[dtype] = np.empty(shape.output, dtype)
        core.conv2d_forward(shape, x.astype(dtype), kernel.astype(dtype), bias.astype(dtype), y[dtype], activation)
    # sums of 289 terms reach 5; each addition may lose 2^-24 of the sum so far, and the losses add like a random walk
    np.testing.assert_allclose(y["float32"], y["float64"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "shape", [((32, 28, 28, 1), (3, 3, 1, 32)), ((32, 13, 13, 32), (3, 3, 32, 64)), ((3, 30, 31, 5), (3, 3, 5, 7))]
)
def test_same_bits_for_every_thread_count(core: ModuleType, shape: tuple, rng: np.random.Generator) -> None:
    s = core.Conv2DShape(*shape)
    x, kernel, dy = (rng.standard_normal(n).astype("float32") for n in (s.input, s.kernel, s.output))
    threads, results = core.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            core.set_num_threads(count)
            y, dx, dkernel, dbias = (
                np.empty_like(dy),
                np.empty_like(x),
                np.zeros_like(kernel),
                np.zeros(s.output[3], "f4"),
            )
            core.conv2d_forward(s, x, kernel, None, y)
            core.conv2d_input_gradient(s, dy, kernel, dx)
            core.conv2d_weight_gradient(s, x, dy, dkernel, dbias)
            results.append(b"".join(a.tobytes() for a in (y, dx, dkernel, dbias)))
    finally:
        core.set_num_threads(threads)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((8, 28, 28, 4), (3, 3, 3, 16)), r"input has 4 channels, kernel expects 3 \(input \(8, 28, 28, 4\), kernel"),
        (((1, 28, 0, 4), (3, 3, 4, 16)), r"at least 1, that of the batch 0, received input \(1, 28, 0, 4\)"),
        (((-1, 28, 28, 4), (3, 3, 4, 16)), r"that of the batch 0, received input \(-1, 28, 28, 4\)"),
        (((1, 2, 2, 4), (3, 3, 4, 16)), r"the dilated kernel does not fit"),
        (((1, 8, 8, 4), (3, 3, 4, 16), (0, 1)), r"strides must be at least 1, received \(0, 1\)"),
        (((1, 8, 8, 4), (3, 3, 4, 16), (1, 1), (-1, 0, 0, 0)), r"padding must not be negative"),
        (((1, 8, 8, 4), (3, 3, 2, 15), (1, 1), (0, 0, 0, 0), (1, 1), 2), r"groups must divide .* received groups 2"),
    ],
)
def test_bad_shapes_are_refused(core: ModuleType, arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        core.Conv2DShape(*arguments)


def test_axes_of_size_1_do_not_count(core: ModuleType, rng: np.random.Generator) -> None:
    """A sequence is an image of height 1, and given as what it is."""
    s = core.Conv2DShape((2, 1, 6, 3), (1, 3, 3, 4))
    x, kernel = rng.standard_normal(s.input).astype("f4"), rng.standard_normal(s.kernel).astype("f4")
    y, short = np.empty(s.output, "f4"), np.empty((2, 4, 4), "f4")
    core.conv2d_forward(s, x, kernel, None, y)
    core.conv2d_forward(s, x[:, 0], kernel[0], None, short)
    np.testing.assert_array_equal(short, y[:, 0])
    for shape in ((2, 3, 6), (2, 6), (6, 2, 3), (2, 6, 3, 2), (2, 2, 6, 3)):
        with pytest.raises(ValueError, match=r"x must have shape \(2, 1, 6, 3\), received shape"):
            core.conv2d_forward(s, np.zeros(shape, "f4"), kernel, None, y)
    with pytest.raises(ValueError, match=r"kernel must have shape \(1, 3, 3, 4\), received shape"):
        core.conv2d_forward(s, x, np.zeros((3, 3), "f4"), None, y)


def test_bad_arrays_are_refused(core: ModuleType) -> None:
    s = core.Conv2DShape((1, 5, 5, 2), (3, 3, 2, 4))
    x, kernel, y = np.zeros(s.input, "f4"), np.zeros(s.kernel, "f4"), np.zeros(s.output, "f4")
    with pytest.raises(
        ValueError, match=r"conv2d_forward: x must have shape \(1, 5, 5, 2\), received shape \(1, 5, 5, 3"
    ):
        core.conv2d_forward(s, np.zeros((1, 5, 5, 3), "f4"), kernel, None, y)
    with pytest.raises(TypeError, match="conv2d_forward: kernel must be float32, received float64"):
        core.conv2d_forward(s, x, kernel.astype("f8"), None, y)
    with pytest.raises(TypeError, match="conv2d_forward: x must be float32 or float64, received int32"):
        core.conv2d_forward(s, x.astype("i4"), kernel, None, y)
    with pytest.raises(TypeError, match="C-contiguous"):
        core.conv2d_forward(s, np.zeros((1, 5, 5, 4), "f4")[..., ::2], kernel, None, y)
    y.flags.writeable = False
    with pytest.raises(TypeError, match="y must be writable"):
        core.conv2d_forward(s, x, kernel, None, y)


@pytest.mark.parametrize("channels", [32, 256])
def test_winograd_stays_within_its_error_bound(core: ModuleType, channels: int, rng: np.random.Generator) -> None:
    """What winograd.h states, against float64 by the column matrix: the bound on inputs far from zero mean, and the
    root mean square error, next to the column matrix's own, on normal data."""
    shape = core.Conv2DShape((2, 18, 18, channels), (3, 3, channels, 96), padding=(1, 1, 1, 1))
    assert core.kernel_form(shape).startswith("transformed 4x4")
    kernel = rng.standard_normal(shape.kernel).astype("f4")

    def errors(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y, direct, exact = np.empty(shape.output, "f4"), np.empty(shape.output, "f4"), np.empty(shape.output)
        core.conv2d_forward(shape, x, kernel, None, y)
        core.im2col.conv2d_forward(shape, x, kernel, None, direct)
        core.im2col.conv2d_forward(shape, x.astype("f8"), kernel.astype("f8"), None, exact)
        return y - exact, direct - exact

    x = (rng.random(shape.input) * 3 + 5).astype("f4")
    error, _ = errors(x)
    assert (np.abs(error) <= 752 * (channels + 24) * 2.0**-24 * x.max() * np.abs(kernel).sum((0, 1, 2))).all()
    x = rng.standard_normal(shape.input).astype("f4")
    error, direct = (np.sqrt(np.mean(e**2)) for e in errors(x))
    assert 0 < error <= 3 * direct
    dy = rng.standard_normal(shape.output).astype("f4")
    sums = [np.zeros(shape.kernel, dtype) for dtype in ("f4", "f4", "f8")]
    core.conv2d_weight_gradient(shape, x, dy, sums[0], None)
    core.im2col.conv2d_weight_gradient(shape, x, dy, sums[1], None)
    core.im2col.conv2d_weight_gradient(shape, x.astype("f8"), dy.astype("f8"), sums[2], None)
    error, direct = (np.sqrt(np.mean((s - sums[2]) ** 2)) for s in sums[:2])
    assert 0 < error <= (4 if core.vector_bytes == 64 else 3) * direct  # whose sums longer registers make shorter


def test_the_method_follows_from_the_shape(core: ModuleType) -> None:
    directions = ("forward", "input_gradient", "weight_gradient")
    for case, expected in (
        (Case((2, 8, 8, 16), (1, 1, 16, 48)), ["pointwise"] * 3),
        (Case((2, 8, 8, 16), (1, 1, 16, 48), strides=(2, 2)), ["direct"] * 3),
        (Case((2, 9, 9, 8), (3, 3, 1, 8), groups=8), ["depthwise"] * 3),
        (Case((8, 13, 13, 24), (3, 3, 24, 64)), ["winograd", "winograd", "direct"]),
        (Case((8, 14, 14, 128), (3, 3, 128, 96)), ["winograd"] * 3),
        (Case((1, 9, 9, 32), (3, 3, 32, 64)), ["direct"] * 3),  # too few pixels
        (Case((8, 13, 13, 32), (3, 3, 32, 64), strides=(2, 1)), ["direct"] * 3),
    ):
        assert [core.conv2d_method(core.Conv2DShape(*case), d) for d in directions] == expected
    with pytest.raises(ValueError, match="direction must be forward, input_gradient or weight_gradient, received up"):
        core.conv2d_method(core.Conv2DShape(*CASES[0]), "up")
