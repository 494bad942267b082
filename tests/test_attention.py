"""Attention: the kernel against NumPy, masks, dropout, long sequences; the layers and their gradients."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from helpers import numeric_gradient
from layer_checks import check_gradients, output
from vivace import config
from vivace.layers import AdditiveAttention, Attention, GroupQueryAttention, Input, Layer, MultiHeadAttention
from vivace.models import Model, Sequential
from vivace.step import Step

F64: dict[str, Any] = {"dtype": "float64"}


def attend(q: Any, k: Any, v: Any, scale: float, allowed: Any, keep: Any = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The formula: probabilities (batch, heads, queries, keys) and output."""
    times = q.shape[2] // k.shape[2]
    scores = np.einsum("bihd,bjhd->bhij", q, k.repeat(times, 2)) * scale
    scores = np.where(allowed, scores, -1e9)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return p, np.einsum("bhij,bjhd->bihd", p * keep, v.repeat(times, 2))


def allowed_pairs(q: Any, k: Any, causal: bool, masks: Any) -> np.ndarray:
    allowed = np.ones((len(q), 1, q.shape[1], k.shape[1]), bool)
    if causal:
        allowed &= np.arange(k.shape[1]) <= np.arange(q.shape[1])[:, None]
    for mask, new_axes in zip(masks, ((1, 3), (1, 2), 1), strict=True):
        if mask is not None:
            allowed &= np.expand_dims(mask != 0, new_axes)
    return allowed


# batch, heads, key heads, queries, keys, key size, value size, causal, masks
CASES = [
    (1, 1, 1, 1, 1, 1, 1, False, ""),
    (2, 3, 3, 7, 5, 4, 6, False, ""),
    (2, 2, 1, 130, 70, 16, 8, False, ""),
    (1, 2, 2, 150, 150, 17, 19, True, ""),
    (2, 4, 2, 33, 200, 8, 32, False, "k"),
    (2, 2, 2, 140, 140, 5, 3, True, "k"),
    (2, 1, 1, 20, 90, 33, 33, False, "qka"),
    (3, 2, 2, 65, 129, 8, 8, True, "qa"),
    (1, 1, 1, 90, 20, 4, 4, True, ""),
    (1, 2, 1, 300, 280, 20, 9, True, ""),
    (1, 2, 1, 280, 270, 8, 17, True, "qk"),
    (2, 1, 1, 257, 129, 16, 16, False, "a"),
    (1, 1, 1, 40, 300, 5, 8, True, "a"),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_kernel(core: ModuleType, case: Any, dtype: str, rng: Any) -> None:
    b, h, g, n, m, d, e, causal, kinds = case
    q, k, v = (rng.standard_normal(s).astype(dtype) for s in ((b, n, h, d), (b, m, g, d), (b, m, g, e)))
    shapes = {"q": (b, n), "k": (b, m), "a": (b, n, m)}
    masks = [(rng.random(shapes[kind]) < 0.7).astype("u1") if kind in kinds else None for kind in "qka"]
    scale = 0.3
    allowed = allowed_pairs(q, k, causal, masks)
    p, expected = attend(*(a.astype("f8") for a in (q, k, v)), scale, allowed)
    y, kept = np.full((b, n, h, e), np.nan, dtype), np.empty((2, b, h, n), dtype)
    shape, options = core.AttentionShape(b, n, m, h, g, d, e, scale, causal), (*masks, False, 0.0, 0, 0)
    core.attention_forward(shape, (q, k, v), options, kept, y)
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)

    dy = rng.standard_normal(y.shape).astype(dtype)
    dq, dk, dv = (np.full(a.shape, np.nan, dtype) for a in (q, k, v))
    core.attention_backward(shape, (q, k, v), options, (kept, y), dy, (dq, dk, dv))
    times = h // g
    wide = dy.astype("f8")
    dp = np.einsum("bihe,bjhe->bhij", wide, v.repeat(times, 2))
    ds = p * (dp - (p * dp).sum(-1, keepdims=True)) * allowed * scale
    expected_dq = np.einsum("bhij,bjhd->bihd", ds, k.repeat(times, 2))
    expected_dk = np.einsum("bhij,bihd->bjhd", ds, q).reshape(b, m, g, times, d).sum(3)
    expected_dv = np.einsum("bhij,bihe->bjhe", p, wide).reshape(b, m, g, times, e).sum(3)
    for got, want in ((dq, expected_dq), (dk, expected_dk), (dv, expected_dv)):
        np.testing.assert_allclose(got, want, rtol=10 * tolerance, atol=10 * tolerance)


