"""What vivace makes of the jobs that keras_side.py does in Keras, under the same names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from dice import Arrays, Dice, Job

from vivace import activations, constraints, initializers, layers, losses, metrics, optimizers, regularizers, utils
from vivace.layers import Layer
from vivace.layers.regularization import unit_of
from vivace.parameters import FlatParameters, Parameter
from vivace.step import Step

Results = dict[str, Any]


def numbered(arrays: Arrays, name: str) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    while f"{name}{len(found)}" in arrays:
        found.append(arrays[f"{name}{len(found)}"])
    return found


def made_layer(spec: Job, dtype: str) -> Layer:
    def made(value: Any) -> Any:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return [made(one) for one in value]
        return made_layer(value, dtype) if isinstance(value, dict) else value

    config = {name: made(value) for name, value in spec["config"].items()}
    layer: Layer = getattr(layers, spec["class_name"])(**config, dtype=dtype)
    return layer


def prepare_layer(job: Job, arrays: Arrays, d: Dice) -> None:
    """Draw the layer's weights and the gradients of its outputs, whose shapes vivace tells."""
    layer = made_layer(job, job["dtype"])
    x = numbered(arrays, "x") * job.get("times", 1) + numbered(arrays, "s")
    shapes: Any = [(None, *a.shape[1:]) for a in x]
    outputs = layer.build_once(shapes if len(x) > 1 or job.get("form") == "list" else shapes[0])
    for k, parameter in enumerate(layer.weights):
        value = d.normal(*parameter.shape, scale=0.5)
        arrays[f"w{k}"] = np.abs(value) + value.dtype.type(0.1) if parameter.name.endswith("variance") else value
    for k, shape in enumerate(outputs if isinstance(outputs, list) else [outputs]):
        arrays[f"d{k}"] = d.normal(len(x[0]), *shape[1:])  # type: ignore[arg-type]


def called(layer: Layer, job: Job, xs: Any, states: Any, masks: Any, training: bool) -> list[Any]:
    """The outputs of a call on arrays."""
    form, more = job.get("form", "one"), {job.get("states", "initial_state"): states} if states else {}
    if "attention_mask" in job:
        more["attention_mask"] = job["attention_mask"]
    if states and masks is not None:
        masks = masks[0]
    if masks is not None:
        more["mask"] = masks
    y = layer(*(xs if form == "several" else [xs if form == "list" else xs[0]]), training=training, **more)
    return [y[0], *y[1]] if isinstance(y, tuple) else y if isinstance(y, list) else [y]


