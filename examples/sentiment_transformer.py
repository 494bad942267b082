"""Is a sentence from a film review kind or not? A Transformer encoder, from scratch; compare examples/sentiment.py.

python examples/sentiment_transformer.py FOLDER     (with rt-polarity.all: a label and a sentence on each line, latin-1)
"""

import sys
from pathlib import Path

import numpy as np

import vivace
from vivace.callbacks import EarlyStopping
from vivace.layers import (
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling1D,
    Input,
    Layer,
    LayerNormalization,
    MultiHeadAttention,
    TextVectorization,
)
from vivace.models import Model

if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
    sys.exit(__doc__)
vivace.utils.set_random_seed(0)
lines = (Path(sys.argv[1]) / "rt-polarity.all").read_text("latin-1").strip().split("\n")
order = np.random.default_rng(0).permutation(len(lines))
labels = np.array([int(lines[i][0]) for i in order])
texts = [lines[i][2:] for i in order]
test, validation = len(texts) // 10, len(texts) // 5  # a tenth to test on, a tenth to stop by

STEPS, WIDTH, HEADS = 40, 64, 4
vectorize = TextVectorization(max_tokens=12_000, output_sequence_length=STEPS, standardize="lower")
vectorize.adapt(texts[validation:])
x = vectorize(texts)


class Positions(Layer):
    """Adds a learned vector for each place in the sentence: a layer of one's own, written in NumPy."""

    def build(self, input_shape):
        self.vectors = self.add_weight("vectors", input_shape[1:], "uniform")

    def forward(self, x, step):
        return np.add(x, self.vectors.value, out=step.empty(x.shape, x.dtype)), None

    def backward(self, dy, saved, step, input_gradient=True):
        self.vectors.gradient += dy.sum(0)
        return dy


def encoder(x):
    attended = MultiHeadAttention(HEADS, WIDTH // HEADS, dropout=0.2)(x)
    x = LayerNormalization()(x + Dropout(0.3)(attended))
    wide = Dense(2 * WIDTH, activation="relu")(x)
    return LayerNormalization()(x + Dropout(0.3)(Dense(WIDTH)(wide)))


inputs = Input((STEPS,), dtype="int32")
h = Dropout(0.5)(Positions()(Embedding(vectorize.vocabulary_size(), WIDTH, mask_zero=True)(inputs)))
h = encoder(encoder(h))
h = Dropout(0.5)(GlobalAveragePooling1D()(h))
model = Model(inputs, Dense(1, activation="sigmoid")(h))
model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
model.summary()
model.fit(
    x[validation:],
    labels[validation:],
    epochs=12,
    validation_data=(x[test:validation], labels[test:validation]),
    callbacks=[EarlyStopping("val_accuracy", patience=3, restore_best_weights=True)],
)
loss, accuracy = model.evaluate(x[:test], labels[:test], verbose=0)
print(f"Test accuracy {accuracy:.1%} on {test} sentences never seen")
for text in ("a warm , funny and moving film", "tedious , loud and never funny"):
    print(f"{model(vectorize([text]))[0, 0]:.0%} kind: {text}")
