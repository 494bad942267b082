"""Fixtures shared by all tests."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import vivace
from vivace import _core

LEVELS = [level for level in _core.supported_levels() if level in _core.built_levels()]
DATA = Path(__file__).parents[2] / "shared" / "data"  # real data sets, beside the project where there are any


@pytest.fixture(params=LEVELS)
def core(request: pytest.FixtureRequest) -> ModuleType:
    """The native module of each ISA level that this machine runs and this build has."""
    module = _core.load(request.param)
    assert module.isa == request.param
    return module


@pytest.fixture(autouse=True)
def _seeded() -> None:
    vivace.utils.set_random_seed(1234)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    folder = DATA / "mnist"
    if not folder.is_dir():
        pytest.skip(f"needs MNIST in {folder.parent}")
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    comparison = sys.modules.get("comparison")  # of tests/keras_parity, where it ran
    if comparison is not None and comparison.COMPARED:
        terminalreporter.write_line(comparison.summary())