def test_large_scores_do_not_overflow(core: ModuleType, rng: Any) -> None:
    q, k = (rng.standard_normal((1, 70, 1, 8)).astype("f4") * 100 for _ in range(2))
    v = rng.standard_normal((1, 70, 1, 4)).astype("f4")
    y = np.empty((1, 70, 1, 4), "f4")
    core.attention_forward(core.AttentionShape(1, 70, 70, 1, 1, 8, 4), (q, k, v), None, None, y)
    expected = attend(*(a.astype("f8") for a in (q, k, v)), 1.0, True)[1]
    np.testing.assert_allclose(y, expected, rtol=0.05, atol=0.05)


def test_dropout_is_the_same_forward_backward_and_at_every_level(rng: Any) -> None:
    from conftest import LEVELS
    from vivace import _core

    q, k = (rng.standard_normal((2, n, 2, 4)) for n in (70, 75))
    v = np.zeros((2, 75, 2, 75))
    v[:] = np.eye(75)[:, None]  # so that the output is the dropped probabilities
    p, _ = attend(q, k, v, 0.5, True)
    kept = []
    for level in LEVELS:
        core = _core.load(level)
        y, kept_numbers = np.empty((2, 70, 2, 75)), np.empty((2, 2, 2, 70))
        shape, options = core.AttentionShape(2, 70, 75, 2, 2, 4, 75, 0.5), (None, None, None, False, 0.3, 5, 7)
        core.attention_forward(shape, (q, k, v), options, kept_numbers, y)
        dropped = y.transpose(0, 2, 1, 3)
        keep = dropped != 0
        np.testing.assert_allclose(dropped, p * keep / 0.7, rtol=1e-10)
        assert abs(keep.mean() - 0.7) < 0.02
        kept.append(keep.tobytes())
        dy, (dq, dk, dv) = rng.standard_normal(y.shape), (np.empty_like(a) for a in (q, k, v))
        core.attention_backward(shape, (q, k, v), options, (kept_numbers, y), dy, (dq, dk, dv))
        np.testing.assert_allclose(dv, np.einsum("bhij,bihe->bjhe", p * keep / 0.7, dy), rtol=1e-9, atol=1e-12)
        dp = np.einsum("bihe,bjhe->bhij", dy, v) * keep / 0.7
        ds = p * (dp - (p * dp).sum(-1, keepdims=True)) * 0.5
        np.testing.assert_allclose(dq, np.einsum("bhij,bjhd->bihd", ds, k), rtol=1e-9, atol=1e-12)
    assert len(set(kept)) == 1


def test_threads_do_not_change_a_bit(rng: Any) -> None:
    layer, x = MultiHeadAttention(3, 16, use_causal_mask=True), rng.standard_normal((2, 300, 40)).astype("f4")
    layer.build_once(x.shape)
    kept, results = config.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            config.set_num_threads(threads)
            for p in layer.weights:
                p.gradient[...] = 0
            step = Step(True)
            y, saved = layer.forward(x, step)
            dx = layer.backward(np.ones_like(y), saved, step)
            results.append([y.tobytes(), dx.tobytes(), *(p.gradient.tobytes() for p in layer.weights)])
    finally:
        config.set_num_threads(kept)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: MultiHeadAttention(2, 3, **F64), (2, 4, 5)),
        (lambda: MultiHeadAttention(2, 3, 4, use_bias=False, output_shape=3, use_causal_mask=True, **F64), (2, 5, 3)),
        (lambda: MultiHeadAttention(1, 2, attention_axes=2, **F64), (2, 2, 3, 4)),
        (lambda: MultiHeadAttention(2, 2, output_shape=(2, 3), **F64), (1, 2, 2, 3)),
        (lambda: GroupQueryAttention(3, 4, 2, **F64), (2, 4, 3)),
        (lambda: MultiHeadAttention(2, 3, 2, use_gate=True, sliding_window=2, **F64), (2, 5, 3)),
        (lambda: GroupQueryAttention(3, 4, 2, use_gate=True, use_causal_mask=True, **F64), (2, 4, 3)),
    ],
)
def test_gradients(layer: Any, shape: tuple[int, ...], rng: Any) -> None:
    check_gradients(layer(), rng.standard_normal(shape), rng)


