"""Names for types used throughout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]
BatchShape = tuple[int | None, ...]  # None: the batch size, not known yet
Initializer = Callable[[Shape, Any], Array]
