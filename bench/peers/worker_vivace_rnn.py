"""A recurrent layer and a dense one in vivace: one training step on random sequences."""

from common import arguments, recurrent_case, serve, set_threads

_, batch, threads, case = arguments()
set_threads(threads)

import vivace  # noqa: E402
from vivace.layers import GRU, LSTM, Dense, Input, SimpleRNN  # noqa: E402
from vivace.models import Sequential  # noqa: E402

cell, steps, inputs, units, x, y = recurrent_case(case, batch)
layer = {"simple": SimpleRNN, "lstm": LSTM, "gru": GRU}[cell](units)
model = Sequential([Input((steps, inputs)), layer, Dense(10, "softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
model.train_on_batch(x, y)


def run(count: int) -> None:
    for _ in range(count):
        model.train_step(x, y)


serve(f"vivace {vivace.show_config()['vivace']} ({vivace.show_config()['ISA level']})", run)
