"""Data sets: reading, finding, refusing."""

from __future__ import annotations

import gzip
import http.client
import struct
import tracemalloc
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from vivace.datasets import _idx, digits, fashion_mnist, mnist


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path, compress: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, shape in zip(mnist._SOURCE.md5, ((60000, 28, 28), (60000,), (10000, 28, 28), (10000,)), strict=True):
        raw = idx(np.full(shape, len(shape), np.uint8))
        if compress:
            (folder / name).write_bytes(gzip.compress(raw, 1))
        else:
            (folder / name.removesuffix(".gz")).write_bytes(raw)


@pytest.fixture(autouse=True)
def _no_other_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VIVACE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_digits() -> None:
    (x, y), (x_test, y_test) = digits.load_data()
    assert x.shape == (1442, 8, 8)
    assert x_test.shape == (355, 8, 8)
    assert x.dtype == y.dtype == np.uint8
    assert max(x.max(), x_test.max()) == 16
    counts = np.bincount(np.concatenate([y, y_test]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(y_test).tolist() == [n // 5 for n in counts]  # every fifth of each digit


@pytest.mark.parametrize("compress", [True, False])
def test_a_folder_is_read(tmp_path: Path, compress: bool) -> None:
    write_mnist(tmp_path, compress)
    (x, y), (x_test, y_test) = mnist.load_data(tmp_path)
    assert (x.shape, y.shape, x_test.shape, y_test.shape) == ((60000, 28, 28), (60000,), (10000, 28, 28), (10000,))
    assert x[0, 0, 0] == 3
    assert y_test[0] == 1
    x[0] = 7  # the arrays are the caller's own


def test_environment_and_cache_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "data" / "mnist", compress=False)
    monkeypatch.setenv("VIVACE_DATA", str(tmp_path / "data"))
    assert mnist.load_data(download=False)[0][0].shape == (60000, 28, 28)
    monkeypatch.delenv("VIVACE_DATA")
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte\.gz.* not found together in any of"):
        mnist.load_data(download=False)
    write_mnist(_idx.cache_folder("mnist"), compress=False)
    assert mnist.load_data(download=False)[1][0].shape == (10000, 28, 28)


@pytest.mark.parametrize("reason", [OSError("no route to host"), http.client.IncompleteRead(b"", 10)])
def test_without_a_network_the_message_says_what_to_put_where(
    monkeypatch: pytest.MonkeyPatch, reason: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise reason

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(ConnectionError) as info:
        fashion_mnist.load_data()
    text = str(info.value)
    for part in (*fashion_mnist._SOURCE.md5, str(_idx.cache_folder("fashion-mnist")), "VIVACE_DATA"):
        assert part in text
    assert not list(_idx.cache_folder("fashion-mnist").iterdir())  # no half file is left


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 something else", "not an IDX file"),
        (idx(np.zeros((3, 4), np.uint8))[:-1], r"shape \(3, 4\) needs 12 bytes, the file holds 11"),
        (idx(np.zeros((3, 4), np.uint8))[:9], "header is cut short"),
        (b"\x00\x00\x08\xff" + bytes(2000), "not an IDX file"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "x-idx"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        _idx.read_idx(file)
    packed = tmp_path / "x-idx.gz"
    packed.write_bytes(gzip.compress(idx(np.zeros(9, np.uint8)))[:-4])
    with pytest.raises(ValueError, match="not a readable gzip file"):
        _idx.read_idx(packed)


def test_no_flipped_byte_gets_past_the_reader(tmp_path: Path, rng: np.random.Generator) -> None:
    file = tmp_path / "x-idx.gz"
    packed = gzip.compress(idx(rng.integers(0, 9, 2000, dtype=np.uint8)), mtime=0)
    for place in range(10, len(packed), 7):  # behind gzip's header, whose name and time do not matter
        file.write_bytes(packed[:place] + bytes([packed[place] ^ 0xFF]) + packed[place + 1 :])
        with pytest.raises(ValueError, match=r"x-idx\.gz: "):
            _idx.read_idx(file)


def test_no_more_is_unpacked_than_announced(tmp_path: Path) -> None:
    file = tmp_path / "x-idx.gz"
    file.write_bytes(gzip.compress(idx(np.zeros(10, np.uint8)) + bytes(100_000_000), 1))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="needs 10 bytes, the file holds more"):
            _idx.read_idx(file)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    file.write_bytes(gzip.compress(idx(np.zeros((0, 1), np.uint8))[:4] + b"\xff" * 8))
    with pytest.raises(ValueError, match="is larger than"):
        _idx.read_idx(file)


def test_a_wrong_size_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path, compress=False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(9, np.uint8)))
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte: expected shape \(10000,\), found \(9,\)"):
        mnist.load_data(tmp_path)


def test_real_mnist(mnist_folder: Path) -> None:
    (x, y), (x_test, y_test) = mnist.load_data(mnist_folder)
    assert x.mean() == pytest.approx(33.3184, abs=1e-3)
    assert np.bincount(y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert (len(x_test), int(y_test[0])) == (10000, 7)
