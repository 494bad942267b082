"""Attention between projections to heads: one native call each way, which never stores the matrix of scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .. import constraints, initializers, regularizers
from .._core import native
from .._typing import Array, BatchShape, Initializer, Shape
from ..constraints import Constraint
from ..parameters import Parameter
from ..regularizers import L1L2
from ..step import Step, Stream
from .attention import AttentionLayer, Options
from .checks import positive
from .symbolic import SymbolicTensor, as_inputs


class _Projection(NamedTuple):
    """A product of the last axis (or axes) with a kernel (*inputs, *outputs), and a bias (*outputs)."""

    kernel: Parameter
    bias: Parameter | None


class _Way(NamedTuple):
    """What is computed from a query and a key of one shape each: its shape, that of the output and of the scores, and
    how many numbers are kept for backward.
    """

    shape: native.MultiHeadShape
    output: Shape
    scores: Shape
    kept: Shape


def _shapes(query: Any, value: Any, key: Any) -> Any:
    """Shapes given one by one as the list of all; a single one may be such a list already."""
    more = [shape for shape in (value, key) if shape is not None]
    return [query, *more] if more else query


class _Attention(AttentionLayer):
    """Projects queries, keys and values to heads, attends, and projects back.

    The input is one array (self-attention), or a list: [query, value] or [query, value, key]; without a key, the value
    is it. All are (batch, steps, features). The output is (batch, query steps, output features).

    Masks: queries, values and keys that count are those whose mask is not 0 (`step.mask`, for several inputs a list in
    their order). A query that may attend to nothing gets the mean of all values or, where the layer has dropout or
    returns scores, 0: so does Keras, which then takes another way. The output has the query's mask.
    """

    def __init__(
        self,
        heads: int,
        key_heads: int,
        key_dim: int,
        value_dim: int,
        dropout: float,
        use_bias: bool,
        kernel_initializer: str | Initializer,
        bias_initializer: str | Initializer,
        kernel_regularizer: str | L1L2 | None,
        bias_regularizer: str | L1L2 | None,
        activity_regularizer: str | L1L2 | None,
        kernel_constraint: str | Constraint | None,
        bias_constraint: str | Constraint | None,
        seed: int | None,
        use_causal_mask: bool,
        sliding_window: int | None,
        use_gate: bool,
        return_attention_scores: bool,
        use_attention_mask: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.return_attention_scores, self.use_attention_mask = return_attention_scores, use_attention_mask
        self.sliding_window = None if sliding_window is None else positive(self.name, "sliding_window", sliding_window)
        self.use_gate = use_gate
        self.heads, self.key_heads, self.key_dim, self.value_dim = heads, key_heads, key_dim, value_dim
        if not 0 <= dropout < 1:
            raise ValueError(f"{self.name}: dropout must lie in [0, 1), received {dropout!r}")
        self.dropout = float(dropout)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.use_causal_mask = use_causal_mask
        self.seed = seed
        self.stream = Stream(seed)
        self.sample_shape: Shape | None = None  # of an output step; None: the query's

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return config | {"output_shape": self.sample_shape} if "output_shape" in config else config

    def call_inputs(self, query: Any, value: Any = None, key: Any = None, attention_mask: Any = None) -> Any:
        if isinstance(query, SymbolicTensor) and value is query and (key is None or key is query):
            value = key = None  # self-attention
        return as_inputs(query, tuple(part for part in (value, key, attention_mask) if part is not None))

    def attended_axes(self, rank: int) -> int:
        """The first of the axes that attention runs over; those before it are batches."""
        return 1

    def _inputs(self, given: Any, what: str) -> tuple[Any, Any, Any]:
        """Query, value and key of one input or of two or three."""
        parts, _ = self._parts(given)
        if len(parts) not in (1, 2, 3):
            raise ValueError(
                f"{self.name}.{what}: expected one input, [query, value] or [query, value, key]"
                f"{', and an attention_mask behind them' * self.use_attention_mask}, received {len(given)}"
            )
        return parts[0], parts[len(parts) > 1], parts[-1]

    def _parts(self, given: Any) -> tuple[list[Any], Any]:
        """The inputs (arrays, shapes or masks) as a list, and apart from them the one that is the attention mask."""
        several = isinstance(given, (list, tuple)) and bool(given) and not isinstance(given[0], (int, type(None)))
        parts = list(given) if several else [given]
        return (parts[:-1], parts[-1]) if self.use_attention_mask else (parts, None)

    def compute_output_shape(self, query_shape: Any, value_shape: Any = None, key_shape: Any = None) -> BatchShape:
        """Shape of the output, for the inputs' shapes one by one or in a list."""
        input_shape = _shapes(query_shape, value_shape, key_shape)
        query, value, key = (tuple(shape) for shape in self._inputs(input_shape, "compute_output_shape"))
        kind = f"{self.name} ({type(self).__name__})"
        for name, shape in (("query", query), ("value", value), ("key", key)):
            if len(shape) < 3 or shape[-1] is None:
                raise ValueError(f"{kind}: {name} must be (batch, ..., steps, features), received shape {shape}")
        if value[1:-1] != key[1:-1]:
            raise ValueError(f"{kind}: value and key must have the same steps, received shapes {value} and {key}")
        first = self.attended_axes(len(query))
        if len(value) != len(query) or value[1:first] != query[1:first]:
            raise ValueError(
                f"{kind}: query and value must agree but for the steps, received shapes {query} and {value}"
            )
        if self.built and (query[-1], value[-1], key[-1]) != self.features:
            raise ValueError(f"{kind} was built for features {self.features}, received {query}, {value}, {key}")
        output = (*query[:-1], *(self.sample_shape or (query[-1],)))
        if (self.use_attention_mask or self.return_attention_scores) and len(query) != 3:
            raise ValueError(
                f"{kind}: attention_mask and return_attention_scores are for inputs (batch, steps, features), received "
                f"shape {query}"
            )
        pairs = (query[0], query[1], value[1])
        mask = self._parts(input_shape)[1]
        if mask is not None and (
            len(mask) != 3
            or any(size not in (None, 1, n) and n is not None for size, n in zip(mask, pairs, strict=True))
        ):
            raise ValueError(f"{kind}: attention_mask must be (batch, queries, keys), {pairs}, received shape {mask}")
        return [output, (pairs[0], self.heads, *pairs[1:])] if self.return_attention_scores else output  # type: ignore[return-value]

    def build(self, query_shape: Any, value_shape: Any = None, key_shape: Any = None) -> None:
        """Create the weights, for the inputs' shapes one by one or in a list."""
        input_shape = _shapes(query_shape, value_shape, key_shape)
        query, value, key = (shape[-1] for shape in self._inputs(input_shape, "build"))
        self.features = (query, value, key)
        self.query = self._projection("query", (query,), (self.heads, self.key_dim))
        self.key = self._projection("key", (key,), (self.key_heads, self.key_dim))
        self.gate = self._projection("gate", (query,), (self.heads, self.value_dim)) if self.use_gate else None
        self.value = self._projection("value", (value,), (self.key_heads, self.value_dim))
        self.out = self._projection("attention_output", (self.heads, self.value_dim), self.sample_shape or (query,))
        self._projections = tuple(self.parameters)

    def _projection(self, name: str, inputs: Shape, outputs: Shape) -> _Projection:
        shape, bias = (*inputs, *outputs), None
        kernel = self.add_weight(
            f"{name}/kernel", shape, self.kernel_initializer, True, self.kernel_regularizer, self.kernel_constraint
        )
        if self.use_bias:
            bias = self.add_weight(
                f"{name}/bias", outputs, self.bias_initializer, True, self.bias_regularizer, self.bias_constraint
            )
        return _Projection(kernel, bias)

    def flops(self) -> int:
        query, value, _ = self._inputs(self.input_shape, "flops")
        steps, others = (math.prod(size or 1 for size in shape[1:-1]) for shape in (query, value))
        kernels = [p.kernel.size for p in (self.query, self.out, self.key, self.value)]
        products = 2 * (steps * sum(kernels[:2]) + others * sum(kernels[2:]))
        batches = math.prod(size or 1 for size in query[1 : self.attended_axes(len(query))])
        return products + 2 * self.heads * steps * (others // batches) * (self.key_dim + self.value_dim)

    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        parts, pairs = x if type(x) is list else [*x] if type(x) is tuple else [x], None
        if self.use_attention_mask:
            *parts, pairs = parts
        inputs = query, key, _ = parts[0], parts[-1], parts[len(parts) > 1]
        at = query.shape, key.shape, self.use_causal_mask, self.sliding_window
        shape, output, pairs_shape, kept_shape = way = self._ways.get(at) or self.new_way(at)
        options = None
        if step.mask is not None or pairs is not None or self.dropout or self.sliding_window:
            if pairs is not None:
                allowed = (pairs_shape[0], *pairs_shape[2:])
                pairs = np.ascontiguousarray(np.broadcast_to(pairs != 0, allowed), np.uint8)
            options = self._options(len(parts), pairs, step)
        weights = [p.array for p in self._projections]
        kept = step.empty(kept_shape, query.dtype) if step.keeps else None
        if self.return_attention_scores:
            scores = step.empty(pairs_shape, query.dtype)
            y = step.empty(output, query.dtype)
            native.multi_head_forward(shape, inputs, weights, options, kept, (y, scores))
            return [y, scores], (x, inputs, way, options, kept, scores)
        y = step.empty(output, query.dtype)
        native.multi_head_forward(shape, inputs, weights, options, kept, (y,))
        return y, (x, inputs, way, options, kept, None)

    def bind(self, x: Any, step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        if self.use_attention_mask or self.return_attention_scores:
            return None
        query, value, key = self._inputs(x, "bind")
        at = query.shape, key.shape, self.use_causal_mask, self.sliding_window
        way: _Way = self._ways.get(at) or self.new_way(at)
        y, weights = step.empty(way.output, query.dtype), [p.array for p in self._projections]
        options = None
        if self.sliding_window is not None:  # which may hide everything from a query
            options = Options(None, None, None, bool(self.dropout), 0.0, 0, 0)
        return y, [partial(native.multi_head_forward, way.shape, (query, key, value), weights, options, None, (y,))]

    def make_way(self, shape: tuple[Shape, Shape, bool, int | None]) -> _Way:
        query, key, causal, window = shape
        if query[0] != key[0]:
            raise ValueError(f"query and key must be one batch, received shapes {query} and {key}")
        first = self.attended_axes(len(query))
        batch, steps, others = (math.prod(sizes) for sizes in (query[:first], query[first:-1], key[first:-1]))
        attention = native.AttentionShape(
            batch, steps, others, self.heads, self.key_heads, self.key_dim, self.value_dim, self.key_dim**-0.5, causal,
            window or 0,
        )  # fmt: skip
        output = (*query[:-1], *self.out.kernel.shape[2:])
        sizes = self.features[0], self.features[2], self.features[1], math.prod(self.out.kernel.shape[2:])
        whole = native.MultiHeadShape(attention, *sizes, self.use_bias, self.gate is not None)
        return _Way(whole, output, (batch, self.heads, steps, others), (whole.kept,))

    def _options(self, inputs: int, pairs: Array | None, step: Step) -> Options:
        """Masks and dropout of a pass. With dropout or scores, a query that may attend to nothing gets 0."""
        query_mask = key_mask = None
        if step.mask is not None:
            query_mask, key_mask = self._masks(step.mask, inputs)
            step.mask = step.mask[0] if isinstance(step.mask, (list, tuple)) else step.mask
        rate = self.dropout if step.training else 0.0
        zero_blind = bool(self.dropout) or self.return_attention_scores
        number = self.stream.next() if rate else 0
        return Options(query_mask, key_mask, pairs, zero_blind, rate, self.stream.seed, number)

    def _masks(self, mask: Any, inputs: int) -> tuple[Array | None, Array | None]:
        """Of the queries and of the keys; values and keys that are masked both count for nothing."""
        parts = list(mask) if isinstance(mask, (list, tuple)) else [mask]
        if inputs == 1:
            return _bytes(parts[0]), _bytes(parts[0])
        query, value, key = (_bytes(part) for part in (*parts[:inputs], None, None, None)[:3])
        return query, value if key is None else key if value is None else value & key

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        x, inputs, way, options, kept, scores = saved
        upstream: tuple[Array, ...] = (dy,)
        if scores is not None:
            upstream = (dy[0], scores, dy[1]) if dy[1].any() else (dy[0],)
        weights, gradients = [p.array for p in self._projections], [p.gradient for p in self._projections]
        parts, _ = self._parts(x)
        found = [step.empty(part.shape, part.dtype) for part in parts] if input_gradient else []
        sums = (found[0], found[-1], found[len(parts) > 1]) if input_gradient else None  # one array gets the sum
        native.multi_head_backward(way.shape, inputs, weights, (options, kept), upstream, (gradients, sums))
        if not input_gradient:
            return None
        if not isinstance(x, (list, tuple)):
            return found[0]
        return [*found, None] if self.use_attention_mask else found


def _bytes(mask: Array | None) -> Array | None:
    return None if mask is None else np.ascontiguousarray(mask != 0, np.uint8).reshape(len(mask), -1)


class MultiHeadAttention(_Attention):
    __doc__ = f"""Several heads of scaled dot-product attention. A. Vaswani et al., "Attention Is All You Need", 2017.

    {_Attention.__doc__}

    Weights, in this order: query (features, num_heads, key_dim) and its bias (num_heads, key_dim), key, with use_gate
    gate and value (features, num_heads, value_dim), output (num_heads, value_dim, output features).

    Args:
        num_heads: number of heads.
        key_dim: size of a head's queries and keys.
        value_dim: size of a head's values; None: key_dim.
        dropout: rate at which probabilities are dropped in training, 0.
        use_bias: add biases (True).
        output_shape: features of an output step, an integer or several; None: the query's.
        attention_axes: the axes that attention runs over; they must be the last ones before the features. None: all
            between the batch and the features. Axes before them are further batches.
        sliding_window: queries attend only to keys less than this many steps away; None: to all.
        flash_attention: accepted for Keras's sake; scores are never stored.
        use_gate: multiply what each head attends to by sigmoid of a projection of the query (False).
        kernel_initializer, bias_initializer: names or callables; "glorot_uniform" and "zeros".
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties of `vivace.regularizers` on the weights
            and on the output, none by default.
        kernel_constraint, bias_constraint: of `vivace.constraints`, none by default.
        seed: of the dropout; by default the next seed of the global stream.
        use_causal_mask, return_attention_scores: what calls ask for that do not say it themselves (False; Keras takes
            them when the layer is called).
        use_attention_mask: the last of the inputs is an attention mask (False; calls with one set it).
    """

    bind = _Attention.bind

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | Sequence[int] | None = None,
        attention_axes: int | Sequence[int] | None = None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        kernel_regularizer: str | L1L2 | None = None,
        bias_regularizer: str | L1L2 | None = None,
        activity_regularizer: str | L1L2 | None = None,
        kernel_constraint: str | Constraint | None = None,
        bias_constraint: str | Constraint | None = None,
        use_gate: bool = False,
        seed: int | None = None,
        use_causal_mask: bool = False,
        return_attention_scores: bool = False,
        use_attention_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        owner = kwargs.get("name") or "MultiHeadAttention"
        heads, key_size = positive(owner, "num_heads", num_heads), positive(owner, "key_dim", key_dim)
        value_size = key_size if value_dim is None else positive(owner, "value_dim", value_dim)
        super().__init__(
            heads, heads, key_size, value_size, dropout, use_bias, kernel_initializer, bias_initializer,
            kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
            bias_constraint, seed, use_causal_mask, sliding_window, use_gate, return_attention_scores,
            use_attention_mask, **kwargs,
        )  # fmt: skip
        if output_shape is not None:
            sizes = [output_shape] if isinstance(output_shape, (int, np.integer)) else output_shape
            self.sample_shape = tuple(positive(self.name, "output_shape", size) for size in sizes)
        axes = [attention_axes] if isinstance(attention_axes, int) else attention_axes
        self.attention_axes = None if axes is None else tuple(axes)

    def attended_axes(self, rank: int) -> int:
        if self.attention_axes is None:
            return 1
        axes = sorted(axis % rank for axis in self.attention_axes)
        if axes != list(range(axes[0], rank - 1)) or axes[0] < 1:
            raise ValueError(
                f"{self.name} (MultiHeadAttention): attention_axes must be the last ones before the features of inputs "
                f"of rank {rank}, received {self.attention_axes}"
            )
        return axes[0]


class GroupQueryAttention(_Attention):
    __doc__ = f"""Attention in which groups of query heads share one head of keys and values. J. Ainslie et al., 2023.

    {_Attention.__doc__}

    Weights, in this order: query (features, num_query_heads, head_dim) and its bias, key and value (features,
    num_key_value_heads, head_dim), output (num_query_heads, head_dim, features).

    Args:
        head_dim: size of a head.
        num_query_heads: number of heads.
        num_key_value_heads: number of heads of keys and values; divides num_query_heads.
        dropout: rate at which probabilities are dropped in training, 0.
        use_bias: add biases (True).
        sliding_window, flash_attention, use_gate: as of `MultiHeadAttention`.
        kernel_initializer, bias_initializer: names or callables; "glorot_uniform" and "zeros".
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties of `vivace.regularizers` on the weights
            and on the output, none by default.
        kernel_constraint, bias_constraint: of `vivace.constraints`, none by default.
        seed: of the dropout; by default the next seed of the global stream.
        use_causal_mask, return_attention_scores, use_attention_mask: as of `MultiHeadAttention`.
    """

    bind = _Attention.bind

    def __init__(
        self,
        head_dim: int,
        num_query_heads: int,
        num_key_value_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        kernel_regularizer: str | L1L2 | None = None,
        bias_regularizer: str | L1L2 | None = None,
        activity_regularizer: str | L1L2 | None = None,
        kernel_constraint: str | Constraint | None = None,
        bias_constraint: str | Constraint | None = None,
        use_gate: bool = False,
        seed: int | None = None,
        use_causal_mask: bool = False,
        return_attention_scores: bool = False,
        use_attention_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        owner = kwargs.get("name") or "GroupQueryAttention"
        size, heads = positive(owner, "head_dim", head_dim), positive(owner, "num_query_heads", num_query_heads)
        key_heads = positive(owner, "num_key_value_heads", num_key_value_heads)
        if heads % key_heads:
            raise ValueError(
                f"{owner}: num_key_value_heads must divide num_query_heads ({heads}), received {key_heads}"
            )
        super().__init__(
            heads, key_heads, size, size, dropout, use_bias, kernel_initializer, bias_initializer,
            kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
            bias_constraint, seed, use_causal_mask, sliding_window, use_gate, return_attention_scores,
            use_attention_mask, **kwargs,
        )  # fmt: skip


__all__ = ["GroupQueryAttention", "MultiHeadAttention"]
