"""A language model of characters: a GRU reads Shakespeare, and shows after each epoch what it would write.

python examples/shakespeare.py FOLDER     (with input.txt)
"""

import sys
import time
from pathlib import Path

import numpy as np

import vivace
from vivace.callbacks import Callback
from vivace.layers import GRU, Dense, Dropout, Embedding, Input
from vivace.models import Sequential

if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
    sys.exit(__doc__)
vivace.utils.set_random_seed(0)
text = (Path(sys.argv[1]) / "input.txt").read_text()
characters = sorted(set(text))
number = {c: i for i, c in enumerate(characters)}
codes = np.array([number[c] for c in text])
cut = len(codes) * 9 // 10  # the last tenth is for validation
STEPS = 128


def windows(part: np.ndarray, offset: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets (windows, STEPS): each target is the character after its input."""
    part = part[offset:]
    count = (len(part) - 1) // STEPS
    return part[: count * STEPS].reshape(count, STEPS), part[1 : count * STEPS + 1].reshape(count, STEPS)


def network(steps: int | None, **options: bool) -> Sequential:
    return Sequential(
        [
            Input((steps,)),
            Embedding(len(characters), 64),
            GRU(384, return_sequences=True, **options),
            Dropout(0.3),
            Dense(len(characters), activation="softmax"),
        ]
    )


class Writer(Callback):
    """Lets a stateful twin of the model continue a line, one character at a time."""

    def __init__(self) -> None:
        self.twin = network(1, stateful=True)
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.twin.set_weights(self.model.get_weights())
        self.twin.layers[1].reset_states()
        rng, written = np.random.default_rng(epoch), "\n"
        for _ in range(160):
            p = self.twin(np.array([[number[written[-1]]]]))[0, 0].astype(np.float64) ** 1.25  # a little more certain
            written += characters[rng.choice(len(characters), p=p / p.sum())]
        print(f"[{time.perf_counter() - self.started:.0f} s] {written.strip()}\n", flush=True)


model = network(STEPS)
model.compile(vivace.optimizers.Adam(0.002), "sparse_categorical_crossentropy")
model.summary()
writer = Writer()
x_val, y_val = windows(codes[cut:])
for epoch in range(int(sys.argv[2]) if len(sys.argv) > 2 else 12):
    x, y = windows(codes[:cut], offset=epoch * 37 % STEPS)  # other windows in every epoch
    if epoch == 8:
        model.optimizer.learning_rate = 0.0005
    model.fit(x, y, epochs=epoch + 1, initial_epoch=epoch, validation_data=(x_val, y_val), callbacks=[writer])
print(f"Validation loss {model.evaluate(x_val, y_val, verbose=0):.3f} nats per character")
