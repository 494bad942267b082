"""Attention without projections: a query asks the values of another sequence, by a product or by a sum of features."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .._core import native
from .._typing import Array, BatchShape, Shape
from ..parameters import Parameter
from ..step import Step, Stream
from .base import Layer
from .symbolic import SymbolicTensor, as_inputs, is_symbolic


class Options(NamedTuple):
    """What the native calls are told of a pass besides arrays; None stands for nothing of it.

    zero_blind: a query that may attend to nothing gets 0, not the mean of all values. seed, number: of the dropout.
    """

    query_mask: Array | None
    key_mask: Array | None
    attention_mask: Array | None
    zero_blind: bool
    rate: float
    seed: int
    number: int


class AttentionLayer(Layer):
    """What attention layers can be asked for when they are called, as in Keras; else they do what they were made to."""

    several_inputs = True
    asking = frozenset(
        ("attention_mask", "return_attention_scores", "use_causal_mask", "query_mask", "value_mask", "key_mask")
    )
    use_causal_mask: bool
    return_attention_scores: bool
    use_attention_mask = False
    _asks: dict[str, Any] = {}  # noqa: RUF012 (replaced, not filled): the call that is going on
    _asked: dict[str, Any] = {}  # noqa: RUF012 (likewise): the calls on symbolic tensors

    def call_asking(
        self,
        *args: Any,
        attention_mask: Any = None,
        return_attention_scores: bool | None = None,
        use_causal_mask: bool | None = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        training: bool | None = None,
        mask: Any = None,
        **kwargs: Any,
    ) -> Any:
        """A call, with query, value and key or a list of them, that is asked for more than every layer is.

        Args:
            attention_mask: (batch, queries, keys) or (queries, keys), not 0 where a query may attend to a key; sizes of
                1 stretch.
            return_attention_scores: return the output and the probabilities (batch, heads, queries, keys), in a list.
            use_causal_mask: no query attends to later steps.
            query_mask, value_mask, key_mask: with arrays, the entries of `mask` one by one.
            training, mask, kwargs: as of every layer.
        """
        if query_mask is not None or value_mask is not None or key_mask is not None:
            mask = [query_mask, value_mask, key_mask]
        asked = {}
        if return_attention_scores is not None:
            asked["return_attention_scores"] = return_attention_scores
        if use_causal_mask is not None:
            asked["use_causal_mask"] = use_causal_mask
        if attention_mask is not None:
            if not isinstance(attention_mask, SymbolicTensor):
                attention_mask = np.asarray(attention_mask)
                attention_mask = attention_mask[None] if attention_mask.ndim == 2 else attention_mask
            kwargs["attention_mask"] = attention_mask
            asked["use_attention_mask"] = True
        inputs = self.call_inputs(*args, **kwargs)
        before = {name: getattr(self, name) for name in asked}
        if self.built and not is_symbolic(inputs):
            twin = object.__new__(type(self))  # shares all but what is asked for, of which other threads see nothing
            vars(twin).update(vars(self) | asked)
            y = twin(inputs, training=training, mask=mask)
            self._penalties = twin._penalties
            return y
        self._asks = {name: value for name, value in asked.items() if value or before[name]}
        vars(self).update(asked)
        try:
            return self(inputs, training=training, mask=mask)
        finally:
            if self._asks is not self._asked:  # which a graph remembers
                vars(self).update(before)
            self._asks = {}

    def _record(self, inputs: Any, training: bool | None) -> Any:
        if self._nodes and self._asks != self._asked:
            what = ", ".join(dict.fromkeys([*self._asked, *self._asks]))
            raise ValueError(f"{self.name} ({type(self).__name__}): {what} must be the same in all calls")
        outputs = super()._record(inputs, training)
        self._asked = self._asks
        return outputs


class _Way(NamedTuple):
    """The shapes of a pass over a query and a value of one shape each: those of the output, of what is kept for
    backward, and of the probabilities.
    """

    shape: native.AttentionShape
    output: Shape
    kept: Shape
    scores: Shape


class _SequenceAttention(AttentionLayer):
    """The input is a list, [query, value] or [query, value, key]: (batch, queries, features), (batch, steps, values)
    and (batch, steps, features); without a key, the value is it. Output (batch, queries, values).

    Masks (`step.mask`, a list in the inputs' order): values that do not count are not attended to; the output is 0 for
    queries that do not count, and has the query's mask.
    """

    def __init__(
        self,
        use_scale: bool,
        dropout: float,
        seed: int | None,
        use_causal_mask: bool,
        return_attention_scores: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.return_attention_scores = return_attention_scores
        if not 0 <= dropout < 1:
            raise ValueError(f"{self.name}: dropout must lie in [0, 1), received {dropout!r}")
        self.use_scale, self.dropout, self.use_causal_mask = use_scale, float(dropout), use_causal_mask
        self.seed = seed
        self.stream = Stream(seed)

    def call_inputs(self, inputs: Any, *more: Any, attention_mask: Any = None) -> Any:
        if attention_mask is not None:
            raise ValueError(f"{self.name} ({type(self).__name__}) takes no attention_mask; MultiHeadAttention does")
        return as_inputs(inputs, more)

    def compute_output_shape(self, input_shape: Any) -> BatchShape:
        kind = f"{self.name} ({type(self).__name__})"
        if (
            not isinstance(input_shape, (list, tuple))
            or len(input_shape) not in (2, 3)
            or isinstance(input_shape[0], int)
        ):
            raise ValueError(f"{kind} takes [query, value] or [query, value, key], received shape {input_shape}")
        query, value, key = (tuple(shape) for shape in (*input_shape[:2], input_shape[-1]))
        if any(len(shape) != 3 for shape in (query, value, key)):
            raise ValueError(f"{kind} takes (batch, steps, features), received shapes {query}, {value} and {key}")
        if query[2] != key[2] or value[1] != key[1]:
            raise ValueError(
                f"{kind}: query and key must have the same features, value and key the same steps; received shapes "
                f"{query}, {value} and {key}"
            )
        output = (*query[:2], value[2])
        return [output, (*query[:2], value[1])] if self.return_attention_scores else output  # type: ignore[return-value]

    def make_way(self, shape: tuple[Shape, Shape, bool]) -> _Way:
        (batch, queries, features), (others, keys, values), causal = shape
        if others != batch:
            raise ValueError(f"the inputs must be one batch, received shapes {shape[:2]}")
        whole = native.AttentionShape(batch, queries, keys, 1, 1, features, values, 1.0, causal)
        return _Way(whole, (batch, queries, values), (2, batch, queries), (batch, queries, keys))

    by_sums = False  # whether scores are sums of features, not products
    weight: Parameter | None = None  # the factor of each feature in a sum, or of all
    factor: Parameter | None = None  # of a product, or of what is summed

    def forward(self, x: Any, step: Step) -> tuple[Any, Any]:
        query = x[0]
        at = query.shape, x[1].shape, self.use_causal_mask
        shape, output, kept_shape, scores = way = self._ways.get(at) or self.new_way(at)
        options = keep = None
        if step.mask is not None or self.dropout:
            options, keep = self._options(step)
        factor, weight = self.factor, self.weight
        inputs: tuple[Any, ...] = query, x[-1], x[1]
        if factor is not weight:  # one is there
            inputs = *inputs, None if factor is None else factor.array, None if weight is None else weight.array
        dtype = query.dtype
        if self.return_attention_scores:
            y, saved = self._forward_telling(way, inputs, options, step)
        elif self.by_sums:  # with the probabilities in memory
            p, y = step.empty(scores, dtype), step.empty(output, dtype)
            native.stored_attention_forward(shape, inputs, True, options, (p,), y)
            saved = way, inputs, options, p, None
        else:
            kept = step.empty(kept_shape, dtype) if step.keeps else None
            y = step.empty(output, dtype)
            native.attention_forward(shape, inputs, options, kept, y)
            saved = way, inputs, options, kept, y
        if keep is not None:
            native.clear_masked_rows(keep, y[0] if self.return_attention_scores else y)
        return y, (saved, keep, len(x))

    def _options(self, step: Step) -> tuple[Options, Array | None]:
        """Mask and dropout of a pass; and which queries count, those of the output."""
        query_mask = value_mask = None
        if step.mask is not None:
            query_mask, value_mask = (*(step.mask if isinstance(step.mask, (list, tuple)) else [step.mask]), None)[:2]
            step.mask = query_mask
        mask = None if value_mask is None else np.ascontiguousarray(value_mask != 0, np.uint8)
        rate = self.dropout if step.training else 0.0
        options = Options(None, mask, None, False, rate, self.stream.seed, self.stream.next() if rate else 0)
        return options, None if query_mask is None else np.ascontiguousarray(query_mask != 0, np.uint8)

    def _forward_telling(
        self, way: _Way, inputs: tuple[Any, ...], options: Options | None, step: Step
    ) -> tuple[Any, Any]:
        """For those who ask for the probabilities too, which is after dropout."""
        dtype = inputs[0].dtype
        p, y = step.empty(way.scores, dtype), step.empty(way.output, dtype)
        both = (p,) if options is None or not options.rate else (p, step.empty(way.scores, dtype))
        native.stored_attention_forward(way.shape, inputs, self.by_sums, options, both, y)
        return [y, both[-1]], (way, inputs, options, p, None)

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        (way, inputs, options, kept, y), keep, count = saved
        of_scores = None
        if self.return_attention_scores:
            dy, of_scores = dy
        if keep is not None:
            native.clear_masked_rows(keep, dy)
        dq, dk, dv = (step.empty(one.shape, one.dtype) for one in inputs[:3])
        found: tuple[Array | None, ...] = dq, dk, dv
        if len(inputs) > 3:
            found = (*found, *(None if one is None else one.gradient for one in (self.factor, self.weight)))
        if y is None:
            upstream = (dy,) if of_scores is None else (dy, of_scores)
            native.stored_attention_backward(way.shape, inputs, self.by_sums, (options, kept), upstream, found)
        else:
            native.attention_backward(way.shape, inputs, options, (kept, y), dy, found)
        if count == 3:
            return [dq, dv, dk]
        dv += dk
        return [dq, dv]

    def bind(self, x: Any, step: Step) -> tuple[Array, list[Any]] | None:
        """See `vivace.plan`."""
        if self.return_attention_scores:
            return None
        query = x[0]
        at = query.shape, x[1].shape, self.use_causal_mask
        way: _Way = self._ways.get(at) or self.new_way(at)
        learned = (None if one is None else one.array for one in (self.factor, self.weight))
        inputs, y = (query, x[-1], x[1], *learned), step.empty(way.output, query.dtype)
        if self.by_sums:
            both = (step.empty(way.scores, query.dtype),)
            return y, [partial(native.stored_attention_forward, way.shape, inputs, True, None, both, y)]
        return y, [partial(native.attention_forward, way.shape, inputs, None, None, y)]


class Attention(_SequenceAttention):
    __doc__ = f"""Dot-product attention: y_i = sum_j softmax_j(scale q_i k_j) v_j. M. Luong et al., 2015.

    {_SequenceAttention.__doc__}
    With score_mode="concat" the scores are w sum_d tanh(scale (q_id + k_jd)), and are stored as those of
    `AdditiveAttention`.

    Weights: with use_scale scale (), 1 at first; with "concat" concat_score_weight (), 1 at first.

    Args:
        use_scale: learn a factor of the scores (False).
        score_mode: "dot" or "concat".
        dropout: rate at which probabilities are dropped in training, 0.
        seed: of the dropout; by default the next seed of the global stream.
        use_causal_mask, return_attention_scores: what calls ask for that do not say it themselves (False; Keras takes
            them when the layer is called).
    """

    bind = _SequenceAttention.bind

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        use_causal_mask: bool = False,
        return_attention_scores: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(use_scale, dropout, seed, use_causal_mask, return_attention_scores, **kwargs)
        if score_mode not in ("dot", "concat"):
            raise ValueError(f"{self.name}: score_mode must be 'dot' or 'concat', received {score_mode!r}")
        self.score_mode = score_mode

    def build(self, input_shape: BatchShape) -> None:
        self.by_sums = self.score_mode == "concat"
        self.scale = self.factor = self.add_weight("scale", (), "ones") if self.use_scale else None
        self.concat_score_weight = self.weight = (
            self.add_weight("concat_score_weight", (), "ones") if self.by_sums else None
        )


class AdditiveAttention(_SequenceAttention):
    __doc__ = f"""y_i = sum_j softmax_j(sum_d scale_d tanh(q_id + k_jd)) v_j. D. Bahdanau et al., 2015.

    {_SequenceAttention.__doc__}
    Weight, with use_scale: scale (features,).

    Its probabilities are stored, (batch, queries, steps), and tanh of each feature of each pair is computed anew
    backward: for long sequences `Attention` is faster.

    Args:
        use_scale: learn a factor of each feature (True).
        dropout: rate at which probabilities are dropped in training, 0.
        seed: of the dropout; by default the next seed of the global stream.
        use_causal_mask, return_attention_scores: what calls ask for that do not say it themselves (False; Keras takes
            them when the layer is called).
    """

    by_sums = True
    bind = _SequenceAttention.bind

    def __init__(
        self,
        use_scale: bool = True,
        dropout: float = 0.0,
        seed: int | None = None,
        use_causal_mask: bool = False,
        return_attention_scores: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(use_scale, dropout, seed, use_causal_mask, return_attention_scores, **kwargs)

    def build(self, input_shape: Any) -> None:
        features = input_shape[0][-1]
        self.scale = self.weight = self.add_weight("scale", (features,), "glorot_uniform") if self.use_scale else None


__all__ = ["AdditiveAttention", "Attention"]
