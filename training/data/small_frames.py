# SPDX-License-Identifier: Apache-2.0
"""A decoded frame at the network's size, without the full-sized RGB image between.

libswscale averages over areas and converts colours in one pass: up to rounding the same as `prepare_image` of the RGB
image, in a fraction of the time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from karmma_ros.media import is_lying, turned, upright
from karmma_ros.samples import prepare_image

__all__ = ["small_rgb"]

Image = npt.NDArray[np.uint8]

# libswscale's flags. Without the last two it would first halve the colour of what it writes, as if that were a video.
_AREA, _ACCURATE_ROUNDING, _FULL_CHROMA_OUT, _FULL_CHROMA_IN = 0x20, 0x40000, 0x2000, 0x4000
_HOW = _AREA | _ACCURATE_ROUNDING | _FULL_CHROMA_OUT | _FULL_CHROMA_IN


def small_rgb(frame: Any, size: tuple[int, int], reformatter: VideoReformatter | None = None) -> Image:
    """RGB (h, w, 3) of one decoded frame (av.VideoFrame), upright.

    :param size: (h, w); reformatter: see `media.upright`.
    """
    height, width = size[::-1] if is_lying(frame) else size
    if frame.height < height or frame.width < width:  # nothing to average over
        return prepare_image(upright(frame, reformatter), size)
    small = (reformatter or VideoReformatter()).reformat(frame, width, height, "rgb24", interpolation=_HOW)
    return turned(frame, np.asarray(small.to_ndarray(), np.uint8))
