# SPDX-License-Identifier: Apache-2.0
"""From the message of an object detector to the core's boxes, without ROS.

Works on anything with the fields of vision_msgs/Detection2DArray: rclpy's messages, those of a bag reader, or a plain
object. Before version 4 of vision_msgs a box's `center` held x and y itself; both layouts are read. Whatever is wrong
with a message raises `SampleError` and nothing else, before anything of the size that it claims has been allocated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.detections import BOX
from karmma_ros.errors import SampleError
from karmma_ros.fields import text_of

__all__ = ["DETECTIONS", "MAX_BOXES", "OTHER", "class_ids", "detections_to_boxes"]

Float32Array = npt.NDArray[np.float32]

DETECTIONS = "vision_msgs/msg/Detection2DArray"

MAX_BOXES = 1_000
OTHER = "object"  # the category, if there is one of this name, for whatever has none of its own
_UPRIGHT = 0.01  # [rad] a box turned by less is as good as upright: its sides move by 1 % of each other at most
_DIGITS = 6  # of an index that can be one: a bundle has no more than 100 000 categories


def detections_to_boxes(
    msg: Any,
    numbers: Mapping[str, int],
    size: tuple[int, int] | None,
    *,
    rotate: int = 0,
    max_boxes: int = MAX_BOXES,
) -> Float32Array:
    """The objects that were found in one image.

    Of a detection's results, the one with the best score counts. Its `class_id` is the name of a category, or its
    number in decimal; anything else is of the category OTHER, and passed over where there is none. Detections that are
    passed over, those without results too, are not looked at any further.

    :param msg: has `detections`, each with `results` and `bbox`; boxes in pixels, turned about their centre by `theta`.
    :param numbers: {name of a category: its number, from 0 to len - 1}.
    :param size: (width, height) [pixels] of the image that the boxes are in; None while nobody knows.
    :param rotate: degrees clockwise that make that image upright: 0, 90, 180 or 270. The boxes are turned with it.
    :param max_boxes: messages with more detections are refused.
    :return: (n, 6) float32, finite, in the message's order: x1, y1, x2, y2 in widths and heights of the upright image
        (not clipped to it), score, number of the category.
    :raises ValueError: no such turn.
    :raises SampleError: the message cannot be used.
    """
    found = _list_of(msg, "detections")
    if len(found) > max_boxes:
        raise SampleError("too many detections", f"{len(found)}, at most {max_boxes}")
    if size is None:
        raise SampleError(
            "detections came before the size of the image is known",
            "no frame has been received yet; where there is no camera, set detections.image_width and image_height",
        )
    rows = [row for detection in found if (row := _row(detection, numbers)) is not None]
    boxes = np.array(rows, np.float64).reshape(-1, BOX)
    boxes[:, :4] /= (*size, *size)
    boxes[:, :4] = _turned(boxes[:, :4], rotate)
    with np.errstate(over="ignore"):
        narrow = boxes.astype(np.float32)
    if not np.isfinite(narrow).all():
        raise SampleError("detections are not finite", "far outside the image")
    return narrow


def class_ids(msg: Any) -> list[str]:
    """What each detection is, by the best of its results; those without results are passed over.

    :param msg: has `detections`, each with `results`.
    :raises SampleError: the message cannot be used.
    """
    return [best[0] for detection in _list_of(msg, "detections") if (best := _best(detection)) is not None]


def _row(detection: Any, numbers: Mapping[str, int]) -> tuple[float, ...] | None:
    """One detection: x1, y1, x2, y2 [pixels], score, category; None to pass it over."""
    best = _best(detection)
    if best is None:
        return None
    class_id, score = best
    category = _category(class_id, numbers)
    if category is None:
        return None
    return (*_hull(_part_of(detection, "bbox")), score, category)


def _best(detection: Any) -> tuple[str, float] | None:
    """Class and score of the best result; None where there is none."""
    hypotheses = [_part_of(result, "hypothesis") for result in _list_of(detection, "results")]
    if not hypotheses:
        return None
    scores = [_number_of(hypothesis, "score") for hypothesis in hypotheses]
    best = max(range(len(scores)), key=scores.__getitem__)
    return text_of(hypotheses[best], "class_id"), scores[best]


def _category(class_id: str, numbers: Mapping[str, int]) -> int | None:
    if class_id in numbers:
        return numbers[class_id]
    if class_id.isascii() and class_id.isdecimal() and len(class_id) <= _DIGITS and int(class_id) < len(numbers):
        return int(class_id)
    return numbers.get(OTHER)


def _hull(bbox: Any) -> tuple[float, float, float, float]:
    """The upright box around a box that may be turned: left, top, right, bottom [pixels]."""
    centre = _part_of(bbox, "center")
    position = getattr(centre, "position", centre)
    x, y = _number_of(position, "x"), _number_of(position, "y")
    theta = _number_of(centre, "theta")
    width, height = _number_of(bbox, "size_x"), _number_of(bbox, "size_y")
    if width <= 0 or height <= 0:
        raise SampleError("detections have no size", f"{width:g}x{height:g}")
    if abs(theta) >= _UPRIGHT:
        cos, sin = abs(math.cos(theta)), abs(math.sin(theta))
        width, height = width * cos + height * sin, width * sin + height * cos
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _turned(sides: npt.NDArray[np.float64], rotate: int) -> npt.NDArray[np.float64]:
    """Boxes (n, 4) of an image after it was turned clockwise; all in widths and heights of the image."""
    x1, y1, x2, y2 = sides.T
    turned = {
        0: (x1, y1, x2, y2),
        90: (1 - y2, x1, 1 - y1, x2),
        180: (1 - x2, 1 - y2, 1 - x1, 1 - y1),
        270: (y1, 1 - x2, y2, 1 - x1),
    }
    if rotate not in turned:
        raise ValueError(f"rotate must be 0, 90, 180 or 270, not {rotate}")
    return np.stack(turned[rotate], axis=1)


def _list_of(msg: Any, name: str) -> Sequence[Any]:
    values = getattr(msg, name, None)
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise SampleError("malformed message", name)
    return values


def _part_of(msg: Any, name: str) -> Any:
    part = getattr(msg, name, None)
    if part is None:
        raise SampleError("malformed message", name)
    return part


def _number_of(msg: Any, name: str) -> float:
    value = getattr(msg, name, None)
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise SampleError("malformed message", name)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise SampleError("detections are not finite", name)
    return number
