"""Data sets in IDX files: finding, downloading and reading them."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._typing import Array

Split = tuple[tuple[Array, Array], tuple[Array, Array]]

_LARGEST = 1 << 30  # bytes; the largest file of the data sets here has 47 million


@dataclass(frozen=True)
class Source:
    name: str  # also of the folder in the cache
    url: str
    md5: dict[str, str]  # file name -> checksum, in the order train images, labels, test images, labels


def cache_folder(name: str) -> Path:
    """$XDG_CACHE_HOME/vivace/<name>, by default ~/.cache/vivace/<name>."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vivace" / name


def read_idx(path: Path) -> Array:
    """An IDX file of bytes (gzipped if it ends in .gz) as a uint8 array of the caller's own.

    No more is unpacked than the header announces. Raises ValueError if the file is anything else.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            start = file.read(4)
            if len(start) < 4 or start[:3] != b"\x00\x00\x08" or start[3] > 8:  # the fourth byte is the rank
                raise ValueError(f"{path}: not an IDX file of bytes (it starts with {start!r})")
            rank = start[3]
            header = file.read(4 * rank)
            if len(header) < 4 * rank:
                raise ValueError(f"{path}: the IDX header is cut short")
            shape = tuple(int(n) for n in np.frombuffer(header, ">u4"))
            size = math.prod(shape)
            if size > _LARGEST:
                raise ValueError(f"{path}: shape {shape} is larger than {_LARGEST} bytes")
            content = bytearray(file.read(size + 1))
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: not a readable gzip file: {error}") from None
    if len(content) != size:
        held = "more" if len(content) > size else str(len(content))
        raise ValueError(f"{path}: shape {shape} needs {size} bytes, the file holds {held}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _find(folder: Path, source: Source) -> list[Path] | None:
    """The four files in a folder, gzipped or not, or None."""
    found = []
    for name in source.md5:
        candidates = [folder / name, folder / name.removesuffix(".gz")]
        existing = [path for path in candidates if path.is_file()]
        if not existing:
            return None
        found.append(existing[0])
    return found


def _download(source: Source, folder: Path) -> None:
    import hashlib
    import http.client
    import urllib.request

    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    for name, checksum in source.md5.items():
        partial = folder / f"{name}.{os.getpid()}.part"  # two processes may download at once
        digest = hashlib.md5(usedforsecurity=False)
        try:
            with urllib.request.urlopen(source.url + name, timeout=30) as answer, partial.open("wb") as out:
                size = int(answer.headers.get("Content-Length") or 0) or None
                with tqdm(total=size, desc=name, unit="B", unit_scale=True, leave=False) as bar:
                    while chunk := answer.read(1 << 16):
                        out.write(chunk)
                        digest.update(chunk)
                        bar.update(len(chunk))
            if digest.hexdigest() != checksum:
                raise OSError(f"checksum {digest.hexdigest()} instead of {checksum}")
            partial.replace(folder / name)
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError(
                f"{source.name}: could not download {source.url}{name} ({error}). Without a network, put "
                f"{', '.join(source.md5)} into {folder}, or give their folder as load_data(path) or $VIVACE_DATA"
            ) from None
        finally:
            partial.unlink(missing_ok=True)


def load(source: Source, path: str | Path | None, download: bool) -> Split:
    """See `mnist.load_data`."""
    cache = cache_folder(source.name)
    if path is not None:
        folder = Path(path).expanduser()
        folders = [folder, folder / source.name]
    else:
        data = os.environ.get("VIVACE_DATA")
        folder = Path(data or "").expanduser()
        folders = [folder / source.name, folder] if data else []
        folders.append(cache)
    files = next((found for folder in folders if (found := _find(folder, source))), None)
    if files is None and (path is not None or not download):
        raise FileNotFoundError(
            f"{source.name}: {', '.join(source.md5)} (or the same without .gz) not found together in any of "
            f"{', '.join(map(str, folders))}"
        )
    if files is None:
        _download(source, cache)
        files = [cache / name for name in source.md5]
    arrays = [read_idx(file) for file in files]
    for file, array, shape in zip(files, arrays, ((60000, 28, 28), (60000,), (10000, 28, 28), (10000,)), strict=True):
        if array.shape != shape:
            raise ValueError(f"{file}: expected shape {shape}, found {array.shape}")
    return (arrays[0], arrays[1]), (arrays[2], arrays[3])
