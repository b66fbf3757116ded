# SPDX-License-Identifier: Apache-2.0
"""A decoded frame at the network's size, without the full-sized RGB image between.

libswscale averages over areas and converts colours in one pass: up to rounding the same as `prepare_image` of the RGB
image, in a fraction of the time. It writes a plane per colour, in under half of the time that packed RGB takes, and
never halves the colour of those.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from karmma_ros.media import is_lying, turned, upright
from karmma_ros.samples import prepare_image

__all__ = ["small_rgb"]

Image = npt.NDArray[np.uint8]

_AREA, _ACCURATE_ROUNDING = 0x20, 0x40000  # libswscale's flags


def small_rgb(frame: Any, size: tuple[int, int], reformatter: VideoReformatter | None = None) -> Image:
    """RGB (h, w, 3) of one decoded frame (av.VideoFrame), upright.

    :param size: (h, w); reformatter: see `media.upright`.
    """
    height, width = size[::-1] if is_lying(frame) else size
    if frame.height < height or frame.width < width:  # nothing to average over
        return prepare_image(upright(frame, reformatter), size)
    # One thread: windows are made in parallel, each on a core.
    small = (reformatter or VideoReformatter()).reformat(
        frame, width, height, "gbrp", interpolation=_AREA | _ACCURATE_ROUNDING, threads=1
    )
    green, blue, red = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)[:, :width] for plane in small.planes
    )
    return turned(frame, np.asarray(cv2.merge((red, green, blue)), np.uint8))
