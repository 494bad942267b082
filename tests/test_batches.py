"""What fit, evaluate and predict take: arrays of any library, generators, data sets; and how passes become epochs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vivace import batches, data
from vivace.callbacks import LambdaCallback
from vivace.layers import LSTM, Concatenate, Dense, Flatten, Identity, Input
from vivace.models import Model, Sequential
from vivace.optimizers import SGD
from vivace.utils import PyDataset, set_random_seed, timeseries_dataset_from_array

N = 10
X = np.arange(N, dtype="float32")[:, None]
Y = (2 * X[:, 0]).astype("float32")


def line(units: int = 1) -> Sequential:
    model = Sequential([Input((1,)), Dense(units, kernel_initializer="ones")])
    model.compile(SGD(1e-4), "mse")
    return model


class Recorder(Identity):
    """Keeps what it is given in training."""

    seen: list[list[float]]

    def forward(self, x: Any, step: Any) -> Any:
        if step.training:
            self.seen.append(x[:, 0].tolist())
        return x, None


def seen_in_fit(*args: Any, **kwargs: Any) -> list[list[float]]:
    """The inputs of each training batch."""
    layer = Recorder()
    layer.seen = []
    model = Sequential([Input((1,)), layer, Dense(1)])
    model.compile(SGD(1e-4), "mse")
    model.fit(*args, verbose=0, **kwargs)
    return layer.seen


class Tens(PyDataset):
    """Three batches of 4, 4 and 2."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.told: list[str] = []

    def __len__(self) -> int:
        return 3

    def __getitem__(self, i: int) -> Any:
        return X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4]

    def on_epoch_begin(self) -> None:
        self.told.append("begin")

    def on_epoch_end(self) -> None:
        self.told.append("end")


def generator(passes: int = 1) -> Iterator[Any]:
    for _ in range(passes):
        for i in range(3):
            yield X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4]


THREE = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


class Anew:
    """Can be iterated over again and again, without a length."""

    def __iter__(self) -> Iterator[Any]:
        return generator()


def test_arrays_datasets_and_generators_train_alike() -> None:
    results = []
    for args in ((X, Y), (Tens(),), (generator(2),), (iter([*Tens(), *Tens()]),), (Anew(),)):
        model = line()
        size = {"batch_size": 4} if len(args) == 2 else {}
        steps = {"steps_per_epoch": 3} if isinstance(args[0], Iterator) else {}
        model.fit(*args, epochs=2, shuffle=False, verbose=0, **size, **steps)
        results.append(model.get_weights())
        tested = model.evaluate(Tens(), verbose=0), model.evaluate(X, Y, batch_size=4, verbose=0)
        assert tested[0] == pytest.approx(tested[1], rel=1e-6)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_order_of_batches() -> None:
    assert seen_in_fit(X, Y, batch_size=4, shuffle=False) == THREE
    assert seen_in_fit(Tens(), shuffle=False) == THREE
    assert sorted(seen_in_fit(Tens())) == THREE  # whole batches, in some order
    assert len({tuple(map(tuple, seen_in_fit(Tens(), epochs=1))) for _ in range(20)}) > 2
    assert seen_in_fit(X, Y, batch_size=4, shuffle=False, validation_split=0.2) == THREE[:2]
    in_chunks = seen_in_fit(X, Y, batch_size=4, shuffle="batch", epochs=8)
    assert [sorted(batch) for batch in in_chunks] == THREE * 8
    assert in_chunks[:3] != in_chunks[3:6]
    shuffled = seen_in_fit(X, Y, batch_size=4, epochs=2)
    assert sorted(itertools.chain(*shuffled[:3])) == X[:, 0].tolist()
    assert shuffled[:3] != shuffled[3:]


@pytest.mark.parametrize("source", ["arrays", "dataset"])
def test_steps_per_epoch_goes_on_where_the_epoch_before_stopped(source: str) -> None:
    args: Any = (X, Y) if source == "arrays" else (Tens(),)
    size = {"batch_size": 4} if source == "arrays" else {}
    options: Any = {"shuffle": False, "epochs": 3, **size}
    assert seen_in_fit(*args, steps_per_epoch=1, **options) == THREE
    with pytest.warns(UserWarning, match="the data ran out in this epoch: 1 batches, where 2 were asked for"):
        assert seen_in_fit(*args, steps_per_epoch=2, **options) == [*THREE, *THREE[:2]]
    if source == "arrays":
        assert [len(b) for b in seen_in_fit(X, Y, steps_per_epoch=2, shuffle=False)] == [5, 5]  # sets the batch size


def test_a_generator_is_not_begun_anew(capsys: pytest.CaptureFixture[str]) -> None:
    assert seen_in_fit(generator(2), steps_per_epoch=2, epochs=3) == THREE * 2
    with pytest.warns(UserWarning, match="the data ran out in this epoch: none at all"):
        assert seen_in_fit(generator(), epochs=5) == THREE
    with pytest.warns(UserWarning, match="none at all"):
        line().fit(generator(), epochs=5)
    assert capsys.readouterr().out.count("Epoch") == 1
    endless = itertools.cycle(generator())
    model = line()
    history = model.fit(endless, steps_per_epoch=5, epochs=2, validation_data=endless, validation_steps=3, verbose=0)
    assert list(history.history) == ["loss", "val_loss"]
    assert history.params["steps"] == 5
    assert model.predict(endless, steps=2, verbose=0).shape[1] == 1


