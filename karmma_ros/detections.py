# SPDX-License-Identifier: Apache-2.0
"""Object detections as a modality: the boxes around one frame's objects, as the network takes them.

A box is x1, y1, x2, y2 (left, top, right, bottom, in widths and heights of the whole upright image), its score in
[0, 1] and the number of its category in the bundle's list.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import SampleError

__all__ = ["BOX", "NOTHING", "prepare_detections"]

Float32Array = npt.NDArray[np.float32]

BOX = 6  # numbers that say a box
NOTHING = -1.0  # the category of a row without a box


def prepare_detections(boxes: npt.NDArray[Any], most: int, categories: int) -> Float32Array:
    """The boxes of one frame at the network's size.

    :param boxes: (n, 6) float32, in any order; none is a frame in which nothing was found.
    :param most: boxes that the network takes: of more, those with the best scores.
    :param categories: how many there are.
    :return: (most, 6) float32, best score first, clipped to the image; rows without a box are zeros and NOTHING.
    :raises SampleError: not such boxes, or not finite.
    """
    if not isinstance(boxes, np.ndarray) or boxes.dtype != np.float32 or boxes.ndim != 2 or boxes.shape[1] != BOX:
        found = f"{boxes.dtype} {boxes.shape}" if isinstance(boxes, np.ndarray) else type(boxes).__name__
        raise SampleError("detections are not float32 boxes of six numbers", found)
    if not np.isfinite(boxes).all():
        raise SampleError("detections are not finite")
    kinds = boxes[:, 5]
    if ((kinds < 0) | (kinds >= categories) | (kinds != np.floor(kinds))).any():
        raise SampleError("detections have a category that the bundle does not know")
    out = np.zeros((most, BOX), np.float32)
    out[:, 5] = NOTHING
    chosen = boxes[np.argsort(-boxes[:, 4], kind="stable")[:most]]
    out[: len(chosen)] = chosen
    out[: len(chosen), :5] = np.clip(chosen[:, :5], 0.0, 1.0)
    return out
