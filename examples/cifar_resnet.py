"""What is in the picture? A ResNet-20 by the functional API learns CIFAR-10, with flipped and shifted pictures.

python examples/cifar_resnet.py FOLDER [EPOCHS]     (with a zip of train/CLASS/*.jpg and test/CLASS/*.jpg; needs Pillow)

It writes cifar_resnet.png, the learning curves, and cifar_resnet.safetensors, the model.
"""

import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

import vivace
from vivace.callbacks import LearningCurves
from vivace.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
    Input,
    RandomCrop,
    RandomFlip,
    Rescaling,
    ZeroPadding2D,
)
from vivace.models import Model
from vivace.optimizers import SGD
from vivace.optimizers.schedules import CosineDecay


def pictures(archive: zipfile.ZipFile, part: str, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    names = sorted(n for n in archive.namelist() if n.startswith(f"{part}/") and n.endswith(".jpg"))
    x = np.stack([np.asarray(Image.open(archive.open(name)).convert("RGB")) for name in names])
    return x, np.array([classes.index(name.split("/")[1]) for name in names])


def convolution(x, filters: int, size: int, strides: int = 1):
    x = Conv2D(filters, size, strides, "same", use_bias=False, kernel_initializer="he_normal")(x)
    return BatchNormalization(momentum=0.9)(x)


def block(x, filters: int, strides: int):
    y = Activation("relu")(convolution(x, filters, 3, strides))
    way = convolution(x, filters, 1, strides) if strides > 1 else x
    return Activation("relu")(convolution(y, filters, 3) + way)


def resnet20(classes: int) -> Model:
    inputs = Input((32, 32, 3))
    x = RandomFlip("horizontal")(RandomCrop(32, 32)(ZeroPadding2D(4)(Rescaling(1 / 127.5, -1)(inputs))))
    x = Activation("relu")(convolution(x, 16, 3))
    for filters, strides in [(16, 1)] * 3 + [(32, 2), (32, 1), (32, 1)] + [(64, 2), (64, 1), (64, 1)]:
        x = block(x, filters, strides)
    return Model(inputs, Dense(classes, "softmax")(GlobalAveragePooling2D()(x)), name="resnet20")


archives = sorted(Path(sys.argv[1]).glob("*.zip")) if len(sys.argv) > 1 else []
if not archives:
    sys.exit(__doc__)
epochs, batch = int(sys.argv[2]) if len(sys.argv) > 2 else 20, 32
vivace.utils.set_random_seed(0)
with zipfile.ZipFile(archives[0]) as archive:
    classes = sorted({name.split("/")[1] for name in archive.namelist() if name.startswith("train/")} - {""})
    x, y = pictures(archive, "train", classes)
    x_test, y_test = pictures(archive, "test", classes)
print(f"{len(x)} pictures to learn from, {len(x_test)} to test with, of {', '.join(classes)}")

model = resnet20(len(classes))
model.summary(print_fn=lambda text: print(text.splitlines()[-1]))
rate = CosineDecay(0.02, epochs * -(-len(x) // batch), warmup_target=0.1, warmup_steps=200)
model.compile(SGD(rate, 0.9, nesterov=True, weight_decay=5e-4), "sparse_categorical_crossentropy", metrics=["accuracy"])
curves = LearningCurves("cifar_resnet.png", seconds=20)
model.fit(x, y, batch, epochs, callbacks=curves, validation_data=(x_test, y_test))
model.save("cifar_resnet.safetensors")

guesses = vivace.models.load_model("cifar_resnet.safetensors").predict(x_test).argmax(1)
for i, name in enumerate(classes):
    print(f"{name:12}{np.mean(guesses[y_test == i] == i):7.1%}")
print(f"Test accuracy {np.mean(guesses == y_test):.1%}")
