# SPDX-License-Identifier: Apache-2.0
"""Image encodings: how the pixels of each lie in a row, and what makes them RGB.

What they mean here, where sensor_msgs leaves it open: images without a named colour order (`8UC3`, `16UC4`) are in
OpenCV's own, BGR(A); integers use the whole range of their type (16UC1: 65535 is white; 8SC1: -128 is black); floats
use [0, 1]. Alpha is dropped. `yuv422` is UYVY. Colour from YUV is ITU-R BT.601 with limited range, as cameras send it
and OpenCV converts it.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from karmma_ros.errors import SampleError

__all__ = ["BGR8", "FLOW", "PLANAR", "Layout", "convert", "layout_of", "to_rgb"]

Uint8Array = npt.NDArray[np.uint8]
AnyArray = npt.NDArray[Any]

_BRIGHTEST = 16.0  # a float image beyond this does not overshoot [0, 1], it is in some other unit


@dataclass(frozen=True)
class Layout:
    """How one encoding's pixels lie in a row, and what makes them RGB."""

    dtype: str  # NumPy's name, without the byte order
    channels: int
    to_rgb: int | None  # code for cv2.cvtColor; None: it is RGB
    even_width: bool = False  # two pixels share their colour
    mosaic: bool = False  # one colour per pixel; needs neighbours

    @property
    def pixel_bytes(self) -> int:
        return np.dtype(self.dtype).itemsize * self.channels


def _named_layouts() -> dict[str, Layout]:
    layouts = {
        "yuv422": Layout("u1", 2, cv2.COLOR_YUV2RGB_UYVY, even_width=True),
        "uyvy": Layout("u1", 2, cv2.COLOR_YUV2RGB_UYVY, even_width=True),
        "yuv422_yuy2": Layout("u1", 2, cv2.COLOR_YUV2RGB_YUY2, even_width=True),
        "yuyv": Layout("u1", 2, cv2.COLOR_YUV2RGB_YUY2, even_width=True),
    }
    # OpenCV names a mosaic after the second row's middle pixels, ROS after the first two pixels of the first two rows.
    mosaics = {
        "rggb": cv2.COLOR_BayerBG2RGB,
        "bggr": cv2.COLOR_BayerRG2RGB,
        "gbrg": cv2.COLOR_BayerGR2RGB,
        "grbg": cv2.COLOR_BayerGB2RGB,
    }
    for bits, dtype in ((8, "u1"), (16, "u2")):
        layouts[f"mono{bits}"] = Layout(dtype, 1, cv2.COLOR_GRAY2RGB)
        layouts[f"rgb{bits}"] = Layout(dtype, 3, None)
        layouts[f"bgr{bits}"] = Layout(dtype, 3, cv2.COLOR_BGR2RGB)
        layouts[f"rgba{bits}"] = Layout(dtype, 4, cv2.COLOR_RGBA2RGB)
        layouts[f"bgra{bits}"] = Layout(dtype, 4, cv2.COLOR_BGRA2RGB)
        for name, code in mosaics.items():
            layouts[f"bayer_{name}{bits}"] = Layout(dtype, 1, code, mosaic=True)
    return layouts


_LAYOUTS = _named_layouts()
_GENERIC = re.compile(r"(8U|8S|16U|16S|32S|32F|64F)C(\d{0,3})", re.ASCII)
_GENERIC_TYPES = {"8U": "u1", "8S": "i1", "16U": "u2", "16S": "i2", "32S": "i4", "32F": "f4", "64F": "f8"}
_GENERIC_TO_RGB = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21, "i420": cv2.COLOR_YUV2RGB_I420}
BGR8 = Layout("u1", 3, cv2.COLOR_BGR2RGB)  # what OpenCV decodes to
FLOW = Layout("f4", 2, None)  # 32FC2: not a picture


def layout_of(encoding: str) -> Layout | None:
    """The layout of an encoding of the list; None for others.

    :raises SampleError: it is on the list, but with a number of channels that cannot be shown.
    """
    if encoding in _LAYOUTS:
        return _LAYOUTS[encoding]
    match = _GENERIC.fullmatch(encoding)
    if not match:
        return None
    channels = int(match[2] or 1)
    if channels not in _GENERIC_TO_RGB:
        raise SampleError("image has no usable number of channels", f"{encoding}; 1, 3 or 4 can be used")
    return Layout(_GENERIC_TYPES[match[1]], channels, _GENERIC_TO_RGB[channels])


def to_rgb(pixels: AnyArray, layout: Layout) -> Uint8Array:
    """Pixels of any depth as RGB.

    :param pixels: (H, W) or (H, W, channels), native byte order.
    :return: (H, W, 3) uint8; `pixels` itself when they are that already.
    :raises SampleError: values out of range, or a size that does not go with the encoding.
    """
    pixels = _to_8_bit(pixels)
    return pixels if layout.to_rgb is None else convert(pixels, layout.to_rgb)


def convert(pixels: AnyArray, code: int) -> Uint8Array:
    """cv2.cvtColor.

    :raises SampleError: it refuses.
    """
    try:
        return cv2.cvtColor(pixels, code)  # type: ignore[return-value]
    except cv2.error as error:
        raise SampleError("image cannot be converted", first_line(error)) from None


def _to_8_bit(pixels: AnyArray) -> Uint8Array:
    """Integers: the whole range of the type; floats: [0, 1]. Rounded to nearest."""
    kind, bits = pixels.dtype.kind, pixels.dtype.itemsize * 8
    if kind == "f":
        low, high = float(pixels.min()), float(pixels.max())  # NaN if there is one
        if not (math.isfinite(low) and math.isfinite(high)):
            raise SampleError("image is not finite")
        if max(-low, high) > _BRIGHTEST:
            raise SampleError("image is out of range", f"{low:.3g} to {high:.3g}, expected [0, 1]")
        return (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.int8:
        return pixels.view(np.uint8) ^ np.uint8(0x80)
    scale = 255 / (2**bits - 1)
    return cv2.convertScaleAbs(pixels, alpha=scale, beta=scale * 2 ** (bits - 1) if kind == "i" else 0)  # type: ignore[return-value]


def first_line(error: Exception) -> str:
    """What OpenCV complains about, without its stack of reasons."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
