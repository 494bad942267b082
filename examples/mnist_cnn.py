"""The tutorial's program: a convolutional network learns handwritten digits. Only the imports differ from Keras."""

import sys

from vivace.datasets import mnist
from vivace.layers import Conv2D, Dense, Flatten, MaxPooling2D
from vivace.models import Sequential

# The folder with MNIST's four files may be given; otherwise it is found or downloaded.
(x_train, y_train), (x_test, y_test) = mnist.load_data(*sys.argv[1:2])
x_train = x_train[..., None] / 255
x_test = x_test[..., None] / 255

model = Sequential()
model.add(Conv2D(32, (3, 3), activation='relu', input_shape=(28, 28, 1)))
model.add(MaxPooling2D((2, 2)))
model.add(Conv2D(64, (3, 3), activation='relu'))
model.add(MaxPooling2D((2, 2)))
model.add(Flatten())
model.add(Dense(128, activation='relu'))
model.add(Dense(10, activation='softmax'))
model.compile(optimizer='adam', loss='sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(x_train, y_train, epochs=10, batch_size=32)
model.evaluate(x_test, y_test)
