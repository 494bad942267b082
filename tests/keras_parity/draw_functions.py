"""Random configurations of losses, metrics, optimizers, schedules, activations and what is applied to weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from dice import Arrays, Case, Dice, Job

from vivace import losses, metrics


def job(kind: str, class_name: str, config: dict[str, Any], **more: Any) -> Job:
    return {"kind": kind, "class_name": class_name, "config": config} | more


# Losses

REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)
CROSSENTROPIES = ("BinaryCrossentropy", "CategoricalCrossentropy", "BinaryFocalCrossentropy",
                  "CategoricalFocalCrossentropy", "SparseCategoricalCrossentropy")  # fmt: skip


def targets_and_predictions(d: Dice, name: str, shape: list[int], axis: int = -1) -> tuple[Any, Any]:
    """What a loss or metric of that name is fed, with the classes along `axis`."""
    lead, classes = shape[:-1], shape[-1]
    soft, raw = d.probabilities(*shape), d.normal(*shape)
    onehot = np.eye(classes, dtype=d.dtype)[d.labels(classes, *lead)]
    if name.startswith("Sparse") or name == "CategoricalGeneralizedCrossEntropy":
        labels = d.labels(classes, *lead)
        column = labels if "Generalized" in name else labels[..., None]  # there Keras broadcasts a column to a square
        return d.pick(labels, column, labels.astype("int32")), np.moveaxis(soft, -1, axis)
    if name.startswith("Binary"):
        t = d.rng.integers(0, 2, shape).astype(d.dtype)
        return d.pick(t, t, d.uniform(*shape)), d.uniform(*shape)
    if name in ("CategoricalHinge", "Dice", "Tversky") or "Categorical" in name:
        t = d.pick(onehot, onehot, d.probabilities(*shape)) if "Hinge" not in name else onehot
        return np.moveaxis(t, -1, axis), np.moveaxis(d.pick(soft, soft, soft * 0.7), -1, axis)
    if name in ("Hinge", "SquaredHinge"):
        t = d.rng.integers(0, 2, shape).astype(d.dtype)
        return d.pick(t, 2 * t - 1), raw
    if name in ("Poisson", "KLDivergence"):
        return d.probabilities(*shape), soft
    if name == "MeanSquaredLogarithmicError":
        return d.uniform(*shape, high=3), d.uniform(*shape, low=-0.3, high=3)
    return d.pick(d.normal(*shape), d.rng.integers(-3, 4, shape)), raw


def draw_loss(d: Dice, name: str, rank: int) -> Case:
    shape = [d.integer(1, 6), *d.integers(1, 4, d.integer(0, 2)), d.integer(1, 5)]
    config: dict[str, Any] = d.some(reduction=d.pick(*REDUCTIONS))
    axis, classes_last = -1, name.startswith("Sparse") or "Generalized" in name
    if name in CROSSENTROPIES:
        config |= d.some(from_logits=d.chance())
        config |= d.some(axis=d.pick(-1, 1)) if len(shape) > 2 and not name.startswith("Sparse") else {}
        axis = config.get("axis", -1)
    if name in CROSSENTROPIES[:4] and axis == -1:  # along other axes Keras divides by the size of the last one
        config |= d.some(label_smoothing=d.number(0, 0.5))
    if name == "SparseCategoricalCrossentropy":
        shape[-1] = max(2, shape[-1])
        config |= d.some(ignore_class=d.pick(None, 0, 1))
    elif "Focal" in name:
        alpha = d.pick(0.4, d.numbers(shape[-1])) if name.startswith("Cat") and axis == -1 else 0.4
        config |= d.some(gamma=d.pick(2.0, 1.5, 0.0, 1.0), alpha=alpha)
        config |= d.some(apply_class_balancing=d.chance()) if name.startswith("Binary") else {}
    elif "Generalized" in name:
        shape = [shape[0], max(2, shape[-1])]
        config |= d.some(q=d.number(0.1, 0.9))
    elif name in ("KLDivergence", "CategoricalHinge"):
        shape[-1] = max(2, shape[-1])  # JAX halves the gradient where a prediction of 1 meets the bound
    elif name == "Huber":
        config |= d.some(delta=d.number(0.2, 2))
    elif name == "CosineSimilarity":
        config |= d.some(axis=d.pick(-1, 1))
        shape = [shape[0], *(max(2, size) for size in shape[1:])]  # of one number the gradient is rounding alone
    elif name in ("Dice", "Tversky"):
        config |= d.some(axis=d.pick(None, -1, 1, list(range(1, len(shape)))))
        config |= d.some(alpha=d.number(), beta=d.number()) if name == "Tversky" else {}
    t, y = targets_and_predictions(d, name, shape, axis)
    if config.get("from_logits"):
        y = d.normal(*y.shape, scale=2)
    more: Job = {}
    if d.chance(0.2) and "Hinge" not in name:
        y, more = far_out(d, name, y), {"value_only": True}  # at a bound, JAX halves the gradient
    if name in ELEMENTWISE and d.chance(0.15):  # one number for each sample, with or without an axis of its own
        t, y = np.ravel(t)[: len(t)], np.reshape(y, (len(y), -1))[:, :1]
        shape, t = [len(y), 1], d.pick(t, t[:, None])
    if t.dtype.kind == "f" and (t == np.rint(t)).all() and d.chance(0.3):
        t = t.astype(d.pick("int32", "int64", "uint8", "bool") if t.min() >= 0 and t.max() <= 1 else "int32")
    arrays: Arrays = {"y_true": t, "y_pred": y}
    if name not in ("Dice", "Tversky") and config.get("axis", -1) == -1:
        losses_shape = shape[:-1]
        if d.chance(0.5):
            weights = d.uniform(
                *d.pick(losses_shape, [shape[0], *(1 for _ in shape[1:-1])], [*losses_shape, 1]), high=2
            )
            if d.chance(0.15) and losses_shape[-1] > 1:  # of a last axis of 1, Keras then drops it
                weights = d.uniform(high=2)
            weights *= d.chance(0.95)  # now and then, nothing counts
            arrays["weight"] = weights * (d.rng.random(weights.shape) < 0.8).astype(d.dtype)
        elif d.chance(0.3) and config.get("reduction", "sum") not in ("none", None) and not classes_last:
            arrays["mask"] = d.rng.random(losses_shape) < 0.7
    return job("loss", name, config, **more), arrays


ELEMENTWISE = ("MeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredLogarithmicError",
               "Huber", "LogCosh", "Poisson", "BinaryCrossentropy")  # fmt: skip


def far_out(d: Dice, name: str, y: np.ndarray) -> np.ndarray:
    """Predictions that are 0 or 1 exactly, or very large."""
    if y.min() >= 0 and y.max() <= 1:
        return np.where(d.rng.random(y.shape) < 0.4, d.labels(2, *y.shape), y).astype(y.dtype)
    return y * y.dtype.type(d.pick(0, 30, 300))


def draw_ctc(d: Dice, name: str, rank: int) -> Case:
    batch, classes, length = d.integer(1, 4), d.integer(2, 6), d.integer(1, 4)
    t = d.rng.integers(1, classes, (batch, length))
    for row in t:
        row[d.integer(0, length) :] = 0
    config = d.some(reduction=d.pick(*REDUCTIONS))
    return job("loss", name, config), {"y_true": t, "y_pred": d.normal(batch, 2 * length + d.integer(0, 5), classes)}


def draw_circle(d: Dice, name: str, rank: int) -> Case:
    """With distances above 0: at 0, rounding decides which way Keras's gradient goes."""
    count, size = d.integer(2, 9), d.integer(2, 5)
    y = d.normal(count, size)
    y *= y.dtype.type(d.number(0.5, 0.98)) / np.linalg.norm(y, axis=1, keepdims=True)
    config = d.some(reduction=d.pick(*REDUCTIONS), margin=d.number(0.1, 0.6), remove_diagonal=d.chance())
    config["gamma"] = d.pick(80.0, 8.0, 2.0) if config.get("remove_diagonal") is not None else d.number(1, 20)
    t = d.labels(d.integer(1, 4), count)
    arrays: Arrays = {"y_true": d.pick(t, t[:, None], t.astype("int32")), "y_pred": y}
    if d.chance(0.4):
        arrays["weight"] = d.uniform(count, high=2)
    return job("loss", name, config), arrays


