"""vivace: the networks through the same `fit` that users call, recurrent layers step by step."""

from common import (
    BLOCKS,
    ENCODER_BLOCKS,
    HEADS,
    HIDDEN,
    STEPS,
    VOCABULARY,
    WIDTH,
    cifar,
    cnn_weights,
    images,
    mnist,
    repeat,
    sequences,
    serve,
    task,
    texts,
)  # fmt: skip

task = task()

import numpy as np  # noqa: E402

import vivace  # noqa: E402
from vivace.__main__ import reference_cnn  # noqa: E402
from vivace.layers import (  # noqa: E402
    GRU,
    LSTM,
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Embedding,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    Input,
    Layer,
    LayerNormalization,
    MultiHeadAttention,
    SimpleRNN,
)  # fmt: skip
from vivace.models import Model, Sequential  # noqa: E402


def convolution(x, filters, size, stride=1):
    x = Conv2D(filters, size, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    return BatchNormalization()(x)


def resnet():
    inputs = Input((32, 32, 3))
    x = Activation("relu")(convolution(inputs, 16, 3))
    for filters, stride in BLOCKS:
        y = Activation("relu")(convolution(x, filters, 3, stride))
        way = convolution(x, filters, 1, stride) if stride > 1 else x
        x = Activation("relu")(convolution(y, filters, 3) + way)
    return Model(inputs, Dense(10, "softmax")(GlobalAveragePooling2D()(x)))


class Places(Layer):
    """Adds a learned vector for each step."""

    def build(self, input_shape):
        self.places = self.add_weight("places", input_shape[1:], "uniform")

    def forward(self, x, step):
        return np.add(x, self.places.value, out=step.empty(x.shape, x.dtype)), None

    def backward(self, dy, saved, step, input_gradient=True):
        self.places.gradient += dy.sum(0)
        return dy


def encoder():
    inputs = Input((STEPS,), dtype="int32")
    x = Places()(Embedding(VOCABULARY, WIDTH)(inputs))
    for _ in range(ENCODER_BLOCKS):
        x = LayerNormalization()(x + MultiHeadAttention(HEADS, WIDTH // HEADS)(x))
        x = LayerNormalization()(x + Dense(WIDTH)(Dense(HIDDEN, "relu")(x)))
    return Model(inputs, Dense(2, "softmax")(GlobalAveragePooling1D()(x)))


def recurrent():
    cell, steps, inputs, units = task.recurrent()
    layer = {"simple": SimpleRNN, "lstm": LSTM, "gru": GRU}[cell](units)
    head = [Dense(10, "softmax")] if task.name == "train-rnn" else []
    return Sequential([Input((steps, inputs)), layer, *head])


if task.name.endswith("cnn"):
    model = reference_cnn()
    model.set_weights(cnn_weights())
else:
    model = {"train-resnet": resnet, "train-transformer": encoder}.get(task.name, recurrent)()

if task.name == "train-rnn":
    x, y = sequences(task)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.train_on_batch(x, y)
    run = repeat(lambda: model.train_step(x, y))
elif task.name.startswith("train"):
    x, y = {"train-cnn": lambda: mnist(task.detail), "train-resnet": lambda: cifar(task.detail)}.get(task.name, texts)()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

    def run(count):
        model.fit(x, y, batch_size=task.batch, steps_per_epoch=count, verbose=0)

else:
    x = images(task.batch) if task.name == "infer-cnn" else sequences(task)[0]
    run = repeat(lambda: model(x))

serve(f"vivace {vivace.show_config()['vivace']} ({vivace.show_config()['ISA level']})", run)
