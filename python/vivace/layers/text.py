"""From text to integers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from .._config import Configurable
from .._typing import Array

_PUNCTUATION = re.compile(r"[!\"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~']")


class TextVectorization(Configurable):
    """Turns strings into rows of integers: 0 is padding, 1 an unknown word, then the vocabulary by frequency.

        vectorize = TextVectorization(max_tokens=10_000, output_sequence_length=50)
        vectorize.adapt(train_texts)
        x = vectorize(train_texts)              # int64 (texts, 50)

    Args:
        max_tokens: size of the vocabulary with the two special entries; None: no limit.
        standardize: "lower_and_strip_punctuation" (the default), "lower", None, or a function str -> str.
        split: "whitespace" (the default), "character", or a function str -> list of tokens.
        output_sequence_length: tokens per row, cut or padded at the end; None: as many as the longest text has.
        vocabulary: tokens to use instead of adapting.
    """

    family = "layers"

    def __init__(
        self,
        max_tokens: int | None = None,
        standardize: str | Callable[[str], str] | None = "lower_and_strip_punctuation",
        split: str | Callable[[str], list[str]] = "whitespace",
        output_sequence_length: int | None = None,
        vocabulary: Sequence[str] | None = None,
    ) -> None:
        if max_tokens is not None and max_tokens < 3:
            raise ValueError(f"TextVectorization: max_tokens must be at least 3, received {max_tokens}")
        if standardize not in ("lower_and_strip_punctuation", "lower", None) and not callable(standardize):
            raise ValueError(f"TextVectorization: unknown standardize {standardize!r}")
        if split not in ("whitespace", "character") and not callable(split):
            raise ValueError(f"TextVectorization: unknown split {split!r}")
        self.max_tokens, self.output_sequence_length = max_tokens, output_sequence_length
        self.standardize, self.split = standardize, split
        self._index: dict[str, int] = {}
        if vocabulary is not None:
            self.set_vocabulary(vocabulary)

    def tokens(self, text: str) -> list[str]:
        """The tokens of one text."""
        if callable(self.standardize):
            text = self.standardize(text)
        elif self.standardize is not None:
            text = text.lower()
            if self.standardize == "lower_and_strip_punctuation":
                text = _PUNCTUATION.sub("", text)
        if callable(self.split):
            return self.split(text)
        return text.split() if self.split == "whitespace" else list(text)

    def adapt(self, data: Iterable[str]) -> None:
        """Learn the vocabulary: the most frequent tokens; equally frequent ones in alphabetical order."""
        counts = Counter(token for text in data for token in self.tokens(text))
        ordered = sorted(counts, key=lambda token: (-counts[token], token))
        self.set_vocabulary(ordered if self.max_tokens is None else ordered[: self.max_tokens - 2])

    def set_vocabulary(self, vocabulary: Sequence[str]) -> None:
        """Use these tokens, numbered from 2; a leading "" and "[UNK]" are skipped."""
        words = list(vocabulary)
        if words[:2] == ["", "[UNK]"]:
            words = words[2:]
        if len(set(words)) != len(words):
            raise ValueError("TextVectorization: the vocabulary holds a token twice")
        self._index = {word: i + 2 for i, word in enumerate(words)}

    @property
    def vocabulary(self) -> list[str] | None:
        """The words without the special ones; None before `adapt`."""
        return list(self._index) or None

    def get_vocabulary(self) -> list[str]:
        """Tokens by number, with "" for padding and "[UNK]" for the unknown."""
        return ["", "[UNK]", *self._index]

    def vocabulary_size(self) -> int:
        return len(self._index) + 2

    def __call__(self, texts: Iterable[str]) -> Array:
        """int64 (texts, tokens). Raises ValueError before `adapt`, TypeError for a single string."""
        if isinstance(texts, str):
            raise TypeError("TextVectorization: expected a list of texts, received a single string")
        if not self._index:
            raise ValueError("TextVectorization: call adapt(texts) first, or give a vocabulary")
        rows = [[self._index.get(token, 1) for token in self.tokens(str(text))] for text in texts]
        length = self.output_sequence_length or max(map(len, rows), default=0)
        out = np.zeros((len(rows), length), np.int64)
        for row, numbers in zip(out, rows, strict=True):
            row[: len(numbers)] = numbers[:length]
        return out
