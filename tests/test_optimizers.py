"""Optimizers against plain NumPy, and what surrounds them: clips, decay, averages, schedules, configurations, state."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vivace import optimizers
from vivace.layers import Dense, Input
from vivace.models import Sequential
from vivace.optimizers import schedules
from vivace.parameters import FlatParameters, Parameter


def block(arrays: dict[str, np.ndarray]) -> FlatParameters:
    return FlatParameters([Parameter(f"layer/{name}", value.copy()) for name, value in arrays.items()])


def run_vivace(job: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights after the steps of a job, and after the end of training."""
    optimizer = optimizers.get({"class_name": job["class_name"], "config": job["config"]})
    if job.get("spared"):
        optimizer.exclude_from_weight_decay(var_names=job["spared"])
    flat = block({name: arrays[name] for name in job["names"]})
    for step in range(job["steps"]):
        for name, parameter in zip(job["names"], flat.parameters, strict=True):
            parameter.gradient += arrays[f"{name}_gradients"][step]
        optimizer.apply(flat)
    results = {name: p.value.copy() for name, p in zip(job["names"], flat.parameters, strict=True)}
    optimizer.finalize(flat)
    return results | {f"final_{name}": p.value for name, p in zip(job["names"], flat.parameters, strict=True)}


# Plain references: functions of (gradient, number of the step) that return the change of the weights.


def sgd(lr: float = 0.01, momentum: float = 0.0, nesterov: bool = False) -> Callable[[Any, int], Any]:
    v = 0.0

    def step(g: Any, t: int) -> Any:
        nonlocal v
        v = momentum * v - lr * g
        return momentum * v - lr * g if nesterov else v

    return step


def adam(lr: float = 0.001, b1: float = 0.9, b2: float = 0.999, amsgrad: bool = False) -> Callable[[Any, int], Any]:
    m = v = largest = 0.0

    def step(g: Any, t: int) -> Any:
        nonlocal m, v, largest
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        largest = np.maximum(largest, v)
        rate = lr * np.sqrt(1 - b2**t) / (1 - b1**t)
        return -rate * m / (np.sqrt(largest if amsgrad else v) + 1e-7)

    return step


def adamax(lr: float = 0.001, b1: float = 0.9, b2: float = 0.999) -> Callable[[Any, int], Any]:
    m = u = 0.0

    def step(g: Any, t: int) -> Any:
        nonlocal m, u
        m, u = b1 * m + (1 - b1) * g, np.maximum(b2 * u, abs(g))
        return -lr / (1 - b1**t) * m / (u + 1e-7)

    return step


def nadam(lr: float = 0.001, b1: float = 0.9, b2: float = 0.999) -> Callable[[Any, int], Any]:
    m = v = 0.0

    def u(t: int) -> float:
        return b1 * (1 - 0.5 * 0.96**t)

    def step(g: Any, t: int) -> Any:
        nonlocal m, v
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        upto = np.prod([u(k) for k in range(1, t + 1)])
        hat = u(t + 1) * m / (1 - upto * u(t + 1)) + (1 - u(t)) * g / (1 - upto)
        return -lr * hat / (np.sqrt(v / (1 - b2**t)) + 1e-7)

    return step


def rmsprop(
    lr: float = 0.001, rho: float = 0.9, momentum: float = 0.0, centered: bool = False
) -> Callable[[Any, int], Any]:
    v = mean = pace = 0.0

    def step(g: Any, t: int) -> Any:
        nonlocal v, mean, pace
        v, mean = rho * v + (1 - rho) * g * g, rho * mean + (1 - rho) * g
        pace = momentum * pace + lr * g / np.sqrt(v - (mean**2 if centered else 0) + 1e-7)
        return -pace

    return step


def adagrad(lr: float = 0.001, start: float = 0.1) -> Callable[[Any, int], Any]:
    a = start

    def step(g: Any, t: int) -> Any:
        nonlocal a
        a = a + g * g
        return -lr * g / np.sqrt(a + 1e-7)

    return step


def adadelta(lr: float = 0.001, rho: float = 0.95) -> Callable[[Any, int], Any]:
    a = d = 0.0

    def step(g: Any, t: int) -> Any:
        nonlocal a, d
        a = rho * a + (1 - rho) * g * g
        change = -np.sqrt(d + 1e-7) / np.sqrt(a + 1e-7) * g
        d = rho * d + (1 - rho) * change**2
        return lr * change

    return step


