"""From categories to numbers: StringLookup, IntegerLookup, Discretization and CategoryEncoding.

They prepare data before it is fed, like `TextVectorization`: called on arrays or lists, they return arrays.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._config import Configurable
from .._naming import unique_name
from .._typing import Array, BatchShape
from .base import only_off
from .symbolic import is_symbolic

_MODES = ("int", "one_hot", "multi_hot", "count")
_LOOKUP_MODES = (*_MODES, "tf_idf")


def not_symbolic(owner: str, data: Any) -> None:
    """Raise TypeError for a tensor of a graph."""
    if is_symbolic(data):
        raise TypeError(f"{owner} prepares data before it is fed to a model: call it on arrays, not on {data!r}")


def encode(owner: str, numbers: Array, depth: int, mode: str, dtype: Any = "float32", weights: Any = None) -> Array:
    """Integers in [0, depth) as they are, or as vectors of length `depth`; negative ones stand for nothing.

    "one_hot": (..., depth), a last axis of size 1 gives way; "multi_hot" and "count": the last axis is one sample.
    """
    if mode == "int":
        return numbers
    if numbers.size and numbers.max() >= depth:
        raise ValueError(f"{owner}: integers must lie below {depth}, received {numbers.max()}")
    if mode == "one_hot":
        if numbers.ndim > 1 and numbers.shape[-1] == 1:
            numbers = numbers[..., 0]
        return (numbers[..., None] == np.arange(depth)).astype(dtype)
    found = numbers[..., None] == np.arange(depth)
    counts = (found if weights is None else found * np.asarray(weights)[..., None]).sum(-2)
    return (counts if mode == "count" else counts > 0).astype(dtype)


def _check_mode(owner: str, mode: str, modes: Sequence[str] = _MODES) -> str:
    if mode not in modes:
        raise ValueError(f"{owner}: output_mode must be {', '.join(modes)}, received {mode!r}")
    return mode


class _Lookup(Configurable):
    """With "int", 0 is the mask token where there is one, then come the unknown, then the vocabulary by frequency
    (equally frequent ones in descending order, as in Keras). The other modes leave out the mask.

    Args:
        max_tokens: size of the vocabulary with the special entries; None: no limit.
        num_oov_indices: how many numbers the unknown tokens have; 0: they raise an error.
        mask_token: a token that stands for nothing; None: there is none.
        oov_token: what an unknown number is turned into with `invert`.
        vocabulary: tokens to use instead of adapting.
        idf_weights: with "tf_idf" and a vocabulary, the weights of its tokens.
        invert: turn numbers back into tokens (False).
        output_mode: "int" (the default), "one_hot", "multi_hot", "count" or "tf_idf": counts times
            log(1 + samples / (1 + samples that hold the token)).
        pad_to_max_tokens: vectors have max_tokens entries, however many tokens there are (False).
        sparse: not supported. name: "string_lookup" and so on.
    """

    family = "layers"

    def __init__(
        self,
        max_tokens: int | None,
        num_oov_indices: int,
        mask_token: Any,
        oov_token: Any,
        vocabulary: Sequence[Any] | None,
        idf_weights: Any,
        invert: bool,
        output_mode: str,
        pad_to_max_tokens: bool,
        name: str | None,
    ) -> None:
        self._owner = type(self).__name__
        self.name = name or unique_name(self._owner)
        if max_tokens is not None and max_tokens < 2:
            raise ValueError(f"{self._owner}: max_tokens must be at least 2, received {max_tokens}")
        if num_oov_indices < 0:
            raise ValueError(f"{self._owner}: num_oov_indices must not be negative, received {num_oov_indices}")
        if pad_to_max_tokens and max_tokens is None:
            raise ValueError(f"{self._owner}: pad_to_max_tokens needs max_tokens")
        self.max_tokens, self.num_oov_indices = max_tokens, num_oov_indices
        self.mask_token, self.oov_token = mask_token, oov_token
        self.invert, self.output_mode = invert, _check_mode(self._owner, output_mode, _LOOKUP_MODES)
        self.pad_to_max_tokens = pad_to_max_tokens
        if invert and output_mode != "int":
            raise ValueError(f"{self._owner}: invert needs output_mode 'int', received {output_mode!r}")
        self.idf_weights: Array | None = None  # of the tokens without the special ones
        self._tokens: list[Any] = []
        self._index: dict[Any, int] = {}
        if vocabulary is not None:
            self.set_vocabulary(vocabulary, idf_weights)

    @property
    def _masks(self) -> int:
        """How many numbers the mask token has: one with "int", none in vectors."""
        return int(self.mask_token is not None and self.output_mode == "int")

    def _special(self) -> list[Any]:
        return [self.mask_token] * self._masks + [self.oov_token] * self.num_oov_indices

    def adapt(self, data: Any) -> None:
        """Learn the vocabulary from an array or list of any shape; each entry of its first axis is a sample."""
        self.adapt_to([np.ravel(row).tolist() for row in np.asarray(data)])

    def adapt_to(self, samples: Sequence[Sequence[Any]]) -> None:
        """Learn the vocabulary from the tokens of samples, which may be of different lengths."""
        special = {self.mask_token, self.oov_token}
        counts = Counter(token for sample in samples for token in sample if token not in special)
        ordered = sorted(counts, reverse=True)
        ordered.sort(key=lambda token: -counts[token])
        room = None if self.max_tokens is None else max(0, self.max_tokens - len(self._special()))
        idf_weights = None
        if self.output_mode == "tf_idf":
            holding = Counter(token for sample in samples for token in set(sample))
            idf_weights = [math.log(1 + len(samples) / (1 + holding[token])) for token in ordered[:room]]
        self.set_vocabulary(ordered[:room], idf_weights)

    def set_vocabulary(self, vocabulary: Sequence[Any], idf_weights: Any = None) -> None:
        """Use these tokens; leading special ones, as `get_vocabulary` returns them, are skipped.

        idf_weights: with "tf_idf", one for each token.
        """
        tokens, special = list(np.asarray(vocabulary).tolist()), self._special()
        weights = None if idf_weights is None else np.asarray(idf_weights, np.float32)
        if (weights is not None) != (self.output_mode == "tf_idf"):
            raise ValueError(f"{self._owner}: idf_weights go with output_mode 'tf_idf', and it needs them")
        if weights is not None and weights.shape != (len(tokens),):
            raise ValueError(f"{self._owner}: {len(tokens)} tokens need as many idf_weights, received {weights.shape}")
        if special and tokens[: len(special)] == special:
            tokens = tokens[len(special) :]
            weights = None if weights is None else weights[len(special) :]
        if len(set(tokens)) != len(tokens):
            raise ValueError(f"{self._owner}: the vocabulary holds a token twice")
        self._tokens, self.idf_weights = tokens, weights
        self._index = {token: len(special) + i for i, token in enumerate(tokens)}
        if self.mask_token is not None:
            self._index[self.mask_token] = 0 if self._masks else -1

    @property
    def vocabulary(self) -> list[Any] | None:
        """The tokens without the special ones; None before `adapt`."""
        return self._tokens or None

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[Any]:
        """Tokens by number."""
        return (self._special() if include_special_tokens else []) + self._tokens

    def vocabulary_size(self) -> int:
        """How many there are, with the special ones."""
        return len(self._special()) + len(self._tokens)

    def _unknown(self, token: Any) -> int:
        raise TypeError(f"{self._owner} must define _unknown")

    def numbers(self, tokens: Sequence[Any]) -> list[int]:
        """The number of each token. Raises ValueError before `adapt`."""
        if not self._tokens:
            raise ValueError(f"{self._owner}: call adapt(data) first, or give a vocabulary")
        found = ((token, self._index.get(token)) for token in tokens)
        return [self._unknown(token) if number is None else number for token, number in found]

    def __call__(self, data: Any) -> Array:
        """int64 of the data's shape, or float32 vectors by `output_mode`; with `invert`, tokens."""
        not_symbolic(self._owner, data)
        x = np.asarray(data)
        if self.invert:
            if not self._tokens:
                raise ValueError(f"{self._owner}: call adapt(data) first, or give a vocabulary")
            known = np.asarray(self.get_vocabulary())
            outside = (x < 0) | (x >= len(known))
            return np.where(outside, np.asarray(self.oov_token), known[np.where(outside, 0, x)])
        return self.encoded(np.array(self.numbers(x.ravel().tolist()), np.int64).reshape(x.shape))

    def encoded(self, numbers: Array) -> Array:
        """Numbers as `output_mode` says; -1 stands for nothing in vectors."""
        if self.output_mode == "int":
            return numbers
        size = self.vocabulary_size()
        depth = self.max_tokens if self.pad_to_max_tokens and self.max_tokens else size
        mode = "count" if self.output_mode == "tf_idf" else self.output_mode
        vectors = encode(self._owner, numbers, depth, mode)
        if self.idf_weights is not None:
            weights = np.zeros(depth, np.float32)
            weights[: size - len(self._tokens)] = self.idf_weights.mean()  # of the unknown nothing better is known
            weights[size - len(self._tokens) : size] = self.idf_weights
            vectors *= weights
        return vectors


