"""Callbacks: code that `fit`, `evaluate` and `predict` call at their turning points, with Keras's hooks."""

from .base import Callback, CallbackList, History, LambdaCallback, TerminateOnNaN
from .files import BackupAndRestore, CSVLogger, LearningCurves, TensorBoard
from .monitors import (
    EarlyStopping,
    LearningRateScheduler,
    ModelCheckpoint,
    MonitorCallback,
    ReduceLROnPlateau,
    SwapEMAWeights,
)

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningCurves",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "MonitorCallback",
    "ReduceLROnPlateau",
    "SwapEMAWeights",
    "TensorBoard",
    "TerminateOnNaN",
]
