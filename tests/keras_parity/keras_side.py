"""Runs in a Python that has Keras on JAX: does the jobs of a file and writes what Keras makes of them. No vivace here.

(On TensorFlow, with KERAS_BACKEND=tensorflow, it does only the jobs of the kind "preprocessing".)

python keras_side.py JOBS.json ARRAYS.npz OUT.npz: job i names its arrays "i/name", and its results are written so too;
"i/error" is the message of what Keras would not do.
"""

import json
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ["JAX_ENABLE_X64"] = "1"
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
import keras
import numpy as np

if os.environ["KERAS_BACKEND"] == "jax":
    import jax
    import jax.numpy as jnp

from keras.src.backend import get_keras_mask, set_keras_mask


def made(module, spec):
    """An object of the module from {"class_name", "config"}; layers, schedules and the like in the config too."""
    config = dict(spec.get("config", {}))
    for name, value in config.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            config[name] = [made(module, one) for one in value]
        elif isinstance(value, dict) and "class_name" in value:
            inner = keras.optimizers.schedules if name == "learning_rate" else keras.layers
            inner = getattr(keras, value["module"]) if "module" in value else inner
            config[name] = made(inner, value)
    if module is keras.layers:
        config["dtype"] = spec.get("dtype", keras.config.floatx())
    return getattr(module, spec["class_name"])(**config)


def flat(x):
    return [one for part in x for one in flat(part)] if isinstance(x, (list, tuple)) else [x]


def nested(states, sizes):
    """The states of several cells, one or a list for each, as Keras has them."""
    rest = list(states)
    parts = [[rest.pop(0) for _ in range(size)] for size in sizes]
    return [part if len(part) > 1 else part[0] for part in parts]


def numbered(arrays, name):
    found = []
    while f"{name}{len(found)}" in arrays:
        found.append(arrays[f"{name}{len(found)}"])
    return found


def layer(job, arrays):
    """Outputs and their masks, gradients of sum(y dy) + penalties, and the weights after the pass."""
    layer = made(keras.layers, job)
    xs, given, states = numbered(arrays, "x"), numbered(arrays, "w"), numbered(arrays, "s")
    masks = [arrays.get(f"m{k}") for k in range(len(xs))]
    call, form = dict(job.get("call", {})), job.get("form", "one")

    def apply(xs, states, masks):
        for x, mask in zip(xs, masks, strict=True):
            if mask is not None:
                set_keras_mask(x, jnp.asarray(mask, bool))
        states = nested(states, job["nest"]) if states and "nest" in job else list(states)
        more = {job.get("states", "initial_state"): states} if states else {}
        if states and masks[0] is not None:  # beside states Keras does not look for the mask that the input carries
            more["mask"] = jnp.asarray(masks[0], bool)
        if "p0" in arrays:
            more["attention_mask"] = jnp.asarray(arrays["p0"])
        return layer(*(xs if form == "several" else [xs[0] if form == "one" else list(xs)]), **more, **call)

    def symbols(arrays):
        batch = slice(0, 1 if job["config"].get("stateful") else 0)
        return [keras.KerasTensor(((a.shape[batch] or (None,)) + a.shape[1:]), dtype=str(a.dtype)) for a in arrays]

    outputs = flat(apply(symbols(xs), symbols(states), [None] * len(xs)))  # builds it
    if "adapt" in arrays:
        layer.adapt(arrays["adapt"])
    elif given:
        layer.set_weights(given)
    trained, others = layer.trainable_variables, list(layer.non_trainable_variables)
    if job["config"].get("stateful"):  # whose states are made by the first call on arrays
        apply([jnp.zeros_like(x) for x in xs], [], [None] * len(xs))
        layer.reset_state()
        others += [v for v in flat(layer.states) if all(v is not o for o in others)]
    floats = [k for k, x in enumerate(xs) if x.dtype.kind == "f"]

    def total(values, inputs, states, other_values, dys):
        own = list(xs)
        for k, x in zip(floats, inputs, strict=True):
            own[k] = x
        mapping = list(zip([*trained, *others], [*values, *other_values], strict=True))
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
            y = apply([jnp.asarray(x) + 0 for x in own], states, masks)
            out_masks = [get_keras_mask(one) for one in flat(y)]
            of_weights = [v.regularizer(v) for v in trained if v.regularizer is not None]
            penalty = sum([*scope.losses, *of_weights], start=jnp.zeros(()))
        after = [scope.get_current_value(v) for v in others]
        after = [v.value if a is None else a for a, v in zip(after, others, strict=True)]
        loss = sum(jnp.sum(one * d) for one, d in zip(flat(y), dys, strict=True) if d.dtype.kind == "f")
        return loss + penalty, (flat(y), after, penalty, [m for m in out_masks if m is not None])

    values, state = [v.value for v in trained], [v.value for v in others]
    inputs, states = [jnp.asarray(xs[k]) for k in floats], [jnp.asarray(s) for s in states]
    dys = [jnp.asarray(d) for d in numbered(arrays, "d")]
    run = jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))
    for _ in range(job.get("passes", 1)):
        (_, (ys, state, penalty, out_masks)), grads = run(values, inputs, states, state, dys)
    out = {f"y{k}": y for k, y in enumerate(ys)} | {"penalty": penalty}
    out |= {f"mask{k}": m for k, m in enumerate(out_masks)}
    for name, part in zip(("dw", "dx", "ds"), grads, strict=True):
        out |= {f"{name}{k}": g for k, g in enumerate(part)}
    out |= {f"shape{k}": [-1 if n is None else n for n in y.shape[1:]] for k, y in enumerate(outputs)}
    parts = -2 if job["class_name"] in ("MultiHeadAttention", "GroupQueryAttention") else -1  # which have layers inside
    named = [v.path.split("/")[parts:] for v in layer.weights if "seed" not in v.path]
    out["names"] = " ".join("_".join(name) for name in named)
    after = dict(zip(map(id, others), state, strict=True))
    return out | {f"a{k}": after.get(id(v), v.value) for k, v in enumerate(layer.weights) if "seed" not in v.path}