class StringLookup(_Lookup):
    __doc__ = f"""Strings as integers. {_Lookup.__doc__}"""

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: str | None = None,
        oov_token: str = "[UNK]",
        vocabulary: Sequence[str] | None = None,
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        pad_to_max_tokens: bool = False,
        sparse: bool = False,
        encoding: str = "utf-8",
        name: str | None = None,
        salt: Any = None,
    ) -> None:
        if num_oov_indices > 1:
            raise ValueError(f"StringLookup: num_oov_indices must be 0 or 1, received {num_oov_indices}")
        only_off("StringLookup", sparse=sparse, salt=salt)
        self.encoding = encoding
        super().__init__(
            max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert, output_mode,
            pad_to_max_tokens, name,
        )  # fmt: skip

    def _unknown(self, token: Any) -> int:
        if not self.num_oov_indices:
            raise ValueError(f"StringLookup: {token!r} is not in the vocabulary, and num_oov_indices is 0")
        return self._masks


class IntegerLookup(_Lookup):
    __doc__ = f"""Any integers as small ones; the unknown share out their numbers by the remainder. {_Lookup.__doc__}"""

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: int | None = None,
        oov_token: int = -1,
        vocabulary: Sequence[int] | None = None,
        vocabulary_dtype: Any = "int64",
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        sparse: bool = False,
        pad_to_max_tokens: bool = False,
        oov_method: str = "floormod",
        salt: Any = None,
        name: str | None = None,
    ) -> None:
        only_off("IntegerLookup", sparse=sparse, salt=salt)
        if oov_method != "floormod":
            raise ValueError(f"IntegerLookup: oov_method must be 'floormod', received {oov_method!r}")
        self.vocabulary_dtype, self.oov_method = vocabulary_dtype, oov_method
        super().__init__(
            max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert, output_mode,
            pad_to_max_tokens, name,
        )  # fmt: skip

    def _unknown(self, token: Any) -> int:
        if not self.num_oov_indices:
            raise ValueError(f"IntegerLookup: {token!r} is not in the vocabulary, and num_oov_indices is 0")
        return int(token) % self.num_oov_indices + self._masks