def ftrl(lr: float = 0.1, power: float = 0.5, l1: float = 0.05, l2: float = 0.1) -> Callable[[Any, int, Any], Any]:
    n, z = 0.1, 0.0

    def step(g: Any, t: int, w: Any) -> Any:
        nonlocal n, z
        before, n = n, n + g * g
        z = z + g + 2 * 0.2 * w - (n**power - before**power) / lr * w
        return np.where(abs(z) <= l1, 0, (np.sign(z) * l1 - z) / (n**power / lr + 2 * l2 + 0.3 / lr)) - w

    return step


def adafactor(lr: float = 0.1, floor: float = 1e-3) -> Callable[[Any, int, Any], Any]:
    r = c = v = 0.0

    def step(g: Any, t: int, w: Any) -> Any:
        nonlocal r, c, v
        beta, square = 1 - t**-0.8, g * g
        if g.ndim == 2:
            r, c = (beta * old + (1 - beta) * square.mean(axis) for old, axis in ((r, 1), (c, 0)))
            v = np.outer(r, c) / r.mean()
        else:
            v = beta * v + (1 - beta) * square
        u = g / np.sqrt(v)
        size = max(floor, np.sqrt((w**2).mean())) * min(lr, t**-0.5)
        return -size * u / max(1, np.sqrt((u**2).mean()) / 0.9)

    return step


def lamb(lr: float = 0.1) -> Callable[[Any, int, Any], Any]:
    m = v = 0.0

    def step(g: Any, t: int, w: Any) -> Any:
        nonlocal m, v
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        change = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-3)
        return -lr * np.linalg.norm(w) / np.linalg.norm(change) * change

    return step


def muon(lr: float = 0.1) -> Callable[[Any, int, Any], Any]:
    inner, m = adam(lr * 0.5, 0.9, 0.999), 0.0

    def step(g: Any, t: int, w: Any) -> Any:
        nonlocal m
        if g.ndim != 2:
            return inner(g, t) - 0.2 * lr * w
        m = 0.95 * m + g
        x = g + 0.95 * m
        u, s, v = np.linalg.svd(x / (np.linalg.norm(x) + 1e-7), full_matrices=False)
        for _ in range(5):  # which acts on the singular values alone
            s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
        return -lr * 0.2 * np.sqrt(max(g.shape)) * (u * s) @ v - 0.01 * lr * w

    return step


BY_WEIGHT: list[tuple[Callable[[], optimizers.Optimizer], Callable[[], Callable[[Any, int, Any], Any]]]] = [
    (lambda: optimizers.Ftrl(0.1, -0.5, 0.1, 0.05, 0.1, 0.2, 0.3), ftrl),
    (lambda: optimizers.Adafactor(0.1, clip_threshold=0.9), adafactor),
    (lambda: optimizers.Lamb(0.1, epsilon=1e-3), lamb),
    (lambda: optimizers.Muon(0.1, adam_weight_decay=0.2, weight_decay=0.01, adam_lr_ratio=0.5), muon),
]


@pytest.mark.parametrize("shape", [(5, 7), (4,)])
@pytest.mark.parametrize(("make", "reference"), BY_WEIGHT)
def test_steps_that_depend_on_the_weights(make: Any, reference: Any, shape: Any, rng: np.random.Generator) -> None:
    w = rng.standard_normal(shape)
    flat, optimizer, step = block({"kernel": w, "bias": rng.standard_normal(3)}), make(), reference()
    for t in range(1, 6):
        for parameter in flat.parameters:
            parameter.gradient[...] = g = rng.standard_normal(parameter.shape)
            if parameter is flat.parameters[0]:
                w = w + step(g, t, w)
        optimizer.apply(flat)
        assert not flat.gradients.any()
    np.testing.assert_allclose(flat.parameters[0].value, w, 1e-7)


def test_muon_leaves_embeddings_and_excluded_layers_to_adam() -> None:
    w, g = np.ones((2, 3)), {"kernel": np.ones((2, 3))}
    quiet = {"weight_decay": None, "adam_weight_decay": None}
    adam_step = one_step(optimizers.Adam(0.1), {"kernel": w}, g)["kernel"]
    excluded = one_step(optimizers.Muon(0.1, exclude_layers=["ker"], **quiet), {"kernel": w}, g)["kernel"]
    np.testing.assert_allclose(excluded, adam_step, 1e-6)
    model = Sequential([Input((2,)), Dense(3, name="body"), Dense(3, name="head")])
    optimizer = optimizers.Muon(exclude_layers=["/head/"])
    assert [optimizer._for_adam(weight) for weight in model.weights] == [False, True, True, True]
    embedded = one_step(optimizers.Muon(0.1, **quiet), {"embeddings": w}, g)["embeddings"]
    np.testing.assert_allclose(embedded, adam_step, 1e-6)
    assert abs(one_step(optimizers.Muon(0.1, **quiet), {"kernel": w}, g)["kernel"] - adam_step).max() > 1e-3