def test_a_window_hides_what_is_far(rng: Any) -> None:
    layer, x = MultiHeadAttention(1, 2, sliding_window=2, **F64), rng.standard_normal((1, 6, 3))
    y = output(layer, x)
    x[0, 4:] += 1  # two and more steps behind step 2
    np.testing.assert_array_equal(output(layer, x)[0, :3], y[0, :3])
    assert (output(layer, x)[0, 3:] != y[0, 3:]).all()


def test_gradients_behind_a_mask(rng: Any) -> None:
    mask = np.array([[1, 1, 0, 1], [1, 0, 0, 0]], "u1")
    check_gradients(MultiHeadAttention(2, 3, **F64), rng.standard_normal((2, 4, 3)), rng, mask)


@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (lambda: MultiHeadAttention(2, 3, **F64), ((2, 3, 4), (2, 5, 3))),
        (lambda: MultiHeadAttention(2, 3, **F64), ((2, 3, 4), (2, 5, 3), (2, 5, 2))),
        (lambda: Attention(use_scale=True, **F64), ((2, 3, 4), (2, 5, 4))),
        (lambda: Attention(use_causal_mask=True, **F64), ((2, 3, 4), (2, 5, 2), (2, 5, 4))),
        (lambda: Attention(True, "concat", **F64), ((2, 3, 4), (2, 5, 4))),
        (lambda: Attention(score_mode="concat", use_causal_mask=True, **F64), ((2, 3, 4), (2, 5, 2), (2, 5, 4))),
        (lambda: AdditiveAttention(**F64), ((2, 3, 4), (2, 5, 4))),
        (lambda: AdditiveAttention(False, use_causal_mask=True, **F64), ((2, 3, 4), (2, 5, 2), (2, 5, 4))),
    ],
)
@pytest.mark.parametrize("masked", ["", "value", "both"])
def test_gradients_of_several_inputs(make: Any, shapes: Any, masked: str, rng: Any) -> None:
    arrays = [rng.standard_normal(shape) for shape in shapes]
    layer: Layer = make()
    layer.build_once([a.shape for a in arrays])  # type: ignore[arg-type]
    for p in layer.weights:
        p.value[...] = rng.standard_normal(p.shape)
    value_mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], "u1")
    query_mask = np.array([[1, 1, 0], [1, 0, 1]], "u1") if masked == "both" else None
    masks = [query_mask, value_mask, None] if masked else None

    def forward() -> Any:
        step = Step(True)
        step.mask = masks  # type: ignore[assignment]
        return (*layer.forward(arrays, step), step)  # type: ignore[arg-type]

    y, saved, step = forward()
    dy = rng.standard_normal(y.shape)
    gradients = [*layer.backward(dy.copy(), saved, step), *(p.gradient for p in layer.weights)]  # type: ignore[misc]
    for array, gradient in zip([*arrays, *(p.value for p in layer.weights)], gradients, strict=True):
        np.testing.assert_allclose(
            gradient, numeric_gradient(lambda: float((forward()[0] * dy).sum()), array), rtol=1e-5, atol=1e-8
        )


@pytest.mark.parametrize(
    "make", [lambda **k: MultiHeadAttention(2, 3, **k), lambda **k: GroupQueryAttention(3, 4, 2, **k)]
)
def test_gradients_through_the_scores_behind_an_attention_mask(make: Any, rng: Any) -> None:
    layer = make(return_attention_scores=True, use_attention_mask=True, use_causal_mask=True, **F64)
    x, value, mask = rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 5, 3)), rng.random((2, 4, 5)) < 0.6
    mask[1, 2] = False  # may attend to nothing
    layer.build_once([x.shape, value.shape, mask.shape])

    def forward() -> Any:
        step = Step(True)
        step.mask = [np.array([[1, 1, 1, 1], [0, 1, 1, 1]], "u1"), np.array([[1, 1, 1, 1, 0], [1] * 5], "u1"), None]
        return (*layer.forward([x, value, mask], step), step)

    (y, scores), saved, step = forward()
    blind = ~(scores > 0).any(-1)  # queries that may attend to nothing
    assert blind.any()
    np.testing.assert_allclose(scores.sum(-1), ~blind, rtol=1e-12)
    dy, dscores = rng.standard_normal(y.shape), rng.standard_normal(scores.shape)
    dx, dvalue, dmask = layer.backward([dy.copy(), dscores.copy()], saved, step)
    assert dmask is None
    for array, gradient in ((x, dx), (value, dvalue), *((p.value, p.gradient) for p in layer.weights)):
        numeric = numeric_gradient(
            lambda: float(sum((a * b).sum() for a, b in zip(forward()[0], (dy, dscores), strict=True))), array
        )
        np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-8)