def test_a_dataset_may_grow() -> None:
    class Growing(Tens):
        def __len__(self) -> int:
            return min(3, 1 + len(self.told) // 2)

    assert seen_in_fit(Growing(), shuffle=False, epochs=3) == [*THREE[:1], *THREE[:2], *THREE]


def test_a_dataset_is_told_of_epochs() -> None:
    dataset = Tens()
    line().fit(dataset, epochs=2, verbose=0)
    assert dataset.told == ["begin", "end"] * 2


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12's, if there are threads
@pytest.mark.parametrize("processes", [False, True])
def test_workers_make_batches_ahead_in_order(processes: bool) -> None:
    dataset = Tens(workers=2, use_multiprocessing=processes, max_queue_size=2)
    assert seen_in_fit(dataset, shuffle=False, epochs=2) == THREE * 2
    assert seen_in_fit(dataset, shuffle=False, steps_per_epoch=1) == THREE[:1]


def test_a_dataset_without_an_end_and_one_by_its_protocol() -> None:
    class Endless(PyDataset):
        num_batches = None  # type: ignore[assignment]

        def __getitem__(self, i: int) -> Any:
            return X[i : i + 1], Y[i : i + 1]

    assert seen_in_fit(Endless(), steps_per_epoch=3, epochs=2) == [[0], [1], [2], [3], [4], [5]]

    class Protocol:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, i: int) -> Any:
            return Tens()[i]

    assert seen_in_fit(Protocol(), shuffle=False) == THREE
    np.testing.assert_array_equal(line().predict(Protocol()), X)


def test_the_first_batch_builds_the_model() -> None:
    for source in (Tens(), generator()):
        model = Sequential([Dense(1)])
        model.compile("sgd", "mse")
        model.fit(source, verbose=0)
        assert model.input_shape == (None, 1)


def test_bytes_in_batches_train_as_floats() -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1), dtype=np.uint8)
    labels = images[:, 0, 0, 0] % 3
    results = []
    for x in (images, images.astype("f4")):
        set_random_seed(1)
        model = Sequential([Flatten(input_shape=(4, 4, 1)), Dense(3, "softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(((x[i : i + 4], labels[i : i + 4]) for i in (0, 4, 8)), verbose=0)
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_batches_by_name() -> None:
    a, b = Input((1,), name="a"), Input((1,), name="b")
    model = Model([a, b], [Dense(1, name="p")(a), Dense(1, name="q")(Concatenate()([a, b]))])
    results = []
    for by_name in (False, True):
        model.set_weights([np.ones_like(w) for w in model.get_weights()])
        model.compile(SGD(1e-4), "mse", weighted_metrics={"p": ["mae"]})
        x, y, w = (
            ({"b": 2 * X, "a": X}, {"q": Y, "p": Y + 1}, {"p": Y + 2}) if by_name else ([X, 2 * X], [Y + 1, Y], None)
        )
        batches_ = [(x, y, w)] if by_name else [(x, y, [Y + 2, None])]
        model.fit(iter(batches_), verbose=0)
        results.append((model.get_weights(), model.evaluate(iter(batches_), verbose=0)))
    for one, other in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert results[0][1] == results[1][1]


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "categorical_crossentropy"])
def test_sequences_of_another_length_in_each_batch(loss: str, rng: np.random.Generator) -> None:
    model = Sequential([Input((None, 3)), LSTM(5, return_sequences=True), Dense(4, "softmax")])
    model.compile("adam", loss, weighted_metrics=["accuracy"])
    lengths = 3, 6, 2
    labels = [rng.integers(0, 4, (2, t)) for t in lengths]
    y = labels if loss.startswith("sparse") else [np.eye(4)[of_batch] for of_batch in labels]
    given = [(rng.normal(size=(2, t, 3)), y[i], rng.uniform(size=(2, t))) for i, t in enumerate(lengths)]
    model.fit(iter(given), verbose=0)
    logs = model.evaluate(iter(given), verbose=0, return_dict=True)
    alone = [model.test_on_batch(*batch, return_dict=True)["loss"] for batch in given]
    assert logs["loss"] == pytest.approx(np.mean(alone))


# Arrays of other libraries


class WithArray:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.array if dtype is None else self.array.astype(dtype)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, i: Any) -> Any:
        raise AssertionError("asked for an element")

    def __iter__(self) -> Any:
        raise AssertionError("asked for elements")