def draw_function(d: Dice, name: str, rank: int) -> Case:
    """The losses and accuracies as functions of (y_true, y_pred), which do not reduce."""
    module, function = name.split(".")
    shape = [d.integer(1, 5), *d.integers(1, 3, d.integer(0, 1)), d.integer(2, 5)]
    class_name = "".join(part.capitalize() for part in function.split("_"))
    kind = {"BinaryAccuracy": "BinaryCrossentropy", "KlDivergence": "KLDivergence"}.get(class_name, class_name)
    t, y = targets_and_predictions(d, kind, shape)
    config: dict[str, Any] = {}
    if "crossentropy" in function:
        config = d.some(from_logits=d.chance())
        config |= d.some(label_smoothing=0.2) if not function.startswith("sparse") else d.some(ignore_class=1)
    if "top_k" in function:
        config = d.some(k=d.integer(1, 3))
    return job("function", name.split(".")[1], config, module=module), {"y_true": t, "y_pred": y}


# Metrics


def thresholds(d: Dice) -> Any:
    return d.pick(None, d.number(), d.numbers(d.integer(1, 4)))


def draw_metric(d: Dice, name: str, rank: int) -> Case:
    """Three batches, some weighted."""
    lead, classes = [d.integer(2, 9), *d.integers(1, 3, d.integer(0, 1))], d.integer(2, 5)
    shape, config = [*lead, classes], {}
    weight_shapes: list[list[int]] = [lead, lead[:1]]
    batches: list[tuple[Any, Any]] = []
    if "IoU" in name:
        config = {} if name == "BinaryIoU" else {"num_classes": classes}
        if "Mean" not in name:
            config["target_class_ids"] = d.pick([0], [0, 1], [1])
        if name in ("IoU", "MeanIoU", "OneHotIoU", "OneHotMeanIoU"):
            config |= d.some(ignore_class=d.pick(None, 1), sparse_y_pred=d.chance())
            config |= d.some(sparse_y_true=d.chance()) if "OneHot" not in name else {}
        else:
            config |= d.some(threshold=d.number(0.2, 0.8))
        for _ in range(3):
            labels, soft = d.labels(classes, *lead), d.probabilities(*shape)
            if name == "BinaryIoU":
                batches.append((d.labels(2, *lead), d.uniform(*lead)))
                continue
            t = labels if config.get("sparse_y_true", "OneHot" not in name) else np.eye(classes)[labels]
            y = d.labels(classes, *lead) if config.get("sparse_y_pred", "OneHot" not in name) else soft
            batches.append((t, y))
        weight_shapes = [lead]
    elif name == "Accuracy":
        batches = [(d.labels(3, *lead), d.labels(3, *lead)) for _ in range(3)]
    elif name in ("TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives"):
        config = d.some(thresholds=thresholds(d))
        batches = [(d.labels(2, *shape).astype(d.dtype), d.uniform(*shape)) for _ in range(3)]
        weight_shapes = [shape]
    elif name in ("Precision", "Recall"):
        config = d.pick({}, {"thresholds": thresholds(d)}, {"top_k": 2}, {"class_id": 1}, {"top_k": 1, "class_id": 1})
        batches = [(d.labels(2, *shape).astype(d.dtype), d.uniform(*shape)) for _ in range(3)]
        weight_shapes = [lead] if len(lead) == 1 and not config else [shape]
    elif "At" in name:
        config = {name.split("At")[1].lower(): d.number(0.1, 0.9)}
        config |= d.some(num_thresholds=d.integer(1, 30), class_id=d.pick(None, 1))
        batches = [(d.labels(2, *shape).astype(d.dtype), d.uniform(*shape)) for _ in range(3)]
        weight_shapes = [shape]
    elif name == "AUC":
        config = d.some(curve=d.pick("ROC", "PR"), num_thresholds=d.integer(2, 200), from_logits=d.chance())
        config |= d.some(summation_method=d.pick("interpolation", "minoring", "majoring"))
        by_label: dict[str, Any] = {"multi_label": True, **d.some(num_labels=classes, label_weights=d.numbers(classes))}
        config |= d.pick({}, by_label, {"thresholds": d.numbers(d.integer(1, 4), 0.1, 0.9)})
        shape = [lead[0], classes]
        y = d.normal if config.get("from_logits") else d.uniform
        batches = [(d.labels(2, *shape).astype(d.dtype), y(*shape)) for _ in range(3)]
        weight_shapes = [lead[:1]] if config.get("multi_label") else [shape]
    elif name in ("F1Score", "FBetaScore"):
        config = d.some(average=d.pick(None, "micro", "macro", "weighted"), threshold=d.pick(None, 0.4))
        config |= d.some(beta=d.number(0.5, 2)) if name == "FBetaScore" else {}
        shape = [lead[0], classes]
        batches = [
            (np.eye(classes, dtype=d.dtype)[d.labels(classes, lead[0])], d.probabilities(*shape)) for _ in range(3)
        ]
        weight_shapes = [lead[:1]]
    elif name == "R2Score":
        config = d.some(class_aggregation=d.pick(None, "uniform_average", "variance_weighted_average"))
        config |= d.some(num_regressors=d.integer(0, 3))
        lead[0] += 3  # of one or two numbers that count, the variance is what float32 leaves of a difference
        batches = [(d.normal(lead[0], classes), d.normal(lead[0], classes)) for _ in range(3)]
        weight_shapes = [lead[:1]]
    elif name in ("Mean", "Sum"):
        values = [d.normal(*lead) for _ in range(3)]
        arrays: Arrays = {f"values_{i}": v for i, v in enumerate(values)}
        if d.chance():
            arrays |= {f"weight_{i}": d.uniform(*d.pick(lead, lead[:1]), high=2) for i in range(3)}
        return job("metric", name, {}, batches=3, arguments=["values"]), arrays
    elif name in ("PearsonCorrelation", "ConcordanceCorrelation"):
        config = d.some(axis=d.pick(-1, 1))
        shape = [lead[0], d.integer(3, 6)]
        batches = [(d.normal(*shape), d.normal(*shape)) for _ in range(3)]
        weight_shapes = [lead[:1]]
    else:
        kind = name.replace("Accuracy", "Crossentropy").replace("TopK", "").replace("LogCoshError", "LogCosh")
        if "TopK" in name:
            config = d.some(k=d.integer(1, 4))
            config |= d.some(from_sorted_ids=True) if name.startswith("Sparse") and d.chance(0.3) else {}
        elif name.endswith("Crossentropy"):
            config = d.some(from_logits=d.chance())
            config |= d.some(ignore_class=1) if name.startswith("Sparse") else d.some(label_smoothing=d.number(0, 0.5))
        elif name == "BinaryAccuracy":
            config = d.some(threshold=d.number(0.2, 0.8))
        elif name == "CosineSimilarity":
            config = d.some(axis=d.pick(-1, len(shape) - 1))
        for _ in range(3):
            t, y = targets_and_predictions(d, kind, shape)
            if config.get("from_sorted_ids"):
                y = np.argsort(-y, -1)
            batches.append((t, d.normal(*y.shape) if config.get("from_logits") else y))
    if d.chance(0.3):  # ties, and what lies on thresholds
        batches = [(t, np.round(y, 1) if y.dtype.kind == "f" else y) for t, y in batches]
    if d.chance(0.3):
        batches = [(t.astype("int32") if (t == np.rint(t)).all() else t, y) for t, y in batches]
    if d.chance(0.2) and name not in ("PearsonCorrelation", "ConcordanceCorrelation", "R2Score"):
        batches = [(t * 0, y) for t, y in batches[:1]] + batches[1:]  # classes that do not occur
    arrays = {f"y_true_{i}": t for i, (t, _) in enumerate(batches)} | {
        f"y_pred_{i}": y for i, (_, y) in enumerate(batches)
    }
    if d.chance() and config.get("class_id") is None:  # Keras does not pick the class's weights
        weights = d.pick(*weight_shapes) if name != "R2Score" else lead[:1]
        low, kept = (0.3, 1.0) if name == "R2Score" else (0.0, 0.8)
        for i in range(3):
            arrays[f"weight_{i}"] = d.uniform(*weights, low=low, high=2) * (d.rng.random(weights) < kept)
    return job("metric", name, config, batches=3, arguments=["y_true", "y_pred"]), arrays


