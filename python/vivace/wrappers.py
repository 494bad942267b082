"""Models as scikit-learn estimators, with the names of Keras's. Needs scikit-learn: pip install 'vivace[sklearn]'."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    raise ImportError("vivace.wrappers needs scikit-learn 1.6 or newer: pip install 'vivace[sklearn]'") from None

from . import activations, losses, random
from ._typing import Array
from .training import Trainer

_NESTED = {"model": "model_kwargs", "fit": "fit_kwargs"}  # set_params(model__units=3) sets model_kwargs["units"]


class SKLearnEstimator(BaseEstimator):  # type: ignore[misc]
    """What the three wrappers share.

    Args:
        model: a compiled model; or a function model(X=X, y=y, **model_kwargs) that makes one, where y is as the model
            will be trained on it. A model is copied, with its weights, for every `fit`; a function is called.
        warm_start: go on with the model of the last `fit` (at first with `model` itself, without a copy).
        model_kwargs: arguments of the function, a dict.
        fit_kwargs: arguments of `Model.fit`, a dict, such as {"epochs": 20}.
        random_state: an integer, which makes `fit` repeatable; or None.

    `set_params`, and so a grid search, reach into both dicts: `model__units=64`, `fit__epochs=20`.

    Attributes:
        model_: the trained model. history_: the History that its `fit` returned. n_features_in_: the features of X.
    """

    def __init__(
        self,
        model: Trainer | Callable[..., Trainer],
        warm_start: bool = False,
        model_kwargs: Mapping[str, Any] | None = None,
        fit_kwargs: Mapping[str, Any] | None = None,
        random_state: Any = None,
    ) -> None:
        self.model = model
        self.warm_start = warm_start
        self.model_kwargs = model_kwargs
        self.fit_kwargs = fit_kwargs
        self.random_state = random_state

    # Parameters

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments; with `deep`, also the entries of the two dicts, as in "model__units"."""
        params: dict[str, Any] = super().get_params(deep=False)
        if deep:
            for prefix, argument in _NESTED.items():
                entries = params[argument] if isinstance(params[argument], Mapping) else {}
                params |= {f"{prefix}__{name}": value for name, value in entries.items()}
        return params

    def set_params(self, **params: Any) -> SKLearnEstimator:
        """Set arguments, or entries of the two dicts."""
        for key in [key for key in params if key.partition("__")[0] in _NESTED and "__" in key]:
            prefix, _, name = key.partition("__")
            entries = dict(params.get(_NESTED[prefix], getattr(self, _NESTED[prefix])) or {})
            params[_NESTED[prefix]] = entries | {name: params.pop(key)}
        super().set_params(**params)
        return self

    # Training

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **kwargs: Any) -> SKLearnEstimator:
        """Train on X (samples, features, ...) and y.

        Args:
            sample_weight: (samples,) weights in the loss.
            kwargs: arguments of `Model.fit`, before those of `fit_kwargs`.

        Raises:
            ValueError: data that does not fit. RuntimeError: a model that is not compiled.
        """
        X, y = self._checked(X, y)
        if sample_weight is not None:
            sample_weight = _weights(sample_weight, len(X))
        with random.seeded(None if self.random_state is None else _seed(self.random_state)):
            y = self._learn_targets(y)
            model = self._new_model(X, y)
            if not model.compiled:
                raise RuntimeError(f"{type(self).__name__}: the model must be compiled, with a loss and an optimizer")
            arguments = {"verbose": 0, **(self.fit_kwargs or {}), **kwargs}
            self.history_ = model.fit(X, self._for_model(model, y), sample_weight=sample_weight, **arguments)
        self.model_ = model
        return self

    def _checked(self, X: Any, y: Any) -> tuple[Any, Any]:
        checked: tuple[Any, Any] = validate_data(
            self, X, y, allow_nd=True, multi_output=True, y_numeric=self._y_numeric
        )
        return checked

    _y_numeric = True

    def _new_model(self, X: Any, y: Any) -> Trainer:
        if self.warm_start and hasattr(self, "model_"):
            return self.model_
        if isinstance(self.model, Trainer):
            return self.model if self.warm_start else copy.deepcopy(self.model)
        return self.model(X=X, y=y, **(self.model_kwargs or {}))

    def _learn_targets(self, y: Any) -> Any:
        """y as it is handed to the function that makes the model."""
        self._flat_targets = y.ndim == 1
        return y[:, None] if self._flat_targets else y

    def _for_model(self, model: Trainer, y: Any) -> Any:
        """y as the model's loss takes it."""
        return y

    def _outputs(self, X: Any) -> Array:
        check_is_fitted(self, "model_")
        X = validate_data(self, X, reset=False, allow_nd=True)
        y: Array = self.model_.predict(X, verbose=0)
        return y

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.random_state is None
        return tags


