"""The native kernels, as the module of one ISA level offers them (the best this machine has, or `VIVACE_ISA`'s).

Arrays are C-contiguous and aligned; all floating-point arrays of one call share one dtype, float32 or float64; outputs
are written in place and come from the caller. A wrong dtype or layout raises TypeError, a wrong shape ValueError; the
text names the op, the rule and the value. Formulas stand in `cpp/include/vivace/*.h` under the same names.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32] | NDArray[np.float64]
Labels = NDArray[np.int64]
Positions = NDArray[np.uint8] | NDArray[np.uint32]
Activation = Literal["linear", "relu", "sigmoid", "tanh"]

isa: str  # "x86-64-v4"
compiler: str  # "GCC 12.2.0"
vector_bytes: int

def get_num_threads() -> int: ...
def set_num_threads(threads: int) -> None: ...
def alike(x: Any, shape: Any, dtype: Any) -> bool: ...

class Conv2DShape:
    def __init__(
        self,
        input: tuple[int, int, int, int],
        kernel: tuple[int, int, int, int],
        strides: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
    ) -> None: ...
    @property
    def input(self) -> tuple[int, int, int, int]: ...
    @property
    def kernel(self) -> tuple[int, int, int, int]: ...
    @property
    def output(self) -> tuple[int, int, int, int]: ...
    @property
    def flops(self) -> int: ...

class Pool2DShape:
    def __init__(
        self,
        input: tuple[int, int, int, int],
        window: tuple[int, int],
        strides: tuple[int, int],
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> None: ...
    @property
    def input(self) -> tuple[int, int, int, int]: ...
    @property
    def output(self) -> tuple[int, int, int, int]: ...

Direction = Literal["forward", "input_gradient", "weight_gradient"]

# How a direction is computed: the names of Conv2DMethod in conv2d.h and of Conv2DPoolMethod (float32) in conv2d_pool.h.
def conv2d_method(shape: Conv2DShape, direction: Direction) -> str: ...
def conv2d_pool_method(shape: Conv2DShape, pool: Pool2DShape, direction: Direction) -> str: ...
def conv2d_forward(
    shape: Conv2DShape,
    x: Array,
    kernel: Array,
    bias: Array | None,
    y: Array,
    activation: Activation = "linear",
    form: Array | None = None,
) -> None: ...

# The kernel in the form that the forward direction's method reads: what `form` takes, where it is not "original". The
# same name means the same form of a kernel, whatever the shape.
def kernel_form(shape: Conv2DShape, pool: Pool2DShape | None = None) -> str: ...
def kernel_form_size(shape: Conv2DShape, pool: Pool2DShape | None, kernel: Array) -> int: ...
def prepare_kernel(shape: Conv2DShape, pool: Pool2DShape | None, kernel: Array, form: Array) -> None: ...
def conv2d_input_gradient(shape: Conv2DShape, dy: Array, kernel: Array, dx: Array) -> None: ...
def conv2d_weight_gradient(shape: Conv2DShape, x: Array, dy: Array, dkernel: Array, dbias: Array | None) -> None: ...

# As conv2d with as many groups as channels; kernel (height, width, channels, filters of each).
def depthwise2d_forward(
    shape: Conv2DShape, x: Array, kernel: Array, bias: Array | None, y: Array, activation: Activation = "linear"
) -> None: ...
def depthwise2d_input_gradient(shape: Conv2DShape, dy: Array, kernel: Array, dx: Array) -> None: ...
def depthwise2d_weight_gradient(
    shape: Conv2DShape, x: Array, dy: Array, dkernel: Array, dbias: Array | None
) -> None: ...

# Convolution, activation (linear or relu) and max pooling in one. The pool's input is the convolution's output, its
# strides equal its window, it has no padding, and at most 256 elements in a window, so positions are uint8.
class Conv2DPool:
    def __init__(self, conv: Conv2DShape, pool: Pool2DShape, activation: Activation) -> None: ...
    @property
    def conv(self) -> Conv2DShape: ...
    @property
    def pool(self) -> Pool2DShape: ...

Winners = tuple[Array, NDArray[np.uint8]]  # y and positions, of the forward pass

def conv2d_pool_forward(
    op: Conv2DPool, x: Array, kernel: Array, bias: Array | None, y: Array, positions: NDArray[np.uint8]
) -> None: ...

# For inference: without positions, the kernel also in its form, or None.
def conv2d_pool_forward_prepared(
    op: Conv2DPool, x: Array, kernel: Array, form: Array | None, bias: Array | None, y: Array
) -> None: ...
def conv2d_pool_input_gradient(op: Conv2DPool, dy: Array, winners: Winners, kernel: Array, dx: Array) -> None: ...
def conv2d_pool_weight_gradient(
    op: Conv2DPool, x: Array, dy: Array, winners: Winners, dkernel: Array, dbias: Array | None
) -> None: ...

# positions: uint8 where the window has at most 256 elements, uint32 otherwise; None if no backward pass will follow.
def max_pool2d_forward(shape: Pool2DShape, x: Array, y: Array, positions: Positions | None) -> None: ...
def max_pool2d_backward(shape: Pool2DShape, dy: Array, positions: Positions, dx: Array) -> None: ...
def average_pool2d_forward(shape: Pool2DShape, x: Array, y: Array) -> None: ...
def average_pool2d_backward(shape: Pool2DShape, dy: Array, dx: Array) -> None: ...

# As pool2d, over volumes in boxes: windows are (first, end) of each along depth, height and width. positions: uint8 if
# the largest box has at most 256 elements, uint32 otherwise.
class Pool3DShape:
    def __init__(self, input: tuple[int, int, int, int, int], windows: Sequence[Sequence[tuple[int, int]]]) -> None: ...
    @property
    def input(self) -> tuple[int, int, int, int, int]: ...
    @property
    def output(self) -> tuple[int, int, int, int, int]: ...
    @property
    def largest(self) -> int: ...

def max_pool3d_forward(shape: Pool3DShape, x: Array, y: Array, positions: Positions | None) -> None: ...
def max_pool3d_backward(shape: Pool3DShape, dy: Array, positions: Positions, dx: Array) -> None: ...
def average_pool3d_forward(shape: Pool3DShape, x: Array, y: Array) -> None: ...
def average_pool3d_backward(shape: Pool3DShape, dy: Array, dx: Array) -> None: ...

class Conv3DShape:
    def __init__(
        self,
        input: tuple[int, int, int, int, int],
        kernel: tuple[int, int, int, int, int],
        strides: tuple[int, int, int] = (1, 1, 1),
        padding: tuple[int, int, int, int, int, int] = (0, 0, 0, 0, 0, 0),
        dilation: tuple[int, int, int] = (1, 1, 1),
        groups: int = 1,
    ) -> None: ...
    @property
    def input(self) -> tuple[int, int, int, int, int]: ...
    @property
    def output(self) -> tuple[int, int, int, int, int]: ...
    @property
    def flops(self) -> int: ...

def conv3d_forward(
    shape: Conv3DShape, x: Array, kernel: Array, bias: Array | None, y: Array, activation: Activation = "linear"
) -> None: ...
def conv3d_input_gradient(shape: Conv3DShape, dy: Array, kernel: Array, dx: Array) -> None: ...
def conv3d_weight_gradient(shape: Conv3DShape, x: Array, dy: Array, dkernel: Array, dbias: Array | None) -> None: ...

# x of the shape's output, y of its input; bias has the input's channels. The input's gradient is conv3d_forward(dy).
def conv3d_transpose_forward(
    shape: Conv3DShape, x: Array, kernel: Array, bias: Array | None, y: Array, activation: Activation = "linear"
) -> None: ...
def conv3d_transpose_weight_gradient(
    shape: Conv3DShape, x: Array, dy: Array, dkernel: Array, dbias: Array | None
) -> None: ...

# a (m, k), b (k, n), c (m, n); transpose_*: stored transposed.
def gemm(
    a: Array, b: Array, c: Array, transpose_a: bool = False, transpose_b: bool = False, accumulate: bool = False
) -> None: ...

# x (..., inputs), kernel (..., inputs, outputs), whose axes in front are 1, bias (outputs), y (..., outputs).
def dense_forward(x: Array, kernel: Array, bias: Array | None, y: Array, activation: Activation = "linear") -> None: ...
def dense_input_gradient(dy: Array, kernel: Array, dx: Array) -> None: ...
def dense_weight_gradient(x: Array, dy: Array, dkernel: Array, dbias: Array | None) -> None: ...

# activation: one that kernels fuse, or a function and its parameters as of function_forward. outputs: of the read-out.
class RnnShape:
    def __init__(
        self,
        batch: int,
        steps: int,
        inputs: int,
        units: int,
        cell: Literal["simple", "lstm", "gru", "gru_reset_before", "output_gated"],
        reverse: bool = False,
        activation: Activation | tuple[str, float, float, float] = "tanh",
        recurrent_activation: Activation | tuple[str, float, float, float] = "sigmoid",
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        sequences: bool = True,
        in_time: bool = False,
        zero_masked: bool = False,
        outputs: int = 0,
    ) -> None: ...
    @property
    def tape(self) -> tuple[int]: ...
    @property
    def output(self) -> tuple[int, ...]: ...

class RnnPair:
    def __init__(self, first: RnnShape, second: RnnShape, merge: Literal["concat", "sum", "mul", "ave"]) -> None: ...
    @property
    def tape(self) -> tuple[int]: ...
    @property
    def output(self) -> tuple[int, ...]: ...

# weights: kernel (inputs, gates), recurrent_kernel (units, gates), bias (gates,), for a GRU (2, gates), or None, and of
# an output_gated cell its read-out (units, outputs); gradients are added to in the same order. extras: mask uint8
# (batch, steps), the initial h and c (batch, units), the numbers of the dropout (seed, and the streams of the inputs'
# and the states'), and where the final h and c shall be; any may be None, and those at the end be missing. Without a
# tape no backward pass can follow.
def rnn_forward(
    shape: RnnShape,
    x: Array,
    weights: tuple[Array | None, ...],
    tape: Array | None,
    y: Array,
    extras: tuple[Any, ...] = (),
) -> None: ...

# dh, dc (batch, units): in, the gradient of the final state; out, of the initial one. Consumes the tape.
def rnn_backward(
    shape: RnnShape,
    x: Array,
    weights: tuple[Array | None, ...],
    gradients: tuple[Array | None, ...],
    tape: Array,
    y: Array,
    dy: Array | None,
    dx: Array | None,
    dh: Array | None = None,
    dc: Array | None = None,
    extras: tuple[Any, ...] = (),
) -> None: ...

# weights, gradients and extras: those of both. Consumes the tape, and dy.
def rnn_pair_forward(
    pair: RnnPair,
    x: Array,
    weights: tuple[tuple[Array | None, ...], ...],
    tape: Array | None,
    y: Array,
    extras: tuple[tuple[Any, ...], ...] = (),
) -> None: ...
def rnn_pair_backward(
    pair: RnnPair,
    x: Array,
    weights: tuple[tuple[Array | None, ...], ...],
    gradients: tuple[tuple[Array | None, ...], ...],
    tape: Array,
    dy: Array,
    dx: Array | None,
    extras: tuple[tuple[Any, ...], ...] = (),
) -> None: ...

# The arrays' axes by name, the sizes of x's and w's, and of the bias': the last of y's, 1 where it is the same for all.
class Einsum:
    def __init__(
        self, x: str, w: str, y: str, x_sizes: Sequence[int], w_sizes: Sequence[int], bias: Sequence[int]
    ) -> None: ...
    @property
    def output(self) -> tuple[int, ...]: ...

# gradients: dx, which is overwritten, dw, which is overwritten or added to, dbias, which is added to; None: not wanted.
def einsum_forward(
    op: Einsum, x: Array, w: Array, bias: Array | None, y: Array, activation: Activation = "linear"
) -> None: ...
def einsum_backward(
    op: Einsum,
    x: Array,
    w: Array,
    dy: Array,
    gradients: tuple[Array | None, Array | None, Array | None],
    add: bool,
) -> None: ...

class AttentionShape:
    def __init__(
        self,
        batch: int,
        queries: int,
        keys: int,
        heads: int,
        key_heads: int,
        key_dim: int,
        value_dim: int,
        scale: float = 1.0,
        causal: bool = False,
        window: int = 0,
    ) -> None: ...

# Masks and dropout: query_mask (batch, queries), key_mask (batch, keys), attention_mask (batch, queries, keys), uint8;
# zero_blind, rate, seed, stream.
Options = tuple[Array | None, Array | None, Array | None, bool, float, int, int]

# inputs: q (batch, queries, heads, key_dim), k (batch, keys, key_heads, key_dim), v (batch, keys, key_heads, value_dim)
# and perhaps a learned factor of the scores, (); one head needs no axis. y (batch, queries, heads, value_dim); kept:
# 2 * batch * heads * queries numbers. outputs: kept and y; gradients: as many as inputs, the factor's is added to.
def attention_forward(
    shape: AttentionShape, inputs: Sequence[Array | None], options: Options | None, kept: Array | None, y: Array
) -> None: ...
def attention_backward(
    shape: AttentionShape,
    inputs: Sequence[Array | None],
    options: Options | None,
    outputs: Sequence[Array],
    dy: Array,
    gradients: Sequence[Array | None],
) -> None: ...

# Of one head; behind the inputs' factor perhaps the weight of each feature of a sum, or of all, (1) or (key_dim).
# by_sums: whether scores are sums of features. probabilities: p (batch, queries, keys) and, if asked for, p after
# dropout; forward: options and p; upstream: dy and perhaps the gradient of p after dropout.
def stored_attention_forward(
    shape: AttentionShape,
    inputs: Sequence[Array | None],
    by_sums: bool,
    options: Options | None,
    probabilities: Sequence[Array],
    y: Array,
) -> None: ...
def stored_attention_backward(
    shape: AttentionShape,
    inputs: Sequence[Array | None],
    by_sums: bool,
    forward: tuple[Options | None, Array],
    upstream: Sequence[Array],
    gradients: Sequence[Array | None],
) -> None: ...

class MultiHeadShape:
    def __init__(
        self,
        attention: AttentionShape,
        query_size: int,
        key_size: int,
        value_size: int,
        outputs: int,
        bias: bool,
        gate: bool,
    ) -> None: ...
    @property
    def kept(self) -> int: ...

# inputs: query, key and value, (..., their size). weights: kernels and biases of query, key, gate, value and output.
# outputs: y (..., outputs) and, if asked for, the scores (batch, heads, queries, keys). forward: options and kept;
# upstream: dy and, if there is one, the scores and their gradient; gradients: those of the weights, which are added to,
# and those of the inputs or None.
def multi_head_forward(
    shape: MultiHeadShape,
    inputs: Sequence[Array],
    weights: Sequence[Array],
    options: Options | None,
    kept: Array | None,
    outputs: Sequence[Array],
) -> None: ...
def multi_head_backward(
    shape: MultiHeadShape,
    inputs: Sequence[Array],
    weights: Sequence[Array],
    forward: tuple[Options | None, Array],
    upstream: Sequence[Array],
    gradients: tuple[Sequence[Array], Sequence[Array] | None],
) -> None: ...

# shape (samples, rows, channels, groups); x, y, dx, dy of so many elements; mask uint8 (samples, rows); mean and
# variance (samples, groups); gamma, beta, dgamma, dbeta (channels,). With y, dy is overwritten.
def group_norm_forward(
    shape: tuple[int, int, int, int],
    x: Array,
    mean: Array,
    variance: Array,
    epsilon: float,
    gamma: Array | None,
    beta: Array | None,
    y: Array,
    residual: Array | None = None,
    relu: bool = False,
) -> None: ...

# The same with the moments of x, which go to statistics (2, samples, groups) and move the running ones.
def group_norm_train(
    shape: tuple[int, int, int, int],
    x: Array,
    mask: NDArray[np.uint8] | None,
    statistics: Array,
    epsilon: float,
    gamma: Array | None,
    beta: Array | None,
    y: Array,
    residual: Array | None = None,
    relu: bool = False,
    moving_mean: Array | None = None,
    moving_variance: Array | None = None,
    momentum: float = 1.0,
) -> None: ...
def group_norm_backward(
    shape: tuple[int, int, int, int],
    x: Array,
    mask: NDArray[np.uint8] | None,
    mean: Array,
    variance: Array,
    epsilon: float,
    gamma: Array | None,
    dy: Array,
    constant: bool,
    dx: Array | None,
    dgamma: Array | None,
    dbeta: Array | None,
    y: Array | None = None,
) -> None: ...

# x, y, dx, dy: rows of so many columns, in any shape; statistics (2, rows); gamma, beta, dgamma, dbeta (columns,).
def row_norm_forward(
    kind: Literal["layer", "rms", "deviation"],
    columns: int,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    epsilon: float,
    y: Array,
    statistics: Array | None,
) -> None: ...
def row_norm_backward(
    kind: Literal["layer", "rms", "deviation"],
    columns: int,
    x: Array,
    gamma: Array | None,
    statistics: Array,
    dy: Array,
    dx: Array | None,
    dgamma: Array | None,
    dbeta: Array | None,
) -> None: ...

# Element-wise; any shape; the output may be the input.
def activation_forward(activation: Activation, x: Array, y: Array) -> None: ...
def activation_backward(activation: Activation, y: Array, dy: Array, dx: Array) -> None: ...

# The other activations, with up to three parameters: activations.h says which.
Function = Literal[
    "leaky_relu", "elu", "clip", "gelu", "gelu_tanh", "silu", "mish", "softplus", "softsign", "exponential",
    "hard_silu", "squareplus", "soft_shrink", "hard_shrink", "tanh_shrink", "sparse_plus", "threshold",
]  # fmt: skip

def function_forward(function: Function, x: Array, y: Array, a: float = 0, b: float = 0, c: float = 0) -> None: ...
def function_backward(
    function: Function, x: Array, y: Array, dy: Array, dx: Array, a: float = 0, b: float = 0, c: float = 0
) -> None: ...

# x, y, dy, dx: rows of as many elements as alpha and dalpha have.
def prelu_forward(x: Array, alpha: Array, y: Array) -> None: ...
def prelu_backward(x: Array, alpha: Array, dy: Array, dx: Array | None, dalpha: Array) -> None: ...

# Random changes of images x, y, dy, dx (n, h, w, c), or (n, c, h, w) if channels come first. What is drawn depends on
# (seed, stream) alone. A pair: between what it is drawn.
Pair = tuple[float, float]

class RandomFlip:
    def __init__(self, vertical: bool, horizontal: bool, channels_first: bool = False) -> None: ...

def random_flip(flip: RandomFlip, seed: int, stream: int, x: Array, y: Array) -> None: ...

# images.h says what is drawn, first and second, and what becomes of it.
class RandomTone:
    def __init__(
        self,
        change: Literal[
            "brightness",
            "contrast",
            "solarization",
            "degeneration",
            "grayscale",
            "inversion",
            "posterization",
            "hue",
            "saturation",
        ],
        first: Pair,
        second: Pair,
        value_range: Pair,
        channels_first: bool = False,
    ) -> None: ...

def random_tone_forward(tone: RandomTone, seed: int, stream: int, x: Array, y: Array) -> None: ...
def random_tone_backward(tone: RandomTone, seed: int, stream: int, x: Array, dy: Array, dx: Array) -> None: ...

# The same images, whatever the numbers: each channel stretched to the range, or its histogram made even.
def stretch_forward(channels_first: bool, value_range: Pair, x: Array, y: Array) -> None: ...
def stretch_backward(channels_first: bool, value_range: Pair, x: Array, dy: Array, dx: Array) -> None: ...
def equalize(channels_first: bool, bins: int, value_range: Pair, x: Array, y: Array) -> None: ...

# y and dy: a part of x, of the height and width that they have.
def random_crop_forward(channels_first: bool, seed: int, stream: int, x: Array, y: Array) -> None: ...
def random_crop_backward(channels_first: bool, seed: int, stream: int, dy: Array, dx: Array) -> None: ...

# second: None, it is the same number; value: of what lies outside with "constant".
class RandomMovement:
    def __init__(
        self,
        movement: Literal["turn", "zoom", "shift", "shear"],
        first: Pair,
        second: Pair | None,
        fill: Literal["constant", "nearest", "reflect", "wrap"],
        bilinear: bool,
        value: float = 0,
        channels_first: bool = False,
    ) -> None: ...

def random_affine_forward(movement: RandomMovement, seed: int, stream: int, x: Array, y: Array) -> None: ...
def random_affine_backward(movement: RandomMovement, seed: int, stream: int, dy: Array, dx: Array) -> None: ...

# Of arrays (samples, ..., channels): each axis between is multiplied by a matrix, (inputs, first, weights): its nonzero
# elements begin at first (outputs,) and are weights (outputs, width).
class Resampling:
    def __init__(
        self,
        samples: int,
        matrices: Sequence[tuple[int, NDArray[np.int32], NDArray[np.float64]]],
        channels: int,
    ) -> None: ...

def resample(shape: Resampling, x: Array, y: Array) -> None: ...

# So many zeros (before, behind) an input on each of its three axes: `pad` puts them there, `crop` takes them away.
class Margins:
    def __init__(self, input: tuple[int, int, int, int, int], margins: Sequence[tuple[int, int]]) -> None: ...

def pad(shape: Margins, x: Array, y: Array) -> None: ...
def crop(shape: Margins, x: Array, y: Array) -> None: ...

Merge = Literal["add", "subtract", "multiply", "average", "maximum", "minimum"]

# Of a list of arrays. dx[0] may be dy.
def merge_forward(merge: Merge, x: list[Array], y: Array) -> None: ...
def merge_backward(merge: Merge, x: list[Array], dy: Array, dx: list[Array]) -> None: ...

# Each row of `whole` is a row of each part, one after the other.
def concatenate(rows: int, parts: list[Array], whole: Array) -> None: ...
def split(rows: int, whole: Array, parts: list[Array]) -> None: ...

# Over the last axis.
def softmax_forward(x: Array, y: Array) -> None: ...
def softmax_backward(y: Array, dy: Array, dx: Array) -> None: ...
def log_softmax_forward(x: Array, y: Array) -> None: ...
def log_softmax_backward(y: Array, dy: Array, dx: Array) -> None: ...

# l1 sum |x| + l2 sum x^2
def penalty(x: Array, l1: float, l2: float) -> float: ...
def add_penalty_gradient(x: Array, l1: float, l2: float, dx: Array) -> None: ...

# Random numbers that depend on (seed, stream) alone; the output may be the input.
def dropout(x: Array, rate: float, seed: int, stream: int, y: Array) -> None: ...
def alpha_dropout_forward(x: Array, rate: float, seed: int, stream: int, y: Array) -> None: ...
def alpha_dropout_backward(x: Array, rate: float, seed: int, stream: int, y: Array) -> None: ...
def add_noise(x: Array, deviation: float, seed: int, stream: int, y: Array) -> None: ...
def multiply_noise(x: Array, deviation: float, seed: int, stream: int, y: Array) -> None: ...

# x, y (batch, ..., channels), or (batch, channels, ...) if these come first.
def spatial_dropout(x: Array, channels_first: bool, rate: float, seed: int, stream: int, y: Array) -> None: ...

# A number for each channel of x and y: (..., channels, inner), of any shape.
def scale_channels(x: Array, scale: Array, offset: Array | None, inner: int, y: Array) -> None: ...
def standardize_channels(x: Array, deviation: Array, mean: Array | None, inner: int, y: Array) -> None: ...

# out[i] = source[rows[i]] for any dtype, rows of any shape; rows outside the source raise IndexError.
# out has source's dtype; or float32 where source is uint8. nonzero[i] = rows[i] != 0.
def gather_rows(
    source: np.ndarray, rows: Labels, out: np.ndarray, nonzero: NDArray[np.uint8] | None = None
) -> None: ...

# mask[i]: whether any element of x[i] differs from value, x (*mask.shape, columns); y: x, and 0 where mask is.
# clear_masked_rows does the same to x by a mask that is known.
def mask_rows(x: Array, value: float, mask: NDArray[np.uint8], y: Array | None) -> None: ...
def clear_masked_rows(mask: NDArray[np.uint8], x: Array) -> None: ...

# table[rows[i]] += dy[i]; rows of any shape, dy (*rows.shape, columns), table (height, columns).
def scatter_add_rows(dy: Array, rows: Labels, table: Array) -> None: ...

# Rows = all axes but the last. labels, losses and scale have one entry a row. A label out of range raises ValueError.
def sparse_softmax_crossentropy_forward(logits: Array, labels: Labels, probabilities: Array, losses: Array) -> None: ...
def sparse_softmax_crossentropy_backward(
    probabilities: Array, labels: Labels, scale: Array, dlogits: Array
) -> None: ...
def softmax_crossentropy_forward(logits: Array, targets: Array, probabilities: Array, losses: Array) -> None: ...
def softmax_crossentropy_backward(probabilities: Array, targets: Array, scale: Array, dlogits: Array) -> None: ...
def sigmoid_crossentropy_forward(logits: Array, targets: Array, probabilities: Array, losses: Array) -> None: ...
def sigmoid_crossentropy_backward(probabilities: Array, targets: Array, scale: Array, dlogits: Array) -> None: ...
def mean_squared_error_forward(y: Array, targets: Array, losses: Array) -> None: ...
def mean_squared_error_backward(y: Array, targets: Array, scale: Array, dy: Array) -> None: ...
def count_correct(y: Array, labels: Labels) -> int: ...
def total(losses: Array) -> float: ...

# Over flat blocks; the gradients are left zero.
def sgd_update(
    weights: Array, gradients: Array, velocity: Array | None, learning_rate: float, momentum: float, nesterov: bool
) -> None: ...
def adam_update(
    weights: Array,
    gradients: Array,
    moments: Sequence[Array],  # m and v
    learning_rate: float,
    settings: tuple[float, float, float],  # beta_1, beta_2, epsilon
    step: int,
) -> None: ...

# average = momentum * average + (1 - momentum) * value, of any one shape.
def moving_average_update(average: Array, value: Array, momentum: float) -> None: ...

# The naive reference and the textbook im2col + GEMM method, for tests, teaching and comparison.
class reference:
    @staticmethod
    def conv2d_forward(
        shape: Conv2DShape, x: Array, kernel: Array, bias: Array | None, y: Array, activation: Activation = "linear"
    ) -> None: ...
    @staticmethod
    def conv2d_input_gradient(shape: Conv2DShape, dy: Array, kernel: Array, dx: Array) -> None: ...
    @staticmethod
    def conv2d_weight_gradient(
        shape: Conv2DShape, x: Array, dy: Array, dkernel: Array, dbias: Array | None
    ) -> None: ...
    @staticmethod
    def max_pool2d_forward(shape: Pool2DShape, x: Array, y: Array, positions: Positions | None) -> None: ...
    @staticmethod
    def max_pool2d_backward(shape: Pool2DShape, dy: Array, positions: Positions, dx: Array) -> None: ...
    @staticmethod
    def average_pool2d_forward(shape: Pool2DShape, x: Array, y: Array) -> None: ...
    @staticmethod
    def average_pool2d_backward(shape: Pool2DShape, dy: Array, dx: Array) -> None: ...
    @staticmethod
    def gemm(
        a: Array, b: Array, c: Array, transpose_a: bool = False, transpose_b: bool = False, accumulate: bool = False
    ) -> None: ...

class im2col:
    @staticmethod
    def conv2d_forward(
        shape: Conv2DShape, x: Array, kernel: Array, bias: Array | None, y: Array, activation: Activation = "linear"
    ) -> None: ...
    @staticmethod
    def conv2d_input_gradient(shape: Conv2DShape, dy: Array, kernel: Array, dx: Array) -> None: ...
    @staticmethod
    def conv2d_weight_gradient(
        shape: Conv2DShape, x: Array, dy: Array, dkernel: Array, dbias: Array | None
    ) -> None: ...