# How users of Keras call the layers: what they give, and what must come out of the formula.
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("x", {}),
    ("xx", {}),
    ("xx", {"use_causal_mask": True}),
    ("xv", {}),
    ("xvk", {}),
    ("xx", {"attention_mask": "m"}),
    ("xvk", {"attention_mask": "m", "use_causal_mask": True}),
    ("xx", {"return_attention_scores": True}),
    ("xvk", {"attention_mask": "m", "return_attention_scores": True}),
]


@pytest.mark.parametrize("kind", [MultiHeadAttention, GroupQueryAttention])
@pytest.mark.parametrize(("given", "options"), CALLS)
def test_calls(given: str, options: dict[str, Any], kind: Any, rng: Any) -> None:
    arrays = {
        "x": rng.standard_normal((3, 6, 4)),
        "v": rng.standard_normal((3, 6, 4)),
        "k": rng.standard_normal((3, 6, 4)),
    }
    arrays["m"] = (rng.random((3, 6, 6)) < 0.5).astype("f8")
    layer = kind(2, 3, **F64) if kind is MultiHeadAttention else kind(3, 4, 2, **F64)
    asked = {name: arrays["m"] if value == "m" else value for name, value in options.items()}
    got = layer(*(arrays[name] for name in given), **asked)
    w = layer.get_weights()
    query, value, key = arrays[given[0]], arrays[given[min(1, len(given) - 1)]], arrays[given[-1]]
    q, k, v = (np.einsum("btf,fhd->bthd", a, w[i]) + w[i + 1] for a, i in ((query, 0), (key, 2), (value, 4)))
    allowed = allowed_pairs(q, k, options.get("use_causal_mask", False), (None, None, asked.get("attention_mask")))
    scores, attended = attend(q, k, v, 3**-0.5, allowed)
    expected = [np.einsum("bthd,hdo->bto", attended, w[6]) + w[7]]
    expected += [scores] if "return_attention_scores" in options else []

    def same(outputs: Any) -> None:
        outputs = outputs if isinstance(outputs, list) else [outputs]
        for one, want in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(one, want, rtol=1e-9, atol=1e-12)

    same(got)
    if options:  # asked once, not for ever
        plain = layer(*(arrays[name] for name in given))
        assert isinstance(plain, np.ndarray)
        assert options == {"return_attention_scores": True} or (plain != expected[0]).any()
    used = sorted({*given, *(("m",) if "attention_mask" in options else ())})
    inputs = {name: Input((6, 6 if name == "m" else 4), dtype="float64") for name in used}
    tensors = [inputs[name] for name in given]
    outputs = layer(*tensors, **{n: inputs["m"] if value == "m" else value for n, value in options.items()})
    model = Model(list(inputs.values()), outputs)
    same(model([arrays[name] for name in used]))
    revived = Model.from_config(model.get_config())
    revived.set_weights(model.get_weights())
    same(revived([arrays[name] for name in used]))

    class Net(Model):
        def __init__(self) -> None:
            super().__init__(**F64)
            self.attention = kind.from_config(layer.get_config() | {"name": "own"})

        def call(self, inputs: Any) -> Any:
            own = dict(zip(used, inputs if isinstance(inputs, list) else [inputs], strict=True))
            return self.attention(
                *(own[name] for name in given), **{n: own["m"] if v == "m" else v for n, v in options.items()}
            )

    net, data = Net(), [arrays[name] for name in used]
    net(data[0] if len(data) == 1 else data)
    net.set_weights(w)
    same(net(data[0] if len(data) == 1 else data))