# Optimizers and schedules


def schedule(d: Dice, name: str) -> Job:
    first, steps = d.number(0.01, 0.1), d.integer(1, 12)
    config: dict[str, Any] = {"initial_learning_rate": first, "decay_steps": steps}
    if name in ("ExponentialDecay", "InverseTimeDecay"):
        config |= {"decay_rate": d.number(0.1, 1.2), **d.some(staircase=d.chance())}
    elif name == "PiecewiseConstantDecay":
        count = d.integer(1, 4)
        boundaries = sorted(int(b) for b in d.rng.choice(25, count, replace=False))
        config = {"boundaries": boundaries, "values": d.numbers(count + 1)}
    elif name == "PolynomialDecay":
        config |= d.some(power=d.pick(0.5, 2.0, 3), cycle=d.chance(), end_learning_rate=d.number(0, 0.2))
    elif name == "CosineDecay":
        config |= d.some(alpha=d.number())
        config |= d.some(warmup_target=d.number(0.05, 0.3), warmup_steps=d.integer(0, 6))
    else:
        config = {"initial_learning_rate": first, "first_decay_steps": d.pick(3.7, d.integer(1, 9))}
        config |= d.some(t_mul=d.pick(1.0, 1.5, 2.0, 3), m_mul=d.number(0.5, 1.1), alpha=d.number(0, 0.5))
    return {"class_name": name, "config": config, "module": "optimizers.schedules"}


