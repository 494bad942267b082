"""From categories to numbers: StringLookup, IntegerLookup, Discretization and CategoryEncoding."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._typing import Array, BatchShape
from ..step import Step
from .checks import only_off
from .preparing import MODES, Preparing, check_mode, encode, encoded_shape, gathered, strings
from .symbolic import is_symbolic

_LOOKUP_MODES = (*MODES, "tf_idf")


class _Lookup(Preparing):
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._owner = type(self).__name__
        if max_tokens is not None and max_tokens < 2:
            raise ValueError(f"{self._owner}: max_tokens must be at least 2, received {max_tokens}")
        if num_oov_indices < 0:
            raise ValueError(f"{self._owner}: num_oov_indices must not be negative, received {num_oov_indices}")
        if pad_to_max_tokens and max_tokens is None:
            raise ValueError(f"{self._owner}: pad_to_max_tokens needs max_tokens")
        self.max_tokens, self.num_oov_indices = max_tokens, num_oov_indices
        self.mask_token, self.oov_token = mask_token, oov_token
        self.invert, self.output_mode = invert, check_mode(self._owner, output_mode, _LOOKUP_MODES)
        self.pad_to_max_tokens = pad_to_max_tokens
        self.output_dtype = "int64" if output_mode == "int" else None
        if invert:
            self.input_dtype, self.output_dtype = "int64", self.input_dtype
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

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Learn the vocabulary from an array or list of any shape; each entry of its first axis is a sample. Or from an
        iterable of such batches, of which steps (all) are taken.
        """
        self.adapt_to([np.ravel(row).tolist() for row in self._tokens_of(gathered(data, steps))])

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

    def _tokens_of(self, data: Any) -> Array:
        return np.asarray(data)

    def _unknown(self, token: Any) -> int:
        raise TypeError(f"{self._owner} must define _unknown")

    def numbers(self, tokens: Sequence[Any]) -> list[int]:
        """The number of each token. Raises ValueError before `adapt`."""
        self._check_known()
        found = ((token, self._index.get(token)) for token in tokens)
        return [self._unknown(token) if number is None else number for token, number in found]

    def _check_known(self) -> None:
        if not self._tokens:
            raise ValueError(f"{self._owner}: call adapt(data) first, or give a vocabulary")

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        if self.output_mode != "int" and not self.pad_to_max_tokens:
            self._check_known()
        return encoded_shape(input_shape, self._depth, self.output_mode)

    @property
    def _depth(self) -> int:
        """The length of vectors."""
        return self.max_tokens if self.pad_to_max_tokens and self.max_tokens else self.vocabulary_size()

    def prepared(self, data: Array) -> Array:
        """int64 of the data's shape, or vectors by `output_mode`; with `invert`, tokens."""
        if self.invert:
            self._check_known()
            known = np.asarray(self.get_vocabulary())
            outside = (data < 0) | (data >= len(known))
            return np.where(outside, np.asarray(self.oov_token), known[np.where(outside, 0, data)])
        return self.encoded(np.array(self.numbers(data.ravel().tolist()), np.int64).reshape(data.shape))

    def encoded(self, numbers: Array) -> Array:
        """Numbers as `output_mode` says; -1 stands for nothing in vectors."""
        if self.output_mode == "int":
            return numbers
        size, depth = self.vocabulary_size(), self._depth
        mode = "count" if self.output_mode == "tf_idf" else self.output_mode
        vectors = encode(self._owner, numbers, depth, mode, self.dtype)
        if self.idf_weights is not None:
            weights = np.zeros(depth, self.dtype)
            weights[: size - len(self._tokens)] = self.idf_weights.mean()  # of the unknown nothing better is known
            weights[size - len(self._tokens) : size] = self.idf_weights
            vectors *= weights
        return vectors


class StringLookup(_Lookup):
    __doc__ = f"""Strings as integers. {_Lookup.__doc__}"""

    input_dtype = "string"

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
        **kwargs: Any,
    ) -> None:
        if num_oov_indices > 1:
            raise ValueError(f"StringLookup: num_oov_indices must be 0 or 1, received {num_oov_indices}")
        only_off("StringLookup", sparse=sparse, salt=salt)
        self.encoding = encoding
        super().__init__(
            max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert, output_mode,
            pad_to_max_tokens, name=name, **kwargs,
        )  # fmt: skip

    def _tokens_of(self, data: Any) -> Array:
        return strings(self.name, data)

    def _unknown(self, token: Any) -> int:
        if not self.num_oov_indices:
            raise ValueError(f"StringLookup: {token!r} is not in the vocabulary, and num_oov_indices is 0")
        return self._masks


class IntegerLookup(_Lookup):
    __doc__ = f"""Any integers as small ones; the unknown share out their numbers by the remainder. {_Lookup.__doc__}"""

    input_dtype = "int64"

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
        **kwargs: Any,
    ) -> None:
        only_off("IntegerLookup", sparse=sparse, salt=salt)
        if oov_method != "floormod":
            raise ValueError(f"IntegerLookup: oov_method must be 'floormod', received {oov_method!r}")
        self.vocabulary_dtype, self.oov_method = vocabulary_dtype, oov_method
        super().__init__(
            max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert, output_mode,
            pad_to_max_tokens, name=name, **kwargs,
        )  # fmt: skip

    def _unknown(self, token: Any) -> int:
        if not self.num_oov_indices:
            raise ValueError(f"IntegerLookup: {token!r} is not in the vocabulary, and num_oov_indices is 0")
        return int(token) % self.num_oov_indices + self._masks