@pytest.mark.parametrize("make", [Attention, AdditiveAttention])
def test_scores_of_attention_without_projections(make: Any, rng: Any) -> None:
    query, value = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 5, 4))
    layer = make(**F64)
    y, weights = layer([query, value], return_attention_scores=True)
    np.testing.assert_allclose(np.matmul(weights, value), y, rtol=1e-12)
    np.testing.assert_allclose(layer([query, value]), y, rtol=1e-9)
    layer = make(return_attention_scores=True, **F64)
    layer.build_once([query.shape, value.shape])
    (y, weights), saved = layer.forward([query, value], Step(True))
    dy, dweights = rng.standard_normal(y.shape), rng.standard_normal(weights.shape)

    def loss() -> float:
        outputs = layer.forward([query, value], Step(True))[0]
        return float((outputs[0] * dy).sum() + (outputs[1] * dweights).sum())

    gradients = layer.backward([dy.copy(), dweights.copy()], saved, Step(True))
    for array, gradient in zip((query, value), gradients, strict=True):
        np.testing.assert_allclose(gradient, numeric_gradient(loss, array), rtol=1e-5, atol=1e-8)


def test_calls_of_one_layer_in_a_graph_ask_for_the_same() -> None:
    layer, x = MultiHeadAttention(2, 3), Input((6, 4))
    layer(x, x, use_causal_mask=True)
    with pytest.raises(ValueError, match="use_causal_mask must be the same in all calls"):
        layer(x, x)
    layer(x, x, use_causal_mask=True)


def test_the_layer_is_the_formula(rng: Any) -> None:
    layer, x = MultiHeadAttention(2, 3, 4, **F64), rng.standard_normal((2, 6, 5))
    layer.build_once(x.shape)
    wq, bq, wk, bk, wv, bv, wo, bo = (rng.standard_normal(w.shape) for w in layer.get_weights())
    layer.set_weights([wq, bq, wk, bk, wv, bv, wo, bo])
    assert [w.shape for w in (wq, bq, wk, bk, wv, bv, wo, bo)] == [
        (5, 2, 3), (2, 3), (5, 2, 3), (2, 3), (5, 2, 4), (2, 4), (2, 4, 5), (5,)
    ]  # fmt: skip
    heads = [np.einsum("btf,fhd->bthd", x, w) + b for w, b in ((wq, bq), (wk, bk), (wv, bv))]
    attended = attend(*heads, 3**-0.5, True)[1]
    np.testing.assert_allclose(output(layer, x), np.einsum("bthd,hdo->bto", attended, wo) + bo, rtol=1e-11)


def test_a_causal_layer_does_not_see_what_comes(rng: Any) -> None:
    layer, x = MultiHeadAttention(2, 8, use_causal_mask=True), rng.standard_normal((1, 300, 4)).astype("f4")
    before = output(layer, x)
    x[:, 170:] = 99
    np.testing.assert_array_equal(output(layer, x)[:, :170], before[:, :170])