SCHEDULES = ("ExponentialDecay", "InverseTimeDecay", "PiecewiseConstantDecay", "PolynomialDecay", "CosineDecay",
             "CosineDecayRestarts")  # fmt: skip


def draw_schedule(d: Dice, name: str, rank: int) -> Case:
    made = schedule(d, name)
    return job("schedule", name, made["config"]), {"steps": np.arange(60)}


def draw_optimizer(d: Dice, name: str, rank: int) -> Case:
    config: dict[str, Any] = d.some(learning_rate=d.number(0.01, 0.1))
    config |= d.pick({}, {}, {"clipnorm": d.number(0.1, 3)}, {"clipvalue": d.number(0.1, 1)},
                     {"global_clipnorm": d.number(0.1, 3)})  # fmt: skip
    if d.chance(0.4):
        config |= {"use_ema": True, **d.some(ema_momentum=d.number(0.5, 1), ema_overwrite_frequency=d.integer(1, 4))}
    config |= d.some(weight_decay=d.number(0, 0.2), gradient_accumulation_steps=d.integer(2, 4))
    if d.chance(0.4):
        # At a rate of 0 Keras's Ftrl makes weights NaN: other schedules may end there.
        made = schedule(d, d.pick(*(SCHEDULES if name != "Ftrl" else SCHEDULES[:2])))
        config["learning_rate"] = {key: made[key] for key in ("class_name", "config")}
    if name == "SGD":
        config |= d.some(momentum=d.number(0, 1), nesterov=d.chance())
    elif name == "RMSprop":
        config |= d.some(rho=d.number(0.5, 0.99), momentum=d.number(), centered=d.chance(), epsilon=d.pick(1e-7, 0.01))
    elif name == "Adagrad":
        config |= d.some(initial_accumulator_value=d.number(0, 1), epsilon=d.pick(1e-7, 0.01))
    elif name == "Adadelta":
        config |= d.some(rho=d.number(0.5, 0.99), epsilon=d.pick(1e-7, 0.01))
    elif name == "Ftrl":
        strengths = ("l1_regularization", "l2_regularization", "l2_shrinkage_regularization")
        config |= d.some(**{f"{strength}_strength": d.number(0, 0.5) for strength in strengths}, beta=d.number())
        # From 0 Keras divides 0 by 0 where there is no gradient yet.
        config |= d.some(learning_rate_power=d.pick(0.0, -0.5, -0.8), initial_accumulator_value=d.number(0.01, 1))
    elif name == "Adafactor":
        config |= d.some(beta_2_decay=-d.number(), epsilon_1=d.pick(1e-30, 1e-4), epsilon_2=d.pick(1e-3, 0.5))
        config |= d.some(clip_threshold=d.number(0.2, 2), relative_step=d.chance())
    elif name == "Muon":
        config |= d.some(adam_beta_1=d.number(0.5, 0.99), adam_beta_2=d.number(0.5, 0.999), epsilon=d.pick(1e-7, 0.01))
        config |= d.some(adam_weight_decay=d.pick(None, 0.1), momentum=d.number(), nesterov=d.chance())
        config |= d.some(adam_lr_ratio=d.number(0.1, 2), rms_rate=d.pick(None, 0.4), ns_steps=d.integer(1, 6))
        config |= d.some(exclude_layers=[d.pick("kern", "bias")])
        config |= d.pick({}, {"muon_a": 1.875, "muon_b": -1.25, "muon_c": 0.375})  # with others, it runs away
    else:
        config |= d.some(beta_1=d.number(0.5, 0.99), beta_2=d.number(0.5, 0.999))
        config |= d.some(amsgrad=d.chance()) if name in ("Adam", "AdamW") else {}
        config |= d.some(epsilon=d.pick(1e-7, 0.01)) if name != "Lion" else {}
    d.dtype, steps = "float64", d.integer(1, 24) if d.chance(0.8) else 80
    shapes: dict[str, tuple[int, ...]] = {"kernel": d.pick((3, 5), (5, 2), (1, 4)), "bias": (5,), "scale": ()}
    shapes |= d.some(window=(2, 3, 4))
    arrays: Arrays = {key: d.normal(*shape) for key, shape in shapes.items()}
    scale = d.pick(1.0, 1.0, 1e-3, 100.0)
    arrays |= {f"{key}_gradients": d.normal(steps, *shape, scale=scale) for key, shape in shapes.items()}
    if d.chance(0.2):
        arrays["bias_gradients"] *= 0
    if d.chance(0.2):
        for key in shapes:
            arrays[f"{key}_gradients"][d.integer(0, steps - 1)] *= 0
    more: Job = {"names": list(shapes), "steps": steps, "spared": d.pick([], [], ["bias"]), "dtype": "float64"}
    return job("optimizer", name, config, constraint=d.pick(None, None, 0.8), **more), arrays


