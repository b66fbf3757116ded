# SPDX-License-Identifier: Apache-2.0
"""A decoded frame at the network's size, without the full-sized RGB image between.

Decoders give brightness and colour in planes, colour at half the size. Averages over areas and the conversion to RGB
are both linear, so the planes are averaged first and few pixels converted: the same as `prepare_image` of the RGB
image, up to rounding, in a fraction of the time.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from karmma_ros.media import upright
from karmma_ros.samples import prepare_image

__all__ = ["small_rgb"]

Image = npt.NDArray[np.uint8]

_PLANAR = {"yuv420p": 1, "yuvj420p": 2, "yuv422p": 1, "yuvj422p": 2, "yuv444p": 1, "yuvj444p": 2}  # name -> range
_FULL = 2  # AVCOL_RANGE_JPEG: 0 to 255; otherwise 16 to 235, colour to 240
_BT709 = 1  # AVCOL_SPC_BT709; what says nothing is taken for BT.601, as swscale does
_KR_KB = {True: (0.2126, 0.0722), False: (0.299, 0.114)}


def small_rgb(frame: Any, size: tuple[int, int], reformatter: VideoReformatter | None = None) -> Image:
    """RGB (h, w, 3) of one decoded frame (av.VideoFrame), upright.

    :param size: (h, w); reformatter: see `media.upright`.
    """
    known = _PLANAR.get(frame.format.name)
    # where colour has fewer pixels than the network wants, how it is interpolated would show
    smaller = frame.height >= 2 * size[0] and frame.width >= 2 * size[1]
    if known is None or not smaller or getattr(frame, "rotation", 0) % 360:
        return prepare_image(upright(frame, reformatter), size)
    planes = [_resized(_plane(p), size) for p in frame.planes[:3]]
    full = known == _FULL or int(frame.color_range) == _FULL
    matrix = _matrix(int(frame.colorspace) == _BT709, full)
    return np.asarray(cv2.transform(cv2.merge(planes), matrix), np.uint8)


def _resized(plane: Image, size: tuple[int, int]) -> Image:
    """Averages over areas. A large plane is halved first: OpenCV averages 2 x 2 pixels ten times as fast as areas that
    end within a pixel, and over what is left of them that tells hardly."""
    height, width = size
    while plane.shape[0] >= 4 * height and plane.shape[1] >= 4 * width and not any(n % 2 for n in plane.shape):
        half = (plane.shape[1] // 2, plane.shape[0] // 2)
        plane = np.asarray(cv2.resize(plane, half, interpolation=cv2.INTER_AREA), np.uint8)
    if plane.shape == (height, width):
        return plane
    return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _plane(plane: Any) -> Image:
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


def _matrix(bt709: bool, full: bool) -> npt.NDArray[np.float64]:
    """(3, 4) from Y, Cb, Cr and 1 to R, G, B (ITU-R BT.601 and BT.709)."""
    kr, kb = _KR_KB[bt709]
    kg = 1 - kr - kb
    y, c, black = (1.0, 1.0, 0.0) if full else (255 / 219, 255 / 224, 16.0)
    cr, cb = 2 * (1 - kr) * c, 2 * (1 - kb) * c
    colours = np.array([[y, 0, cr], [y, -cb * kb / kg, -cr * kr / kg], [y, cb, 0]])
    offset = colours @ np.array([-black, -128.0, -128.0])
    return np.hstack([colours, offset[:, None]])
