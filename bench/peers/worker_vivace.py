"""The reference CNN in vivace, through the same `fit` that users call."""

from common import arguments, data, serve, set_threads, weights

_, batch, threads, folder = arguments()
set_threads(threads)

import vivace  # noqa: E402
from vivace.__main__ import reference_cnn  # noqa: E402

x, y = data(folder)
model = reference_cnn()
model.set_weights(weights())
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])


def run(steps: int) -> None:
    model.fit(x, y, batch_size=batch, steps_per_epoch=steps, verbose=0)


serve(f"vivace {vivace.show_config()['vivace']} ({vivace.show_config()['ISA level']})", run)
