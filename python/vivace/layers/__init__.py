"""Layers, with Keras's names, arguments, defaults and weight shapes."""

from .base import Layer
from .conv import Conv2D, Convolution2D
from .core import Activation, Dense, Dropout, Flatten, Input, InputLayer, RepeatVector
from .normalization import (
    BatchNormalization,
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
    UnitNormalization,
)
from .pooling import AveragePooling2D, AvgPool2D, MaxPool2D, MaxPooling2D
from .recurrent import GRU, LSTM, Embedding, Masking, OutputGatedRNN, SimpleRNN
from .text import TextVectorization
from .wrappers import Bidirectional, TimeDistributed

__all__ = [
    "GRU",
    "LSTM",
    "Activation",
    "AveragePooling2D",
    "AvgPool2D",
    "BatchNormalization",
    "Bidirectional",
    "Conv2D",
    "Convolution2D",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GroupNormalization",
    "Input",
    "InputLayer",
    "Layer",
    "LayerNormalization",
    "Masking",
    "MaxPool2D",
    "MaxPooling2D",
    "OutputGatedRNN",
    "RMSNormalization",
    "RepeatVector",
    "SimpleRNN",
    "TextVectorization",
    "TimeDistributed",
    "UnitNormalization",
]
