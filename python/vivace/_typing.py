"""Names for types used throughout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]
BatchShape = tuple[int | None, ...]  # None: the batch size, not known yet
Initializer = Callable[[Shape, Any], Array]

# NumPy has one object for each of these, so that a comparison with `is` does, ten times as fast as one with a name.
FLOATS = {name: np.dtype(name) for name in ("float32", "float64")}
