"""From text to integers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .._config import Configurable
from .._naming import unique_name
from .._typing import Array
from .base import only_off
from .lookup import StringLookup, not_symbolic

_STANDARDIZE = ("lower_and_strip_punctuation", "lower", "strip_punctuation", None)
_PUNCTUATION = re.compile(r"[!\"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~']")


class TextVectorization(Configurable):
    """Turns strings into rows of integers: 0 is padding, 1 an unknown word, then the vocabulary by frequency.

        vectorize = TextVectorization(max_tokens=10_000, output_sequence_length=50)
        vectorize.adapt(train_texts)
        x = vectorize(train_texts)              # int64 (texts, 50)

    Args:
        max_tokens: size of the vocabulary with the special entries; None: no limit.
        standardize: "lower_and_strip_punctuation" (the default), "lower", "strip_punctuation", None, or a function
            str -> str.
        split: "whitespace" (the default), "character", None (a text is one token), or a function str -> list of tokens.
        ngrams: also tokens of up to so many neighbours, joined by spaces; a tuple: of these numbers only.
        output_mode: "int" (the default), or a vector for each text: "multi_hot", "count" or "tf_idf", whose vocabulary
            starts with the unknown. See `StringLookup`.
        output_sequence_length: with "int", tokens per row, cut or padded at the end; None: as many as the longest has.
        pad_to_max_tokens: vectors have max_tokens entries (False).
        vocabulary, idf_weights: tokens, and with "tf_idf" their weights, to use instead of adapting.
        sparse, ragged: not supported. name: "text_vectorization" and so on.
    """

    family = "layers"

    def __init__(
        self,
        max_tokens: int | None = None,
        standardize: str | Callable[[str], str] | None = "lower_and_strip_punctuation",
        split: str | Callable[[str], list[str]] | None = "whitespace",
        ngrams: int | Sequence[int] | None = None,
        output_mode: str = "int",
        output_sequence_length: int | None = None,
        pad_to_max_tokens: bool = False,
        vocabulary: Sequence[str] | None = None,
        idf_weights: Any = None,
        sparse: bool = False,
        ragged: bool = False,
        encoding: str = "utf-8",
        name: str | None = None,
    ) -> None:
        if max_tokens is not None and max_tokens < 3:
            raise ValueError(f"TextVectorization: max_tokens must be at least 3, received {max_tokens}")
        if standardize not in _STANDARDIZE and not callable(standardize):
            raise ValueError(f"TextVectorization: unknown standardize {standardize!r}")
        if split not in ("whitespace", "character", None) and not callable(split):
            raise ValueError(f"TextVectorization: unknown split {split!r}")
        if output_mode not in ("int", "multi_hot", "count", "tf_idf"):
            raise ValueError(
                f"TextVectorization: output_mode must be int, multi_hot, count or tf_idf, received {output_mode!r}"
            )
        only_off("TextVectorization", sparse=sparse, ragged=ragged)
        self.name = name or unique_name("TextVectorization")
        self.max_tokens, self.output_sequence_length = max_tokens, output_sequence_length
        self.standardize, self.split, self.ngrams, self.encoding = standardize, split, ngrams, encoding
        self.output_mode, self.pad_to_max_tokens = output_mode, pad_to_max_tokens
        self._lookup = StringLookup(
            max_tokens, mask_token="" if output_mode == "int" else None, vocabulary=vocabulary, idf_weights=idf_weights,
            output_mode=output_mode, pad_to_max_tokens=pad_to_max_tokens, name=self.name,
        )  # fmt: skip

    def tokens(self, text: str) -> list[str]:
        """The tokens of one text."""
        if callable(self.standardize):
            text = self.standardize(text)
        elif self.standardize is not None:
            text = text.lower() if self.standardize.startswith("lower") else text
            text = _PUNCTUATION.sub("", text) if self.standardize.endswith("strip_punctuation") else text
        if self.split is None:
            words = [text]
        elif callable(self.split):
            words = self.split(text)
        else:
            words = text.split() if self.split == "whitespace" else list(text)
        if self.ngrams is None:
            return words
        sizes = range(1, self.ngrams + 1) if isinstance(self.ngrams, int) else self.ngrams
        return [" ".join(words[i : i + size]) for size in sizes for i in range(len(words) - size + 1)]

    def adapt(self, data: Iterable[str]) -> None:
        """Learn the vocabulary: the most frequent tokens; equally frequent ones in descending order, as in Keras."""
        self._lookup.adapt_to([self.tokens(text) for text in data])

    def set_vocabulary(self, vocabulary: Sequence[str], idf_weights: Any = None) -> None:
        """Use these tokens; leading special ones, as `get_vocabulary` returns them, are skipped."""
        self._lookup.set_vocabulary(vocabulary, idf_weights)

    @property
    def vocabulary(self) -> list[str] | None:
        """The tokens without the special ones; None before `adapt`."""
        return self._lookup.vocabulary

    @property
    def idf_weights(self) -> Array | None:
        """With "tf_idf", the weight of each token of the vocabulary."""
        return self._lookup.idf_weights

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[str]:
        """Tokens by number, with "" for padding and "[UNK]" for the unknown."""
        return self._lookup.get_vocabulary(include_special_tokens)

    def vocabulary_size(self) -> int:
        """How many tokens there are, with the special ones."""
        return self._lookup.vocabulary_size()

    def __call__(self, texts: Iterable[str]) -> Array:
        """int64 (texts, tokens), or float32 (texts, vocabulary). Raises ValueError before `adapt`, TypeError for a
        single string."""
        not_symbolic("TextVectorization", texts)
        if isinstance(texts, str):
            raise TypeError("TextVectorization: expected a list of texts, received a single string")
        rows = [self._lookup.numbers(self.tokens(str(text))) for text in texts]
        vectors = self.output_mode != "int"
        length = (None if vectors else self.output_sequence_length) or max(map(len, rows), default=0)
        out = np.full((len(rows), length), -1 if vectors else 0, np.int64)
        for row, numbers in zip(out, rows, strict=True):
            row[: len(numbers)] = numbers[:length]
        return self._lookup.encoded(out)
