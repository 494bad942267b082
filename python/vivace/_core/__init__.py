"""Picks the native module for this machine: the best ISA level that its CPU and operating system support.

Each level is an extension module of its own, so no instruction of a higher level can ever run by accident.
`VIVACE_ISA=x86-64-v3` in the environment forces a level.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

from . import _cpu

LEVELS = ("aarch64", "x86-64-v2", "x86-64-v3", "x86-64-v4")  # worst to best


def module_name(level: str) -> str:
    """The extension module of an ISA level."""
    return f"{__name__}.native_{level.replace('-', '_')}"


def supported_levels() -> list[str]:
    """The levels that this CPU and operating system can run, best last."""
    return _cpu.supported_levels()


def built_levels() -> list[str]:
    """The levels that this installation contains, best last (a developer build has one)."""
    return [level for level in LEVELS if importlib.util.find_spec(module_name(level)) is not None]


@contextmanager
def _moderate_spinning() -> Iterator[None]:
    """Let libgomp, which reads the environment when it is loaded, spin for some tens of microseconds at most.

    Its default is a hundred times longer, and where another process keeps a core busy every barrier then waits for a
    time slice: a training step of the reference CNN took ten times as long as on idle cores with a count of 20,000, two
    and a half times with 3,000, and on idle cores there was no difference. What the user has set is respected.
    """
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = "3000"
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


def load(level: str) -> ModuleType:
    """Load the native module of one level. Several may live side by side in one process.

    Raises:
        ImportError: the level is unknown, not supported by this machine, or not built.
    """
    supported, built = supported_levels(), built_levels()
    if level not in LEVELS:
        reason = "is unknown"
    elif level not in supported:
        reason = "is not supported by this machine"
    elif level not in built:
        reason = "is not part of this build"
    else:
        with _moderate_spinning():
            return importlib.import_module(module_name(level))
    raise ImportError(
        f"vivace: the ISA level {level!r} {reason}; this machine supports {supported}, this build has {built}"
    )


def _choose() -> str:
    forced = os.environ.get("VIVACE_ISA")
    if forced:
        return forced
    supported, built = supported_levels(), built_levels()
    usable = [level for level in LEVELS if level in supported and level in built]
    if not usable:
        raise ImportError(f"vivace: none of the ISA levels of this build, {built}, runs on this machine ({supported})")
    return usable[-1]


if not TYPE_CHECKING:
    native = load(_choose())
    sys.modules[f"{__name__}.native"] = native  # so that `import vivace._core.native` finds it too
