"""What models tell about themselves, how their parts run as one, and what their layers' arguments do in training."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vivace
from vivace import constraints, regularizers
from vivace import layers as L
from vivace.fusion import ConvPool
from vivace.layers import Conv2D, Dense, Embedding, Flatten, Input, MaxPooling2D
from vivace.models import Model, Sequential
from vivace.utils import model_to_dot, plot_model, set_random_seed


def small_resnet() -> Model:
    x = Input((16, 16, 3), name="image")
    h = MaxPooling2D(name="pool")(Conv2D(8, 3, activation="relu", padding="same", name="stem")(x))
    h = L.add([h, L.BatchNormalization(name="norm")(Conv2D(8, 3, padding="same", name="conv")(h))], name="sum")
    inner = Input((8, 8, 8))
    encoder = Model(inner, Flatten(name="flat")(Conv2D(4, 3, strides=2, name="down")(inner)), name="encoder")
    return Model(x, Dense(10, "softmax", name="classes")(encoder(h)), name="resnet")


def summary(model: Model, **options: Any) -> list[str]:
    text: list[str] = []
    model.summary(print_fn=text.append, **options)
    assert len(text) == 1
    return text[0].splitlines()


def test_a_summary_tells_shapes_parameters_work_and_memory() -> None:
    model = small_resnet()
    lines = summary(model)
    assert lines[0] == 'Model "resnet"'
    rows = {line.split()[0]: line for line in lines[4:-5]}
    assert list(rows) == ["image", "stem", "pool", "conv", "norm", "sum", "encoder", "classes"]
    assert rows["stem"].split("  ")[0] == "stem (Conv2D)"
    assert "(None, 16, 16, 8)" in rows["stem"]
    assert "224" in rows["stem"]  # 3 * 9 * 8 + 8
    assert "0.11" in rows["stem"]  # 2 * 16 * 16 * 3 * 9 * 8 / 1e6
    assert "KiB" not in rows["stem"]  # runs as one with the pooling: never stored
    assert "2.0 KiB" in rows["pool"]  # 8 * 8 * 8 floats
    assert rows["sum"].endswith("pool, norm")
    assert "Trains" not in lines[2]
    parameters = 224 + 584 + 32 + 292 + 370
    assert lines[-4] == f"Total params: {parameters:,} (5.9 KiB)"
    assert lines[-3].startswith(f"Trainable params: {parameters - 16:,} (")
    assert lines[-2] == "Non-trainable params: 16 (64 B)"
    assert kept_in(lines[-1]) == pytest.approx(3 * 2048 + 144 + 40, rel=0.01)  # pool, conv, norm + sum; down; classes
    assert not any(line != line.rstrip() for line in lines)


def kept_in(line: str) -> float:
    number, unit = line.split("; ")[1].split()[:2]
    return float(number) * {"B": 1, "KiB": 1024, "MiB": 2**20}[unit]


def test_a_summary_opens_nested_models_and_tells_what_is_frozen() -> None:
    model = small_resnet()
    model.get_layer("encoder").trainable = False
    model.get_layer("conv").trainable = False
    lines = summary(model, expand_nested=True, line_length=110)
    assert len(lines[1]) == 110
    trains = {line.split()[0]: line.split(")")[-1].split() for line in lines[4:-5]}
    assert "Trains" in lines[2]
    for name, expected in (("stem", "yes"), ("norm", "yes"), ("conv", "no"), ("encoder", "no"), ("down", "no")):
        assert expected in trains[name], name
    assert any(line.startswith("  down (Conv2D)") for line in lines)
    part = summary(model, layer_range=("pool", "conv"), show_trainable=True)
    assert [line.split()[0] for line in part[4:-5]] == ["pool", "conv"]
    with pytest.raises(ValueError, match="layer_range must name two of the layers"):
        summary(model, layer_range=("pool", "nobody"))


def test_a_model_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pydot = pytest.importorskip("pydot", reason="the plot extra is not installed")
    model = small_resnet()
    plot_model(model, tmp_path / "m.dot", show_shapes=True, show_layer_names=True, expand_nested=True,
               show_trainable=True, show_dtype=True, show_layer_activations=True)  # fmt: skip
    text = (tmp_path / "m.dot").read_text()
    assert text.count("->") == 10
    for word in ("<b>stem</b> (Conv2D)", "(None, 16, 16, 8)", "cluster_", "activation: <b>softmax</b>", "float32"):
        assert word in text
    closed = model_to_dot(model)
    assert isinstance(closed, pydot.Dot)
    assert len(closed.get_edges()) == 8
    assert isinstance(model_to_dot(model, subgraph=True), pydot.Cluster)
    plot_model(Sequential([Input((3,)), Dense(2), Dense(1)]), tmp_path / "chain.dot")
    assert (tmp_path / "chain.dot").read_text().count("->") == 1
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"m.png needs Graphviz's program dot, which is not installed"):
        plot_model(model, tmp_path / "m.png")
    with pytest.raises(ValueError, match="not built yet"):
        plot_model(Sequential([Dense(1)]))
    with pytest.raises(ValueError, match="rankdir must be"):
        model_to_dot(model, rankdir="up")


# Convolution and pooling as one


def images_model(branch: bool) -> Model:
    """With a branch, somebody else takes the convolution's output too: nothing to fuse."""
    x = Input((10, 10, 3))
    conv = Conv2D(8, 3, activation="relu", name="conv")(x)
    h = Flatten()(MaxPooling2D(name="pool")(conv))
    if branch:
        h = L.concatenate([h, L.Rescaling(0.0)(Flatten()(conv))])
    return Model(x, Dense(3, "softmax")(h))


