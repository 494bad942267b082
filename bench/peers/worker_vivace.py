"""vivace: the reference CNN through the same `fit` that users call, recurrent layers step by step."""

from common import cnn_weights, images, mnist, repeat, sequences, serve, task

task = task()

import vivace  # noqa: E402
from vivace.__main__ import reference_cnn  # noqa: E402
from vivace.layers import GRU, LSTM, Dense, Input, SimpleRNN  # noqa: E402
from vivace.models import Sequential  # noqa: E402

if task.name.endswith("cnn"):
    model = reference_cnn()
    model.set_weights(cnn_weights())
else:
    cell, steps, inputs, units = task.recurrent()
    layer = {"simple": SimpleRNN, "lstm": LSTM, "gru": GRU}[cell](units)
    head = [Dense(10, "softmax")] if task.name == "train-rnn" else []
    model = Sequential([Input((steps, inputs)), layer, *head])

if task.name == "train-cnn":
    x, y = mnist(task.detail)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

    def run(count):
        model.fit(x, y, batch_size=task.batch, steps_per_epoch=count, verbose=0)

elif task.name == "train-rnn":
    x, y = sequences(task)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.train_on_batch(x, y)
    run = repeat(lambda: model.train_step(x, y))
else:
    x = images(task.batch) if task.name == "infer-cnn" else sequences(task)[0]
    run = repeat(lambda: model(x))

serve(f"vivace {vivace.show_config()['vivace']} ({vivace.show_config()['ISA level']})", run)