class WithDLPack:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("kind", [WithArray, WithDLPack, list, lambda a: a.tolist(), memoryview])
def test_arrays_by_their_protocols(kind: Any) -> None:
    weights = np.linspace(1, 2, N)
    expected, got = line(), line()
    for model, wrap in ((expected, lambda a: a), (got, kind)):
        model.fit(wrap(X), wrap(Y), sample_weight=wrap(weights), verbose=0, shuffle=False, validation_split=0.2)
    for a, b in zip(expected.get_weights(), got.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(expected.predict(X), got.predict(kind(X)))


def test_tables_of_pandas() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table = pandas.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5], "c": [True, False, True]})
    model = Sequential([Input((3,)), Dense(1)])
    model.compile("sgd", "mse")
    model.fit(table, table["b"], sample_weight=table["a"], verbose=0)
    np.testing.assert_array_equal(model.predict(table), model.predict(table.to_numpy(dtype=float)))


def test_columns_of_mixed_numbers_are_numbers_and_others_are_not() -> None:
    mixed = np.array([[1, 2.5], [True, 3]], dtype=object)
    np.testing.assert_array_equal(data.as_array(mixed), [[1, 2.5], [1, 3]])
    with pytest.raises(TypeError, match="must hold real numbers, received dtype object"):
        line().predict(np.array([["1"], [2]], dtype=object))


@pytest.mark.parametrize(
    ("x", "stream"),
    [
        (X, False), ([1, 2], False), ({"a": X}, False), (None, False), (range(3), False), ("abc", False),
        (memoryview(b"ab"), False), (WithArray(X), False), (Tens(), True), (generator(), True), (iter([1]), True),
    ],
)  # fmt: skip
def test_what_hands_out_batches(x: Any, stream: bool) -> None:
    assert batches.is_stream(x) == stream


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": Tens(), "y": Y}, "y must be part of the batches of a Tens"),
        ({"x": generator(), "sample_weight": Y}, "sample_weight must be part of the batches of a generator"),
        ({"x": Tens(), "validation_split": 0.2}, "validation_split is for arrays; received a Tens"),
        ({"x": iter([(X, Y, Y, Y)])}, r"a batch must be \(x,\), \(x, y\) or \(x, y, sample_weight\), received 4 parts"),
        ({"x": iter([X])}, "the targets y are missing"),
        ({"x": X, "y": Y, "shuffle": "all"}, "shuffle must be True, False or 'batch', received 'all'"),
        ({"x": X, "y": Y, "steps_per_epoch": 0}, "steps_per_epoch must be an integer >= 1, received 0"),
        ({"x": X, "y": Y, "validation_data": (X, Y), "validation_freq": 0}, "validation_freq must be an integer >= 1"),
        ({"x": X, "y": Y, "verbose": 3}, "verbose must be 'auto', 0, 1 or 2, received 3"),
        ({"x": type("None_", (PyDataset,), {"__len__": lambda self: 0})()}, "None_ has no batches"),
    ],
)
def test_bad_input(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        line().fit(**({"verbose": 0} | arguments))
    with pytest.raises(ValueError, match="workers must be at least 1, received 0"):
        Tens(workers=0)


def test_predict_with_steps_and_outputs_for_callbacks() -> None:
    got: list[Any] = []
    spy = LambdaCallback(on_predict_batch_end=lambda batch, logs: got.append(logs["outputs"].copy()))
    model = line()
    whole = model.predict(X, batch_size=4, callbacks=spy)
    np.testing.assert_array_equal(np.concatenate(got), whole)
    np.testing.assert_array_equal(model.predict(X, batch_size=4, steps=2), whole[:8])
    np.testing.assert_array_equal(model.predict(X, steps=3), whole)


def test_windows_of_a_time_series() -> None:
    data = np.arange(20.0)[:, None] * [1, 10]
    windows = timeseries_dataset_from_array(data, data[:, 0] + 100, 3, sequence_stride=2, sampling_rate=3, batch_size=4)
    assert len(windows) == 2  # 14 windows begin in front of the end, every second one
    x, y = windows[0]
    assert x[:, :, 0].tolist() == [[0, 3, 6], [2, 5, 8], [4, 7, 10], [6, 9, 12]]
    assert (x[..., 1] == 10 * x[..., 0]).all()
    assert y.tolist() == [100, 102, 104, 106]
    assert windows[1][0][:, :, 0].tolist() == [[8, 11, 14], [10, 13, 16], [12, 15, 18]]
    part = timeseries_dataset_from_array(data, data, 2, start_index=5, end_index=9, batch_size=None)
    assert [(a[:, 0].tolist(), float(b[0])) for a, b in part] == [([5, 6], 5), ([6, 7], 6), ([7, 8], 7)]
    (mixed,) = timeseries_dataset_from_array(data, None, 2, shuffle=True, seed=1)
    assert mixed.shape == (19, 2, 2)
    assert sorted(mixed[:, 0, 0]) == list(range(19)) != mixed[:, 0, 0].tolist()
    model = Sequential([Input((3, 2)), LSTM(2), Dense(1)])
    model.compile("adam", "mse")
    model.fit(windows, validation_data=windows, epochs=2, verbose=0)
    for wrong, message in (({"sequence_stride": 0}, "sequence_stride must lie between 1 and the 20"),
                           ({"start_index": 9, "end_index": 3}, "must lie in order within 20 steps, received 9 and 3"),
                           ({"start_index": 18}, "2 steps hold no window of 3 elements")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            timeseries_dataset_from_array(data, None, 3, **wrong)
