"""Random configurations of the layers that look up tokens, which in Keras need TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
from dice import Arrays, Case, Dice
from draw_functions import job

WORDS = ("the cat", "The dog sat.", "a cat, a dog!", "sat", "on the mat", "", "no more; no less", "[what] the...")


def draw_lookup(d: Dice, name: str, rank: int) -> Case:
    strings = name == "StringLookup"
    words: list[Any] = [f"w{i}" for i in range(8)] if strings else [3, 7, 11, 200, 12, 13, 14, 15]
    mode = d.pick("int", "int", "one_hot", "multi_hot", "count", "tf_idf")
    config: dict[str, Any] = {"output_mode": mode} if mode != "int" or d.chance() else {}
    config |= d.some(mask_token=words[7])
    config |= d.some(num_oov_indices=d.integer(1, 3)) if not strings else {}
    shape = [d.integer(1, 4)] if mode == "one_hot" else [d.integer(1, 4), d.integer(1, 4)]
    arrays: Arrays = {"x": np.array(words)[d.labels(8, *shape)]}
    if d.chance():
        config["vocabulary"] = words[: (count := d.integer(2, 5))]
        config |= {"idf_weights": d.numbers(count)} if mode == "tf_idf" else {}
        config |= {"invert": True} if mode == "int" and d.chance(0.3) else {}
        arrays |= {"x": d.labels(count + 1, *shape)} if config.get("invert") else {}
    else:
        config |= d.some(max_tokens=d.integer(6, 9))
        config |= {"pad_to_max_tokens": True} if "max_tokens" in config and mode != "int" and d.chance() else {}
        many = np.repeat(np.array(words), d.rng.permutation(8) + 1)
        arrays["adapt"] = d.rng.permutation(many).reshape(d.pick([12, 3], [36]))
    return job("preprocessing", name, config), arrays


def draw_vectorization(d: Dice, name: str, rank: int) -> Case:
    mode = d.pick("int", "int", "multi_hot", "count", "tf_idf")
    config: dict[str, Any] = d.some(
        standardize=d.pick("lower_and_strip_punctuation", "lower", "strip_punctuation", None),
        split=d.pick("whitespace", "character"),
        ngrams=d.pick(None, 2, 3, [2], [1, 3]),
        max_tokens=d.integer(4, 12),
    )
    config |= {"output_mode": mode} if mode != "int" or d.chance() else {}
    config |= d.some(output_sequence_length=d.integer(1, 6)) if mode == "int" else {}
    config |= {"pad_to_max_tokens": True} if "max_tokens" in config and mode != "int" and d.chance() else {}
    texts = np.array(WORDS)[d.labels(len(WORDS), 9)]
    return job("preprocessing", name, config), {"adapt": texts, "x": np.array(WORDS)[d.labels(len(WORDS), 5)]}


def draw_binning(d: Dice, name: str, rank: int) -> Case:
    config: dict[str, Any] = {"num_bins": d.integer(2, 6), **d.some(epsilon=d.pick(0.01, 0.1))}
    config |= d.some(output_mode=d.pick("int", "one_hot"))
    return job("preprocessing", name, config), {"adapt": d.normal(d.integer(20, 200)), "x": d.normal(d.integer(1, 6))}


TABLE = [
    (draw_lookup, [("StringLookup", 0), ("IntegerLookup", 0)]),
    (draw_vectorization, [("TextVectorization", 0)]),
    (draw_binning, [("Discretization", 0)]),
]
