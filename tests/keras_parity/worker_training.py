"""Runs the training program with Keras: python worker_training.py cases.json arrays.npz out.npz."""

import json
import os
import sys
import warnings

import numpy as np
from training_program import run


def main() -> None:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    import keras

    with open(sys.argv[1]) as file:
        cases = json.load(file)
    with np.load(sys.argv[2]) as stored:
        arrays: list = [{} for _ in cases]
        for name in stored.files:
            i, key = name.split("/", 1)
            arrays[int(i)][key] = stored[name]
    results = {}
    for i, (case, given) in enumerate(zip(cases, arrays, strict=True)):
        results |= {f"{i}/{name}": value for name, value in run(keras, case, given).items()}
        keras.backend.clear_session()
    np.savez(sys.argv[3], **results)


main()
