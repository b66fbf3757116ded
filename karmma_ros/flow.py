# SPDX-License-Identifier: Apache-2.0
"""Optical flow from consecutive images, the one place it is computed: node, replay, video, tabletop and training.

Dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016) as OpenCV has it.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from karmma_ros.errors import SampleError
from karmma_ros.window import to_ns

__all__ = ["MAX_INTERVAL_S", "FlowIntervals", "FlowProducer"]

MAX_INTERVAL_S = 0.2  # [s] frames further apart show another scene, not motion

_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


class FlowProducer:
    """Turns a sequence of images into flow in image widths per second.

    Both components are divided by the width of the full image, also when the working size squashes its aspect, so the
    result depends neither on resolution nor on frame rate nor on the working size. A consumer that wants pixels per
    second in the working field multiplies both by its width.
    """

    def __init__(self, size: tuple[int, int] = (160, 120), preset: str = "fast") -> None:
        """:param size: (width, height) at which flow is computed, at least 16 each.
        :param preset: ultrafast, fast or medium.
        :raises ValueError: another preset or a smaller size.
        """
        if preset not in _PRESETS:
            raise ValueError(f"preset {preset!r} is not one of {', '.join(_PRESETS)}")
        if min(size) < 16:
            raise ValueError(f"size {size} is smaller than 16")
        self.size = size
        self.preset = preset
        self._dis = self._make()
        self._before: tuple[int, tuple[int, ...], npt.NDArray[Any]] | None = None  # stamp, image's shape, grey

    def _make(self) -> Any:
        opencv: Any = cv2  # the type stubs of OpenCV 5 lack this name, which every version from 4 on has
        return opencv.DISOpticalFlow_create(_PRESETS[self.preset])

    def push(self, stamp_ns: int, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32] | None:
        """Takes the next image, returns the flow from the one before to it, to be stamped `stamp_ns`.

        :param rgb: (H, W, 3) uint8.
        :return: float32 (height, width, 2) at the working size, image widths per second (x, y); None for the first
            image, after a change of the image's size, and when its stamp is not newer or more than 0.2 s newer.
        :raises SampleError: not such an image.
        """
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
            raise SampleError("image is not RGB uint8", f"{rgb.dtype} {rgb.shape}")
        # Resized first: the grey conversion then touches few pixels.
        small = cv2.resize(rgb, self.size, interpolation=cv2.INTER_AREA) if rgb.shape[1::-1] != self.size else rgb
        grey = cv2.cvtColor(np.ascontiguousarray(small), cv2.COLOR_RGB2GRAY)
        before, self._before = self._before, (stamp_ns, rgb.shape, grey)
        if before is None or before[1] != rgb.shape:
            return None
        interval_ns = stamp_ns - before[0]
        if not 0 < interval_ns <= to_ns(MAX_INTERVAL_S):
            return None
        flow = self._dis.calc(before[2], grey, None)  # (h, w, 2) [working pixels]
        width, height = self.size
        # y: working pixels -> pixels of the full image -> its widths.
        to_widths = np.array([1 / width, rgb.shape[0] / (height * rgb.shape[1])])
        return (flow * (to_widths * (1e9 / interval_ns))).astype(np.float32)

    def reset(self) -> None:
        """Forgets the last image, and overwrites it: the next one starts anew."""
        if self._before is not None:
            self._before[2].fill(0)
            self._before = None
            self._dis = self._make()  # the old one keeps images of its last run; its collectGarbage() breaks it


class FlowIntervals:
    """The time that each field of a stream of flow spans: from the stamp of the one before."""

    def __init__(self) -> None:
        self._last_ns: int | None = None

    def next(self, stamp_ns: int) -> float | None:
        """[s] that the field stamped so spans; None when unknown or more than 0.2 s. Asked once a field, in order."""
        last_ns, self._last_ns = self._last_ns, stamp_ns
        if last_ns is None or not 0 < stamp_ns - last_ns <= to_ns(MAX_INTERVAL_S):
            return None
        return (stamp_ns - last_ns) * 1e-9