def layer(job: Job, arrays: Arrays) -> Results:
    if "p0" in arrays:
        job = job | {"config": job["config"] | {"use_attention_mask": True}}
    layer = made_layer(job, job["dtype"])
    xs, states = numbered(arrays, "x"), numbered(arrays, "s")
    x: Any = [a.astype(layer.input_dtype or (a.dtype if a.dtype.kind == "f" else layer.dtype)) for a in xs] + states
    masks: Any = [None if (m := arrays.get(f"m{k}")) is None else m.astype(np.uint8) for k in range(len(x))]
    if "p0" in arrays:
        x, masks = [*x, arrays["p0"]], [*masks, None]
    several = len(x) > 1 or job.get("form") == "list"
    x, masks = (x, masks) if several else (x[0], masks[0])
    shapes: Any = [(None, *a.shape[1:]) for a in (x if several else [x])]
    shapes = layer.build_once(shapes if several else shapes[0])
    shapes = shapes if isinstance(shapes, list) else [shapes]
    if "adapt" in arrays:
        layer.adapt(arrays["adapt"])  # type: ignore[attr-defined]
    else:
        layer.set_weights(numbered(arrays, "w"))
    call = dict(job.get("call", {}))
    training = call.pop("training", True)
    if "use_causal_mask" in call:
        layer.use_causal_mask = call["use_causal_mask"]  # type: ignore[attr-defined]
    step = Step(training)
    for _ in range(job.get("passes", 1)):
        step.start().mask = masks
        if several and all(m is None for m in masks):
            step.mask = None
        y, saved = unit_of(layer).forward(x, step)
    ys = y if isinstance(y, list) else [y]
    out: Results = {f"y{k}": one.copy() for k, one in enumerate(ys)}
    out_masks = step.mask if isinstance(step.mask, list) else [step.mask]
    out |= {f"mask{k}": m != 0 for k, m in enumerate(m for m in out_masks if m is not None)}
    if job.get("passes", 1) == 1 and not layer.non_trainable_weights and not job["config"].get("stateful"):
        asked = job | ({"attention_mask": arrays["p0"]} if "p0" in arrays else {})
        again = called(layer, asked, xs, states, masks, training)
        assert all(np.array_equal(a, out[f"y{k}"]) for k, a in enumerate(again)), "a call gives something else"
    dys = numbered(arrays, "d")
    dy: Any = [d.copy() for d in dys] if isinstance(y, list) else dys[0].copy()
    dx = unit_of(layer).backward(dy, saved, step)
    if layer.input_dtype is None:
        gradients = dx if isinstance(dx, list) else [dx]
        if "p0" in arrays:
            gradients = gradients[:-1]  # without the mask's
        floats = [g for g, a in zip(gradients, xs, strict=False) if a.dtype.kind == "f"]
        out |= {f"dx{k}": g for k, g in enumerate(floats)}
        out |= {f"ds{k}": g for k, g in enumerate(gradients[len(xs) :])}
    out |= {f"shape{k}": [-1 if n is None else n for n in shape[1:]] for k, shape in enumerate(shapes)}
    parts = -2 if job["class_name"] in ("MultiHeadAttention", "GroupQueryAttention") else -1  # which have layers inside
    out["names"] = " ".join("_".join(parameter.path.split("/")[parts:]) for parameter in layer.weights)
    penalty = step.penalty
    for parameter in layer.trainable_weights:
        if parameter.regularizer:
            penalty += parameter.regularizer(parameter.value)
            parameter.regularizer.add_gradient(parameter.value, parameter.gradient)
    out |= {f"dw{k}": p.gradient for k, p in enumerate(layer.trainable_weights)}
    return out | {"penalty": penalty} | {f"a{k}": a for k, a in enumerate(layer.get_weights())}


def random(job: Job, arrays: Arrays) -> Results:
    """The outputs of a layer that is random in training."""
    layer, x = made_layer(job, job["dtype"]), [arrays["x0"]] * job.get("times", 1)
    layer.build_once([a.shape for a in x] if len(x) > 1 else x[0].shape)
    layer.set_weights(numbered(arrays, "w"))
    inputs: Any = x if len(x) > 1 else x[0]
    return {"y": np.concatenate([layer(inputs, training=True) for _ in range(job.get("calls", 1))])}


def schedule(job: Job, arrays: Arrays) -> Results:
    rate = optimizers.schedules.get(job)
    return {"rates": [rate(int(s)) for s in arrays["steps"]]}


def optimizer(job: Job, arrays: Arrays) -> Results:
    optimizer = optimizers.get(job)
    names = job["names"]
    parameters = [Parameter(name, arrays[name].copy()) for name in names]
    if job.get("constraint"):
        parameters[0].constraint = constraints.MaxNorm(job["constraint"])
    if job.get("spared"):
        optimizer.exclude_from_weight_decay(var_names=job["spared"])
    flat = FlatParameters(parameters)
    after: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for step in range(job["steps"]):
        for parameter in parameters:
            parameter.gradient += arrays[f"{parameter.name}_gradients"][step]
        optimizer.apply(flat)
        for parameter in parameters:
            after[parameter.name].append(parameter.value.copy())
    optimizer.finalize(flat)
    out: Results = {f"{name}_after": np.stack(values) for name, values in after.items()}
    return out | {f"{p.name}_final": p.value for p in parameters}


