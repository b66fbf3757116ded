# SPDX-License-Identifier: Apache-2.0
"""From a decoded sample to the array that a graph takes: the part of preprocessing that cannot live in the graph.

The node, replay, video files and training all come through here, so that what is learned is what is seen.
Normalisation, spectrograms and scaling are in the graphs; the resampler has a module of its own and is found here too.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from karmma_ros.errors import SampleError
from karmma_ros.resample import Resampler

__all__ = ["Resampler", "prepare_flow", "prepare_image", "to_mono"]

Float32Array = npt.NDArray[np.float32]
Uint8Array = npt.NDArray[np.uint8]

_LOUDEST = 16.0  # a float beyond this is not audio in [-1, 1] that overshoots, but audio in some other unit


def prepare_image(rgb: Uint8Array, size: tuple[int, int]) -> Uint8Array:
    """Resizes an image to the extractor's input, averaging over areas and squashing the aspect.

    The one way from a source's resolution: any other size between gives other pixels.

    :param rgb: (H, W, 3) uint8, RGB.
    :param size: (h, w).
    :return: (h, w, 3) uint8, contiguous; `rgb` itself when it is so already.
    :raises SampleError: not such an image.
    """
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
        raise SampleError("image is not RGB uint8", _describe(rgb))
    return _resize(rgb, size)


def prepare_flow(flow: Float32Array, size: tuple[int, int]) -> Float32Array:
    """Resizes a flow field to the extractor's input; values stay, since image widths per second have no resolution.

    :param flow: (H, W, 2) float32, image widths per second (x, y).
    :param size: (h, w).
    :return: (h, w, 2) float32, contiguous; `flow` itself when it is so already.
    :raises SampleError: not such a field, or not finite.
    """
    if not isinstance(flow, np.ndarray) or flow.dtype != np.float32 or flow.ndim != 3 or flow.shape[2] != 2:
        raise SampleError("flow is not a float32 field of two channels", _describe(flow))
    # A field over the largest finite float overflows to infinity in the averages, so it is refused below as well.
    if not flow.size or not np.isfinite(flow).all():
        raise SampleError("flow is empty or not finite", _describe(flow))
    small = _resize(flow, size)
    if not np.isfinite(small).all():
        raise SampleError("flow is empty or not finite", _describe(flow))
    return small


def _resize(array: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    height, width = size
    tall, wide = array.shape[:2]
    if (tall, wide) != (height, width):
        if array.dtype == np.uint8 and _is_large((tall, wide), size):
            array = cv2.resize(array, (wide // 2, tall // 2), interpolation=cv2.INTER_AREA)
        array = cv2.resize(array, (width, height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(array)


def _is_large(source: tuple[int, int], target: tuple[int, int]) -> bool:
    """Whether an image may be halved first: OpenCV averages 2x2 pixels many times faster than areas that end within a
    pixel (640x480 to 96x72: 0.4 ms, not 1.0), and over areas this large that tells hardly (in rendered scenes by 3
    of 255 at most, 0.2 on average)."""
    pairs = list(zip(source, target, strict=True))
    fractional = any(size % small for size, small in pairs)
    return fractional and all(size % 2 == 0 and size >= 6 * small for size, small in pairs)


def to_mono(samples: npt.NDArray[Any]) -> Float32Array:
    """Averages the channels of audio.

    :param samples: (n,) or (n, channels); float in [-1, 1], or int16, int32 (full scale) or uint8 (offset 128).
    :return: float32 (n,).
    :raises SampleError: not such audio, not finite, or floats that are plainly in another unit.
    """
    if (
        not isinstance(samples, np.ndarray)
        or samples.ndim not in (1, 2)
        or (samples.ndim == 2 and not samples.shape[1])
    ):
        raise SampleError("audio is not (samples, channels)", _describe(samples))
    if samples.dtype == np.int16:
        scaled = samples.astype(np.float32) / 2.0**15
    elif samples.dtype == np.int32:
        scaled = (samples / 2.0**31).astype(np.float32)
    elif samples.dtype == np.uint8:
        scaled = (samples.astype(np.float32) - 128.0) / 128.0
    elif samples.dtype in (np.float32, np.float64):
        scaled = samples.astype(np.float32, copy=False)
        peak = float(np.max(np.abs(scaled))) if scaled.size else 0.0
        if not np.isfinite(peak):
            raise SampleError("audio is not finite")
        if peak > _LOUDEST:
            raise SampleError("audio is out of range", f"peak {peak:.3g}, expected [-1, 1]")
    else:
        raise SampleError("audio has an unsupported type", str(samples.dtype))
    mono = scaled if scaled.ndim == 1 else scaled.mean(axis=1, dtype=np.float32)
    return np.ascontiguousarray(mono)


def _describe(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
