# SPDX-License-Identifier: Apache-2.0
"""Array aliases of the renderer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Image = npt.NDArray[np.integer[Any] | np.floating[Any]]  # uint8 (H, W, 3) RGB; as wide as OpenCV's own annotations
Colour = tuple[float, float, float]  # RGB, 0..255