def random(job, arrays):
    """The outputs of a layer that is random in training."""
    keras.utils.set_random_seed(job.get("seed", 1))
    layer, x = made(keras.layers, job), arrays["x0"]
    several = [x] * job.get("times", 1)

    def call():
        if job["class_name"] == "MultiHeadAttention":
            return layer(*several, training=True)
        return layer(several if len(several) > 1 else x, training=True)

    call()
    if "w0" in arrays:
        layer.set_weights(numbered(arrays, "w"))
    return {"y": np.concatenate([np.asarray(call()) for _ in range(job.get("calls", 1))])}


def schedule(job, arrays):
    rate = made(keras.optimizers.schedules, job)
    return {"rates": [float(rate(int(step))) for step in arrays["steps"]]}


def optimizer(job, arrays):
    optimizer = made(keras.optimizers, job)
    if job.get("spared"):
        optimizer.exclude_from_weight_decay(var_names=job["spared"])
    names = job["names"]
    weights = [keras.Variable(arrays[name], name=name, dtype="float64") for name in names]
    if job.get("constraint"):
        weights[0].constraint = keras.constraints.MaxNorm(job["constraint"])
    optimizer.build(weights)
    gradients = [arrays[f"{name}_gradients"] for name in names]

    def step(grads, values, state):
        values, state = optimizer.stateless_apply(state, grads, values)
        return values, state

    step = jax.jit(step)
    values, state = [w.value for w in weights], [v.value for v in optimizer.variables]
    results = {f"{name}_after": [] for name in names}
    for k in range(job["steps"]):
        values, state = step([g[k] for g in gradients], values, state)
        for name, value in zip(names, values, strict=True):
            results[f"{name}_after"].append(np.asarray(value))
    for variable, value in zip([*weights, *optimizer.variables], [*values, *state], strict=True):
        variable.assign(value)
    optimizer.finalize_variable_values(weights)
    results |= {f"{name}_final": np.asarray(w.value) for name, w in zip(names, weights, strict=True)}
    return {name: np.stack(value) if isinstance(value, list) else value for name, value in results.items()}


