"""Data sets in IDX files: finding, downloading and reading them."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._typing import Array

Split = tuple[tuple[Array, Array], tuple[Array, Array]]


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
    """An IDX file of bytes (gzipped if it ends in .gz) as a uint8 array. Raises ValueError if it is anything else."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise ValueError(f"{path}: not a readable gzip file: {error}") from None
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path}: not an IDX file of bytes (it starts with {raw[:4]!r})")
    rank = raw[3]
    header = 4 + 4 * rank
    if len(raw) < header:
        raise ValueError(f"{path}: the IDX header is cut short")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", rank, offset=4))
    if len(raw) - header != int(np.prod(shape, dtype=np.int64)):
        raise ValueError(f"{path}: shape {shape} needs {np.prod(shape)} bytes, the file holds {len(raw) - header}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


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
    import urllib.request

    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    for name, checksum in source.md5.items():
        partial = folder / f"{name}.part"
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
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise ConnectionError(
                f"{source.name}: could not download {source.url}{name} ({error}). Without a network, put "
                f"{', '.join(source.md5)} into {folder}, or give their folder as load_data(path) or $VIVACE_DATA"
            ) from None


def load(source: Source, path: str | Path | None, download: bool) -> Split:
    """See `mnist.load_data`."""
    cache = cache_folder(source.name)
    if path is not None:
        folders = [Path(path), Path(path) / source.name]
    else:
        data = os.environ.get("VIVACE_DATA")
        folders = [Path(data) / source.name, Path(data)] if data else []
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