# Activations, and what is applied to weights


def draw_activation_function(d: Dice, name: str, rank: int) -> Case:
    if name == "gelu":
        d.dtype = "float64"  # in float32 Keras's gradient is off by 4e-6 on JAX, since its 1 - tanh(u)^2 cancels
    x = d.normal(*d.integers(1, 6, d.integer(1, 3)), scale=d.pick(3, 3, 30) if name != "exponential" else 3)
    config: dict[str, Any] = {
        "relu": d.some(negative_slope=d.number(), max_value=d.number(1, 6), threshold=d.number(-1, 1)),
        "leaky_relu": d.some(negative_slope=d.number()),
        "elu": d.some(alpha=d.number(0.1, 2)),
        "celu": d.some(alpha=d.number(0.1, 2)),
        "gelu": d.some(approximate=d.chance()),
        "squareplus": d.some(b=d.number(0, 5)),
        "soft_shrink": d.some(threshold=d.number()),
        "hard_shrink": d.some(threshold=d.number()),
        "threshold": {"threshold": d.number(-1, 1), "default_value": d.number(-2, 2)},
        "softmax": d.some(axis=d.pick(-1, 0, x.ndim - 1)),
        "log_softmax": d.some(axis=d.pick(-1, 0, x.ndim - 1)),
        "glu": d.some(axis=-1),
    }.get(name, {})
    dy = d.normal(*x.shape)
    if name == "glu":
        x = np.concatenate([x, x[::-1]], -1)
    return job("activation", name, config), {"x": x, "dy": dy}