def test_ftrl_keeps_what_it_has_no_divisor_for() -> None:
    for optimizer in (optimizers.Ftrl(0.1, initial_accumulator_value=0.0), optimizers.Ftrl(0.0)):
        kept = one_step(optimizer, {"kernel": np.ones(2)}, {"kernel": np.zeros(2)})["kernel"]
        np.testing.assert_array_equal(kept, 1)


def lion(lr: float = 0.001, b1: float = 0.9, b2: float = 0.99) -> Callable[[Any, int], Any]:
    m = 0.0

    def step(g: Any, t: int) -> Any:
        nonlocal m
        change = -lr * np.sign(b1 * m + (1 - b1) * g)
        m = b2 * m + (1 - b2) * g
        return change

    return step


CASES: list[tuple[Callable[[], optimizers.Optimizer], Callable[[], Callable[[Any, int], Any]]]] = [
    (optimizers.SGD, sgd),
    (lambda: optimizers.SGD(0.1, 0.9), lambda: sgd(0.1, 0.9)),
    (lambda: optimizers.SGD(0.1, 0.9, True), lambda: sgd(0.1, 0.9, True)),
    (optimizers.Adam, adam),
    (lambda: optimizers.Adam(0.1, 0.8, 0.9, amsgrad=True), lambda: adam(0.1, 0.8, 0.9, True)),
    (optimizers.Adamax, adamax),
    (optimizers.Nadam, nadam),
    (optimizers.RMSprop, rmsprop),
    (lambda: optimizers.RMSprop(0.1, 0.8, 0.9, centered=True), lambda: rmsprop(0.1, 0.8, 0.9, True)),
    (lambda: optimizers.RMSprop(0.1, centered=True), lambda: rmsprop(0.1, centered=True)),
    (optimizers.Adagrad, adagrad),
    (optimizers.Adadelta, adadelta),
    (optimizers.Lion, lion),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("make", "reference"), CASES)
def test_equals_the_formula(make: Any, reference: Any, dtype: str, rng: np.random.Generator) -> None:
    w = {"kernel": rng.standard_normal((5, 7)).astype(dtype), "bias": rng.standard_normal(3).astype(dtype)}
    flat, optimizer = block(w), make()
    references = {name: reference() for name in w}
    for t in range(1, 7):
        for name, parameter in zip(w, flat.parameters, strict=True):
            g = rng.standard_normal(w[name].shape).astype(dtype)
            parameter.gradient[...] = g
            w[name] = w[name] + references[name](g.astype("float64"), t)
        optimizer.apply(flat)
        assert not flat.gradients.any()
    assert optimizer.iterations == 6
    gaps = np.ones(flat.values.size, bool)
    for name, parameter, start in zip(w, flat.parameters, FlatParameters.layout(flat.parameters)[0], strict=True):
        np.testing.assert_allclose(parameter.value, w[name], 2e-5 if dtype == "float32" else 1e-11)
        gaps[start : start + parameter.size] = False
    assert not flat.values[gaps].any()


def one_step(optimizer: optimizers.Optimizer, w: dict[str, Any], g: dict[str, Any]) -> dict[str, np.ndarray]:
    flat = block({name: np.asarray(value, float) for name, value in w.items()})
    for parameter, gradient in zip(flat.parameters, g.values(), strict=True):
        parameter.gradient[...] = gradient
    optimizer.apply(flat)
    return {name: parameter.value for name, parameter in zip(w, flat.parameters, strict=True)}


def test_clips() -> None:
    w = {"a": np.zeros(2), "b": np.zeros(1)}
    g = {"a": [3.0, 4.0], "b": [12.0]}
    by_value = one_step(optimizers.SGD(1.0, clipvalue=3.5), w, g)
    np.testing.assert_allclose(np.concatenate(list(by_value.values())), [-3, -3.5, -3.5])
    by_norm = one_step(optimizers.SGD(1.0, clipnorm=6.0), w, g)
    np.testing.assert_allclose(np.concatenate(list(by_norm.values())), [-3, -4, -6])
    by_global = one_step(optimizers.SGD(1.0, global_clipnorm=6.5), w, g)
    np.testing.assert_allclose(np.concatenate(list(by_global.values())), [-1.5, -2, -6])