def test_weights_save_and_load(tmp_path: Any, rng: Any) -> None:
    models = [Sequential([Input((4, 6)), MultiHeadAttention(2, 3)]) for _ in range(2)]
    models[0].save_weights(tmp_path / "w.safetensors")
    models[1].load_weights(tmp_path / "w.safetensors")
    x = rng.standard_normal((2, 4, 6)).astype("f4")
    np.testing.assert_array_equal(*(m.predict(x, verbose=0) for m in models))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: MultiHeadAttention(0, 3), "num_heads must be an integer >= 1, received 0"),
        (lambda: MultiHeadAttention(2, 3, dropout=1), r"dropout must lie in \[0, 1\), received 1"),
        (lambda: GroupQueryAttention(3, 4, 3), r"num_key_value_heads must divide num_query_heads \(4\), received 3"),
        (lambda: MultiHeadAttention(2, 3).build_once((None, 3)), "query must be"),
        (
            lambda: MultiHeadAttention(2, 3, attention_axes=1).build_once((None, 3, 4, 5)),
            "attention_axes must be the last ones",
        ),
        (
            lambda: MultiHeadAttention(2, 3).build_once([(None, 3, 4), (None, 5, 4), (None, 6, 4)]),  # type: ignore[arg-type]
            "value and key must have the same steps",
        ),
        (
            lambda: MultiHeadAttention(2, 3)(Input((4, 3)), attention_mask=Input((4, 5))),
            r"attention_mask must be \(batch, queries, keys\), \(None, 4, 4\), received shape \(None, 4, 5\)",
        ),
        (
            lambda: MultiHeadAttention(2, 3)(Input((2, 4, 3)), return_attention_scores=True),
            r"return_attention_scores are for inputs \(batch, steps, features\), received shape \(None, 2, 4, 3\)",
        ),
        (lambda: Attention()(np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), attention_mask=np.ones((1, 2, 2))), "takes no"),
    ],
)
def test_bad_input(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_without_an_axis_of_heads_there_is_one(core: ModuleType) -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal(shape).astype("f4") for shape in ((2, 3, 4), (2, 5, 4), (2, 5, 6)))
    y, shape = np.empty((2, 3, 6), "f4"), core.AttentionShape(2, 3, 5, 1, 1, 4, 6)
    core.attention_forward(shape, (q, k, v), None, None, y)
    p = np.exp(np.einsum("nid,njd->nij", q, k))
    np.testing.assert_allclose(y, np.einsum("nij,njc->nic", p / p.sum(-1, keepdims=True), v), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"attention_forward: k must have shape \(2, 5, 1, 4\)"):
        core.attention_forward(shape, (q, k[:, :4].copy(), v), None, None, y)
    with pytest.raises(ValueError, match="options must have 7 entries, received 3"):
        core.attention_forward(shape, (q, k, v), (None, None, None), None, y)
    with pytest.raises(ValueError, match=r"inputs must have more than 2 entries, received 2"):
        core.attention_forward(shape, (q, k), None, None, y)
    with pytest.raises(ValueError, match=r"key_heads must divide heads \(3\), received 2"):
        core.AttentionShape(1, 1, 1, 3, 2, 1, 1)


