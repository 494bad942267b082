"""Package-wide settings and the report on what is running."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import _core
from ._core import native

_floatx = "float32"


def floatx() -> str:
    """The dtype of layers that are not given one: "float32" unless changed."""
    return _floatx


def set_floatx(value: str) -> None:
    """Set the default dtype: "float32" or "float64"."""
    global _floatx
    _floatx = check_dtype("set_floatx", value)


def epsilon() -> float:
    """What keeps divisions and logarithms from 0 in losses: 1e-7."""
    return 1e-7


def image_data_format() -> str:
    """Where images have their channels unless a layer is told otherwise: "channels_last"."""
    return "channels_last"


def version() -> str:
    """The version of vivace that is installed."""
    from importlib import metadata

    return metadata.version("vivace")


def check_dtype(owner: str, dtype: Any) -> str:
    try:
        name = np.dtype(dtype).name
    except TypeError:  # no type of NumPy's, "bfloat16" say
        name = repr(dtype)
    if name not in ("float32", "float64"):
        raise ValueError(f"{owner}: dtype must be float32 or float64, received {name}")
    return name


def get_num_threads() -> int:
    """How many threads the kernels may use. The default respects CPU affinity, cgroup quota and OMP_NUM_THREADS."""
    return native.get_num_threads()


def set_num_threads(threads: int) -> None:
    """Set how many threads the kernels may use, at least 1. Results have the same bits for every number."""
    if threads < 1:
        raise ValueError(f"set_num_threads: threads must be at least 1, received {threads}")
    native.set_num_threads(threads)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within a `with` block the kernels may use `count` threads; behind it, as many as before.

    The number holds for the whole process, also for other Python threads that compute meanwhile.
    """
    before = get_num_threads()
    set_num_threads(count)
    try:
        yield
    finally:
        set_num_threads(before)


class Config(dict[str, Any]):
    """What `show_config()` returns: a dict that prints as a table."""

    def _lines(self) -> Iterator[str]:
        width = max(map(len, self))
        for key, value in self.items():
            yield f"{key:<{width}}  {', '.join(value) if isinstance(value, list) else value}"

    def __repr__(self) -> str:
        return "\n".join(self._lines())


def show_config() -> Config:
    """Version, ISA level in use and available, threads, compiler, CUDA: a dict that prints as a table."""
    from importlib.metadata import PackageNotFoundError

    try:
        own_version = version()
    except PackageNotFoundError:  # run from a source tree
        own_version = "not installed"
    return Config(
        {
            "vivace": own_version,
            "ISA level": native.isa,
            "supported": _core.supported_levels(),
            "built": _core.built_levels(),
            "threads": native.get_num_threads(),
            "compiler": native.compiler,
            "CUDA": "no",
            "NumPy": np.__version__,
            "Python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
        }
    )