class SKLearnClassifier(ClassifierMixin, SKLearnEstimator):  # type: ignore[misc]
    """A model as a classifier of scikit-learn. For the arguments see `SKLearnEstimator`.

    The function that makes the model gets y one-hot, (samples, classes), as with Keras. What the model trains on
    follows from its loss and its output: labels 0, 1, ... for a sparse loss, 0 and 1 for a single output, else one-hot
    rows. A softmax or sigmoid that is left to the loss (`from_logits=True`) is put back for `predict_proba`.

    Attributes:
        classes_: (classes,) the labels, sorted.
    """

    _y_numeric = False

    def _learn_targets(self, y: Any) -> Array:
        check_classification_targets(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = _column(y)
        if y.ndim != 1:
            raise ValueError(f"{type(self).__name__}: y must be labels (samples,), received shape {y.shape}")
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"{type(self).__name__}: cannot train with only one class, {classes[0]}")
        self.classes_ = classes
        return np.eye(len(classes), dtype=np.float32)[labels]

    def _for_model(self, model: Trainer, y: Any) -> Any:
        labels = y.argmax(1)
        if isinstance(_loss_of(model), losses.SparseCategoricalCrossentropy):
            return labels
        return labels if (model.output_shape or (0,))[-1] == 1 else y

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, (samples, classes)."""
        outputs = self._outputs(X)
        if self._gives_logits():
            outputs = activations.sigmoid(outputs) if outputs.shape[1] == 1 else activations.softmax(outputs)
        return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs

    def predict(self, X: Any) -> Array:
        """The most probable class of each sample."""
        best = self.predict_proba(X).argmax(1)
        chosen: Array = self.classes_[best]
        return chosen

    def decision_function(self, X: Any) -> Array:
        """The model's outputs (samples, classes); of two classes (samples,), above 0 where the second one wins."""
        outputs = self._outputs(X)
        if len(self.classes_) > 2:
            return outputs
        if outputs.shape[1] == 2:
            return outputs[:, 1] - outputs[:, 0]
        return outputs[:, 0] - (0.0 if self._gives_logits() else 0.5)

    def _gives_logits(self) -> bool:
        loss = _loss_of(self.model_)
        return loss is not None and loss.from_logits


class SKLearnRegressor(RegressorMixin, SKLearnEstimator):  # type: ignore[misc]
    """A model as a regressor of scikit-learn. For the arguments see `SKLearnEstimator`.

    y is (samples,) or (samples, outputs); the model gets it with two axes.
    """

    def predict(self, X: Any) -> Array:
        """The outputs, in the shape that y had; float64, as scikit-learn's regressors have it."""
        outputs = self._outputs(X).astype(np.float64)
        return outputs[:, 0] if self._flat_targets and outputs.shape[1:] == (1,) else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class SKLearnTransformer(TransformerMixin, SKLearnEstimator):  # type: ignore[misc]
    """A model as a transformer of scikit-learn: `transform` returns its outputs. For the arguments see
    `SKLearnEstimator`.
    """

    def transform(self, X: Any) -> Array:
        """The model's outputs, (samples, ...)."""
        return self._outputs(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags


def _loss_of(model: Trainer) -> losses.Loss | None:
    """The loss of the model's output; None where the first targets will decide."""
    head = model._heads.only
    return None if head is None else head.loss


def _weights(sample_weight: Any, count: int) -> Array:
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.ndim == 0:
        return np.full(count, weights)
    if weights.shape != (count,):
        raise ValueError(f"sample_weight must have shape ({count},), received {weights.shape}")
    if not weights.any():
        raise ValueError("sample_weight is zero for every sample: nothing to train on")
    return weights


def _column(y: Array) -> Array:
    from sklearn.utils.validation import column_or_1d

    flat: Array = column_or_1d(y, warn=True)
    return flat


def _seed(random_state: Any) -> int:
    if isinstance(random_state, (int, np.integer)):
        return int(random_state)
    return int(random_state.randint(2**31))  # a NumPy generator: another seed for each call