@pytest.mark.parametrize("by_sums", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.4])
@pytest.mark.parametrize("weights", [None, 1, 5])
def test_stored_attention(core: ModuleType, by_sums: bool, rate: float, weights: int | None, rng: Any) -> None:
    """Ragged and of several blocks, against the formula and its gradient by hand."""
    n, m, d, e = 70, 75, 5, 6
    q, k, v = (rng.standard_normal(s) for s in ((2, n, d), (2, m, d), (2, m, e)))
    scale, mask = np.array(0.7), rng.random((2, m)) < 0.8
    weight = rng.standard_normal(weights) if weights else None
    wide = np.ones(d) if weight is None else np.broadcast_to(weight, d)
    allowed = mask[:, None] & np.tri(n, m, dtype=bool)
    inside = q[:, :, None] + k[:, None]
    t = np.tanh(scale * inside)
    scores = t @ wide if by_sums else scale * np.einsum("bid,bjd->bij", q, k)
    lowered = scores - 1e9 * ~allowed
    p = np.exp(lowered - lowered.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    keep = np.ones_like(p)
    core.dropout(keep, rate, 3, 4, keep)
    shape, options = (
        core.AttentionShape(2, n, m, 1, 1, d, e, 1.0, True),
        (None, mask.view("u1"), None, False, rate, 3, 4),
    )
    inputs, probabilities = (q, k, v, scale, weight), (np.full_like(p, np.nan), np.full_like(p, np.nan))
    y = np.empty((2, n, e))
    core.stored_attention_forward(shape, inputs, by_sums, options, probabilities, y)
    np.testing.assert_allclose(probabilities[0], p, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(probabilities[1], p * keep, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(y, (p * keep) @ v, rtol=1e-11, atol=1e-14)

    dy, ddropped = rng.standard_normal(y.shape), rng.standard_normal(p.shape)
    dq, dk, dv = (np.full_like(a, np.nan) for a in (q, k, v))
    dweight, dscale = None if weight is None else np.ones_like(weight), np.array(1.0)
    core.stored_attention_backward(
        shape, inputs, by_sums, (options, probabilities[0]), (dy, ddropped), (dq, dk, dv, dscale, dweight)
    )
    with pytest.raises(ValueError, match=r"weight must have 1 or 5 elements, received 2"):
        core.stored_attention_forward(shape, (*inputs[:4], np.ones(2)), by_sums, options, probabilities, y)
    dp = (dy @ v.transpose(0, 2, 1) + ddropped) * keep
    ds = p * (dp - (p * dp).sum(-1, keepdims=True))
    if by_sums:
        g = ds[..., None] * wide * (1 - t * t)
        expected = (scale * g).sum(2), (scale * g).sum(1), (g * inside).sum()
        of_weight = np.einsum("bij,bijd->d", ds, t)
        if weight is not None:
            np.testing.assert_allclose(dweight, 1 + (of_weight if weights == d else of_weight.sum()), rtol=1e-9)
    else:
        expected = scale * (ds @ k), scale * (ds.transpose(0, 2, 1) @ q), (ds * scores / scale).sum()
    for got, want in zip((dq, dk, dscale - 1), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(dv, (p * keep).transpose(0, 2, 1) @ dy, rtol=1e-10, atol=1e-13)


def test_what_is_asked_of_multi_head_attention(core: ModuleType) -> None:
    attention = core.AttentionShape(1, 2, 3, 2, 1, 4, 4)
    shape = core.MultiHeadShape(attention, 5, 5, 5, 6, False, False)
    x, other, y = np.zeros((1, 2, 5)), np.zeros((1, 3, 5)), np.zeros((1, 2, 6))
    weights = [np.zeros(s) for s in ((5, 2, 4), (5, 1, 4), (5, 1, 4), (2, 4, 6))]
    core.multi_head_forward(shape, (x, other, other), weights, None, None, (y,))
    with pytest.raises(ValueError, match="weights must have 4 entries, received 3"):
        core.multi_head_forward(shape, (x, other, other), weights[1:], None, None, (y,))
    with pytest.raises(ValueError, match="multi_head_forward: a kernel must have 20 elements"):
        core.multi_head_forward(shape, (x, other, other), [weights[0]] * 2 + weights[2:], None, None, (y,))
    with pytest.raises(ValueError, match="key must have 15 elements"):
        core.multi_head_forward(shape, (x, x, other), weights, None, None, (y,))
    with pytest.raises(ValueError, match=f"kept must have {shape.kept} elements"):
        core.multi_head_forward(shape, (x, other, other), weights, None, np.zeros(3), (y,))


def test_a_learned_factor_gives_both_directions_the_same_scores(core: ModuleType, rng: np.random.Generator) -> None:
    """Of scores so large that a rounding of the factor shows, in the sum of the gradients of the values."""
    shape = core.AttentionShape(2, 20, 30, 1, 1, 16, 8)
    q, k, v = ((20 * rng.standard_normal(one)).astype("f4") for one in ((2, 20, 16), (2, 30, 16), (2, 30, 8)))
    scale = np.array(1.37, "f4")
    kept, y, dy = np.empty((2, 2, 20), "f4"), np.empty((2, 20, 8), "f4"), np.ones((2, 20, 8), "f4")
    core.attention_forward(shape, (q, k, v, scale), None, kept, y)
    gradients = tuple(np.zeros_like(a) for a in (q, k, v, scale))
    core.attention_backward(shape, (q, k, v, scale), None, (kept, y), dy, gradients)
    np.testing.assert_allclose(gradients[2].sum(1), 20, rtol=5e-6)


@pytest.mark.parametrize("layer", [Attention(), MultiHeadAttention(1, 4)])
def test_what_a_call_asks_for_is_seen_by_no_other_thread(layer: Any, rng: np.random.Generator) -> None:
    q = rng.standard_normal((2, 6, 4)).astype("f4")
    plain, causal = layer(q, q), layer(q, q, use_causal_mask=True)
    assert not np.allclose(plain, causal)
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            y, _ = layer(q, q, use_causal_mask=True, return_attention_scores=True)
            np.testing.assert_allclose(y, causal, atol=1e-5)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        for _ in range(300):
            np.testing.assert_array_equal(layer(q, q), plain)
        stop.set()
        asking.result()


def test_a_call_that_fails_leaves_nothing_asked_for(rng: np.random.Generator) -> None:
    layer, x = Attention(), Input((4, 3))
    with pytest.raises(ValueError, match="same features"):
        layer([x, Input((4, 5))], use_causal_mask=True)
    assert not layer.use_causal_mask
    layer([x, x])