def draw_constraint(d: Dice, name: str, rank: int) -> Case:
    shape = d.integers(2, 5, d.integer(1, 4))
    axis = d.pick(0, -1, list(range(len(shape))))
    low = d.number(0, 1)
    config: dict[str, Any] = {
        "MaxNorm": d.some(max_value=d.number(0.2, 3), axis=axis),
        "MinMaxNorm": d.some(min_value=low, max_value=low + 1, rate=d.number(), axis=axis),
        "UnitNorm": d.some(axis=axis),
    }.get(name, {})
    return job("constraint", name, config), {"w": d.normal(*shape)}


def draw_regularizer(d: Dice, name: str, rank: int) -> Case:
    config: dict[str, Any] = {
        "L1": d.some(l1=d.number()),
        "L2": d.some(l2=d.number()),
        "L1L2": d.some(l1=d.number(), l2=d.number()),
        "OrthogonalRegularizer": d.some(factor=d.number(), mode=d.pick("rows", "columns")),
    }[name]
    shape = d.integers(2, 5, 2 if name.startswith("Orthogonal") else d.integer(1, 4))
    return job("regularizer", name, config), {"w": d.normal(*shape)}


def draw_initializer(d: Dice, name: str, rank: int) -> Case:
    shape = d.pick([120, 150], [3, 3, 40, 50], [5, 60, 70], [4000])
    config: dict[str, Any] = {}
    more: Job = {"shape": shape, "exact": name in ("Zeros", "Ones", "Constant", "Identity")}
    if name == "Constant":
        config = d.some(value=d.number())
    elif name == "Identity":
        config, more["shape"] = d.some(gain=d.number()), d.integers(1, 6, 2)
    elif name == "RandomNormal" or name == "TruncatedNormal":
        config = d.some(mean=d.number(), stddev=d.number(0.1, 2))
    elif name == "RandomUniform":
        config = d.some(minval=d.number(-2, 0), maxval=d.number(0.1, 2))
    elif name == "VarianceScaling":
        config = d.some(scale=d.number(0.1, 3), mode=d.pick("fan_in", "fan_out", "fan_avg"))
        config |= d.some(distribution=d.pick("truncated_normal", "untruncated_normal", "uniform"))
    elif name == "Orthogonal":
        config, more["shape"] = d.some(gain=d.number(0.5, 2)), d.pick([60, 70], [70, 60], [3, 3, 20, 50])
    config |= d.some(seed=d.integer(0, 9)) if not more["exact"] else {}
    if name.startswith(("VarianceScaling", "Glorot", "He", "Lecun")) and d.chance(0.3):
        last = len(shape) - 1
        config |= {"input_axes": d.pick([0], [last], list(range(last + 1)))} | d.some(
            output_axes=d.pick([last], [0, -1])
        )
    more["bounded"] = "Uniform" in name
    return job("initializer", name, config, **more), {}


