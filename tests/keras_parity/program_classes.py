"""One program for both packages: a model and a layer that are classes with a `call`. Prints shapes of weights, outputs.

python program_classes.py keras|vivace
"""

import importlib.util
import json
import os
import sys

import numpy as np

if sys.argv[1] == "keras":
    os.environ.setdefault("KERAS_BACKEND", "jax" if importlib.util.find_spec("jax") else "tensorflow")
    from keras import Model, Sequential
    from keras import layers as L
else:
    from vivace import Model, Sequential
    from vivace import layers as L


class Block(L.Layer):
    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.norm = L.LayerNormalization()
        self.ffn = Sequential([L.Dense(2 * size, activation="relu"), L.Dense(size)])
        self.attention = L.MultiHeadAttention(2, 3)

    def call(self, x, training=False):
        x = x + self.attention(x, x)
        return self.norm(x - 0.5 * self.ffn(x))


class Net(Model):
    def __init__(self):
        super().__init__()
        self.out = L.Dense(3, activation="softmax")  # attributes in another order than they are called in
        self.blocks = [Block(4), Block(4)]
        self.more = {"b": L.Dense(5), "a": L.Dense(4)}
        self.embedding = L.Embedding(7, 4)
        self.norm, self.dropout = L.BatchNormalization(), L.Dropout(0.3)

    def call(self, x, training=None):
        h = self.embedding(x)
        for block in self.blocks:
            h = block(h)
        h = self.norm(self.more["a"](self.more["b"](h)), training=training)
        return self.out(self.dropout(h[:, -1] * h[:, 0, :], training=training))


model, x = Net(), np.arange(10).reshape(2, 5) % 7
model(x)
rng = np.random.default_rng(0)
model.set_weights([rng.uniform(0.1, 0.9, w.shape) for w in model.get_weights()])
shapes = [list(w.shape) for w in model.get_weights()]
said = {"shapes": shapes, "y": np.asarray(model(x)).tolist(), "count": model.count_params()}
sys.stdout.write(json.dumps(said) + "\n")
