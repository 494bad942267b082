"""Constraints and the orthogonal regularizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import numeric_gradient
from vivace import constraints, optimizers, regularizers
from vivace.parameters import FlatParameters, Parameter

W = np.random.default_rng(5).standard_normal((4, 3)) * 2


def norms(w: np.ndarray) -> np.ndarray:
    return np.sqrt((w * w).sum(0))


def test_projections() -> None:
    np.testing.assert_array_equal(constraints.NonNeg()(W), np.where(W > 0, W, 0))
    np.testing.assert_allclose(norms(constraints.UnitNorm()(W)), 1, 1e-6)
    np.testing.assert_allclose(norms(constraints.MaxNorm(1.5)(W)), np.minimum(norms(W), 1.5), 1e-6)
    half = constraints.MinMaxNorm(3.0, 4.0, rate=0.5)(W)
    np.testing.assert_allclose(norms(half), (norms(W) + np.clip(norms(W), 3, 4)) / 2, 1e-6)
    kernel = np.ones((3, 3, 2, 5))
    np.testing.assert_allclose(np.square(constraints.UnitNorm((0, 1, 2))(kernel)).sum((0, 1, 2)), 1, 1e-6)
    assert constraints.MaxNorm(1.0)(W.astype("float32")).dtype == np.float32


def test_the_optimizer_applies_them() -> None:
    parameter = Parameter("w", W.copy(), constraint=constraints.get("non_neg"))
    flat = FlatParameters([parameter])
    parameter.gradient[...] = 1
    optimizers.SGD(0.5).apply(flat)
    np.testing.assert_allclose(parameter.value, np.maximum(W - 0.5, 0))


@pytest.mark.parametrize("mode", ["rows", "columns"])
def test_orthogonal_regularizer(mode: str) -> None:
    regularizer, w = regularizers.OrthogonalRegularizer(0.3, mode), W.copy()
    rows = w if mode == "rows" else w.T
    pairs = [(a, b) for i, a in enumerate(rows) for b in rows[:i]]
    expected = 0.3 * np.mean([abs(a @ b) / np.sqrt((a @ a) * (b @ b)) for a, b in pairs])
    assert regularizer(w) == pytest.approx(expected)
    gradient = np.zeros_like(w)
    regularizer.add_gradient(w, gradient)
    np.testing.assert_allclose(gradient, numeric_gradient(lambda: regularizer(w), w), 1e-5, 1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: constraints.MinMaxNorm(2.0, 1.0), "0 <= min_value <= max_value must hold, received 2.0 and 1.0"),
        (lambda: constraints.MinMaxNorm(rate=2.0), "rate must lie in"),
        (lambda: constraints.get("max_nrm"), "unknown constraint 'max_nrm'; did you mean 'max_norm'"),
        (lambda: regularizers.OrthogonalRegularizer(mode="row"), "mode must be rows or columns, received 'row'"),
        (lambda: regularizers.OrthogonalRegularizer()(np.ones(3)), "must have two axes"),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
