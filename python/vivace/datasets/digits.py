"""1,797 real handwritten digits of 8x8 pixels, part of the package: no network, no files.

The test set of "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning Repository,
1998, https://doi.org/10.24432/C50P49 (CC BY 4.0).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .._typing import Array

Split = tuple[tuple[Array, Array], tuple[Array, Array]]


def load_data() -> Split:
    """Every fifth image of each digit is for testing: 1,442 train, 355 test.

    Returns:
        ((x_train, y_train), (x_test, y_test)): x uint8 (n, 8, 8) with values 0 ... 16, y uint8 (n,) with 0 ... 9.
    """
    with np.load(Path(__file__).with_name("digits.npz")) as file:
        images, labels = file["images"], file["labels"]
    test = np.zeros(len(labels), bool)
    for digit in range(10):
        test[np.flatnonzero(labels == digit)[4::5]] = True
    return (images[~test], labels[~test]), (images[test], labels[test])