# Data


def draw_category(d: Dice, name: str, rank: int) -> Case:
    if name == "CategoryEncoding":
        config: dict[str, Any] = {
            "num_tokens": d.integer(4, 6),
            **d.some(output_mode=d.pick("multi_hot", "count", "one_hot")),
        }
        shape = [d.integer(1, 4)] if config.get("output_mode") == "one_hot" else [d.integer(1, 4), d.integer(1, 4)]
        return job("preprocessing", name, config), {"x": d.labels(4, *shape)}
    config = {"bin_boundaries": sorted(d.numbers(d.integer(1, 4), -1, 1))}  # finding them needs TensorFlow in Keras
    config |= d.some(output_mode=d.pick("int", "one_hot"))
    return job("preprocessing", name, config), {"x": d.normal(d.integer(1, 6))}


def draw_padding(d: Dice, name: str, rank: int) -> Case:
    rows = [" ".join(map(str, d.integers(1, 9, d.integer(0, 6)))) for _ in range(d.integer(1, 5))]
    config = d.some(maxlen=d.integer(1, 7), padding=d.pick("pre", "post"), truncating=d.pick("pre", "post"),
                    value=d.pick(-1, 0.5), dtype=d.pick("int32", "float32"))  # fmt: skip
    return job("padded", name, config, rows=rows), {}


