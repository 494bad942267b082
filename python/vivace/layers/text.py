"""From text to integers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._typing import Array, BatchShape
from .checks import only_off
from .lookup import StringLookup
from .preparing import Preparing, check_mode, gathered, strings

_STANDARDIZE = ("lower_and_strip_punctuation", "lower", "strip_punctuation", None)
_PUNCTUATION = re.compile(r"[!\"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~']")


class TextVectorization(Preparing):
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

    input_dtype = "string"

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
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        if max_tokens is not None and max_tokens < 3:
            raise ValueError(f"TextVectorization: max_tokens must be at least 3, received {max_tokens}")
        if standardize not in _STANDARDIZE and not callable(standardize):
            raise ValueError(f"TextVectorization: unknown standardize {standardize!r}")
        if split not in ("whitespace", "character", None) and not callable(split):
            raise ValueError(f"TextVectorization: unknown split {split!r}")
        output_mode = check_mode("TextVectorization", output_mode, ("int", "multi_hot", "count", "tf_idf"))
        only_off("TextVectorization", sparse=sparse, ragged=ragged)
        self.output_dtype = "int64" if output_mode == "int" else None
        self.max_tokens, self.output_sequence_length = max_tokens, output_sequence_length
        self.standardize, self.split, self.ngrams, self.encoding = standardize, split, ngrams, encoding
        self.output_mode, self.pad_to_max_tokens = output_mode, pad_to_max_tokens
        self._lookup = StringLookup(
            max_tokens, mask_token="" if output_mode == "int" else None, vocabulary=vocabulary, idf_weights=idf_weights,
            output_mode=output_mode, pad_to_max_tokens=pad_to_max_tokens, dtype=self.dtype, name=self.name,
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

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Learn the vocabulary: the most frequent tokens; equally frequent ones in descending order, as in Keras.

        data: texts (n,) or (n, 1); or an iterable of batches of them, of which steps (all) are taken.
        """
        texts = self._one_text_each(strings(self.name, gathered(data, steps)))
        self._lookup.adapt_to([self.tokens(text) for text in texts.tolist()])

    def _one_text_each(self, texts: Array) -> Array:
        if texts.ndim > 1 and texts.shape[-1] == 1:
            texts = texts[..., 0]
        if texts.ndim != 1:
            raise ValueError(
                f"{self.name} (TextVectorization) takes one text for each sample, (batch,) or (batch, 1), "
                f"received shape {texts.shape}"
            )
        return texts

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

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        if self.output_mode == "int":
            return input_shape[0], self.output_sequence_length
        return self._lookup.compute_output_shape((input_shape[0], None))

    def _accept(self, inputs: Any) -> Any:
        if isinstance(inputs, (str, bytes)):
            raise TypeError("TextVectorization: expected a list of texts, received a single string")
        return super()._accept(inputs)

    def prepared(self, data: Array) -> Array:
        """int64 (texts, tokens), or vectors (texts, vocabulary). Raises ValueError before `adapt`."""
        rows = [self._lookup.numbers(self.tokens(text)) for text in self._one_text_each(data).tolist()]
        vectors = self.output_mode != "int"
        length = (None if vectors else self.output_sequence_length) or max(map(len, rows), default=0)
        out = np.full((len(rows), length), -1 if vectors else 0, np.int64)
        for row, numbers in zip(out, rows, strict=True):
            row[: len(numbers)] = numbers[:length]
        return self._lookup.encoded(out)