def test_weight_decay_spares_what_is_excluded() -> None:
    w, g = {"kernel": np.ones(2), "bias": np.ones(1)}, {"kernel": np.zeros(2), "bias": np.zeros(1)}
    decayed = one_step(optimizers.SGD(0.5, weight_decay=0.1), w, g)
    np.testing.assert_allclose(np.concatenate(list(decayed.values())), [0.95, 0.95, 0.95])
    optimizer = optimizers.SGD(0.5, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    np.testing.assert_allclose(np.concatenate(list(one_step(optimizer, w, g).values())), [0.95, 0.95, 1])
    assert optimizers.AdamW().weight_decay == 0.004


def line(optimizer: Any) -> Sequential:
    model = Sequential([Input((1,)), Dense(1, use_bias=False, kernel_initializer="ones")])
    model.compile(optimizer, "mse")
    return model


X = np.ones((4, 1))


def test_moving_average_of_the_weights() -> None:
    # w after each step: 0.8, 0.64, 0.512, ...: the gradient of w^2 is 2 w
    model = line(optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5))
    model.fit(X, X * 0, epochs=1, batch_size=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(model.get_weights()[0], (0.8 + 0.64) / 2, 1e-6)
    model = line(optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2))
    model.fit(X, X * 0, epochs=1, batch_size=1, shuffle=False, verbose=0)
    second = (0.8 + 0.64) / 2
    third = second * 0.8
    average = (second + third) / 2
    np.testing.assert_allclose(model.get_weights()[0], (average + third * 0.8) / 2, 1e-6)


def test_gradient_accumulation_is_a_larger_batch() -> None:
    x = np.arange(8.0)[:, None]
    accumulated, large = line(optimizers.Adam(0.1, gradient_accumulation_steps=2)), line(optimizers.Adam(0.1))
    accumulated.fit(x, x * 2, epochs=2, batch_size=2, shuffle=False, verbose=0)
    large.fit(x, x * 2, epochs=2, batch_size=4, shuffle=False, verbose=0)
    np.testing.assert_allclose(accumulated.get_weights()[0], large.get_weights()[0], 1e-6)
    assert (accumulated.optimizer.steps, accumulated.optimizer.iterations) == (8, 4)


def test_schedules_by_hand() -> None:
    rate = schedules.ExponentialDecay(1.0, 2, 0.5)
    np.testing.assert_allclose([rate(0), rate(1), rate(4)], [1, 0.5**0.5, 0.25])
    assert schedules.ExponentialDecay(1.0, 2, 0.5, staircase=True)(3) == 0.5
    assert schedules.InverseTimeDecay(1.0, 2, 0.5)(4) == 0.5
    assert [schedules.PiecewiseConstantDecay([2, 4], [3.0, 2.0, 1.0])(s) for s in (0, 2, 3, 4, 5)] == [3, 3, 2, 2, 1]
    assert [schedules.PolynomialDecay(1.0, 4, 0.0)(s) for s in (0, 1, 4, 9)] == [1, 0.75, 0, 0]
    cycling = schedules.PolynomialDecay(1.0, 4, 0.0, cycle=True)
    assert [cycling(s) for s in (0, 4, 6, 8)] == [1, 0, 0.25, 0]
    warm = schedules.CosineDecay(0.0, 4, 0.5, warmup_target=1.0, warmup_steps=2)
    np.testing.assert_allclose([warm(s) for s in (0, 1, 2, 4, 6, 99)], [0, 0.5, 1, 0.75, 0.5, 0.5])
    restarts = schedules.CosineDecayRestarts(1.0, 2, t_mul=3.0, m_mul=0.5)  # periods start at 0, 2, 8, 26
    np.testing.assert_allclose([restarts(s) for s in (0, 1, 2, 5, 8, 26)], [1, 0.5, 0.5, 0.25, 0.25, 0.125], atol=1e-12)
    assert schedules.CosineDecayRestarts(1.0, 2, t_mul=1.0)(10**9 + 1) == pytest.approx(0.5)


def test_the_learning_rate_follows_a_schedule() -> None:
    optimizer = optimizers.SGD(schedules.ExponentialDecay(0.1, 1, 0.5))
    line(optimizer).fit(X, X * 0, epochs=1, batch_size=2, verbose=0)
    assert optimizer.learning_rate == pytest.approx(0.025)
    with pytest.raises(TypeError, match="follows a schedule"):
        optimizer.learning_rate = 0.1


