"""Runs in a Python that has Keras: does the jobs of a file and writes what Keras makes of them. Knows no vivace.

python keras_side.py JOBS.json ARRAYS.npz OUT.npz: job i names its arrays "i/name", and its results are written so too.
"""

import json
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import tensorflow as tf

keras.config.set_floatx("float64")


def made(module, job):
    config = dict(job.get("config", {}))
    schedule = config.get("learning_rate")
    if isinstance(schedule, dict):
        config["learning_rate"] = made(keras.optimizers.schedules, schedule)
    return getattr(module, job["class_name"])(**config)


def schedule(job, arrays):
    rate = made(keras.optimizers.schedules, job)
    return {"rates": [float(rate(int(step))) for step in arrays["steps"]]}


def optimizer(job, arrays):
    optimizer = made(keras.optimizers, job)
    if job.get("spared"):
        optimizer.exclude_from_weight_decay(var_names=job["spared"])
    names = job["names"]
    weights = [keras.Variable(arrays[name], name=name, dtype="float64") for name in names]
    for step in range(job["steps"]):
        optimizer.apply([tf.constant(arrays[f"{name}_gradients"][step]) for name in names], weights)
    results = {name: weight.numpy() for name, weight in zip(names, weights, strict=True)}
    optimizer.finalize_variable_values(weights)
    return results | {f"final_{name}": weight.numpy() for name, weight in zip(names, weights, strict=True)}


def loss(job, arrays):
    loss = made(keras.losses, job)
    y = tf.Variable(arrays["y_pred"], dtype="float64")
    with tf.GradientTape() as tape:
        value = loss(arrays["y_true"], y, sample_weight=arrays.get("weight"))
        total = tf.reduce_sum(value)
    return {"value": value.numpy(), "gradient": tf.convert_to_tensor(tape.gradient(total, y)).numpy()}


def metric(job, arrays):
    metric = made(keras.metrics, job)
    for i in range(job["batches"]):
        given = [arrays[f"{name}_{i}"] for name in job["arguments"]]
        metric.update_state(*given, sample_weight=arrays.get(f"weight_{i}"))
    return {"result": np.asarray(metric.result())}


def activation(job, arrays):
    x = tf.Variable(arrays["x"])
    with tf.GradientTape() as tape:
        y = getattr(keras.activations, job["function"])(x, **job["config"])
        total = tf.reduce_sum(y * arrays["dy"])
    return {"y": y.numpy(), "dx": tf.convert_to_tensor(tape.gradient(total, x)).numpy()}


def constraint(job, arrays):
    return {"value": np.asarray(made(keras.constraints, job)(tf.constant(arrays["w"])))}


def regularizer(job, arrays):
    w = tf.Variable(arrays["w"])
    with tf.GradientTape() as tape:
        value = made(keras.regularizers, job)(w)
    return {"value": np.asarray(value), "gradient": tape.gradient(value, w).numpy()}


def initializer(job, arrays):
    return {"value": np.asarray(made(keras.initializers, job)(tuple(arrays["shape"]), dtype="float64"))}


KINDS = [schedule, optimizer, loss, metric, activation, constraint, regularizer, initializer]


def main(jobs_path, arrays_path, out_path):
    kinds = {kind.__name__: kind for kind in KINDS}
    with open(jobs_path) as file:
        jobs = json.load(file)
    out = {}
    with np.load(arrays_path) as stored:
        for i, job in enumerate(jobs):
            arrays = {name.split("/", 1)[1]: stored[name] for name in stored.files if name.startswith(f"{i}/")}
            try:
                results = kinds[job["kind"]](job, arrays)
            except Exception as error:
                raise SystemExit(f"job {i}: {job}\n{type(error).__name__}: {error}") from error
            out |= {f"{i}/{name}": np.asarray(value) for name, value in results.items()}
    np.savez(out_path, **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
