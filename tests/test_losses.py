"""Every loss against a plain formula, its gradient by finite differences, reductions, weights, ignored rows."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from helpers import numeric_gradient
from vivace import losses
from vivace.layers import Dense, Input
from vivace.models import Sequential
from vivace.step import Step

RNG = np.random.default_rng(7)
ROWS, CLASSES = (3, 2), 4
LABELS = RNG.integers(0, CLASSES, ROWS)
ONEHOT = np.eye(CLASSES)[LABELS]
BITS = RNG.integers(0, 2, (*ROWS, CLASSES)).astype(float)
REAL = RNG.standard_normal((*ROWS, CLASSES))
POSITIVE = RNG.uniform(0.5, 2, (*ROWS, CLASSES))
P = RNG.dirichlet(np.ones(CLASSES), ROWS)
Q = RNG.uniform(0.1, 0.9, (*ROWS, CLASSES))


def norm(x: np.ndarray, axis: int) -> np.ndarray:
    return x / np.sqrt((x * x).sum(axis, keepdims=True))


def xent(t: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -(t * np.log(y) + (1 - t) * np.log(1 - y))


def smoothed(t: np.ndarray, s: float) -> np.ndarray:
    return t * (1 - s) + s / CLASSES


def right(y: np.ndarray) -> np.ndarray:
    return np.take_along_axis(y, LABELS[..., None], -1)[..., 0]


CASES: list[Any] = [
    (losses.MeanSquaredError(), REAL, POSITIVE, lambda t, y: ((t - y) ** 2).mean(-1)),
    (losses.MeanAbsoluteError(), REAL, POSITIVE, lambda t, y: abs(t - y).mean(-1)),
    (losses.MeanAbsolutePercentageError(), REAL, POSITIVE, lambda t, y: 100 * abs((t - y) / t).mean(-1)),
    (losses.MeanSquaredLogarithmicError(), POSITIVE, Q, lambda t, y: (np.log((1 + t) / (1 + y)) ** 2).mean(-1)),
    (losses.Huber(0.7), REAL, POSITIVE,
     lambda t, y: np.where(abs(t - y) < 0.7, (t - y) ** 2 / 2, 0.7 * abs(t - y) - 0.245).mean(-1)),
    (losses.LogCosh(), REAL, POSITIVE, lambda t, y: np.log(np.cosh(y - t)).mean(-1)),
    (losses.Poisson(), POSITIVE, Q, lambda t, y: (y - t * np.log(y)).mean(-1)),
    (losses.Hinge(), BITS, REAL, lambda t, y: np.maximum(1 - (2 * t - 1) * y, 0).mean(-1)),
    (losses.Hinge(), 2 * BITS - 1, REAL, lambda t, y: np.maximum(1 - t * y, 0).mean(-1)),
    (losses.SquaredHinge(), BITS, REAL, lambda t, y: (np.maximum(1 - (2 * t - 1) * y, 0) ** 2).mean(-1)),
    (losses.CategoricalHinge(), ONEHOT, REAL,
     lambda t, y: np.maximum(0, 1 + ((1 - t) * y).max(-1) - (t * y).sum(-1))),
    (losses.KLDivergence(), P, Q, lambda t, y: (t * np.log(t / y)).sum(-1)),
    (losses.CosineSimilarity(), REAL, POSITIVE, lambda t, y: -(norm(t, -1) * norm(y, -1)).sum(-1)),
    (losses.CosineSimilarity(axis=1), REAL, POSITIVE, lambda t, y: -(norm(t, 1) * norm(y, 1)).sum(1)),
    (losses.BinaryCrossentropy(), BITS, Q, lambda t, y: xent(t, y).mean(-1)),
    (losses.CategoricalCrossentropy(label_smoothing=0.2), ONEHOT, Q,
     lambda t, y: -(smoothed(t, 0.2) * np.log(y / y.sum(-1, keepdims=True))).sum(-1)),
    (losses.SparseCategoricalCrossentropy(), LABELS, Q, lambda t, y: -np.log(right(y / y.sum(-1, keepdims=True)))),
    (losses.SparseCategoricalCrossentropy(ignore_class=2), LABELS, Q,
     lambda t, y: -np.log(right(y / y.sum(-1, keepdims=True))) * (t != 2)),
    (losses.BinaryFocalCrossentropy(True, 0.3, 1.5), BITS, Q,
     lambda t, y: (np.where(t, 0.3, 0.7) * np.where(t, 1 - y, y) ** 1.5 * xent(t, y)).mean(-1)),
    (losses.BinaryFocalCrossentropy(label_smoothing=0.2), BITS, Q,
     lambda t, y: (lambda s: ((s + y - 2 * s * y) ** 2 * xent(s, y)).mean(-1))(t * 0.8 + 0.1)),
    (losses.CategoricalFocalCrossentropy([0.1, 0.2, 0.3, 0.4], 1.5, label_smoothing=0.2), ONEHOT, P,
     lambda t, y: -(np.array([0.1, 0.2, 0.3, 0.4]) * (1 - y) ** 1.5 * smoothed(t, 0.2) * np.log(y)).sum(-1)),
    (losses.CategoricalGeneralizedCrossEntropy(0.3), LABELS, P, lambda t, y: (1 - right(y) ** 0.3) / 0.3),
    (losses.Dice(), BITS, Q, lambda t, y: 1 - 2 * (t * y).sum() / (t.sum() + y.sum())),
    (losses.Dice(axis=(1, 2)), BITS, Q, lambda t, y: 1 - 2 * (t * y).sum((1, 2)) / (t + y).sum((1, 2))),
    (losses.Tversky(0.3, 0.6, axis=-1), BITS, Q,
     lambda t, y: 1 - (t * y).sum(-1) / (t * y + 0.3 * t * (1 - y) + 0.6 * y * (1 - t)).sum(-1)),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "t", "y", "formula"), CASES)
def test_equals_the_formula_and_its_gradient(loss: losses.Loss, t: Any, y: Any, formula: Any) -> None:
    y = y.copy()
    of_rows, targets = loss.by_row(t, y)
    np.testing.assert_allclose(of_rows, formula(t, y), 1e-6, 1e-7)
    scale = np.asarray(RNG.uniform(0.5, 2, of_rows.shape))
    counted = loss.counted(targets, of_rows)
    scale = scale if counted is None else scale * counted  # as training does
    expected = numeric_gradient(lambda: float((loss.forward(y, targets, Step(True)) * scale).sum()), y)
    gradient = loss.backward(y, targets, scale, Step(True))
    np.testing.assert_allclose(gradient, expected, 1e-5, 1e-7)
    targets = loss.prepare(t, y.shape, "float32")
    single = loss.backward(y.astype("float32"), targets, scale.astype("float32"), Step(True))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, 1e-3, 1e-4)


@pytest.mark.parametrize(
    ("loss", "t"),
    [
        (losses.BinaryFocalCrossentropy(True, 0.3, 1.5, from_logits=True), BITS),
        (losses.CategoricalFocalCrossentropy(0.3, 1.5, from_logits=True), ONEHOT),
        (losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=2), LABELS),
    ],
)
def test_gradients_by_logits(loss: losses.Loss, t: Any) -> None:
    z, scale = REAL.copy(), RNG.uniform(0.5, 2, ROWS)
    targets = loss.prepare(t, z.shape, "float64")
    counted = loss.counted(targets, scale)
    scale = scale if counted is None else scale * counted
    expected = numeric_gradient(lambda: float((loss.forward_logits(z, targets, Step(True))[0] * scale).sum()), z)
    p = loss.forward_logits(z, targets, Step(True))[1]
    np.testing.assert_allclose(loss.backward_logits(p, targets, scale, Step(True)), expected, 1e-5, 1e-8)


def circle(t: Any, y: Any, gamma: float, margin: float) -> Any:
    """Written out, sample by sample."""
    found = []
    for i, own in enumerate(y):
        d = [max(0.0, 1 - float(own @ other)) for other in y]
        alike = [np.exp(-gamma * (margin + x) * (margin - x)) for j, x in enumerate(d) if t[j] == t[i] and j != i]
        others = [np.exp(gamma * max(1 + margin - x, 0) * (1 - margin - x)) for j, x in enumerate(d) if t[j] != t[i]]
        found.append(np.log1p(sum(alike) * sum(others)))
    return np.array(found)


def test_circle() -> None:
    y = RNG.standard_normal((7, 3))
    y *= 0.9 / np.linalg.norm(y, axis=1, keepdims=True)
    t = np.array([0, 1, 0, 2, 1, 1, 0])  # 2 stands alone: it has no loss, and does not count
    loss = losses.Circle(gamma=3.0, margin=0.3)
    expected = circle(t, y, 3.0, 0.3)
    assert expected[3] == 0
    np.testing.assert_allclose(losses.circle(t, y, gamma=3.0, margin=0.3), expected, 1e-12)
    np.testing.assert_allclose(losses.circle(t, y, t, y, gamma=3.0, margin=0.3), expected, 1e-12)
    np.testing.assert_allclose(loss(t[:, None], y), expected.sum() / 6, 1e-12)
    scale = RNG.uniform(0.5, 2, 7)
    numeric = numeric_gradient(lambda: float((loss.forward(y, t, Step(True)) * scale).sum()), y)
    np.testing.assert_allclose(loss.backward(y, t, scale, Step(True)), numeric, 1e-5, 1e-7)
    with_itself = losses.circle(t, y, gamma=3.0, margin=0.3, remove_diagonal=False)
    assert (with_itself > expected).all()
    with pytest.raises(ValueError, match="embeddings"):
        loss(t, y[:, 0])


def test_rows_of_zeros_have_no_loss_but_no_warning_either() -> None:
    assert np.isnan(losses.CategoricalCrossentropy()([[1.0, 0.0]], [[0.0, 0.0]]))


def spelled(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(c for c, _ in itertools.groupby(path) if c)


def test_ctc_sums_over_all_paths() -> None:
    z, labels = RNG.standard_normal((5, 4, 3)), np.array([[1, 2, 0], [1, 1, 0], [2, 0, 0], [0, 0, 0], [1, 2, 1]])
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    loss, scale = losses.CTC(), RNG.uniform(0.5, 2, 5)
    targets = loss.prepare(labels, z.shape, "float64")
    for i, row in enumerate(labels):
        wanted = tuple(row[row != 0])
        paths = [path for path in itertools.product(range(3), repeat=4) if spelled(path) == wanted]
        total = sum(np.prod(p[i, np.arange(4), path]) for path in paths)
        assert loss.forward(z, targets, Step(True))[i] == pytest.approx(-np.log(total), rel=1e-10)
    expected = numeric_gradient(lambda: float((loss.forward(z, targets, Step(True)) * scale).sum()), z)
    np.testing.assert_allclose(loss.backward(z, targets, scale, Step(True)), expected, 1e-5, 1e-8)


def test_ctc_that_cannot_fit_is_infinite_with_no_gradient() -> None:
    z, labels = RNG.standard_normal((1, 3, 3)).astype("float32"), np.array([[1, 1, 2]])
    loss = losses.CTC()
    assert np.isinf(loss(labels, z))
    assert not loss.backward(z, labels, np.ones(1, "float32"), Step(True)).any()


def test_reductions() -> None:
    t, y, w = np.zeros((2, 1)), np.array([[1.0], [3.0]]), np.array([1.0, 0.5])  # losses 1 and 9
    values = {r: losses.MeanSquaredError(reduction=r)(t, y, w) for r in ("mean", "sum", "mean_with_sample_weight")}
    assert values == pytest.approx({"mean": 2.75, "sum": 5.5, "mean_with_sample_weight": 5.5 / 1.5})
    np.testing.assert_allclose(losses.MeanSquaredError(reduction="none")(t, y, w), [1, 4.5])
    assert losses.MeanSquaredError(reduction="sum")(t, y) == 10


def test_ignored_rows_are_not_counted() -> None:
    p = np.array([[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]])
    loss = losses.SparseCategoricalCrossentropy(ignore_class=-1)
    assert loss([0, -1, 1], p) == pytest.approx(-(np.log(0.5) + np.log(0.1)) / 2)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
def test_training_takes_the_reduction(reduction: str) -> None:
    x, t, w = RNG.standard_normal((6, 3)), RNG.standard_normal((6, 2)), RNG.uniform(0, 2, 6)
    model = Sequential([Input((3,), dtype="float64"), Dense(2, use_bias=False, dtype="float64")])
    loss = losses.MeanSquaredError(reduction)
    model.compile("sgd", loss)
    kernel = model.layers[0].kernel.value
    before = kernel.copy()
    expected = numeric_gradient(lambda: loss(t, x @ kernel, w), kernel)
    value = loss(t, x @ kernel, w)
    assert model.train_on_batch(x, t, sample_weight=w) == pytest.approx(value)
    np.testing.assert_allclose(model.layers[0].kernel.value, before - 0.01 * expected, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(losses._BY_NAME))
def test_names_functions_and_configurations(name: str) -> None:
    loss = losses.get(name)
    assert type(losses.get(type(loss).__name__)) is type(loss)
    assert type(losses.get(getattr(losses, name))) is type(loss)
    again = losses.get(losses.serialize(loss))
    assert again.get_config() == loss.get_config()


def test_functions_are_the_losses_by_row() -> None:
    np.testing.assert_allclose(losses.huber(REAL, POSITIVE, delta=0.7), losses.Huber(0.7).by_row(REAL, POSITIVE)[0])
    focal = losses.BinaryFocalCrossentropy(gamma=1.5).by_row(BITS, Q)[0]
    np.testing.assert_allclose(losses.binary_focal_crossentropy(BITS, Q, gamma=1.5), focal)
    assert losses.mean_absolute_error([1.0, 2.0], [3.0, 3.0]) == 1.5
    assert losses.dice(BITS, Q).shape == ()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: losses.MeanSquaredError("average"), ValueError, "reduction must be one of"),
        (lambda: losses.Huber(0), ValueError, "Huber: delta must be positive, received 0"),
        (lambda: losses.CategoricalGeneralizedCrossEntropy(1.0), ValueError, r"q must lie in \(0, 1\), received 1.0"),
        (lambda: losses.get(3), TypeError, "loss must be a name, a loss, or a function of"),
        (lambda: losses.CTC()([[1, 9]], np.zeros((1, 4, 3))), ValueError, r"labels must be integers in \[1, 3\)"),
        (lambda: losses.CTC()([1], np.zeros((1, 3))), ValueError, "takes outputs"),
        (lambda: Sequential().compile("sgd", losses.MeanSquaredError("none")), ValueError, "needs a reduction"),
    ],
)
def test_bad_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("name", ["Categorical", "SparseCategorical", "CategoricalFocal", "Binary", "BinaryFocal"])
def test_classes_along_another_axis(name: str, from_logits: bool, rng: np.random.Generator) -> None:
    kind = getattr(losses, f"{name}Crossentropy")
    last, first = kind(from_logits, reduction="sum"), kind(from_logits, axis=1, reduction="sum")
    if "Focal" in name:
        last, first = (kind(from_logits=from_logits, axis=axis, reduction="sum") for axis in (-1, 1))
    y, labels = rng.dirichlet(np.ones(4), (5, 3)), rng.integers(0, 4, (5, 3))
    t = labels if name.startswith("Sparse") else np.eye(4)[labels]
    moved = t if t is labels else np.moveaxis(t, -1, 1)
    assert first(moved, np.moveaxis(y, -1, 1)) == pytest.approx(last(t, y), rel=1e-12)
    gradients = []
    for loss, given, predictions in ((last, t, y), (first, moved, np.ascontiguousarray(np.moveaxis(y, -1, 1)))):
        rows, targets = loss.by_row(given, predictions)
        step, scale = Step(True), np.ones_like(rows)
        if from_logits:
            p = loss.forward_logits(predictions, targets, step)[1]
            gradients.append(loss.backward_logits(p, targets, scale, step))
        else:
            gradients.append(loss.backward(predictions, targets, scale, step))
    np.testing.assert_allclose(np.moveaxis(gradients[1], 1, -1), gradients[0], rtol=1e-12)
