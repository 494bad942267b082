"""Fashion-MNIST: 70,000 pictures of garments, 28x28 pixels (Zalando SE, 2017; MIT licence)."""

from __future__ import annotations

from pathlib import Path

from ._idx import Source, Split, load

_SOURCE = Source(
    name="fashion-mnist",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    md5={
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
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
