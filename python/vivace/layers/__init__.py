"""Layers, with Keras's names, arguments, defaults and weight shapes."""

from .base import Layer
from .conv import Conv2D, Convolution2D
from .core import Activation, Dense, Dropout, Flatten, Input, InputLayer, RepeatVector
from .embedding import Embedding, Masking
from .pooling import AveragePooling2D, AvgPool2D, MaxPool2D, MaxPooling2D
from .recurrent import GRU, LSTM, OutputGatedRNN, SimpleRNN
from .text import TextVectorization
from .wrappers import Bidirectional, TimeDistributed

__all__ = [
    "GRU",
    "LSTM",
    "Activation",
    "AveragePooling2D",
    "AvgPool2D",
    "Bidirectional",
    "Conv2D",
    "Convolution2D",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "Input",
    "InputLayer",
    "Layer",
    "Masking",
    "MaxPool2D",
    "MaxPooling2D",
    "OutputGatedRNN",
    "RepeatVector",
    "SimpleRNN",
    "TextVectorization",
    "TimeDistributed",
]