def loss(job: Job, arrays: Arrays) -> Results:
    """The value, and the gradient of its sum, by the same calls as in training."""
    loss = losses.get(job)
    y, weights, mask = np.ascontiguousarray(arrays["y_pred"]), arrays.get("weight"), arrays.get("mask")
    of_rows, targets = loss.by_row(arrays["y_true"], y)
    if loss.reduction in ("none", None):  # not for training: the gradient is that of the sum
        loss.reduction, unreduced = "sum", True
    else:
        unreduced = False
    scale = loss.scale(of_rows, targets, weights, mask)
    if scale is None:
        scale = np.full(of_rows.shape, 1 / of_rows.size, of_rows.dtype)
    loss.reduction = "none" if unreduced else loss.reduction
    step = Step(training=True)
    if loss.from_logits:
        gradient = loss.backward_logits(loss.forward_logits(y, targets, step)[1], targets, scale, step)
    else:
        gradient = loss.backward(y, targets, scale, step)
    if job.get("value_only") and mask is None:
        return {"value": loss(arrays["y_true"], y, weights)}
    if job.get("value_only"):
        return {"value": loss.reduce(of_rows, targets, weights, mask)[0]}
    if mask is None:
        return {"value": loss(arrays["y_true"], y, weights), "gradient": gradient}
    return {"value": loss.reduce(of_rows, targets, weights, mask)[0], "gradient": gradient}


def function(job: Job, arrays: Arrays) -> Results:
    module = {"losses": losses, "metrics": metrics}[job["module"]]
    return {"value": getattr(module, job["class_name"])(arrays["y_true"], arrays["y_pred"], **job["config"])}


def metric(job: Job, arrays: Arrays) -> Results:
    metric = getattr(metrics, job["class_name"])(**job["config"])
    out: Results = {}
    for i in [*range(job["batches"]), 0]:
        given = [arrays[f"{name}_{i}"] for name in job["arguments"]]
        metric.update_state(*given, sample_weight=arrays.get(f"weight_{i}"))
        out[f"result{len(out)}"] = metric.result()
        if len(out) == job["batches"]:
            metric.reset_state()
    return out


def activation(job: Job, arrays: Arrays) -> Results:
    function, gradient = (getattr(activations, job["class_name"] + end) for end in ("", "_gradient"))
    y = function(arrays["x"], **job["config"])
    return {"y": y, "dx": gradient(arrays["x"], y, arrays["dy"], **job["config"])}


def constraint(job: Job, arrays: Arrays) -> Results:
    return {"value": getattr(constraints, job["class_name"])(**job["config"])(arrays["w"])}


def regularizer(job: Job, arrays: Arrays) -> Results:
    ours = getattr(regularizers, job["class_name"])(**job["config"])
    gradient = np.zeros_like(arrays["w"])
    ours.add_gradient(arrays["w"], gradient)
    return {"value": ours(arrays["w"]), "gradient": gradient}


def initializer(job: Job, arrays: Arrays) -> Results:
    return {"value": getattr(initializers, job["class_name"])(**job["config"])(tuple(job["shape"]), job["dtype"])}


def preprocessing(job: Job, arrays: Arrays) -> Results:
    layer = getattr(layers, job["class_name"])(**job["config"])
    if "adapt" in arrays:
        layer.adapt(arrays["adapt"])
    return {"value": layer(arrays["x"])}


def padded(job: Job, arrays: Arrays) -> Results:
    return {"value": utils.pad_sequences([list(map(int, row.split())) for row in job["rows"]], **job["config"])}


def categories(job: Job, arrays: Arrays) -> Results:
    return {"value": utils.to_categorical(arrays["x"], **job["config"])}


def normalized(job: Job, arrays: Arrays) -> Results:
    return {"value": utils.normalize(arrays["x"], **job["config"])}


KINDS: dict[str, Callable[[Job, Arrays], Results]] = {
    f.__name__: f
    for f in (layer, random, schedule, optimizer, loss, function, metric, activation, constraint, regularizer,
              initializer, preprocessing, padded, categories, normalized)
}  # fmt: skip
