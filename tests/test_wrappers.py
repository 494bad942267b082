"""Models as scikit-learn estimators: scikit-learn's own checks, and what its users do with them."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the sklearn extra is not installed")

from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import vivace
import vivace.random
from vivace.layers import Dense, Input
from vivace.models import Sequential
from vivace.wrappers import SKLearnClassifier, SKLearnRegressor, SKLearnTransformer


def network(
    X: Any, y: Any, loss: str, activation: str | None = None, units: int = 20, rate: float = 0.02
) -> Sequential:
    model = Sequential([Input(X.shape[1:]), Dense(units, "relu"), Dense(y.shape[1], activation)])
    model.compile(vivace.optimizers.Adam(rate), loss)
    return model


SOFTMAX = {"loss": "categorical_crossentropy", "activation": "softmax"}
ESTIMATORS = [
    SKLearnClassifier(network, model_kwargs=SOFTMAX, fit_kwargs={"epochs": 60, "batch_size": 16}, random_state=0),
    SKLearnRegressor(network, model_kwargs={"loss": "mse", "rate": 0.1}, fit_kwargs={"epochs": 60}, random_state=0),
    SKLearnTransformer(network, model_kwargs={"loss": "mse"}, fit_kwargs={"epochs": 2}, random_state=0),
]
_WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "leaving a sample out, or taking it twice, makes other batches "
    "than a weight of 0 or 2 does; only descent on the whole of the data could pass"
}


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda _: _WEIGHTS)
def test_the_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def iris() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_iris(return_X_y=True)
    return x, np.array(["setosa", "versicolor", "virginica"])[y]


def test_cross_validation_grid_search_and_pipelines() -> None:
    x, y = iris()
    estimator = clone(ESTIMATORS[0]).set_params(fit__epochs=15)
    assert estimator.fit_kwargs == {"epochs": 15, "batch_size": 16}
    assert ESTIMATORS[0].fit_kwargs["epochs"] == 60
    assert cross_val_score(make_pipeline(StandardScaler(), estimator), x, y, cv=3).mean() > 0.9
    search = GridSearchCV(estimator, {"model__units": [1, 16], "fit__epochs": [1, 15]}, cv=2).fit(x, y)
    assert search.best_params_ == {"model__units": 16, "fit__epochs": 15}
    assert search.best_estimator_.get_params()["model__units"] == 16


def compiled(loss: Any, activation: str | None, outputs: int) -> Sequential:
    model = Sequential([Input((4,)), Dense(outputs, activation)])
    model.compile(vivace.optimizers.Adam(0.1), loss)
    return model


@pytest.mark.parametrize(
    ("loss", "activation", "outputs", "classes"),
    [
        ("sparse_categorical_crossentropy", "softmax", 3, 3),
        (vivace.losses.SparseCategoricalCrossentropy(from_logits=True), None, 3, 3),
        (vivace.losses.CategoricalCrossentropy(from_logits=True), None, 2, 2),
        ("categorical_crossentropy", "softmax", 2, 2),
        ("binary_crossentropy", "sigmoid", 1, 2),
        (vivace.losses.BinaryCrossentropy(from_logits=True), None, 1, 2),
    ],
)
def test_a_compiled_model_gets_the_targets_that_its_loss_takes(
    loss: Any, activation: str | None, outputs: int, classes: int
) -> None:
    x, y = iris()
    x, y = x[: 50 * classes], y[: 50 * classes]
    model = compiled(loss, activation, outputs)
    before = model.get_weights()
    classifier = SKLearnClassifier(model, fit_kwargs={"epochs": 30}, random_state=1).fit(x, y)
    assert classifier.score(x, y) > 0.9
    p = classifier.predict_proba(x)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(classifier.classes_[p.argmax(1)], classifier.predict(x))
    scores = classifier.decision_function(x)
    if classes == 2:
        np.testing.assert_array_equal(classifier.classes_[(scores > 0).astype(int)], classifier.predict(x))
    for a, b in zip(before, model.get_weights(), strict=True):  # a copy was trained
        np.testing.assert_array_equal(a, b)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(x), p)


def test_warm_start_goes_on_with_the_model() -> None:
    x = np.random.default_rng(0).normal(size=(40, 4))
    y = x @ [[1.0], [2], [3], [4]]
    model = compiled("mse", None, 1)
    regressor = SKLearnRegressor(model, warm_start=True, fit_kwargs={"epochs": 5})
    first = regressor.fit(x, y).history_.history["loss"]
    assert regressor.fit(x, y).history_.history["loss"][0] < first[-1]
    assert regressor.model_ is model
    assert regressor.predict(x).shape == (40, 1)
    assert regressor.fit(x, y[:, 0], epochs=1).predict(x).shape == (40,)
    assert len(regressor.history_.epoch) == 1


def test_images_and_transformers() -> None:
    images = np.random.default_rng(0).random((20, 6, 6, 1))
    model = Sequential([Input((6, 6, 1)), vivace.layers.Flatten(), Dense(3)])
    model.compile("sgd", "mse")
    transformed = SKLearnTransformer(model).fit_transform(images, np.zeros((20, 3)))
    assert transformed.shape == (20, 3)


def test_bad_input() -> None:
    model = Sequential([Input((4,)), Dense(1)])
    with pytest.raises(RuntimeError, match="SKLearnRegressor: the model must be compiled"):
        SKLearnRegressor(model).fit(np.zeros((3, 4)), np.zeros(3))
    with pytest.raises(ValueError, match="cannot train with only one class, 7"):
        SKLearnClassifier(compiled("bce", "sigmoid", 1)).fit(np.zeros((3, 4)), [7, 7, 7])
    with pytest.raises(ValueError, match="sample_weight is zero for every sample"):
        SKLearnRegressor(compiled("mse", None, 1)).fit(np.zeros((3, 4)), np.zeros(3), sample_weight=[0, 0, 0])


def test_random_state_leaves_the_seeds_of_others_alone() -> None:
    def drawn(fit: bool) -> Any:
        vivace.utils.set_random_seed(3)
        if fit:
            SKLearnRegressor(compiled("mse", None, 1), random_state=5).fit(np.zeros((3, 4)), np.zeros(3))
        else:
            compiled("mse", None, 1)
        return vivace.random.next_seed()

    assert drawn(True) == drawn(False)