@pytest.mark.parametrize("name", sorted(optimizers._BY_NAME))
def test_configurations_come_back(name: str) -> None:
    optimizer = optimizers.get(name)
    optimizer.learning_rate, optimizer.ema_momentum = 0.25, 0.5
    again = optimizers.get(optimizers.serialize(optimizer))
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
    assert again.learning_rate == 0.25
    scheduled = type(optimizer)(schedules.CosineDecay(0.5, 10, warmup_target=1.0, warmup_steps=3))
    again = type(optimizer).from_config(scheduled.get_config())
    assert again.get_config() == scheduled.get_config()
    assert again.learning_rate == 0.5


def test_one_optimizer_serves_one_model() -> None:
    optimizer = optimizers.Adam()
    first, second = line(optimizer), line(optimizer)
    first.fit(X, X, epochs=1, verbose=0)
    with pytest.raises(ValueError, match="holds the state of other weights, and .*dense.*/kernel is not among them"):
        second.fit(X, X, epochs=1, verbose=0)
    first.compile(optimizer, "mse")
    first.fit(X, X, epochs=1, verbose=0)
    assert optimizer.iterations == 2


def test_state_is_kept_when_a_layer_freezes() -> None:
    model = Sequential([Input((2,)), Dense(3), Dense(2)])
    optimizer = optimizers.SGD(0.1, 0.9)
    model.compile(optimizer, "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 2)), epochs=1, verbose=0)
    kernel = FlatParameters.layout(model.trainable_weights)[0][2]
    velocity = optimizer.slots[0][kernel : kernel + 6].copy()
    model.layers[0].trainable = False
    model.compile(optimizer, "mse")
    optimizer._own(model._flat_parameters())
    np.testing.assert_array_equal(optimizer.slots[0][:6], velocity)
    assert velocity.any()


@pytest.mark.parametrize("name", sorted(optimizers._BY_NAME))
def test_training_goes_on_from_a_state_or_a_copy_with_the_same_bits(name: str, rng: np.random.Generator) -> None:
    w = {"kernel": rng.standard_normal((3, 4))}
    gradients = rng.standard_normal((6, 3, 4))

    def train(optimizer: optimizers.Optimizer, flat: FlatParameters, steps: range) -> np.ndarray:
        for step in steps:
            flat.parameters[0].gradient[...] = gradients[step]
            optimizer.apply(flat)
        return flat.parameters[0].value

    options = {"use_ema": True, "learning_rate": 0.1}
    whole = train(optimizers.get({"class_name": name, "config": options}), block(w), range(6))
    first, flat = optimizers.get({"class_name": name, "config": options}), block(w)
    train(first, flat, range(3))
    second = optimizers.get({"class_name": name, "config": options | {"learning_rate": 0.5}})
    other = block({"kernel": flat.parameters[0].value})
    second.set_state(other, first.get_state())
    np.testing.assert_array_equal(train(second, other, range(3, 6)), whole)
    copied, same = pickle.loads(pickle.dumps((first, list(flat.parameters))))
    np.testing.assert_array_equal(train(copied, FlatParameters(same), range(3, 6)), whole)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.SGD(clipnorm=1.0, clipvalue=1.0), "only one of clipnorm, clipvalue and global_clipnorm"),
        (lambda: optimizers.SGD(clipnorm=-1.0), "clipnorm must not be negative, received -1.0"),
        (lambda: optimizers.SGD(ema_momentum=1.5), "ema_momentum must lie in"),
        (lambda: optimizers.SGD(gradient_accumulation_steps=1), "gradient_accumulation_steps must be an integer >= 2"),
        (lambda: optimizers.AdamW(weight_decay=None), "weight_decay must be a number"),
        (lambda: optimizers.RMSprop(rho=2.0), r"RMSprop: rho must lie in \[0, 1\], received 2.0"),
        (lambda: optimizers.Ftrl(learning_rate_power=1), "Ftrl: learning_rate_power must not be positive"),
        (lambda: optimizers.Adafactor(clip_threshold=0), "Adafactor: clip_threshold must be positive"),
        (lambda: optimizers.Lamb(beta_1=1.0), r"Lamb: beta_1 must lie in \[0, 1\)"),
        (lambda: optimizers.Lion(beta_1=0.0), "Lion: beta_1 must lie in"),
        (lambda: schedules.PiecewiseConstantDecay([1], [1.0]), "one value more than boundaries"),
        (lambda: schedules.CosineDecay(0.1, 0), "CosineDecay: decay_steps must be positive, received 0"),
        (lambda: optimizers.get({"class_name": "Adm"}), "no class 'Adm' \\(did you mean 'Adam'"),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
