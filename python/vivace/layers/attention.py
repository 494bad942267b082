"""Attention without projections: a query asks the values of another sequence, by a product or by a sum of features."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._core import native
from .._typing import Array, BatchShape, Shape
from ..step import Step, Stream
from .base import Layer
from .symbolic import SymbolicTensor, as_inputs


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
    use_causal_mask: bool
    return_attention_scores: bool
    use_attention_mask = False
    _asked: dict[str, Any] = {}  # noqa: RUF012 (replaced, not filled): by the calls on symbolic tensors

    def __call__(
        self,
        *args: Any,
        attention_mask: Any = None,
        return_attention_scores: bool | None = None,
        use_causal_mask: bool | None = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        **kwargs: Any,
    ) -> Any:
        """On symbolic tensors or arrays, as every layer: query, value and key, or a list of them.

        Args:
            attention_mask: (batch, queries, keys) or (queries, keys), not 0 where a query may attend to a key; sizes of
                1 stretch.
            query_mask, value_mask, key_mask: with arrays, the entries of `mask` one by one.
            return_attention_scores: return the output and the probabilities (batch, heads, queries, keys), in a list.
            use_causal_mask: no query attends to later steps.
            kwargs: training and mask, as of every layer.
        """
        if query_mask is not None or value_mask is not None or key_mask is not None:
            kwargs["mask"] = [query_mask, value_mask, key_mask]
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
        if not asked and not self._asked:
            return super().__call__(*args, **kwargs)
        before = {name: getattr(self, name) for name in asked}
        unusual = {name: value for name, value in asked.items() if value or before[name]}
        several = [*args[0]] if args and isinstance(args[0], (list, tuple)) else []
        graph = any(isinstance(one, SymbolicTensor) for one in (*args, *several, *kwargs.values()))
        if graph and self._nodes and unusual != self._asked:
            what = ", ".join(dict.fromkeys([*self._asked, *unusual]))
            raise ValueError(f"{self.name} ({type(self).__name__}): {what} must be the same in all calls")
        if graph:
            self._asked = unusual
        try:
            vars(self).update(asked)
            return super().__call__(*args, **kwargs)
        finally:
            if not graph:
                vars(self).update(before)


class _Way(NamedTuple):
    """The shapes of a pass over a query and a value of one shape each: the output's and that of what is kept."""

    shape: native.AttentionShape
    output: Shape
    kept: Shape


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
        return _Way(whole, (batch, queries, values), (2, batch, queries))

    def attend(self, q: Array, k: Array, v: Array, mask: Array | None, step: Step) -> tuple[Any, Any]:
        """The output, or with return_attention_scores the output and the weights of the values."""
        raise TypeError(f"{type(self).__name__} must define attend")

    def attend_backward(self, dy: Any, saved: Any, step: Step) -> tuple[Array, Array, Array]:
        """Gradients of query, key and value, from those of what `attend` returned."""
        raise TypeError(f"{type(self).__name__} must define attend_backward")

    def forward(self, x: Any, step: Step) -> tuple[Array, Any]:
        query_mask = value_mask = keep = None
        if len(x[0]) != len(x[1]) or len(x[0]) != len(x[-1]):
            raise ValueError(f"{self.name}: the inputs must be one batch, received shapes {[one.shape for one in x]}")
        if step.mask is not None:
            masks = list(step.mask) if isinstance(step.mask, (list, tuple)) else [step.mask]
            query_mask, value_mask = (*masks, None)[:2]
            value_mask = None if value_mask is None else np.ascontiguousarray(value_mask != 0, np.uint8)
        y, saved = self.attend(x[0], x[-1], x[1], value_mask, step)
        if query_mask is not None:
            keep = (query_mask != 0)[..., None]
            out = y[0] if self.return_attention_scores else y
            out *= keep
        step.mask = query_mask
        return y, (saved, keep, len(x))

    def backward(self, dy: Any, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        inner, keep, inputs = saved
        if keep is not None:
            out = dy[0] if self.return_attention_scores else dy
            out *= keep
        dq, dk, dv = self.attend_backward(dy, inner, step)
        if inputs == 3:
            return [dq, dv, dk]
        dv += dk
        return [dq, dv]

    def weigh(self, p: Array, v: Array, mask: Array | None, step: Step) -> tuple[Any, Any]:
        """The values weighted by the softmax of the scores p (batch, queries, steps), which it overwrites; and the
        weights, if they are asked for."""
        blocked: Any = False if mask is None else mask[:, None] == 0
        if self.use_causal_mask:
            blocked = blocked | (np.tri(*p.shape[1:]) == 0)
        if blocked is not False:
            p -= blocked * p.dtype.type(1e9)  # once, so that a query that may attend to nothing attends to all alike
        native.softmax_forward(p, p)
        rate, seed, number = self.drop(step)
        dropped = p
        if rate:
            dropped = step.empty(p.shape, p.dtype)
            native.dropout(p, rate, seed, number, dropped)
        y = np.matmul(dropped, v, out=step.empty((*p.shape[:2], v.shape[2]), p.dtype))
        return [y, dropped] if self.return_attention_scores else y, (p, dropped, v, rate, number)

    def weigh_backward(self, dy: Any, saved: Any, step: Step) -> tuple[Array, Array]:
        """Gradients of the scores and of the values."""
        p, dropped, v, rate, number = saved
        dy, dweights = dy if self.return_attention_scores else (dy, None)
        dv, ds = step.empty(v.shape, v.dtype), step.empty(p.shape, p.dtype)
        np.matmul(dropped.transpose(0, 2, 1), dy, out=dv)
        np.matmul(dy, v.transpose(0, 2, 1), out=ds)
        if dweights is not None:
            ds += dweights
        if rate:
            native.dropout(ds, rate, self.stream.seed, number, ds)
        native.softmax_backward(p, ds, ds)
        return ds, dv

    def drop(self, step: Step) -> tuple[float, int, int]:
        """The dropout of this pass: rate, seed and the number of its mask."""
        rate = self.dropout if step.training else 0.0
        return rate, self.stream.seed, self.stream.next() if rate else 0


class Attention(_SequenceAttention):
    __doc__ = f"""Dot-product attention: y_i = sum_j softmax_j(scale q_i k_j) v_j. M. Luong et al., 2015.

    {_SequenceAttention.__doc__}
    With score_mode="concat" the scores are w sum_d tanh(scale (q_id + k_jd)), and need as much memory as those of
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
        self.scale = self.add_weight("scale", (), "ones") if self.use_scale else None
        self.concat_score_weight = None
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight("concat_score_weight", (), "ones")

    def attend(self, q: Array, k: Array, v: Array, mask: Array | None, step: Step) -> tuple[Any, Any]:
        if self.concat_score_weight is not None:
            return self._attend_by_sums(q, k, v, mask, step)
        if self.return_attention_scores:
            scaled = q if self.scale is None else np.multiply(q, self.scale.array, out=step.empty(q.shape, q.dtype))
            scores = np.matmul(scaled, k.transpose(0, 2, 1), out=step.empty((*q.shape[:2], k.shape[1]), q.dtype))
            y, weighed = self.weigh(scores, v, mask, step)
            return y, (q, (scaled, k, v), weighed)
        way: _Way = self._ways.get((q.shape, v.shape, self.use_causal_mask)) or self.new_way(
            (q.shape, v.shape, self.use_causal_mask)
        )
        inputs = (q, k, v) if self.scale is None else (q, k, v, self.scale.array)
        options = None
        if mask is not None or self.dropout:
            options = Options(None, mask, None, False, *self.drop(step))
        kept = step.empty(way.kept, q.dtype) if step.keeps else None
        y = step.empty(way.output, q.dtype)
        native.attention_forward(way.shape, inputs, options, kept, y)
        return y, (way.shape, inputs, options, (kept, y))

    def _attend_by_sums(self, q: Array, k: Array, v: Array, mask: Array | None, step: Step) -> tuple[Any, Any]:
        assert self.concat_score_weight is not None
        t = step.empty((*q.shape[:2], *k.shape[1:]), q.dtype)
        pairs = np.add(q[:, :, None], k[:, None], out=step.empty(t.shape, t.dtype))
        np.multiply(pairs, 1 if self.scale is None else self.scale.array, out=t)
        native.activation_forward("tanh", t, t)
        sums = np.sum(t, -1, out=step.empty(t.shape[:3], t.dtype))
        p = np.multiply(sums, self.concat_score_weight.array, out=step.empty(sums.shape, t.dtype))
        y, saved = self.weigh(p, v, mask, step)
        return y, (pairs, t, sums, saved)

    def _attend_by_sums_backward(self, dy: Any, saved: Any, step: Step) -> tuple[Array, Array, Array]:
        assert self.concat_score_weight is not None
        pairs, t, sums, inner = saved
        ds, dv = self.weigh_backward(dy, inner, step)
        self.concat_score_weight.gradient += (ds * sums).sum()
        dt = np.multiply(t, t, out=step.empty(t.shape, t.dtype))
        np.subtract(1, dt, out=dt)
        dt *= (ds * self.concat_score_weight.array)[..., None]
        if self.scale is not None:
            self.scale.gradient += (dt * pairs).sum()
            dt *= self.scale.array
        return dt.sum(2), dt.sum(1), dv

    def attend_backward(self, dy: Any, saved: Any, step: Step) -> tuple[Array, Array, Array]:
        if self.concat_score_weight is not None:
            return self._attend_by_sums_backward(dy, saved, step)
        if self.return_attention_scores:
            q, (scaled, k, _), weighed = saved
            dq, dk = step.empty(q.shape, q.dtype), step.empty(k.shape, k.dtype)
            ds, dv = self.weigh_backward(dy, weighed, step)
            np.matmul(ds, k, out=dq)
            np.matmul(ds.transpose(0, 2, 1), scaled, out=dk)
            if self.scale is not None:
                self.scale.gradient += (dq * q).sum()
                dq *= self.scale.array
            return dq, dk, dv
        shape, inputs, options, outputs = saved
        dq, dk, dv = (step.empty(array.shape, array.dtype) for array in inputs[:3])
        gradients = (dq, dk, dv) if self.scale is None else (dq, dk, dv, self.scale.gradient)
        native.attention_backward(shape, inputs, options, outputs, dy, gradients)
        return dq, dk, dv


class AdditiveAttention(_SequenceAttention):
    __doc__ = f"""y_i = sum_j softmax_j(sum_d scale_d tanh(q_id + k_jd)) v_j. D. Bahdanau et al., 2015.

    {_SequenceAttention.__doc__}
    Weight, with use_scale: scale (features,).

    Its scores need (batch, queries, steps, features) numbers: for long sequences take `Attention`.

    Args:
        use_scale: learn a factor of each feature (True).
        dropout: rate at which probabilities are dropped in training, 0.
        seed: of the dropout; by default the next seed of the global stream.
        use_causal_mask, return_attention_scores: what calls ask for that do not say it themselves (False; Keras takes
            them when the layer is called).
    """

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
        self.scale = self.add_weight("scale", (features,), "glorot_uniform") if self.use_scale else None

    def attend(self, q: Array, k: Array, v: Array, mask: Array | None, step: Step) -> tuple[Any, Any]:
        n, queries, features = q.shape
        t = step.empty((n, queries, k.shape[1], features), q.dtype)
        np.add(q[:, :, None], k[:, None], out=t)
        native.activation_forward("tanh", t, t)
        p = step.empty(t.shape[:3], q.dtype)
        np.sum(t, -1, out=p) if self.scale is None else np.matmul(t, self.scale.array, out=p)
        y, saved = self.weigh(p, v, mask, step)
        return y, (t, saved)

    def attend_backward(self, dy: Any, saved: Any, step: Step) -> tuple[Array, Array, Array]:
        t, inner = saved
        ds, dv = self.weigh_backward(dy, inner, step)
        if self.scale is not None:
            self.scale.gradient += np.einsum("nij,nijd->d", ds, t)
        dt = step.empty(t.shape, t.dtype)
        np.multiply(t, t, out=dt)
        np.subtract(1, dt, out=dt)
        dt *= ds[..., None]
        if self.scale is not None:
            dt *= self.scale.array
        dq, dk = step.empty((*t.shape[:2], t.shape[3]), t.dtype), step.empty((len(t), *t.shape[2:]), t.dtype)
        return np.sum(dt, 2, out=dq), np.sum(dt, 1, out=dk), dv


__all__ = ["AdditiveAttention", "Attention"]
