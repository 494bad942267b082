"""Is a sentence from a film review kind or not? Word vectors and an LSTM in both directions, from scratch.

python examples/sentiment.py FOLDER     (with rt-polarity.all: a label and a sentence on each line, latin-1)
"""

import sys
from pathlib import Path

import numpy as np

import vivace
from vivace.callbacks import EarlyStopping
from vivace.layers import LSTM, Bidirectional, Dense, Dropout, Embedding, Input, TextVectorization
from vivace.models import Sequential

if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
    sys.exit(__doc__)
vivace.utils.set_random_seed(0)
lines = (Path(sys.argv[1]) / "rt-polarity.all").read_text("latin-1").strip().split("\n")
order = np.random.default_rng(0).permutation(len(lines))
labels = np.array([int(lines[i][0]) for i in order])
texts = [lines[i][2:] for i in order]
test, validation = len(texts) // 10, len(texts) // 5  # a tenth to test on, a tenth to stop by

vectorize = TextVectorization(max_tokens=12_000, output_sequence_length=40, standardize="lower")
vectorize.adapt(texts[validation:])
x = vectorize(texts)

model = Sequential()
model.add(Input((40,)))
model.add(Embedding(vectorize.vocabulary_size(), 64, mask_zero=True))
model.add(Dropout(0.5))
model.add(Bidirectional(LSTM(64)))
model.add(Dropout(0.5))
model.add(Dense(1, activation="sigmoid"))
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
