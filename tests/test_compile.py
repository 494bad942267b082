"""compile's losses, weights and metrics: what they compute, against NumPy, and their names; fit's arguments."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from vivace import callbacks, losses, metrics
from vivace.layers import LSTM, ActivityRegularization, Concatenate, Dense, Input, Masking
from vivace.models import Model, Sequential
from vivace.optimizers import SGD
from vivace.training import Trainer

RNG = np.random.default_rng(3)
X, W = RNG.normal(size=(12, 4)), RNG.uniform(0.2, 2, 12)
LABELS = RNG.integers(0, 3, 12)


def model_for(units: int = 3, activation: str | None = "softmax", **compiled: Any) -> Sequential:
    model = Sequential([Input((4,), dtype="float64"), Dense(units, activation, dtype="float64")])
    model.compile(SGD(0.1), **compiled)
    return model


SIGNATURES = {
    "compile": "optimizer loss loss_weights metrics weighted_metrics run_eagerly steps_per_execution jit_compile "
    "auto_scale_loss",
    "fit": "x y batch_size epochs verbose callbacks validation_split validation_data shuffle class_weight "
    "sample_weight initial_epoch steps_per_epoch validation_steps validation_batch_size validation_freq",
    "evaluate": "x y batch_size verbose sample_weight steps callbacks return_dict",
    "predict": "x batch_size verbose steps callbacks",
    "train_on_batch": "x y sample_weight class_weight return_dict",
    "test_on_batch": "x y sample_weight return_dict",
    "predict_on_batch": "x",
}


@pytest.mark.parametrize("method", SIGNATURES)
def test_arguments_stand_in_the_order_of_keras(method: str) -> None:
    parameters = inspect.signature(getattr(Trainer, method)).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional[1:] == SIGNATURES[method].split()


def test_sample_weights_enter_the_loss_and_the_weighted_metrics() -> None:
    model = model_for(loss="crossentropy", metrics=["accuracy"], weighted_metrics=["accuracy", "ce"])
    logs = model.evaluate(X, LABELS, sample_weight=W, batch_size=5, verbose=0, return_dict=True)
    p = model.predict(X)
    rows, right = -np.log(p[np.arange(12), LABELS]), p.argmax(1) == LABELS
    assert logs == pytest.approx(
        {
            "loss": (rows * W).mean(),
            "accuracy": right.mean(),
            "weighted_accuracy": (right * W).sum() / W.sum(),
            "ce": (rows * W).sum() / W.sum(),
        }
    )
    assert list(logs) == sorted(model.metrics_names)
    assert [m.name for m in model.metrics] == ["loss", "accuracy", "accuracy", "ce"]
    model.reset_metrics()
    assert model.metrics[0].result() == 0


def test_class_weights_are_sample_weights() -> None:
    of_class = {0: 0.5, 2: 3.0}
    w = np.array([of_class.get(int(label), 1.0) for label in LABELS])
    results = []
    for y in (LABELS, LABELS[:, None], np.eye(3)[LABELS]):
        loss = "categorical_crossentropy" if y.shape[-1] == 3 else "sparse_categorical_crossentropy"
        for weights in ({"class_weight": of_class}, {"sample_weight": w}):
            model = model_for(loss=loss, weighted_metrics=["accuracy"])
            model.set_weights([np.ones((4, 3)) * np.arange(3), np.zeros(3)])
            history = model.fit(X, y, shuffle=False, batch_size=5, verbose=0, **weights).history
            results.append((history["loss"], history["accuracy"], model.get_weights()[0].tolist()))
    for other in results[1:]:
        np.testing.assert_allclose(
            np.hstack([np.ravel(a) for a in other]), np.hstack([np.ravel(a) for a in results[0]])
        )
    model = model_for(loss="sparse_categorical_crossentropy")
    logs = model.fit(X, LABELS, class_weight=of_class, validation_split=0.25, verbose=0, shuffle=False).history
    assert logs["val_loss"][0] == pytest.approx(model.evaluate(X[9:], LABELS[9:], verbose=0))  # not in validation


def test_weights_of_steps() -> None:
    model = Sequential([Input((5, 2), dtype="float64"), LSTM(3, return_sequences=True, dtype="float64"),
                        Dense(1, dtype="float64")])  # fmt: skip
    model.compile("sgd", "mse", weighted_metrics=["mae"])
    x, y, w = RNG.normal(size=(4, 5, 2)), RNG.normal(size=(4, 5, 1)), RNG.uniform(size=(4, 5))
    d = (model.predict(x) - y)[..., 0]
    assert model.evaluate(x, y, sample_weight=w, verbose=0) == pytest.approx(
        [(d**2 * w).mean(), (abs(d) * w).sum() / w.sum()]
    )
    each = w[:, 0]
    assert model.evaluate(x, y, sample_weight=each[:, None], verbose=0) == pytest.approx(
        [(d**2 * each[:, None]).mean(), (abs(d).mean(1) * each).sum() / each.sum()]
    )
    with pytest.raises(ValueError, match=r"one entry per sample \(4\) or one per step \(4, 5\), received 12 in shape"):
        model.evaluate(x, y, sample_weight=np.ones((4, 3)), verbose=0)


def test_masked_steps_count_nowhere() -> None:
    model = Sequential([Input((4, 1), dtype="float64"), Masking(dtype="float64"),
                        LSTM(3, return_sequences=True, dtype="float64"), Dense(1, dtype="float64")])  # fmt: skip
    model.compile("sgd", "mse", metrics=["mae"], weighted_metrics=["mse"])
    x, y, w = RNG.normal(size=(3, 4, 1)), RNG.normal(size=(3, 4, 1)), RNG.uniform(0.5, 2, 3)
    x[0, 2:] = x[2, 1:] = 0
    mask = x[..., 0] != 0
    d = (model.predict(x) - y)[..., 0][mask]
    weights = np.broadcast_to(w[:, None], mask.shape)[mask]
    got = model.evaluate(x, y, sample_weight=w, verbose=0)
    assert got == pytest.approx([(d**2 * weights).mean(), abs(d).mean(), (d**2 * weights).sum() / weights.sum()])


@pytest.mark.parametrize("weights", [None, W])
def test_loss_weights_of_a_single_output(weights: Any) -> None:
    results = []
    for loss_weights, rate in ((None, 0.3), (0.3, 1.0), ([0.3], 1.0), ({"out": 0.3}, 1.0)):
        model = Sequential([Input((4,)), Dense(2, name="out", kernel_initializer="ones")])
        model.compile(SGD(rate), "mse", loss_weights)
        loss = model.train_on_batch(X, np.zeros((12, 2)), weights)
        results.append((loss * (1 if loss_weights else 0.3), model.get_weights()[0]))
    for loss, kernel in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-6)
        np.testing.assert_allclose(kernel, results[0][1], rtol=1e-5)


def test_names_in_logs() -> None:
    a = Input((4,))
    both = Model(a, [Dense(3, "softmax", name="p")(a), Dense(1, name="q")(a)])
    both.compile("sgd", ["ce", "mse"], metrics={"p": ["acc", "acc"], "q": "mae"}, weighted_metrics=[["acc"], ["mae"]])
    names = ["loss", "p_loss", "q_loss", "p_acc", "p_acc_1", "p_weighted_acc", "q_mae", "q_weighted_mae"]
    assert both.metrics_names == names
    assert list(both.evaluate(X, [LABELS, W], verbose=0, return_dict=True)) == sorted(names)
    both.compile("sgd", [None, "mse"], metrics=[["acc"], None])  # a metric of an output that does not train
    logs = both.evaluate(X, [LABELS, W], verbose=0, return_dict=True)
    assert list(logs) == ["loss", "p_acc"]
    assert logs["p_acc"] == pytest.approx((both.predict(X)[0].argmax(1) == LABELS).mean())


def test_metrics_may_have_several_values(capsys: pytest.CaptureFixture[str]) -> None:
    class Range(metrics.Metric):
        def reset_state(self) -> None:
            self.low, self.high = np.inf, -np.inf

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            self.low, self.high = min(self.low, y_pred.min()), max(self.high, y_pred.max())

        def result(self) -> Any:
            return {"low": self.low, "high": self.high}

    model = model_for(loss="categorical_crossentropy", metrics=[Range(), metrics.F1Score()])
    logs = model.evaluate(X, np.eye(3)[LABELS], return_dict=True)
    assert list(logs) == ["f1_score", "high", "loss", "low"]
    assert logs["high"] == model.predict(X).max()
    assert "f1_score: [" in capsys.readouterr().out


@pytest.mark.parametrize("several", [False, True])
def test_penalties_train_without_a_loss(several: bool) -> None:
    x = Input((4,))
    h = ActivityRegularization(l2=2.0)(Dense(3, use_bias=False, kernel_initializer="ones")(x))
    model = Model(x, [h, Dense(2)(h)] if several else h)
    model.compile(SGD(0.01))
    before = np.abs(model.get_weights()[0]).sum()
    losses_ = model.fit(X, epochs=60, verbose=0).history["loss"]
    assert losses_[-1] < losses_[0] / 2
    assert np.abs(model.get_weights()[0]).sum() < before
    plain = model_for()
    with pytest.raises(ValueError, match="no loss to train with; give compile one"):
        plain.fit(X, LABELS, verbose=0)
    plain.compile("sgd", metrics=["accuracy"])
    assert list(plain.evaluate(X, LABELS, verbose=0, return_dict=True)) == ["accuracy", "loss"]


def test_steps_per_execution_batches_the_hooks() -> None:
    told: list[Any] = []
    spy = callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: told.append(("begin", batch)),
        on_train_batch_end=lambda batch, logs: told.append(("end", batch)),
    )
    model = model_for(loss="ce", steps_per_execution=2)
    model.fit(X, LABELS, batch_size=4, callbacks=[[spy]], verbose=0)
    assert told == [("begin", 0), ("end", 1), ("begin", 2), ("end", 2)]
    model.compile("sgd", "ce", run_eagerly=True, jit_compile=True, auto_scale_loss=False)  # without effect
    assert model.run_eagerly


def test_validation_after_these_epochs_and_on_so_many_batches() -> None:
    model = model_for(loss="ce")
    options: Any = {"validation_data": (X, LABELS), "verbose": 0, "epochs": 4, "batch_size": 6}
    assert len(model.fit(X, LABELS, validation_freq=[1, 4], **options).history["val_loss"]) == 2
    history = model.fit(X, LABELS, validation_steps=1, **options)
    assert history.history["val_loss"][-1] == pytest.approx(model.evaluate(X[:6], LABELS[:6], verbose=0))
    assert model.evaluate(X, LABELS, steps=3, verbose=0) == pytest.approx(model.evaluate(X, LABELS, verbose=0))
    assert model.evaluate(X, LABELS, batch_size=2, steps=3, verbose=0) == pytest.approx(
        model.evaluate(X[:6], LABELS[:6], verbose=0)
    )


def test_callbacks_may_stop_any_loop() -> None:
    seen = []

    class Stop(callbacks.Callback):
        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(batch)
            self.model.stop_evaluating = True

        def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.stop_predicting = True

    model = model_for(loss="ce")
    model.evaluate(X, LABELS, batch_size=3, callbacks=Stop(), verbose=0)
    assert seen == [0]
    assert model.predict(X, batch_size=5, callbacks=[Stop()], verbose=0).shape == (5, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.compile("sgd", "mse", metrics="accuracy"), "metrics must be a list or a dict by output name"),
        (
            lambda m: m.compile("sgd", "mse", weighted_metrics={"x": "mae"}),
            r"weighted_metrics: expected a dict with the",
        ),
        (lambda m: m.compile("sgd", "mse", steps_per_execution=0), "steps_per_execution must be an integer >= 1"),
        (lambda m: m.compile("sgd", ["mse", "mae"]), "unknown loss|expected a list of 1|loss must be"),
        (lambda m: m.compile("sgd", losses.MeanSquaredError(reduction=None)), "needs a reduction"),
        (lambda m: m.fit(X, LABELS, class_weight={0: 1.0}, sample_weight=W), "cannot be given together"),
        (lambda m: m.fit(X, LABELS, class_weight=[1.0, 2.0]), "class_weight must be a dict from label to weight"),
        (lambda m: m.fit(X, LABELS, sample_weight=W[:3]), r"one entry per sample \(12\), received 3"),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call(model_for(loss="ce"))


def test_class_weight_is_refused_for_several_outputs() -> None:
    a, b = Input((4,)), Input((4,))
    model = Model([a, b], [Dense(1)(Concatenate()([a, b])), Dense(1)(a)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="class_weight is for a model of a single output"):
        model.fit([X, X], [W, W], class_weight={0: 1.0}, verbose=0)
