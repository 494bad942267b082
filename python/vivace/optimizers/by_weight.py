"""Optimizers that look at each weight array as a whole: at its size, its rows and columns."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._typing import Array
from ..parameters import FlatParameters, Parameter
from .adam import Moments, check_betas
from .base import Optimizer


class _ByWeight(Optimizer):
    """A subclass defines `update_one(weight, slots)`: change the weight's array by its gradient.

    It may overwrite the gradient. slots: the weight's parts of the state, flat.
    """

    def update(self, values: Array, gradients: Array) -> None:
        weights = self._parameters or ()
        for weight, start in zip(weights, FlatParameters.layout(weights)[0], strict=True):
            self.update_one(weight, [slot[start : start + weight.size] for slot in self.slots])
        gradients.fill(0)

    def update_one(self, weight: Parameter, slots: list[Array]) -> None:
        raise TypeError(f"{type(self).__name__} must define update_one(weight, slots)")


def _mix(average: Array, new: Array, beta: float) -> None:
    average += (new - average) * (1 - beta)


def _rms(x: Array) -> float:
    return math.sqrt(float(np.mean(np.square(x), dtype=np.float64)))


class Adafactor(_ByWeight):
    """Adam without momentum, the second moments of a matrix told by those of its rows and columns (Shazeer 2018).

    With t counting from 1, b = 1 - t^beta_2_decay and G = g^2 + epsilon_1: r = b r + (1 - b) mean(G) over the last
    axis, c the same over the one before, v = r c / mean(r); of arrays of less than two axes v = b v + (1 - b) G. Then
    u = g / sqrt(v); w -= max(epsilon_2, rms(w)) min(lr, 1 / sqrt(t)) u / max(1, rms(u) / clip_threshold).

    Args:
        learning_rate: 0.001.
        beta_2_decay: -0.8.
        epsilon_1, epsilon_2: 1e-30 and 1e-3.
        clip_threshold: 1.
        relative_step: as in Keras of no effect: the rate is at most 1 / sqrt(t) in any case.
        options: as of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.001,
        beta_2_decay: float = -0.8,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        clip_threshold: float = 1.0,
        relative_step: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        if not clip_threshold > 0:
            raise ValueError(f"Adafactor: clip_threshold must be positive, received {clip_threshold!r}")
        self.beta_2_decay, self.epsilon_1, self.epsilon_2 = float(beta_2_decay), float(epsilon_1), float(epsilon_2)
        self.clip_threshold, self.relative_step = float(clip_threshold), relative_step

    def slot_count(self) -> int:
        return 2  # v or r; c

    def update_one(self, weight: Parameter, slots: list[Array]) -> None:
        w, g, t = weight.array, weight.gradient, self.iterations + 1
        beta = 1 - t**self.beta_2_decay
        square = np.square(g) + w.dtype.type(self.epsilon_1)
        if w.ndim < 2:
            v = slots[0].reshape(w.shape)
            _mix(v, square, beta)
        else:
            *lead, n = w.shape
            r = slots[0][: w.size // max(n, 1)].reshape(lead)
            c = slots[1][: w.size // max(lead[-1], 1)].reshape(*lead[:-1], n)
            _mix(r, square.mean(-1), beta)
            _mix(c, square.mean(-2), beta)
            v = (r / r.mean(-1, keepdims=True))[..., None] * c[..., None, :]
        step = g / np.sqrt(v)
        rate = max(self.epsilon_2, _rms(w)) * min(self.learning_rate, 1 / math.sqrt(t))
        w -= step * (rate / max(1.0, _rms(step) / self.clip_threshold))


class Lamb(_ByWeight, Moments):
    """Adam whose step for a weight array is as long as the array, times the rate (You et al. 2020).

    u = m_hat / (sqrt(v_hat) + epsilon); w -= lr |w| / |u| u, and w -= lr u where either norm is 0.

    Args:
        learning_rate: 0.001.
        beta_1, beta_2: decay of the first and second moments, 0.9 and 0.999.
        epsilon: 1e-7.
        options: as of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **options)

    def update_one(self, weight: Parameter, slots: list[Array]) -> None:
        w, g, t = weight.array, weight.gradient, self.iterations + 1
        m, v = (slot.reshape(w.shape) for slot in slots)
        _mix(m, g, self.beta_1)
        _mix(v, np.square(g), self.beta_2)
        step = m / (1 - self.beta_1**t) / (np.sqrt(v / (1 - self.beta_2**t)) + self.epsilon)
        of_weight, of_step = (math.sqrt(float(np.square(x).sum(dtype=np.float64))) for x in (w, step))
        w -= step * (self.learning_rate * (of_weight / of_step if of_weight > 0 and of_step > 0 else 1.0))


class Muon(_ByWeight):
    """Momentum whose step for a matrix is made nearly orthogonal; other arrays are for AdamW (Jordan 2024).

    A matrix: m = momentum m + g; w -= lr rms_rate sqrt(max(rows, columns)) O, where O comes from g + momentum m
    (without `nesterov` from m) by `ns_steps` Newton-Schulz steps X -> a X + (b A + c A A) X, A = X X^T.

    Args:
        learning_rate: 0.001.
        adam_beta_1, adam_beta_2, epsilon: AdamW's, 0.9, 0.999 and 1e-7.
        adam_weight_decay, weight_decay: of what AdamW updates, and of the matrices, 0.004 each; None: none.
        exclude_layers: regular expressions; AdamW also updates matrices whose path ("sequential/dense/kernel") one
            matches. Name the model's output layer here.
        exclude_embeddings: and those with "embedding" in their path (True).
        muon_a, muon_b, muon_c, ns_steps: of the Newton-Schulz steps, 3.4445, -4.775, 2.0315 and 5.
        adam_lr_ratio: AdamW's learning rate over the other one, 1.
        momentum, nesterov: 0.95, True.
        rms_rate: 0.2; None leaves it and the root beside it out.
        others: as of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.001,
        adam_beta_1: float = 0.9,
        adam_beta_2: float = 0.999,
        adam_weight_decay: float | None = 0.004,
        epsilon: float = 1e-7,
        weight_decay: float | None = 0.004,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        exclude_layers: Sequence[str] | None = None,
        exclude_embeddings: bool = True,
        muon_a: float = 3.4445,
        muon_b: float = -4.7750,
        muon_c: float = 2.0315,
        adam_lr_ratio: float = 1,
        momentum: float = 0.95,
        ns_steps: int = 5,
        nesterov: bool = True,
        rms_rate: float | None = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
            ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        check_betas("Muon", adam_beta_1=adam_beta_1, adam_beta_2=adam_beta_2)
        if not 0 <= momentum <= 1:
            raise ValueError(f"Muon: momentum must lie in [0, 1], received {momentum!r}")
        self.adam_beta_1, self.adam_beta_2, self.epsilon = float(adam_beta_1), float(adam_beta_2), float(epsilon)
        self.adam_weight_decay, self.adam_lr_ratio = adam_weight_decay, adam_lr_ratio
        self.exclude_layers, self.exclude_embeddings = list(exclude_layers or ()), exclude_embeddings
        self.muon_a, self.muon_b, self.muon_c, self.ns_steps = muon_a, muon_b, muon_c, ns_steps
        self.momentum, self.nesterov, self.rms_rate = momentum, nesterov, rms_rate

    def slot_count(self) -> int:
        return 2

    def _for_adam(self, weight: Parameter) -> bool:
        embedding = self.exclude_embeddings and "embedding" in weight.path.lower()
        return weight.array.ndim != 2 or embedding or any(re.search(p, weight.path) for p in self.exclude_layers)

    def decay_of(self, weight: Parameter) -> float | None:
        return self.adam_weight_decay if self._for_adam(weight) else self.weight_decay

    def update_one(self, weight: Parameter, slots: list[Array]) -> None:
        w, g, t, rate = weight.array, weight.gradient, self.iterations + 1, self.learning_rate
        m, v = (slot.reshape(w.shape) for slot in slots)
        if self._for_adam(weight):
            _mix(m, g, self.adam_beta_1)
            _mix(v, np.square(g), self.adam_beta_2)
            rate *= self.adam_lr_ratio * math.sqrt(1 - self.adam_beta_2**t) / (1 - self.adam_beta_1**t)
            w -= rate * m / (np.sqrt(v) + self.epsilon)
            return
        m *= self.momentum
        m += g
        if self.rms_rate is not None:
            rate *= self.rms_rate * math.sqrt(max(w.shape))
        w -= rate * self._orthogonal(g + self.momentum * m if self.nesterov else m)

    def _orthogonal(self, x: Array) -> Array:
        tall = x.shape[0] > x.shape[1]
        x = x.T if tall else x
        x = x / (np.linalg.norm(x) + 1e-7)
        for _ in range(self.ns_steps):
            a = x @ x.T
            x = self.muon_a * x + (self.muon_b * a + self.muon_c * a @ a) @ x
        return x.T if tall else x