class CategoryEncoding(Preparing):
    """Integers in [0, num_tokens) as vectors.

    Args:
        num_tokens: length of a vector.
        output_mode: "multi_hot" (the default: 1 for every integer that a sample, the last axis, holds), "count" (how
            often) or "one_hot" (a vector for each integer).
    """

    input_dtype = "int64"
    several_inputs = True

    def __init__(
        self, num_tokens: int | None = None, output_mode: str = "multi_hot", sparse: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if num_tokens is None or num_tokens < 1:
            raise ValueError(f"CategoryEncoding: num_tokens must be at least 1, received {num_tokens}")
        only_off("CategoryEncoding", sparse=sparse)
        self.num_tokens = num_tokens
        self.output_mode = check_mode("CategoryEncoding", output_mode, MODES[1:])

    def call_inputs(self, x: Any, count_weights: Any = None) -> Any:
        """count_weights: with "count", what each integer counts for, of the data's shape; 1 by default."""
        x = x if is_symbolic(x) else self._accept(x)
        if count_weights is None:
            return x
        if self.output_mode != "count":
            raise ValueError(f"CategoryEncoding: count_weights need output_mode='count', not {self.output_mode!r}")
        return [x, count_weights]

    def _accept(self, inputs: Any) -> Any:
        weighed = isinstance(inputs, list) and len(inputs) == 2 and isinstance(inputs[0], np.ndarray)
        return [self._accept(one) for one in inputs] if weighed else super()._accept(inputs)

    def compute_output_shape(self, input_shape: Any) -> BatchShape:
        """Shape of the vectors for integers of this shape."""
        return encoded_shape(
            tuple(input_shape[0] if isinstance(input_shape, list) else input_shape), self.num_tokens, self.output_mode
        )

    def forward(self, x: Any, step: Step) -> tuple[Array, Any]:
        """Vectors (..., num_tokens) of the layer's dtype."""
        numbers, weights = x if isinstance(x, list) else (x, None)
        if numbers.size and numbers.min() < 0:
            raise ValueError(f"CategoryEncoding: integers must not be negative, received {numbers.min()}")
        step.mask = None
        return encode("CategoryEncoding", numbers, self.num_tokens, self.output_mode, self.dtype, weights), None


class Discretization(Preparing):
    """Numbers as the number of the bin they fall into: bin i holds boundaries[i - 1] <= x < boundaries[i].

    Args:
        bin_boundaries: in ascending order; or
        num_bins: how many bins `adapt` makes, of equally many values.
        epsilon: `adapt` looks at 1 / epsilon values, evenly taken from the sorted data, 0.01.
        output_mode: "int" (the default), "one_hot", "multi_hot" or "count".
    """

    def __init__(
        self,
        bin_boundaries: Sequence[float] | None = None,
        num_bins: int | None = None,
        epsilon: float = 0.01,
        output_mode: str = "int",
        sparse: bool = False,
        dtype: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype, name=name, **kwargs)
        only_off("Discretization", sparse=sparse)
        if (bin_boundaries is None) == (num_bins is None):
            raise ValueError("Discretization: give either bin_boundaries or num_bins")
        if num_bins is not None and num_bins < 1:
            raise ValueError(f"Discretization: num_bins must be at least 1, received {num_bins}")
        self.num_bins, self.epsilon = num_bins, epsilon
        self.output_mode = check_mode("Discretization", output_mode)
        self.output_dtype = "int64" if output_mode == "int" else None
        self.bin_boundaries = None if bin_boundaries is None else [float(b) for b in bin_boundaries]

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Choose the boundaries from an array of any shape; or from an iterable of such, of which steps (all) count."""
        if self.num_bins is None:
            raise ValueError("Discretization.adapt: bin_boundaries were given already")
        values: Array = np.sort(np.asarray(gathered(data, steps), np.float32), None)
        step = max(len(values) * self.epsilon, 1.0)
        values = values[int(step - 1) :: int(step)].astype(np.float64)
        share = np.arange(1, len(values) + 1) / len(values)
        for part in (self.epsilon, 1 / self.num_bins):
            if len(values) * part >= 1:
                wanted = part + np.arange(0.0, 1.0, part)
                values, share = np.interp(wanted, share, values), np.interp(wanted, share, share)
        self.bin_boundaries = [float(b) for b in values[:-1]]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        boundaries, bins = config.get("bin_boundaries"), config.get("num_bins")
        if boundaries is None or bins is None:
            return super().from_config(config)
        made = super().from_config({**config, "bin_boundaries": None})  # one that has adapted
        made.bin_boundaries = list(boundaries)
        return made

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        return encoded_shape(input_shape, self._bins, self.output_mode)

    @property
    def _bins(self) -> int:
        return (self.num_bins or 1) if self.bin_boundaries is None else len(self.bin_boundaries) + 1

    def prepared(self, data: Array) -> Array:
        """int64 of the data's shape, or vectors by `output_mode`."""
        if self.bin_boundaries is None:
            raise ValueError("Discretization: call adapt(data) first, or give bin_boundaries")
        numbers = np.digitize(np.asarray(data, np.float64), self.bin_boundaries)
        return encode("Discretization", numbers, self._bins, self.output_mode, self.dtype)


__all__ = ["CategoryEncoding", "Discretization", "IntegerLookup", "StringLookup"]