def loss(job, arrays):
    loss, weight, mask = made(keras.losses, job), arrays.get("weight"), arrays.get("mask")

    def total(y):
        y = y + 0
        if mask is not None:
            set_keras_mask(y, jnp.asarray(mask, bool))
        value = loss(arrays["y_true"], y, sample_weight=weight)
        return jnp.sum(value), value

    (_, value), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(jnp.asarray(arrays["y_pred"]))
    return {"value": value} if job.get("value_only") else {"value": value, "gradient": gradient}


def function(job, arrays):
    """A function of a module, of (y_true, y_pred)."""
    f = getattr(getattr(keras, job["module"]), job["class_name"])
    return {"value": jax.jit(lambda t, y: f(t, y, **job["config"]))(arrays["y_true"], arrays["y_pred"])}


def metric(job, arrays):
    config = dict(job["config"])
    if "normalizer" in config:
        config["normalizer"] = np.asarray(config["normalizer"])
    metric = getattr(keras.metrics, job["class_name"])(**config)
    out = {}
    for i in [*range(job["batches"]), 0]:
        given = [arrays[f"{name}_{i}"] for name in job["arguments"]]
        metric.update_state(*given, sample_weight=arrays.get(f"weight_{i}"))
        out[f"result{len(out)}"] = np.asarray(metric.result())
        if len(out) == job["batches"]:
            metric.reset_state()
    return out


def activation(job, arrays):
    f = getattr(keras.activations, job["class_name"])

    def total(x):
        y = f(x, **job["config"])
        return jnp.sum(y * arrays["dy"]), y

    (_, y), dx = jax.jit(jax.value_and_grad(total, has_aux=True))(jnp.asarray(arrays["x"]))
    return {"y": y, "dx": dx}


def constraint(job, arrays):
    return {"value": jax.jit(made(keras.constraints, job).__call__)(arrays["w"])}


def regularizer(job, arrays):
    value, gradient = jax.jit(jax.value_and_grad(made(keras.regularizers, job).__call__))(jnp.asarray(arrays["w"]))
    return {"value": value, "gradient": gradient}


def initializer(job, arrays):
    return {"value": made(keras.initializers, job)(tuple(job["shape"]), dtype=job["dtype"])}


def preprocessing(job, arrays):
    """A layer that prepares data, adapted to some of it."""
    if isinstance(job["config"].get("ngrams"), list):
        job["config"]["ngrams"] = tuple(job["config"]["ngrams"])
    layer = made(keras.layers, job)
    if "adapt" in arrays:
        layer.adapt(arrays["adapt"])
    value = np.asarray(layer(arrays["x"]))
    return {"value": np.char.decode(value.astype(bytes)) if value.dtype.kind == "O" else value}


def padded(job, arrays):
    sequences = [list(map(int, row.split())) for row in job["rows"]]
    return {"value": keras.utils.pad_sequences(sequences, **job["config"])}


def categories(job, arrays):
    return {"value": keras.utils.to_categorical(arrays["x"], **job["config"])}


def normalized(job, arrays):
    return {"value": keras.utils.normalize(arrays["x"], **job["config"])}


KINDS = {
    kind.__name__: kind
    for kind in (layer, random, schedule, optimizer, loss, function, metric, activation, constraint, regularizer,
                 initializer, preprocessing, padded, categories, normalized)
}  # fmt: skip


def main(jobs_path, arrays_path, out_path):
    with open(jobs_path) as file:
        jobs = json.load(file)
    out = {"keras": np.array(keras.__version__)}
    given = [{} for _ in jobs]
    with np.load(arrays_path) as stored:
        for name in stored.files:
            i, key = name.split("/", 1)
            given[int(i)][key] = stored[name]
    for i, (job, arrays) in enumerate(zip(jobs, given, strict=True)):
        keras.config.set_floatx(job.get("dtype", "float32"))
        try:
            results = KINDS[job["kind"]](job, arrays)
        except Exception as error:
            results = {"error": np.array(f"{type(error).__name__}: {error}"[:600])}
        out |= {f"{i}/{name}": np.asarray(value) for name, value in results.items()}
    np.savez(out_path, **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
