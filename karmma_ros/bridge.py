# SPDX-License-Identifier: Apache-2.0
"""ROS 2's cv_bridge, for image encodings that this package does not know, and for nothing else."""

from functools import cache
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import SampleError

__all__ = ["available", "to_rgb"]

_FIRST_ROS2_MAJOR = 2  # a ROS 1 leftover, 1.13, is on the package index: it reads padded rows wrongly without a word


@cache
def available() -> bool:
    """Whether ROS 2's cv_bridge is installed and can be imported."""
    try:
        if int(metadata.version("cv_bridge").split(".")[0]) < _FIRST_ROS2_MAJOR:
            return False
        import cv_bridge  # noqa: F401
    except Exception:  # not installed, or built for another NumPy, which raises all sorts of things
        return False
    return True


def to_rgb(msg: Any, encoding: str, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """An image in an encoding of cv_bridge's as RGB.

    :param size: (H, W) that the message claims.
    :return: (H, W, 3) uint8.
    :raises SampleError: cv_bridge is not there, or does not know the encoding either.
    """
    shown = repr(encoding[:40])
    if not available():
        raise SampleError("unsupported encoding", shown)
    from cv_bridge import CvBridge

    try:
        rgb = CvBridge().imgmsg_to_cv2(msg, desired_encoding="rgb8")
    except Exception as error:
        raise SampleError("unsupported encoding", f"{shown}, cv_bridge says {type(error).__name__}") from None
    if not isinstance(rgb, np.ndarray) or rgb.shape != (*size, 3) or rgb.dtype != np.uint8:
        raise SampleError("unsupported encoding", f"{shown}, cv_bridge does not make it RGB")
    return rgb
