"""Gradients of plain functions, derived by the `autograd` library (optional extra `autograd`).

Layers and losses of this package have gradients written by hand; this is for those of a user that have none. Such a
function computes with `autograd.numpy` in place of `numpy`, and does not write into arrays.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ._typing import Array

Pullback = Callable[[Array], list[Array]]


def pullback(owner: str, function: Callable[..., Any], arguments: list[Array]) -> tuple[Array, Pullback]:
    """The function's value, and what makes of the value's gradient those of the arguments.

    Raises:
        ImportError: autograd is not installed. TypeError: the function computes with what autograd cannot follow.
    """
    try:
        from autograd import make_vjp
    except ImportError:
        raise ImportError(
            f"{owner}: there is no gradient written for it, and deriving one needs the autograd library: "
            "pip install 'vivace[autograd]'"
        ) from None
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Output seems independent of input")
        try:
            back, value = make_vjp(function, tuple(range(len(arguments))))(*arguments)
        except (TypeError, UserWarning) as error:
            raise TypeError(
                f"{owner}: its gradient cannot be derived ({error}); compute with autograd.numpy in place of numpy"
            ) from error

    def pull(gradient: Array) -> list[Array]:
        parts = back(gradient if gradient.ndim else gradient[()])  # a scalar's gradient is a scalar to autograd
        pairs = zip(parts, arguments, strict=True)
        # copies: they may be views of each other
        return [np.array(part, argument.dtype, order="C").reshape(argument.shape) for part, argument in pairs]

    return np.asarray(value), pull
