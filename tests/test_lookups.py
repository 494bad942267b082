"""Layers that prepare data, strings too, as the first layers of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vivace import layers as L
from vivace.models import Model, Sequential, clone_model, load_model, model_from_json

WORDS = np.array(["good film", "bad film", "very good", "so bad"])
AGES = np.array([[-1.0], [0.5], [7.0], [2.0]], "float32")
KINDS = np.array([[7], [5], [5], [9]])

# layer, an input, its dtype, the output's shape and dtype, its values
ROWS: list[tuple[L.Layer, Any, str, tuple[int | None, ...], str, Any]] = [
    (L.StringLookup(vocabulary=["b", "a"]), [["a"], ["q"]], "string", (None, 1), "int64", [[2], [0]]),
    (L.StringLookup(vocabulary=["b", "a"], output_mode="one_hot"), [["a"], ["q"]], "string", (None, 3), "float32",
     [[0, 0, 1], [1, 0, 0]]),
    (L.StringLookup(vocabulary=["b", "a"], output_mode="binary"), [["a", "a"]], "string", (None, 3), "float32",
     [[0, 0, 1]]),
    (L.StringLookup(vocabulary=["b", "a"], output_mode="count"), [["a", "a"]], "string", (None, 3), "float32",
     [[0, 0, 2]]),
    (L.StringLookup(max_tokens=5, pad_to_max_tokens=True, vocabulary=["b"], output_mode="multi_hot"), [["b", "q"]],
     "string", (None, 5), "float32", [[1, 1, 0, 0, 0]]),
    (L.IntegerLookup(vocabulary=[5, 7]), KINDS, "int64", (None, 1), "int64", [[2], [1], [1], [0]]),
    (L.IntegerLookup(vocabulary=[5, 7], output_mode="one_hot"), [[7, 5]], "int64", (None, 2, 3), "float32",
     [[[0, 0, 1], [0, 1, 0]]]),
    (L.CategoryEncoding(3, "one_hot"), [[2], [0]], "int64", (None, 3), "float32", [[0, 0, 1], [1, 0, 0]]),
    (L.CategoryEncoding(3), [[2, 2], [0, 1]], "int64", (None, 3), "float32", [[0, 0, 1], [1, 1, 0]]),
    (L.CategoryEncoding(3, "count"), [[2, 2]], "int64", (None, 3), "float32", [[0, 0, 2]]),
    (L.Discretization([0.0, 1.0]), AGES, "float32", (None, 1), "int64", [[0], [1], [2], [2]]),
    (L.Discretization([0.0, 1.0], output_mode="one_hot"), AGES[:2], "float32", (None, 3), "float32",
     [[1, 0, 0], [0, 1, 0]]),
    (L.TextVectorization(vocabulary=["good", "bad"]), [["good film"], ["bad"]], "string", (None, None), "int64",
     [[2, 1], [3, 0]]),
    (L.TextVectorization(vocabulary=["good", "bad"], output_sequence_length=3), WORDS[:1, None], "string", (None, 3),
     "int64", [[2, 1, 0]]),
    (L.TextVectorization(vocabulary=["good", "bad"], output_mode="multi_hot"), WORDS[:2], "string", (None, 3),
     "float32", [[1, 1, 0], [1, 0, 1]]),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0].name}-{row[3]}")
def test_alone_and_in_a_model(row: Any) -> None:
    layer, x, kind, shape, dtype, expected = row
    x = np.array(x)
    alone = layer(x)
    np.testing.assert_array_equal(alone, expected)
    assert alone.dtype == dtype
    symbol = L.Input(x.shape[1:], dtype=kind)
    made = layer(symbol)
    assert made.shape == shape
    assert made.dtype == dtype
    for model in (Model(symbol, made), Sequential([L.Input(x.shape[1:], dtype=kind), layer])):
        for given in (x, x.tolist()):
            np.testing.assert_array_equal(model.predict(given, verbose=0), expected)
            np.testing.assert_array_equal(model(given), expected)
        assert model.count_params() == 0


def tabular() -> tuple[Model, dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    ages, sexes, kinds = rng.normal(size=200) * 4, rng.choice(["m", "f", "x"], 200), rng.choice([1, 5, 7, 9], 200)
    age, sex = L.Input((1,), name="age"), L.Input((1,), dtype="string", name="sex")
    kind = L.Input((1,), dtype="int64", name="kind")
    normalize, number, word = L.Normalization(), L.IntegerLookup(), L.StringLookup(output_mode="one_hot")
    batches = [ages[:, None][i : i + 50] for i in range(0, 200, 50)]
    normalize.adapt(iter(batches))
    np.testing.assert_allclose(normalize.mean, [[ages.mean()]], rtol=1e-6)
    number.adapt(kinds[:150])
    word.adapt(iter([sexes[:100], sexes[100:]]))
    bins = L.Discretization(num_bins=4, output_mode="one_hot")
    bins.adapt(ages)
    numbers = number(kind)
    features = [
        normalize(age),
        bins(age),
        word(sex),
        L.CategoryEncoding(number.vocabulary_size(), "one_hot")(numbers),
        L.Flatten()(L.Embedding(number.vocabulary_size(), 2)(numbers)),
        L.Dense(2)(kind),  # the same integers as numbers
    ]
    model = Model([age, sex, kind], L.Dense(1, "sigmoid")(L.Concatenate()(features)))
    return model, {"age": ages, "sex": sexes, "kind": kinds}, (sexes == "m").astype("float32")


def test_columns_of_a_table(tmp_path: Path) -> None:
    model, data, y = tabular()
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    history = model.fit(data, y, epochs=60, batch_size=16, validation_split=0.2, verbose=0).history
    assert history["val_loss"][-1] < 0.7 * history["val_loss"][0]
    expected = model.predict(data, verbose=0)
    model.save(tmp_path / "table.safetensors")
    others = [clone_model(model), model_from_json(model.to_json())]
    for other in others:
        other.set_weights(model.get_weights())
    for other in (*others, load_model(tmp_path / "table.safetensors")):
        np.testing.assert_array_equal(other.predict(data, verbose=0), expected)
    columns = [data[name][:, None] for name in ("age", "sex", "kind")]
    np.testing.assert_allclose(model(columns), expected, rtol=1e-6)
    with pytest.raises(TypeError, match=r"predict: sex: expected strings, received 1.0 \(float\)"):
        model.predict(data | {"sex": np.ones(200)}, verbose=0)


@pytest.mark.parametrize("bytes_too", [False, True])
def test_from_text_to_a_trained_model(bytes_too: bool, tmp_path: Path) -> None:
    texts = np.repeat(WORDS, 20).astype("S" if bytes_too else object)
    y = np.char.find(texts.astype(str), "good") >= 0
    vectorize = L.TextVectorization(max_tokens=20, output_sequence_length=5)
    vectorize.adapt(texts)
    classify = Sequential([L.Embedding(20, 8, mask_zero=True), L.GlobalAveragePooling1D(), L.Dense(1, "sigmoid")])
    classify.compile("adam", "binary_crossentropy")
    classify.fit(vectorize(texts), y, epochs=60, verbose=0)
    string = L.Input((1,), dtype="string")
    whole = Model(string, classify(vectorize(string)))
    np.testing.assert_allclose(
        whole.predict(texts, verbose=0), classify.predict(vectorize(texts), verbose=0), rtol=1e-6
    )
    whole.compile(loss="binary_crossentropy", metrics=["accuracy"])
    assert whole.evaluate(texts, y, verbose=0)[1] == 1
    whole.save(tmp_path / "text.safetensors")
    again = load_model(tmp_path / "text.safetensors")
    np.testing.assert_allclose(again.predict(["so very good"], verbose=0), whole.predict(["so very good"], verbose=0))
    chain = Sequential([L.Input((1,), dtype="string"), vectorize, *clone_model(classify).layers])
    chain.compile("adam", "binary_crossentropy")
    assert min(chain.fit(texts, y, epochs=60, verbose=0).history["loss"]) < 0.6


def test_integers_become_numbers_where_a_layer_takes_those() -> None:
    x = np.array([[0.5], [-1.0], [3.0]], "float32")
    dense = L.Dense(2)
    chain = Sequential([L.Input((1,)), L.Discretization([0.0, 1.0]), dense])
    expected = dense(np.array([[1.0], [0.0], [2.0]], "float32"))
    np.testing.assert_array_equal(chain(x), expected)
    np.testing.assert_array_equal(chain.predict(x, verbose=0), expected)
    symbol = L.Input((1,))
    binned = L.Discretization([0.0, 1.0])(symbol)
    reshaped = L.Reshape((1, 1))(binned)
    assert reshaped.dtype == "int64"
    model = Model(symbol, [dense(binned), L.Embedding(3, 2)(reshaped), L.Embedding(3, 2)(L.Rescaling(1.0)(binned))])
    model.compile("sgd", "mse")
    model.fit(x, [expected, np.ones((3, 1, 1, 2)), np.ones((3, 1, 2))], verbose=0)
    assert dense.kernel.gradient.shape == (1, 2)


def test_count_weights_in_a_model() -> None:
    numbers, weights = L.Input((2,), dtype="int64"), L.Input((2,))
    model = Model([numbers, weights], L.CategoryEncoding(3, "count")(numbers, count_weights=weights))
    given = [np.array([[0, 2], [2, 2]]), np.array([[0.5, 1.5], [1.0, 2.0]], "float32")]
    np.testing.assert_array_equal(model.predict(given, verbose=0), [[0.5, 0, 1.5], [0, 0, 3]])
