"""Data sets: each module has `load_data()`, returning ((x_train, y_train), (x_test, y_test)) as NumPy arrays."""

from . import digits, fashion_mnist, mnist

__all__ = ["digits", "fashion_mnist", "mnist"]