class CategoryEncoding(Configurable):
    """Integers in [0, num_tokens) as vectors.

    Args:
        num_tokens: length of a vector.
        output_mode: "multi_hot" (the default: 1 for every integer that a sample, the last axis, holds), "count" (how
            often) or "one_hot" (a vector for each integer).
    """

    family = "layers"

    def __init__(self, num_tokens: int | None = None, output_mode: str = "multi_hot", sparse: bool = False) -> None:
        if num_tokens is None or num_tokens < 1:
            raise ValueError(f"CategoryEncoding: num_tokens must be at least 1, received {num_tokens}")
        only_off("CategoryEncoding", sparse=sparse)
        self.num_tokens = num_tokens
        self.output_mode = _check_mode("CategoryEncoding", output_mode, _MODES[1:])

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Shape of the vectors for integers of this shape."""
        each = self.output_mode == "one_hot" and input_shape[-1] != 1
        return (*(input_shape if each else input_shape[:-1]), self.num_tokens)

    def __call__(self, data: Any, count_weights: Any = None) -> Array:
        """float32 (..., num_tokens).

        count_weights: with "count", what each integer counts for, of the data's shape; 1 by default.
        """
        not_symbolic("CategoryEncoding", data)
        numbers = np.asarray(data)
        if count_weights is not None and self.output_mode != "count":
            raise ValueError(f"CategoryEncoding: count_weights need output_mode='count', not {self.output_mode!r}")
        if numbers.size and numbers.min() < 0:
            raise ValueError(f"CategoryEncoding: integers must not be negative, received {numbers.min()}")
        return encode("CategoryEncoding", numbers, self.num_tokens, self.output_mode, weights=count_weights)


class Discretization(Configurable):
    """Numbers as the number of the bin they fall into: bin i holds boundaries[i - 1] <= x < boundaries[i].

    Args:
        bin_boundaries: in ascending order; or
        num_bins: how many bins `adapt` makes, of equally many values.
        epsilon: `adapt` looks at 1 / epsilon values, evenly taken from the sorted data, 0.01.
        output_mode: "int" (the default), "one_hot", "multi_hot" or "count".
    """

    family = "layers"

    def __init__(
        self,
        bin_boundaries: Sequence[float] | None = None,
        num_bins: int | None = None,
        epsilon: float = 0.01,
        output_mode: str = "int",
        sparse: bool = False,
        dtype: Any = None,
        name: str | None = None,
    ) -> None:
        only_off("Discretization", sparse=sparse)
        self.dtype, self.name = dtype, name or unique_name("Discretization")
        if (bin_boundaries is None) == (num_bins is None):
            raise ValueError("Discretization: give either bin_boundaries or num_bins")
        if num_bins is not None and num_bins < 1:
            raise ValueError(f"Discretization: num_bins must be at least 1, received {num_bins}")
        self.num_bins, self.epsilon = num_bins, epsilon
        self.output_mode = _check_mode("Discretization", output_mode)
        self.bin_boundaries = None if bin_boundaries is None else [float(b) for b in bin_boundaries]

    def adapt(self, data: Any) -> None:
        """Choose the boundaries from an array of any shape."""
        if self.num_bins is None:
            raise ValueError("Discretization.adapt: bin_boundaries were given already")
        values: Array = np.sort(np.asarray(data, np.float32), None)
        step = max(len(values) * self.epsilon, 1.0)
        values = values[int(step - 1) :: int(step)].astype(np.float64)
        share = np.arange(1, len(values) + 1) / len(values)
        for part in (self.epsilon, 1 / self.num_bins):
            if len(values) * part >= 1:
                wanted = part + np.arange(0.0, 1.0, part)
                values, share = np.interp(wanted, share, values), np.interp(wanted, share, share)
        self.bin_boundaries = [float(b) for b in values[:-1]]

    def __call__(self, data: Any) -> Array:
        """int64 of the data's shape, or float32 vectors by `output_mode`."""
        not_symbolic("Discretization", data)
        if self.bin_boundaries is None:
            raise ValueError("Discretization: call adapt(data) first, or give bin_boundaries")
        numbers = np.digitize(np.asarray(data, np.float64), self.bin_boundaries)
        return encode("Discretization", numbers, len(self.bin_boundaries) + 1, self.output_mode)


__all__ = ["CategoryEncoding", "Discretization", "IntegerLookup", "StringLookup"]
