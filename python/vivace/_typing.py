"""Names for types used throughout."""

from __future__ import annotations

from typing import Any, Callable, Optional

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]
BatchShape = tuple[Optional[int], ...]  # None: the batch size, not known yet
Initializer = Callable[[Shape, Any], Array]
