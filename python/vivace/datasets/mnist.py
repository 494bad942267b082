"""MNIST: 70,000 handwritten digits of 28x28 pixels (Y. LeCun, C. Cortes, C. Burges)."""

from __future__ import annotations

from pathlib import Path

from ._idx import Source, Split, load

_SOURCE = Source(
    name="mnist",
    url="https://storage.googleapis.com/cvdf-datasets/mnist/",
    md5={
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
)


def load_data(path: str | Path | None = None, download: bool = True) -> Split:
    """The data set, from `path`, else $VIVACE_DATA, else the cache, else (with `download`) from the network.

    Args:
        path: a folder with the four IDX files, gzipped or not.
        download: False raises FileNotFoundError instead of downloading.

    Returns:
        ((x_train, y_train), (x_test, y_test)): x uint8 (60000 or 10000, 28, 28), y uint8 labels 0 ... 9.

    Raises:
        FileNotFoundError, ConnectionError: not found; says which files to put where.
        ValueError: a file is not what its name says.
    """
    return load(_SOURCE, path, download)
