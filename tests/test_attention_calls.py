"""What a call of an attention layer may ask for: masks of pairs, and the probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vivace import layers as L
from vivace.models import Model
from vivace.step import Step

KINDS = {
    "heads": lambda **k: L.MultiHeadAttention(2, 3, dtype="float64", **k),
    "gated": lambda **k: L.MultiHeadAttention(2, 3, value_dim=4, use_gate=True, dtype="float64", **k),
    "window": lambda **k: L.MultiHeadAttention(2, 3, sliding_window=3, dtype="float64", **k),
    "groups": lambda **k: L.GroupQueryAttention(3, 4, 2, dtype="float64", **k),
}


def data(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pairs = rng.random((2, 5, 6)) < 0.6
    pairs[:, :, 2] = True
    return rng.normal(size=(2, 5, 4)), rng.normal(size=(2, 6, 4)), pairs


def weighted(layer: Any, query: np.ndarray, value: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The layer's output from its probabilities."""
    v = np.einsum("nkf,fhd->nkhd", value, layer.value.kernel.value) + layer.value.bias.value
    attended = np.einsum("nhqk,nkhd->nqhd", scores, v.repeat(layer.heads // layer.key_heads, 2))
    if layer.gate is not None:
        z = np.einsum("nqf,fhd->nqhd", query, layer.gate.kernel.value) + layer.gate.bias.value
        attended = attended / (1 + np.exp(-z))
    out = np.einsum("nqhd,hdf->nqf", attended, layer.out.kernel.value)
    return np.asarray(out + layer.out.bias.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("causal", [False, True])
def test_pairs_that_do_not_count_have_no_weight(kind: str, causal: bool, rng: np.random.Generator) -> None:
    query, value, pairs = data(rng)
    pairs[:, :, 0] = True  # so that each query attends to something, causally too
    pairs |= np.eye(5, 6, dtype=bool)
    layer = KINDS[kind]()
    layer(query, value)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])

    def call(*inputs: Any, **more: Any) -> Any:
        return layer(*inputs, use_causal_mask=causal, **more)

    y, scores = call(query, value, attention_mask=pairs, return_attention_scores=True)
    assert scores.shape == (2, layer.heads, 5, 6)
    allowed = np.tril(pairs) if causal else pairs
    if kind == "window":
        allowed = allowed & (np.abs(np.arange(5)[:, None] - np.arange(6)) < 3)
    assert (scores[~np.broadcast_to(allowed[:, None], scores.shape)] == 0).all()
    np.testing.assert_allclose(scores.sum(-1), 1)
    np.testing.assert_allclose(y, weighted(layer, query, value, scores))
    np.testing.assert_allclose(call(query, value, attention_mask=pairs), y)
    np.testing.assert_allclose(call(query, value, value, attention_mask=pairs), y)
    one = pairs[0]
    np.testing.assert_allclose(call(query, value, attention_mask=one), call(query, value, attention_mask=[one, one]))
    keys = rng.random((2, 6)) < 0.7
    keys[:, :3] = True
    both = call(query, value, attention_mask=pairs & keys[:, None], return_attention_scores=True)
    for got, expected in zip(
        call(query, value, attention_mask=pairs, value_mask=keys, return_attention_scores=True), both, strict=True
    ):
        np.testing.assert_allclose(got, expected)


def test_gradients_with_a_mask_of_pairs(rng: np.random.Generator) -> None:
    query, value, pairs = data(rng)
    layer = KINDS["gated"](dropout=0.3, use_attention_mask=True)
    pairs[0, 1] = False
    inputs = [query, value, value.copy(), pairs.astype(float)]
    layer.build_once([a.shape for a in inputs])
    d = rng.normal(size=(2, 5, 4))
    step = Step(False)
    _, saved = layer.forward(inputs, step)
    gradients = layer.backward(d.copy(), saved, step)
    assert gradients[3] is None
    for a, gradient in zip(inputs[:3], gradients, strict=False):
        for _ in range(5):
            direction, size = rng.normal(size=a.shape), 1e-6
            ends = []
            for sign in (1, -1):
                a += sign * size * direction
                ends.append(float((layer.forward(inputs, Step(False))[0] * d).sum()))
                a -= sign * size * direction
            np.testing.assert_allclose((gradient * direction).sum(), (ends[0] - ends[1]) / (2 * size), rtol=1e-6)


def test_a_query_that_attends_to_nothing(rng: np.random.Generator) -> None:
    query, value, pairs = data(rng)
    pairs[0, 1] = False
    for rate in (0.0, 0.3):
        layer = KINDS["heads"](dropout=rate)
        y = layer(query, value, attention_mask=pairs)
        expected = 0 if rate else 1 / 6
        scores = np.full((2, 2, 5, 6), expected)
        np.testing.assert_allclose(y[0, 1], weighted(layer, query, value, scores)[0, 1], atol=1e-12)


def test_masks_of_pairs_in_a_model(rng: np.random.Generator) -> None:
    query, value, pairs = (a.astype("float32") for a in data(rng))
    q, v, m = L.Input((5, 4)), L.Input((6, 4)), L.Input((5, 6), dtype="bool")
    layer = L.MultiHeadAttention(2, 3)
    model = Model([q, v, m], layer(q, v, attention_mask=m))
    np.testing.assert_allclose(
        model.predict([query, value, pairs != 0], verbose=0), layer(query, value, attention_mask=pairs), atol=1e-6
    )
    model.compile("sgd", "mse")
    model.fit([query, value, pairs], query, verbose=0)
    with pytest.raises(ValueError, match=r"attention_mask must be \(batch, queries, keys\), \(None, 5, 6\)"):
        layer(query, value, attention_mask=pairs[:, :, :5])


@pytest.mark.parametrize("kind", [L.Attention, L.AdditiveAttention])
def test_scores_of_attention_without_projections(kind: Any, rng: np.random.Generator) -> None:
    query, value, _ = data(rng)
    keys = np.array([[0, 1, 1, 0, 1, 1], [1, 1, 0, 1, 1, 1]], bool)
    layer = kind(dtype="float64")
    for causal in (False, True):
        y, scores = layer([query, value], mask=[None, keys], use_causal_mask=causal, return_attention_scores=True)
        np.testing.assert_allclose(scores.sum(-1), 1)
        np.testing.assert_allclose(y, scores @ value)
    # the first query sees the first key only, which does not count: then all are alike
    _, scores = kind()([query, value], mask=[None, keys], use_causal_mask=True, return_attention_scores=True)
    np.testing.assert_allclose(scores[0, 0], 1 / 6, rtol=1e-6)
