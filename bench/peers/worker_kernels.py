"""One convolution or product: vivace's native function, PyTorch's (oneDNN, MKL; by layout), NumPy's (OpenBLAS)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from common import DIRECTIONS, PRODUCTS, repeat, serve, task

task = task()


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype("f4")


def operands() -> tuple[np.ndarray, np.ndarray, np.ndarray, bool, bool]:
    m, n, k, ta, tb = PRODUCTS[task.detail]
    return draw(k, m) if ta else draw(m, k), draw(n, k) if tb else draw(k, n), draw(m, n), bool(ta), bool(tb)


def vivace() -> tuple[str, Callable[[], Any]]:
    import vivace
    from vivace._core import native
    from vivace.parameters import aligned_empty

    vivace.set_num_threads(task.threads)

    def aligned(array: np.ndarray) -> np.ndarray:
        copy = aligned_empty(array.shape, array.dtype)
        copy[...] = array
        return copy

    version = f"vivace {vivace.__version__}"
    if task.name == "product":
        a, b, c, ta, tb = operands()
        a, b, c = aligned(a), aligned(b), aligned(c)
        return version, lambda: native.gemm(a, b, c, ta, tb)
    (n, h, w, c_in, o, kh, kw, stride, pad, groups), direction = task.convolution()
    up = pad * (kh > 1)
    shape = native.Conv2DShape(
        (n, h, w, c_in), (kh, kw, c_in // groups, o), (stride, stride), (up, up, pad, pad), groups=groups
    )
    x, kernel, y = aligned(draw(*shape.input)), aligned(draw(*shape.kernel)), aligned(draw(*shape.output))
    calls = {
        "forward": lambda: native.conv2d_forward(shape, x, kernel, None, y),
        "input gradient": lambda: native.conv2d_input_gradient(shape, y, kernel, x),
        "weight gradient": lambda: native.conv2d_weight_gradient(shape, x, y, kernel, None),
    }
    return version, calls[direction]


def torch() -> tuple[str, Callable[[], Any]]:
    import torch

    torch.set_num_threads(task.threads)
    torch.set_grad_enabled(False)
    version = f"PyTorch {torch.__version__}"
    if task.name == "product":
        a, b, c, ta, tb = operands()
        left, right, out = (torch.from_numpy(v) for v in (a, b, c))
        left, right = left.T if ta else left, right.T if tb else right
        return version, lambda: torch.mm(left, right, out=out)
    (n, h, w, c_in, o, kh, kw, stride, pad, groups), direction = task.convolution()
    layout = torch.channels_last if "channels_last" in task.variant else torch.contiguous_format
    padding = [pad * (kh > 1), pad]
    x = torch.from_numpy(draw(n, c_in, h, w)).contiguous(memory_format=layout)
    kernel = torch.from_numpy(draw(o, c_in // groups, kh, kw)).contiguous(memory_format=layout)
    if direction == "forward":
        return version, lambda: torch.conv2d(x, kernel, None, stride, padding, 1, groups)
    dy = torch.randn_like(torch.conv2d(x, kernel, None, stride, padding, 1, groups))
    wanted = [direction == d for d in DIRECTIONS[1:]] + [False]
    fixed = (None, [stride, stride], padding, [1, 1], False, [0, 0], groups, wanted)
    return version, lambda: torch.ops.aten.convolution_backward(dy, x, kernel, *fixed)


def numpy() -> tuple[str, Callable[[], Any]]:
    a, b, c, ta, tb = operands()
    left, right = a.T if ta else a, b.T if tb else b
    return f"NumPy {np.__version__}", lambda: np.matmul(left, right, out=c)


version, call = {"vivace": vivace, "torch": torch, "numpy": numpy}[task.variant.split()[0]]()
serve(version, repeat(call))