def draw_categorical(d: Dice, name: str, rank: int) -> Case:
    x = d.labels(4, *d.integers(1, 4, d.integer(1, 3)))
    return job("categories", name, d.some(num_classes=d.integer(4, 6))), {"x": x}


def draw_norm(d: Dice, name: str, rank: int) -> Case:
    x = d.normal(*d.integers(1, 4, d.integer(1, 3)))
    x *= d.rng.random(x.shape) < 0.7
    axis = d.integer(-x.ndim, x.ndim - 1) or -1  # Keras takes axis 0 for -1 where it divides
    return job("normalized", name, d.some(axis=axis, order=d.pick(1, 2, 3))), {"x": x}


def named(*names: str) -> list[tuple[str, int]]:
    return [(name, 0) for name in names]


ACTIVATIONS = (
    "linear", "relu", "sigmoid", "tanh", "softmax", "log_softmax", "relu6", "leaky_relu", "elu", "selu", "celu",
    "gelu", "silu", "softplus", "softsign", "mish", "exponential", "hard_sigmoid", "hard_silu", "hard_tanh",
    "log_sigmoid", "squareplus", "soft_shrink", "hard_shrink", "tanh_shrink", "sparse_plus", "sparse_sigmoid",
    "threshold", "glu",
)  # fmt: skip  # not sparsemax: there, Keras 3.15's rows do not always sum to 1
UNREDUCED = (
    "losses.mean_squared_error", "losses.mean_absolute_error", "losses.mean_absolute_percentage_error", "losses.huber",
    "losses.mean_squared_logarithmic_error", "losses.log_cosh", "losses.poisson", "losses.hinge",
    "losses.squared_hinge", "losses.categorical_hinge", "losses.kl_divergence", "losses.cosine_similarity",
    "losses.binary_crossentropy", "losses.categorical_crossentropy", "losses.sparse_categorical_crossentropy",
    "losses.binary_focal_crossentropy", "losses.categorical_focal_crossentropy", "losses.dice", "losses.tversky",
    "metrics.binary_accuracy", "metrics.categorical_accuracy", "metrics.sparse_categorical_accuracy",
    "metrics.top_k_categorical_accuracy", "metrics.sparse_top_k_categorical_accuracy",
)  # fmt: skip
OTHERS = (
    "Loss",
    "LossFunctionWrapper",
    "CTC",
    "Circle",
    "Metric",
    "MeanMetricWrapper",
    "MeanRelativeError",
)  # no draws like the rest's


def classes(module: Any) -> list[tuple[str, int]]:
    return named(*(n for n in module.__all__ if isinstance(getattr(module, n), type) and n not in OTHERS))


TABLE = [
    (draw_loss, classes(losses)),
    (draw_ctc, named("CTC")),
    (draw_circle, named("Circle")),
    (draw_function, named(*UNREDUCED)),
    (draw_metric, classes(metrics)),
    (draw_schedule, named(*SCHEDULES)),
    (draw_optimizer, named("SGD", "RMSprop", "Adam", "AdamW", "Adagrad", "Adadelta", "Adamax", "Nadam", "Lion",
                             "Ftrl", "Adafactor", "Lamb", "Muon")),
    (draw_activation_function, named(*ACTIVATIONS)),
    (draw_constraint, named("MaxNorm", "MinMaxNorm", "UnitNorm", "NonNeg")),
    (draw_regularizer, named("L1", "L2", "L1L2", "OrthogonalRegularizer")),
    (draw_initializer, named("Zeros", "Ones", "Constant", "Identity", "RandomNormal", "TruncatedNormal",
                             "RandomUniform", "VarianceScaling", "GlorotUniform", "GlorotNormal", "HeUniform",
                             "HeNormal", "LecunUniform", "LecunNormal", "Orthogonal")),
    (draw_category, named("CategoryEncoding", "Discretization")),
    (draw_padding, named("pad_sequences")),
    (draw_categorical, named("to_categorical")),
    (draw_norm, named("normalize")),
]  # fmt: skip
