"""What both Kerases make of all draws, done once, and the counts at the end."""

from __future__ import annotations

import os
from typing import Any

import pytest
from comparison import COMPARED, DRAWS, LOOKUPS, SEED, Comparison


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return Comparison(tmp_path_factory.mktemp("keras"), DRAWS, os.environ["VIVACE_KERAS_PYTHON"], "jax")


@pytest.fixture(scope="session")
def lookups(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    python = os.environ["VIVACE_KERAS_TENSORFLOW"]
    return Comparison(tmp_path_factory.mktemp("lookups"), LOOKUPS, python, "tensorflow")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if COMPARED:
        version, *kinds = COMPARED.items()
        counts = ", ".join(f"{count} of {kind}s" for kind, count in sorted(kinds))
        total = sum(count for _, count in kinds)
        terminalreporter.write_line(f"{total} random configurations compared with {version[0]} (seed {SEED}): {counts}")
