"""Attention layers around one native kernel, which never stores the matrix of scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import constraints, initializers, regularizers
from .._core import native
from .._typing import Array, BatchShape, Initializer, Shape
from ..constraints import Constraint
from ..parameters import Parameter
from ..regularizers import L1L2
from ..step import Step, Stream
from .base import Layer, data_array, positive, step_masks
from .symbolic import as_inputs, is_symbolic


class _Projection:
    """A product of the last axis (or axes) with a kernel (*inputs, *outputs), and a bias (*outputs)."""

    def __init__(self, kernel: Parameter, bias: Parameter | None, inputs: Shape, outputs: Shape) -> None:
        self.kernel, self.bias, self.outputs = kernel, bias, outputs
        self.matrix = math.prod(inputs), math.prod(outputs)

    def forward(self, x: Array, lead: Shape, step: Step) -> Array:
        """(..., *inputs) -> (*lead, *outputs)."""
        rows = x.reshape(-1, self.matrix[0])
        y = step.empty((len(rows), self.matrix[1]), x.dtype)
        bias = self.bias.value.reshape(-1) if self.bias else None
        native.dense_forward(rows, self.kernel.value.reshape(self.matrix), bias, y)
        return y.reshape(*lead, *self.outputs)

    def backward(self, x: Array, dy: Array, step: Step, input_gradient: bool) -> Array | None:
        rows, d = x.reshape(-1, self.matrix[0]), dy.reshape(-1, self.matrix[1])
        dbias = self.bias.gradient.reshape(-1) if self.bias else None
        native.dense_weight_gradient(rows, d, self.kernel.gradient.reshape(self.matrix), dbias)
        if not input_gradient:
            return None
        dx = step.empty(x.shape, x.dtype)
        native.dense_input_gradient(d, self.kernel.value.reshape(self.matrix), dx.reshape(rows.shape))
        step.give_up(dy)
        return dx


class _Attention(Layer):
    """Projects queries, keys and values to heads, attends, and projects back.

    The input is one array (self-attention), or a list: [query, value] or [query, value, key]; without a key, the value
    is it. All are (batch, steps, features). The output is (batch, query steps, output features). A call may also give
    an `attention_mask` (batch, query steps, steps), or of arrays without the batch: which pairs count.

    Masks: queries, values and keys that count are those whose mask is not 0 (`step.mask`, for several inputs a list in
    their order); a query that may attend to nothing gets the mean of all values, or 0 where the layer has dropout. The
    output has the query's mask.
    """

    several_inputs = True

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
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
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

    def __call__(self, *args: Any, return_attention_scores: bool = False, **kwargs: Any) -> Any:
        """As of every layer; also:

        Args:
            attention_mask: (batch, query steps, steps), of arrays also (query steps, steps): nonzero where a query may
                attend.
            query_mask, value_mask, key_mask: with arrays, the entries of `mask` one by one.
            use_causal_mask: as the argument of the layer, which it replaces.
            return_attention_scores: with arrays: in inference mode, return also the probabilities (batch, heads, query
                steps, steps).
        """
        masks = [kwargs.pop(f"{name}_mask", None) for name in ("query", "value", "key")]
        if any(mask is not None for mask in masks):
            kwargs["mask"] = masks
        if not return_attention_scores:
            return super().__call__(*args, **kwargs)
        super().__call__(*args, **kwargs)  # checks the inputs, and builds
        mask = kwargs.pop("mask", None)
        return self._with_scores(self.call_inputs(*args, **{k: v for k, v in kwargs.items() if k != "training"}), mask)

    def _with_scores(self, inputs: Any, mask: Any) -> tuple[Array, Array]:
        """The output and the probabilities."""
        if is_symbolic(inputs):
            raise ValueError(f"{self.name}: scores are never stored in a model; call the layer on arrays to see them")
        several, step = isinstance(inputs, list), Step(False)
        x = [data_array(self.name, one, self.dtype) for one in (inputs if several else [inputs])]
        query, value, key = self._inputs(x, "call") if several else x * 3
        q, k, v = (
            projection.forward(array, (len(query), -1), step)
            for projection, array in ((self.query, query), (self.key, key), (self.value, value))
        )
        k, v = (np.repeat(one, self.heads // self.key_heads, 2) for one in (k, v))
        scores = np.ascontiguousarray(np.einsum("nqhd,nkhd->nhqk", q, k)) * q.dtype.type(self.key_dim**-0.5)
        masks = self._masks(None if mask is None else step_masks(mask, several), several)
        allowed = self._allowed(masks, self._pairs(x, len(q), q.shape[1], k.shape[1]), scores.shape)[:, None]
        scores -= ~allowed * scores.dtype.type(1e9)
        native.softmax_forward(scores, scores)
        scores *= allowed
        attended = np.einsum("nhqk,nkhd->nqhd", scores, v)
        if self.gate is not None:
            gate = self.gate.forward(query, attended.shape[:2], step)
            native.activation_forward("sigmoid", gate, gate)
            attended *= gate
        return self.out.forward(np.ascontiguousarray(attended), query.shape[:-1], step), scores

    def _allowed(self, masks: tuple[Array | None, Array | None], pairs: Array | None, shape: Shape) -> Array:
        """Which pairs (batch, queries, keys) any of the masks leaves."""
        allowed = np.ones((shape[0], *shape[-2:]), bool)
        query_mask, key_mask = masks
        allowed &= True if query_mask is None else query_mask[:, :, None] != 0
        allowed &= True if key_mask is None else key_mask[:, None] != 0
        allowed &= True if pairs is None else pairs != 0
        return np.tril(allowed) if self.use_causal_mask else allowed

    def call_inputs(
        self,
        query: Any,
        value: Any = None,
        key: Any = None,
        attention_mask: Any = None,
        use_causal_mask: bool | None = None,
    ) -> Any:
        """One input, or the list [query, value], [query, value, key] or [query, value, key, attention_mask]."""
        if use_causal_mask is not None:
            if self._nodes and use_causal_mask != self.use_causal_mask:
                raise ValueError(f"{self.name}: use_causal_mask must be the same in all calls")
            self.use_causal_mask = use_causal_mask
        if attention_mask is not None:
            value = query if value is None else value
            key = value if key is None else key
            if not is_symbolic(attention_mask) and is_symbolic(query):
                raise TypeError(f"{self.name}: in a model, attention_mask must be an Input or made of one")
            if not is_symbolic(attention_mask) and np.ndim(attention_mask) == 2:
                attention_mask = np.broadcast_to(attention_mask, (len(query), *np.shape(attention_mask)))
        return as_inputs(query, tuple(part for part in (value, key, attention_mask) if part is not None))

    def attended_axes(self, rank: int) -> int:
        """The first of the axes that attention runs over; those before it are batches."""
        return 1

    def _inputs(self, given: Any, what: str) -> tuple[Any, Any, Any]:
        """Query, value and key of one input or of two or three."""
        several = isinstance(given, (list, tuple)) and bool(given) and not isinstance(given[0], (int, type(None)))
        if not several:
            return given, given, given
        if len(given) not in (2, 3, 4):
            raise ValueError(
                f"{self.name}.{what}: expected one input, [query, value] or [query, value, key], received {len(given)}"
            )
        return given[0], given[1], given[min(2, len(given) - 1)]

    def compute_output_shape(self, input_shape: Any) -> BatchShape:
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
        if isinstance(input_shape, list) and len(input_shape) == 4:
            pairs, expected = tuple(input_shape[3]), (query[0], *query[1:-1], *value[1:-1])
            fits = len(pairs) == len(expected) and all(
                None in pair or pair[0] == pair[1] for pair in zip(pairs, expected, strict=False)
            )
            if first > 1 or not fits:
                raise ValueError(f"{kind}: attention_mask must have the shape {expected}, received {pairs}")
        if self.built and (query[-1], value[-1], key[-1]) != self.features:
            raise ValueError(f"{kind} was built for features {self.features}, received {query}, {value}, {key}")
        return (*query[:-1], *(self.sample_shape or (query[-1],)))

    def build(self, input_shape: Any) -> None:
        query, value, key = (shape[-1] for shape in self._inputs(input_shape, "build"))
        self.features = (query, value, key)
        self.query = self._projection("query", (query,), (self.heads, self.key_dim))
        self.key = self._projection("key", (key,), (self.key_heads, self.key_dim))
        self.gate = self._projection("gate", (query,), (self.heads, self.value_dim)) if self.use_gate else None
        self.value = self._projection("value", (value,), (self.key_heads, self.value_dim))
        self.out = self._projection("attention_output", (self.heads, self.value_dim), self.sample_shape or (query,))

    def _projection(self, name: str, inputs: Shape, outputs: Shape) -> _Projection:
        kernel = self.add_weight(
            f"{name}_kernel",
            (*inputs, *outputs),
            self.kernel_initializer,
            True,
            self.kernel_regularizer,
            self.kernel_constraint,
        )
        bias = None
        if self.use_bias:
            bias = self.add_weight(
                f"{name}_bias", outputs, self.bias_initializer, True, self.bias_regularizer, self.bias_constraint
            )
        return _Projection(kernel, bias, inputs, outputs)

    def flops(self) -> int:
        query, value, _ = self._inputs(self.input_shape, "flops")
        steps, others = (math.prod(size or 1 for size in shape[1:-1]) for shape in (query, value))
        kernels = [p.kernel.size for p in (self.query, self.out, self.key, self.value)]
        products = 2 * (steps * sum(kernels[:2]) + others * sum(kernels[2:]))
        first = self.attended_axes(len(query))
        batches = math.prod(size or 1 for size in query[1:first])
        return products + 2 * self.heads * steps * (others // batches) * (self.key_dim + self.value_dim)

    def forward(self, x: Any, step: Step) -> tuple[Array, Any]:
        query, value, key = self._inputs(x, "forward")
        masks = self._masks(step.mask, isinstance(x, (list, tuple)))
        first = self.attended_axes(query.ndim)
        batch = math.prod(query.shape[:first])
        q, k, v = (
            projection.forward(array, (batch, -1), step)
            for projection, array in ((self.query, query), (self.key, key), (self.value, value))
        )
        attended = step.empty((*q.shape[:3], self.value_dim), q.dtype)
        maximum, share = (step.empty((batch, self.heads, q.shape[1]), q.dtype) for _ in range(2))
        rate = self.dropout if step.training else 0.0
        options: dict[str, Any] = {
            "scale": self.key_dim**-0.5,
            "causal": self.use_causal_mask,
            "query_mask": masks[0],
            "key_mask": masks[1],
            "attention_mask": self._pairs(x, batch, q.shape[1], k.shape[1]),
            "rate": rate,
            "seed": self.stream.seed,
            "stream": self.stream.next() if rate else 0,
        }
        native.attention_forward(q, k, v, **options, y=attended, maximum=maximum, share=share)
        blank = self._blank(masks, options["attention_mask"], (batch, q.shape[1], k.shape[1]), query.ndim)
        if blank is not None:
            attended[blank] = 0
        gate, gated = None, attended
        if self.gate is not None:
            gate = self.gate.forward(query, (batch, -1), step)
            native.activation_forward("sigmoid", gate, gate)
            gated = np.multiply(attended, gate, out=step.empty(gate.shape, gate.dtype))
        y = self.out.forward(gated, query.shape[:-1], step)
        step.mask = step.mask[0] if isinstance(step.mask, (list, tuple)) else step.mask
        return y, (x, q, k, v, options, attended, maximum, share, gate, gated, blank)

    def _blank(self, masks: Any, pairs: Array | None, shape: Shape, rank: int) -> Array | None:
        """Which queries (batch, steps) attend to nothing, where that leaves 0, not the mean of all values.

        In Keras it depends on the path of the computation, which dropout and further axes choose.
        """
        if not (self.dropout or rank > 3) or all(part is None for part in (pairs, *masks)):
            return None
        return np.asarray(~self._allowed(masks, pairs, shape).any(-1))

    def _pairs(self, x: Any, batch: int, queries: int, keys: int) -> Array | None:
        """Which pairs the call's mask allows, and are near enough to each other for `sliding_window`."""
        given = None
        if isinstance(x, (list, tuple)) and len(x) == 4:
            given = x[3].reshape(batch, queries, keys) != 0
        if self.sliding_window is not None:
            near = np.abs(np.arange(queries)[:, None] - np.arange(keys)) < self.sliding_window
            given = np.broadcast_to(near, (batch, queries, keys)) if given is None else given & near
        return None if given is None else np.ascontiguousarray(given, np.uint8)

    def _masks(self, mask: Any, several: bool) -> tuple[Array | None, Array | None]:
        """Of the queries and of the keys; values and keys that are masked both count for nothing."""
        if mask is None:
            return None, None
        if not several:
            return _bytes(mask), _bytes(mask)
        parts = list(mask) if isinstance(mask, (list, tuple)) else [mask]
        query, value, key = (_bytes(part) for part in (*parts, None, None, None)[:3])
        return query, value if key is None else key if value is None else value & key

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        x, q, k, v, options, attended, maximum, share, gate, gated, blank = saved
        d = self.out.backward(gated, dy, step, True)
        dq, dk, dv = (step.empty(array.shape, array.dtype) for array in (q, k, v))
        assert d is not None
        dgate = None
        if gate is not None:
            dgate = np.multiply(d, attended, out=step.empty(d.shape, d.dtype))
            native.activation_backward("sigmoid", gate, dgate, dgate)
            d *= gate
        if blank is not None:
            d[blank] = 0
        native.attention_backward(
            q, k, v, **options, y=attended, maximum=maximum, share=share, dy=d, dq=dq, dk=dk, dv=dv
        )
        step.give_up(d)
        query, value, key = self._inputs(x, "backward")
        dquery = self.query.backward(query, dq, step, input_gradient)
        if self.gate is not None and dgate is not None:
            more = self.gate.backward(query, dgate, step, input_gradient)
            if dquery is not None and more is not None:
                dquery += more
        dvalue = self.value.backward(value, dv, step, input_gradient)
        dkey = self.key.backward(key, dk, step, input_gradient)
        if dquery is None or dvalue is None or dkey is None:
            return None
        if isinstance(x, (list, tuple)) and len(x) >= 3:
            return [dquery, dvalue, dkey, *(np.zeros(mask.shape, dy.dtype) for mask in x[3:])]
        dvalue += dkey
        step.give_up(dkey)
        if isinstance(x, (list, tuple)):
            return [dquery, dvalue]
        dquery += dvalue
        step.give_up(dvalue)
        return dquery


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
        use_causal_mask: no query attends to later steps (False; Keras takes it when the layer is called).
    """

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
        **kwargs: Any,
    ) -> None:
        owner = kwargs.get("name") or "MultiHeadAttention"
        heads, key_size = positive(owner, "num_heads", num_heads), positive(owner, "key_dim", key_dim)
        value_size = key_size if value_dim is None else positive(owner, "value_dim", value_dim)
        super().__init__(
            heads, heads, key_size, value_size, dropout, use_bias, kernel_initializer, bias_initializer,
            kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
            bias_constraint, seed, use_causal_mask, sliding_window, use_gate, **kwargs,
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
        use_causal_mask: no query attends to later steps (False; Keras takes it when the layer is called).
    """

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
            bias_constraint, seed, use_causal_mask, sliding_window, use_gate, **kwargs,
        )  # fmt: skip


__all__ = ["GroupQueryAttention", "MultiHeadAttention"]
