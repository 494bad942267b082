"""Attention without projections: a query asks the values of another sequence, by a product or by a sum of features."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._core import native
from .._typing import Array, BatchShape
from ..step import Step, Stream
from .base import Layer, data_array, step_masks
from .symbolic import as_inputs, is_symbolic


class _SequenceAttention(Layer):
    """The input is a list, [query, value] or [query, value, key]: (batch, queries, features), (batch, steps, values)
    and (batch, steps, features); without a key, the value is it. Output (batch, queries, values).

    Masks (`step.mask`, a list in the inputs' order): values that do not count are not attended to; the output is 0 for
    queries that do not count, and has the query's mask.
    """

    several_inputs = True

    def __init__(self, use_scale: bool, dropout: float, seed: int | None, use_causal_mask: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= dropout < 1:
            raise ValueError(f"{self.name}: dropout must lie in [0, 1), received {dropout!r}")
        self.use_scale, self.dropout, self.use_causal_mask = use_scale, float(dropout), use_causal_mask
        self.seed = seed
        self.stream = Stream(seed)

    def __call__(self, *args: Any, return_attention_scores: bool = False, **kwargs: Any) -> Any:
        """As of every layer.

        return_attention_scores: with arrays, return also the probabilities (batch, queries, steps).
        """
        y = super().__call__(*args, **kwargs)
        if not return_attention_scores:
            return y
        inputs = self.call_inputs(*args, **{k: one for k, one in kwargs.items() if k == "use_causal_mask"})
        if is_symbolic(inputs):
            raise ValueError(f"{self.name}: scores are never stored in a model; call the layer on arrays to see them")
        # the values' own places instead of them: what comes out is each one's weight
        query, value = (data_array(self.name, one, self.dtype) for one in inputs[:2])
        places = np.broadcast_to(np.eye(value.shape[1], dtype=value.dtype), (len(value), *2 * value.shape[1:2]))
        key = data_array(self.name, inputs[-1], self.dtype)
        mask, step = kwargs.get("mask"), Step(False)
        step.mask = None if mask is None else [None, step_masks(mask, True)[1]]
        return y, self.forward([query, np.ascontiguousarray(places), key], step)[0].copy()

    def call_inputs(self, inputs: Any, *more: Any, use_causal_mask: bool | None = None) -> Any:
        """use_causal_mask: as the argument of the layer, which it replaces."""
        if use_causal_mask is not None:
            if self._nodes and use_causal_mask != self.use_causal_mask:
                raise ValueError(f"{self.name}: use_causal_mask must be the same in all calls")
            self.use_causal_mask = use_causal_mask
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
        return (*query[:2], value[2])

    def attend(self, q: Array, k: Array, v: Array, mask: Array | None, step: Step) -> tuple[Array, Any]:
        raise TypeError(f"{type(self).__name__} must define attend")

    def attend_backward(self, dy: Array, saved: Any, step: Step) -> tuple[Array, Array, Array]:
        """Gradients of query, key and value."""
        raise TypeError(f"{type(self).__name__} must define attend_backward")

    def forward(self, x: Any, step: Step) -> tuple[Array, Any]:
        masks = list(step.mask) if isinstance(step.mask, (list, tuple)) else [step.mask]
        query_mask, value_mask = (*masks, None)[:2]
        value_mask = None if value_mask is None else np.ascontiguousarray(value_mask != 0, np.uint8)
        y, saved = self.attend(x[0], x[-1], x[1], value_mask, step)
        keep = None if query_mask is None else (query_mask != 0)[..., None]
        if keep is not None:
            y *= keep
        step.mask = query_mask
        return y, (saved, keep, len(x))

    def backward(self, dy: Array, saved: Any, step: Step, input_gradient: bool = True) -> Any:
        inner, keep, inputs = saved
        if keep is not None:
            dy *= keep
        dq, dk, dv = self.attend_backward(dy, inner, step)
        if inputs == 3:
            return [dq, dv, dk]
        dv += dk
        return [dq, dv]

    def weigh(self, p: Array, v: Array, mask: Array | None, step: Step) -> tuple[Array, Any]:
        """The values weighted by the softmax of the scores p (batch, queries, steps), which it overwrites."""
        hidden: Any = np.triu(np.ones(p.shape[1:], bool), 1) if self.use_causal_mask else None
        if mask is not None:
            hidden = mask[:, None] == 0 if hidden is None else hidden | (mask[:, None] == 0)
        if hidden is not None:  # once, so that where all are hidden, all are alike
            p -= hidden * p.dtype.type(1e9)
        native.softmax_forward(p, p)
        rate, number = self.rate(step)
        dropped = p
        if rate:
            dropped = step.empty(p.shape, p.dtype)
            native.dropout(p, rate, self.stream.seed, number, dropped)
        y = np.matmul(dropped, v, out=step.empty((*p.shape[:2], v.shape[2]), p.dtype))
        return y, (p, dropped, v, rate, number)

    def weigh_backward(self, dy: Array, saved: Any, step: Step) -> tuple[Array, Array]:
        """Gradients of the scores and of the values."""
        p, dropped, v, rate, number = saved
        dv, ds = step.empty(v.shape, v.dtype), step.empty(p.shape, p.dtype)
        np.matmul(dropped.transpose(0, 2, 1), dy, out=dv)
        np.matmul(dy, v.transpose(0, 2, 1), out=ds)
        if rate:
            native.dropout(ds, rate, self.stream.seed, number, ds)
        native.softmax_backward(p, ds, ds)
        return ds, dv

    def rate(self, step: Step) -> tuple[float, int]:
        """The dropout of this pass, and the number of its mask."""
        rate = self.dropout if step.training else 0.0
        return rate, self.stream.next() if rate else 0


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
        use_causal_mask: no query attends to later steps (False; Keras takes it when the layer is called).
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        use_causal_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(use_scale, dropout, seed, use_causal_mask, **kwargs)
        if score_mode not in ("dot", "concat"):
            raise ValueError(f"{self.name}: score_mode must be 'dot' or 'concat', received {score_mode!r}")
        self.score_mode = score_mode

    def build(self, input_shape: BatchShape) -> None:
        self.scale = self.add_weight("scale", (), "ones") if self.use_scale else None
        self.concat_score_weight = None
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight("concat_score_weight", (), "ones")

    def attend(self, q: Array, k: Array, v: Array, mask: Array | None, step: Step) -> tuple[Array, Any]:
        if self.concat_score_weight is not None:
            return self._attend_by_sums(q, k, v, mask, step)
        scaled = q
        if self.scale:
            scaled = step.empty(q.shape, q.dtype)
            np.multiply(q, self.scale.value, out=scaled)
        rate, number = self.rate(step)
        options: dict[str, Any] = {
            "scale": 1.0, "causal": self.use_causal_mask, "query_mask": None, "key_mask": mask, "attention_mask": None,
            "rate": rate, "seed": self.stream.seed, "stream": number,
        }  # fmt: skip
        scaled4, k4, v4 = scaled[:, :, None], k[:, :, None], v[:, :, None]  # one head
        y = step.empty((*q.shape[:2], 1, v.shape[2]), q.dtype)
        maximum, share = (step.empty((len(q), 1, q.shape[1]), q.dtype) for _ in range(2))
        native.attention_forward(scaled4, k4, v4, **options, y=y, maximum=maximum, share=share)
        return y[:, :, 0], (q, (scaled4, k4, v4), options, y, maximum, share)

    def _attend_by_sums(self, q: Array, k: Array, v: Array, mask: Array | None, step: Step) -> tuple[Array, Any]:
        assert self.concat_score_weight is not None
        t = step.empty((*q.shape[:2], *k.shape[1:]), q.dtype)
        pairs = np.add(q[:, :, None], k[:, None], out=step.empty(t.shape, t.dtype))
        np.multiply(pairs, 1 if self.scale is None else self.scale.value, out=t)
        native.activation_forward("tanh", t, t)
        sums = np.sum(t, -1, out=step.empty(t.shape[:3], t.dtype))
        p = np.multiply(sums, self.concat_score_weight.value, out=step.empty(sums.shape, t.dtype))
        y, saved = self.weigh(p, v, mask, step)
        return y, (pairs, t, sums, saved)

    def _attend_by_sums_backward(self, dy: Array, saved: Any, step: Step) -> tuple[Array, Array, Array]:
        assert self.concat_score_weight is not None
        pairs, t, sums, inner = saved
        ds, dv = self.weigh_backward(dy, inner, step)
        self.concat_score_weight.gradient += (ds * sums).sum()
        dt = np.multiply(t, t, out=step.empty(t.shape, t.dtype))
        np.subtract(1, dt, out=dt)
        dt *= (ds * self.concat_score_weight.value)[..., None]
        if self.scale is not None:
            self.scale.gradient += (dt * pairs).sum()
            dt *= self.scale.value
        return dt.sum(2), dt.sum(1), dv

    def attend_backward(self, dy: Array, saved: Any, step: Step) -> tuple[Array, Array, Array]:
        if self.concat_score_weight is not None:
            return self._attend_by_sums_backward(dy, saved, step)
        q, (scaled, k, v), options, y, maximum, share = saved
        dq, dk, dv = (step.empty(array.shape, array.dtype) for array in (scaled, k, v))
        native.attention_backward(
            scaled, k, v, **options, y=y, maximum=maximum, share=share, dy=dy[:, :, None], dq=dq, dk=dk, dv=dv
        )
        dq, dk, dv = dq[:, :, 0], dk[:, :, 0], dv[:, :, 0]
        if self.scale:
            self.scale.gradient += (dq * q).sum()
            dq *= self.scale.value
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
        use_causal_mask: no query attends to later steps (False; Keras takes it when the layer is called).
    """

    def __init__(
        self,
        use_scale: bool = True,
        dropout: float = 0.0,
        seed: int | None = None,
        use_causal_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(use_scale, dropout, seed, use_causal_mask, **kwargs)

    def build(self, input_shape: Any) -> None:
        features = input_shape[0][-1]
        self.scale = self.add_weight("scale", (features,), "glorot_uniform") if self.use_scale else None

    def attend(self, q: Array, k: Array, v: Array, mask: Array | None, step: Step) -> tuple[Array, Any]:
        n, queries, features = q.shape
        t = step.empty((n, queries, k.shape[1], features), q.dtype)
        np.add(q[:, :, None], k[:, None], out=t)
        native.activation_forward("tanh", t, t)
        p = step.empty(t.shape[:3], q.dtype)
        np.sum(t, -1, out=p) if self.scale is None else np.matmul(t, self.scale.value, out=p)
        y, saved = self.weigh(p, v, mask, step)
        return y, (t, saved)

    def attend_backward(self, dy: Array, saved: Any, step: Step) -> tuple[Array, Array, Array]:
        t, inner = saved
        ds, dv = self.weigh_backward(dy, inner, step)
        if self.scale is not None:
            self.scale.gradient += np.einsum("nij,nijd->d", ds, t)
        dt = step.empty(t.shape, t.dtype)
        np.multiply(t, t, out=dt)
        np.subtract(1, dt, out=dt)
        dt *= ds[..., None]
        if self.scale is not None:
            dt *= self.scale.value
        dq, dk = step.empty((*t.shape[:2], t.shape[3]), t.dtype), step.empty((len(t), *t.shape[2:]), t.dtype)
        return np.sum(dt, 2, out=dq), np.sum(dt, 1, out=dk), dv


__all__ = ["AdditiveAttention", "Attention"]
