"""Runs layers in Keras: reads cases from a JSON file, writes what came out to an npz file. Knows nothing of vivace.

For case i: w<i>_<k> the weights before, x<i>_<k> the inputs, m<i> the mask, y<i> the output, d<i> its gradient,
dx<i>_<k> and dw<i>_<k> the gradients of inputs and trainable weights, a<i>_<k> the weights after; or error<i>.
"""

import json
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf


def run(case: dict, rng: np.random.Generator) -> dict:
    layer = getattr(keras.layers, case["layer"])(**case["arguments"])
    xs = [rng.standard_normal(shape).astype("float32") for shape in case["shapes"]]
    inputs = [tf.constant(x) for x in xs]
    call = dict(case["call"])
    out = {f"x{{}}_{k}": x for k, x in enumerate(xs)}
    if case["mask"]:
        mask = np.ones(case["mask"], bool)
        for row, length in zip(mask, rng.integers(1, case["mask"][1] + 1, len(mask)), strict=True):
            row[length:] = False
        out["m{}"] = mask.astype("uint8")
        call |= {name: tf.constant(mask) for name in case["mask_names"]}
    one_list = case["layer"] in ("Attention", "AdditiveAttention")
    layer(*([inputs] if one_list else inputs), **call)
    weights = [rng.standard_normal(w.shape).astype("float32") * 0.5 for w in layer.weights]
    weights = [np.abs(w) + 0.1 if "variance" in v.name else w for w, v in zip(weights, layer.weights, strict=True)]
    layer.set_weights(weights)
    out |= {f"w{{}}_{k}": w for k, w in enumerate(weights)}
    with tf.GradientTape() as tape:
        for x in inputs:
            tape.watch(x)
        y = layer(*([inputs] if one_list else inputs), **call)
        dy = rng.standard_normal(y.shape).astype("float32")
        loss = tf.reduce_sum(y * dy)
    gradients = tape.gradient(loss, [*inputs, *(v.value for v in layer.trainable_variables)])
    for k, gradient in enumerate(gradients):
        name = f"dx{{}}_{k}" if k < len(inputs) else f"dw{{}}_{k - len(inputs)}"
        out[name] = np.asarray(gradient)
    out |= {"y{}": np.asarray(y), "d{}": dy}
    return out | {f"a{{}}_{k}": w for k, w in enumerate(layer.get_weights())}


def main() -> None:
    with open(sys.argv[1]) as file:
        cases = json.load(file)
    arrays = {}
    for i, case in enumerate(cases):
        try:
            result = run(case, np.random.default_rng(i))
        except Exception as error:  # what Keras on TensorFlow cannot do on this machine is not compared
            result = {"error{}": np.array(f"{type(error).__name__}: {error}"[:300])}
        arrays |= {name.format(i): value for name, value in result.items()}
    np.savez(sys.argv[2], **arrays)


main()