def test_graphs_run_convolution_and_pooling_as_one(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(24, 10, 10, 3)).astype("float32"), rng.integers(0, 3, 24)
    results = []
    for branch in (False, True):
        set_random_seed(5)
        model = images_model(branch)
        dense = model.layers[-1]
        fused = [unit for unit in model.running() if isinstance(unit, ConvPool)]
        assert len(fused) == (0 if branch else 1)
        text: list[str] = []
        vivace.explain_kernels(model, print_fn=text.append)
        assert ("conv + pool" in text[0]) == (not branch)
        weights = np.random.default_rng(1).normal(size=(128 + 512, 3)).astype("float32") * 0.1
        dense.set_weights([weights if branch else weights[:128], np.zeros(3)])
        model.compile("sgd", "sparse_categorical_crossentropy")
        before = model.predict(x)
        model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
        results.append([before, model.predict(x), *model.get_layer("conv").get_weights()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_nested_models_are_explained_too() -> None:
    x = Input((10, 10, 3))
    text: list[str] = []
    vivace.explain_kernels(Model(x, images_model(False)(x)), print_fn=text.append)
    assert "conv + pool" in text[0]


# What the arguments do


def test_constraints_hold_after_every_update(rng: np.random.Generator) -> None:
    steps = Input((5, 3))
    h = L.GRU(4, return_sequences=True, recurrent_constraint=constraints.MaxNorm(0.3), bias_constraint="non_neg")(steps)
    h = L.SeparableConv1D(4, 2, depthwise_constraint="unit_norm", pointwise_constraint="non_neg")(h)
    h = L.LayerNormalization(gamma_constraint=constraints.MinMaxNorm(0.5, 0.9), beta_constraint="non_neg")(h)
    h = L.MultiHeadAttention(2, 2, kernel_constraint="non_neg")(h, h)
    h = L.PReLU(alpha_constraint="non_neg", alpha_initializer="ones")(h)
    model = Model(steps, Dense(2, kernel_constraint="non_neg")(h[:, 0]))
    model.compile("sgd", "mse")
    model.optimizer.learning_rate = 0.5
    model.fit(rng.normal(size=(32, 5, 3)), 3 * rng.normal(size=(32, 2)), batch_size=4, verbose=0)
    constrained = [p for p in model.weights if p.constraint is not None]
    assert len(constrained) == 2 + 2 + 2 + 4 + 1 + 1
    for p in constrained:
        np.testing.assert_allclose(p.constraint(p.value), p.value, atol=1e-5, err_msg=p.name)  # type: ignore[misc]
    embedding = Sequential([Input((3,)), Embedding(4, 2, embeddings_constraint="unit_norm"), Flatten(), Dense(1)])
    embedding.compile("sgd", "mse")
    embedding.fit(rng.integers(0, 4, (8, 3)), rng.normal(size=8), verbose=0)
    np.testing.assert_allclose(np.square(embedding.get_weights()[0]).sum(0), 1, rtol=1e-5)


def test_an_activity_regularizer_is_a_layer_behind(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(12, 6, 6, 2)), rng.normal(size=(12, 3))
    results = []
    for inside in (True, False):
        for functional in (True, False):
            set_random_seed(2)
            own = {"activity_regularizer": regularizers.L1L2(0.1, 0.2)} if inside else {}
            behind = [] if inside else [L.ActivityRegularization(0.1, 0.2)]
            parts = [Conv2D(2, 3, activation="relu", **own), *behind, MaxPooling2D(), Flatten(), Dense(3, **own)]
            parts += [L.ActivityRegularization(0.1, 0.2)] if not inside else []
            if functional:
                tensor = start = Input((6, 6, 2))
                for part in parts:
                    tensor = part(tensor)
                model: Model = Model(start, tensor)
            else:
                model = Sequential([Input((6, 6, 2)), *parts])
            model.compile("sgd", "mse")
            history = model.fit(x, y, epochs=2, batch_size=4, shuffle=False, verbose=0).history
            results.append((history["loss"], model.evaluate(x, y, verbose=0), model.get_weights()))
    for losses, tested, weights in results[1:]:
        assert losses == results[0][0]
        assert tested == results[0][1]
        assert all((a == b).all() for a, b in zip(weights, results[0][2], strict=True))


def test_a_wrapped_layer_has_its_activity_regularizer_too(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(6, 4, 3)), rng.normal(size=(6, 4, 2))
    penalty = {"activity_regularizer": regularizers.L2(0.1)}
    results = []
    for inner in (L.TimeDistributed(Dense(2, **penalty)), Dense(2, **penalty)):
        set_random_seed(1)
        model = Sequential([Input((4, 3)), L.Bidirectional(L.GRU(3, return_sequences=True, **penalty)), inner])
        model.compile("sgd", "mse")
        before = model.evaluate(x, y, verbose=0)
        model.fit(x, y, verbose=0)
        results.append([before, *model.get_weights()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    states = model.layers[0](x.astype("float32"))
    plain = np.square(model.predict(x) - y).mean()
    penalties = 0.1 * (np.square(states).sum() + np.square(model.predict(x)).sum()) / len(x)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(plain + penalties, rel=1e-4)


@pytest.mark.parametrize(
    "layer",
    [Flatten(), L.Reshape((2, 6)), L.Conv1D(2, 2), L.MaxPooling1D(2), L.GlobalMaxPooling1D(), L.UpSampling1D(2)],
    ids=lambda layer: layer.name,
)
def test_a_layer_that_drops_a_mask_says_so_once(layer: Any) -> None:
    model = Sequential([Input((4,)), Embedding(5, 3, mask_zero=True), layer])
    with pytest.warns(UserWarning, match=rf"{layer.name} .* gets a mask but cannot pass it on"):
        model(np.array([[1, 2, 0, 0]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(np.array([[1, 2, 0, 0]]))
        for taker in (L.GlobalAveragePooling1D(), L.LSTM(2), L.Dropout(0.5), Dense(2)):  # use it up, or pass it on
            Sequential([Input((4,)), Embedding(5, 3, mask_zero=True), taker])(np.array([[1, 2, 0, 0]]))


# Errors that help

IMAGE = Input((3, 32, 32), name="image")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: Dense(2, name="d")(Conv2D(2, 3, name="c")(Flatten(name="f")(IMAGE))),
         r"layer 2 behind image \(None, 3, 32, 32\): c \(Conv2D\) takes inputs of rank 4, .* shape \(None, 3072\)"
         r"\n  shapes so far: image \(None, 3, 32, 32\) -> f \(None, 3072\)"),
        (lambda: Conv2D(4, 5, name="c")(IMAGE), r"if the channels come first, say data_format='channels_first'"),
        (lambda: Conv2D(4, 5, name="c", data_format="channels_first")(Input((32, 32, 3))),
         r"if the channels come last, leave out data_format"),
        (lambda: Conv2D(4, 5, name="c")(Input((28, 28))), r"add the channel axis with x\[..., None\]"),
        (lambda: L.add([Dense(3, name="a")(Input((4,), name="x")), Dense(2)(Input((5,), name="z"))], name="s"),
         r"s \(Add\): shapes .* do not broadcast\n  shapes so far: x \(None, 4\) -> a \(None, 3\); z \(None, 5\) ->"),
        (lambda: Model(IMAGE, Flatten()(IMAGE), name="inner")(Flatten(name="f")(IMAGE)),
         r"layer 2 behind image .*input 'image' has shape .* received \(None, 3072\)\n  shapes so far: image"),
    ],
)  # fmt: skip
def test_a_shape_that_does_not_fit_tells_where_and_why(bad: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bad()


def test_the_way_to_a_deep_layer_is_abridged() -> None:
    tensor = Input((4,), name="start")
    for i in range(40):
        tensor = L.Identity(name=f"i{i}")(tensor)
    with pytest.raises(ValueError, match=r"layer 41 behind start") as caught:
        Conv2D(1, 3)(tensor)
    way = str(caught.value).splitlines()[-1]
    assert way.startswith("  shapes so far: start (None, 4) -> i0 (None, 4) -> ... -> i30")
    assert way.endswith("i39 (None, 4)")


def test_labels_of_the_wrong_kind_are_told_apart(rng: np.random.Generator) -> None:
    x = Input((4,))
    model = Model(x, Dense(3, "softmax")(x))
    data = rng.normal(size=(6, 4))
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="one-hot targets go with loss='categorical_crossentropy'"):
        model.fit(data, np.eye(3)[[0, 1, 2, 0, 1, 2]], verbose=0)
    model.compile("sgd", "categorical_crossentropy")
    with pytest.raises(ValueError, match="for integer labels use loss='sparse_categorical_crossentropy'"):
        model.fit(data, [0, 1, 2, 0, 1, 2], verbose=0)
    with pytest.raises(ValueError, match="a batch axis is missing"):
        model.predict(data[0])
