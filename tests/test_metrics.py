"""Metrics by hand-made numbers: counts, rates, areas, scores, weights, names; test_keras.py draws them at random."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vivace import losses, metrics
from vivace.layers import Dense, Input
from vivace.models import Sequential


def value(metric: metrics.Metric, *batches: tuple[Any, ...]) -> Any:
    metric.update_state([[1]], [[0.3]])
    metric.reset_state()
    for batch in batches:
        metric.update_state(*batch)
    return metric.result()


T, Y = np.array([1, 1, 0, 0, 1]), np.array([0.9, 0.4, 0.6, 0.1, 0.5])


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (metrics.TruePositives(), 1),  # 0.5 is not above 0.5
        (metrics.FalsePositives(), 1),
        (metrics.TrueNegatives(), 1),
        (metrics.FalseNegatives(), 2),
        (metrics.TruePositives([0.45, 0.95, 0.2]), [2, 0, 3]),
        (metrics.Precision(), 1 / 2),
        (metrics.Recall(), 1 / 3),
        (metrics.Recall(0.3), 1),
        (metrics.AUC(), 4 / 6),  # of the 6 pairs of a positive and a negative, 4 are in order
        (metrics.SensitivityAtSpecificity(1.0), 1 / 3),
        (metrics.SpecificityAtSensitivity(1.0), 1 / 2),
        (metrics.PrecisionAtRecall(1.0), 3 / 4),
        (metrics.RecallAtPrecision(0.75), 1),
        (metrics.BinaryAccuracy(), 2 / 5),
        (metrics.BinaryAccuracy(threshold=0.45), 3 / 5),
        (metrics.BinaryIoU(), (1 / 3 + 2 / 4) / 2),  # 0.5 counts as 1 here
        (metrics.RootMeanSquaredError(), np.sqrt(np.square(T - Y).mean())),
        (metrics.MeanRelativeError([1, 1, 0, 0, 2]), (0.1 + 0.6 + 0.25) / 5),
    ],
)
def test_decisions(metric: metrics.Metric, expected: Any) -> None:
    if isinstance(metric, metrics.MeanRelativeError):
        metric.update_state(T, Y)
        assert metric.result() == pytest.approx(expected)
        return
    np.testing.assert_allclose(value(metric, (T, Y)), expected, 1e-6, 1e-4)
    np.testing.assert_allclose(
        value(metric, (T[:2], Y[:2]), (T[2:], Y[2:])), expected, 1e-6, 1e-4, err_msg="in two batches"
    )
    doubled = value(metric, (T, Y, np.full(5, 2.0)))
    factor = 2 if "tives" in type(metric).__name__ else 1
    np.testing.assert_allclose(doubled, np.multiply(expected, factor), 1e-6, 1e-4, err_msg="weighted")


def test_weights_are_shares() -> None:
    weights = np.array([2.0, 0.0, 1.0, 0.0, 0.0])
    assert value(metrics.BinaryAccuracy(), (T, Y, weights)) == pytest.approx(2 / 3)
    assert value(metrics.Precision(), (T, Y, weights)) == pytest.approx(2 / 3)
    assert value(metrics.MeanAbsoluteError(), (T[:, None], Y[:, None], weights)) == pytest.approx((0.2 + 0.6) / 3)
    mean, total = metrics.Mean(), metrics.Sum()
    mean.update_state([1.0, 4.0], [1.0, 0.5])
    total.update_state([1.0, 4.0], [1.0, 0.5])
    assert (mean.result(), total.result()) == (2.0, 3.0)


P = np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.2, 0.6, 0.2]])
LABELS = np.array([1, 0, 2])


def test_classes() -> None:
    onehot = np.eye(3)[LABELS]
    for k, expected in ((1, 1 / 3), (2, 1.0), (3, 1)):
        # the label 2 shares the second place with the class 0: both count as second
        assert metrics.SparseTopKCategoricalAccuracy(k)(LABELS, P) == pytest.approx(expected)
        assert metrics.TopKCategoricalAccuracy(k)(onehot, P) == pytest.approx(expected)
    ids = np.argsort(-P, axis=-1, kind="stable")
    assert metrics.SparseTopKCategoricalAccuracy(1, from_sorted_ids=True)(LABELS, ids) == pytest.approx(1 / 3)
    assert metrics.Precision(top_k=1)(onehot, P) == pytest.approx(1 / 3)
    assert metrics.Recall(class_id=0, thresholds=0.3)(onehot, P) == 1
    np.testing.assert_allclose(metrics.F1Score()(onehot, P), [1, 0, 0], atol=1e-6)
    assert metrics.F1Score("micro")(onehot, P) == pytest.approx(1 / 3, rel=1e-5)
    assert metrics.FBetaScore("macro", 2.0, 0.3)(onehot, P) == pytest.approx(1 / 3, rel=1e-5)
    iou = metrics.MeanIoU(3)
    assert iou([0, 1, 1, 2], [0, 1, 2, 2]) == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert metrics.IoU(3, [1], ignore_class=2)([0, 1, 1, 2], [0, 1, 2, 1]) == 0.5
    assert metrics.OneHotMeanIoU(3)(np.eye(3)[[0, 1, 1, 2]], np.eye(3)[[0, 1, 2, 2]]) == pytest.approx(2 / 3)


def test_r2() -> None:
    t, y = np.array([[1.0, 0], [2, 1], [3, 5]]), np.array([[1.0, 1], [2, 1], [4, 3]])
    scores = 1 - np.square(t - y).sum(0) / np.square(t - t.mean(0)).sum(0)
    np.testing.assert_allclose(metrics.R2Score(None)(t, y), scores)
    in_parts = metrics.R2Score()
    in_parts.update_state(t[:1], y[:1])
    assert in_parts(t[1:], y[1:]) == pytest.approx(scores.mean())


def test_losses_as_metrics_leave_out_an_ignored_class() -> None:
    metric = metrics.SparseCategoricalCrossentropy(ignore_class=-1)
    assert metric([1, -1, 2], P, np.ones(3)) == pytest.approx(-(np.log(0.2) + np.log(0.2)) / 2)
    metric.reset_state()
    assert metric([1, -1, 2], P) == pytest.approx(-(np.log(0.2) + np.log(0.2)) / 3)  # without weights it counts as 0
    assert metrics.CosineSimilarity()([[1.0, 0.0]], [[2.0, 0.0]]) == pytest.approx(1)


@pytest.mark.parametrize("name", sorted(metrics._BY_NAME))
def test_names(name: str) -> None:
    metric = metrics.get(name, 2, (None, 3))
    assert metric.name == name
    assert metrics.get("ce", 1, (None, 3)).name == "ce"


def test_training_takes_names_functions_and_objects() -> None:
    model = Sequential([Input((2,)), Dense(1, "sigmoid")])
    recall = metrics.Recall(name="recall")
    model.compile("sgd", "bce", metrics=["accuracy", "auc", losses.mean_absolute_error, recall])
    x, t = np.eye(2), np.array([0, 1])
    assert model.metrics_names == ["loss", "accuracy", "auc", "mean_absolute_error", "recall"]
    logs = model.evaluate(x, t, verbose=0, return_dict=True)
    y = model.predict(x)[:, 0]
    assert logs["mean_absolute_error"] == pytest.approx(np.abs(y - t).mean(), rel=1e-6)
    assert logs["recall"] == (y[1] > 0.5)
    assert logs["auc"] == pytest.approx(float(y[1] > y[0]), abs=0.01)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: metrics.Precision(1.5), ValueError, r"Precision: thresholds must lie in \[0, 1\], received 1.5"),
        (lambda: metrics.AUC(curve="roc"), ValueError, "curve must be ROC or PR, received 'roc'"),
        (lambda: metrics.RecallAtPrecision(2.0), ValueError, "precision must lie in"),
        (lambda: metrics.IoU(2, [2]), ValueError, r"target_class_ids must lie in \[0, 2\), received 2"),
        (lambda: metrics.F1Score("mean"), ValueError, "average must be None, micro, macro or weighted"),
        (lambda: metrics.TopKCategoricalAccuracy(0), ValueError, "k must be at least 1, received 0"),
        (lambda: metrics.Mean()([1.0, 2.0], [1.0]), ValueError, r"sample_weight has shape \(1,\), the values have"),
        (lambda: metrics.Recall()([1, 0], [[0.5, 0.5]]), ValueError, "the targets have shape"),
        (lambda: metrics.get(3, 1, (None, 1)), TypeError, "metrics must be names, functions or"),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
