"""Keras on the backend that the variant names: `fit` for training, a direct call for inference."""

import os

from common import cnn_weights, images, mnist, repeat, sequences, serve, task

task = task()
backend = os.environ["KERAS_BACKEND"] = task.variant.split()[1]
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
if backend == "tensorflow":
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(task.threads)
    version = f"TensorFlow {tensorflow.__version__}"
elif backend == "jax":
    import jax

    version = f"JAX {jax.__version__}"
import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402

if task.name.endswith("cnn"):
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.set_weights(cnn_weights())
else:
    cell, steps, inputs, units = task.recurrent()
    layer = {"simple": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}[cell](units)
    head = [layers.Dense(10, activation="softmax")] if task.name == "train-rnn" else []
    model = keras.Sequential([keras.Input((steps, inputs)), layer, *head])

if task.name.startswith("train"):
    if task.name == "train-cnn":
        x, y = mnist(task.detail)
    else:
        x, y = (np.concatenate([a] * 64) for a in sequences(task))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

    def run(count):
        while count > 0:
            now = min(count, len(x) // task.batch)
            model.fit(x[: now * task.batch], y[: now * task.batch], batch_size=task.batch, verbose=0)
            count -= now

else:
    x = images(task.batch) if task.name == "infer-cnn" else sequences(task)[0]
    if backend == "tensorflow":
        call = tensorflow.function(lambda v: model(v, training=False))
        run = repeat(lambda: call(x).numpy())
    else:
        call = jax.jit(lambda v: model(v, training=False))
        run = repeat(lambda: np.asarray(call(x)))

serve(f"Keras {keras.__version__} on {version}", run)
