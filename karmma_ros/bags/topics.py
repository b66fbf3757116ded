# SPDX-License-Identifier: Apache-2.0
"""Which topic of a bag is which sensor: by type and first message, or as the user says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt

from karmma_ros.bags.reader import Bag, Topic, header_ns
from karmma_ros.bags.sound import SOUND_TYPES
from karmma_ros.decode import check_stamp, compressed_to_rgb, image_to_rgb
from karmma_ros.decode_detections import DETECTIONS
from karmma_ros.errors import KarmmaError, SampleError, UsageError

__all__ = [
    "COMPRESSED",
    "FUTURE_S",
    "IMAGE",
    "NONE",
    "OPTIONS",
    "Sensors",
    "candidates",
    "choose",
    "first_picture",
    "first_stamp_ns",
    "origin_ns",
    "picture_decoder",
    "usual_rate_hz",
]

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
OPTIONS: Mapping[str, str] = {  # modality -> option
    "video": "--image",
    "flow": "--flow",
    "audio": "--audio",
    "detections": "--detections",
}
FUTURE_S = 0.5  # the node's `future_tolerance`: stamps further ahead of log time are refused
NONE = "none"  # an option's value: this modality is left out

_TYPES: Mapping[str, tuple[str, ...]] = {
    "video": (IMAGE, COMPRESSED),
    "flow": (IMAGE,),
    "audio": SOUND_TYPES,
    "detections": (DETECTIONS,),
}
_DEPTH = ("16UC1", "32FC1")
_PROBED = 30  # messages looked at to know a topic


@dataclass(frozen=True)
class Sensors:
    """The topic of each modality; None where there is none."""

    video: Topic | None = None
    flow: Topic | None = None
    audio: Topic | None = None
    detections: Topic | None = None

    def items(self) -> list[tuple[str, Topic]]:
        """(modality, topic) of those that are there."""
        topics = [(modality, getattr(self, modality)) for modality in OPTIONS]
        return [(modality, topic) for modality, topic in topics if topic is not None]

    def modality_of(self) -> dict[str, str]:
        """Topic name -> modality."""
        return {topic.name: modality for modality, topic in self.items()}


def candidates(bag: Bag) -> dict[str, list[Topic]]:
    """Topics that could be each modality's sensor. Of a camera recorded raw and compressed, the raw one.

    :raises BagError: a message cannot be read.
    """
    found: dict[str, list[Topic]] = {modality: [] for modality in OPTIONS}
    for topic in bag.topics.values():
        modality = _modality(bag, topic)
        if modality is not None:
            found[modality].append(topic)
    raw = {topic.name for topic in found["video"] if topic.type == IMAGE}
    found["video"] = [t for t in found["video"] if t.type == IMAGE or t.name.removesuffix("/compressed") not in raw]
    return found


def _modality(bag: Bag, topic: Topic) -> str | None:
    if not topic.count:
        return None
    if topic.type in SOUND_TYPES:
        return "audio"
    if topic.type == DETECTIONS and topic.defined:  # of its two layouts, nothing else tells which
        return "detections"
    if topic.type not in (IMAGE, COMPRESSED):
        return None
    first = bag.first(topic.name)
    try:
        message = first.decode() if first is not None else None
    except SampleError:
        return "video"  # what is wrong with it is told when it is used
    if topic.type == COMPRESSED:
        return None if message is None or "compressedDepth" in message.format else "video"
    if message is None or message.encoding in _DEPTH:
        return None
    return "flow" if message.encoding == "32FC2" else "video"


def choose(bag: Bag, wanted: Mapping[str, str | None]) -> Sensors:
    """The sensors to use.

    :param wanted: modality -> topic, `none`, or None: found by type.
    :raises UsageError: a topic that is not there or of another type, or several that could be meant.
    :raises BagError: a message cannot be read.
    """
    found: dict[str, list[Topic]] | None = None
    chosen: dict[str, Topic | None] = {}
    for modality, option in OPTIONS.items():
        name = wanted.get(modality)
        if name == NONE:
            chosen[modality] = None
        elif name is not None:
            chosen[modality] = _named(bag, name, modality)
        else:
            found = candidates(bag) if found is None else found
            chosen[modality] = _only(bag, found[modality], option)
    return Sensors(**chosen)


def _named(bag: Bag, name: str, modality: str) -> Topic:
    option = OPTIONS[modality]
    topic = bag.topics.get(name) or bag.topics.get(f"/{name}")
    if topic is None:
        raise UsageError(f"{option} {name}: no such topic in {bag.path}: it has {', '.join(bag.topics) or 'none'}")
    if topic.type not in _TYPES[modality]:
        raise UsageError(f"{option} {name}: is {topic.type}, not {' or '.join(_TYPES[modality])}")
    return topic


def _only(bag: Bag, topics: Sequence[Topic], option: str) -> Topic | None:
    if len(topics) > 1:
        names = ", ".join(topic.name for topic in topics)
        raise UsageError(f"{bag.path}: {names} could all be meant: choose one with {option}")
    return topics[0] if topics else None


def first_stamp_ns(bag: Bag, topic: Topic) -> int | None:
    """The first stamp of a topic that is one: neither 0 nor ahead of log time.

    Where all are ahead (a clock that is, which `replay --stamp-offset` sets right), the first.
    """
    ahead_ns: int | None = None
    for message in bag.messages([topic.name]):
        try:
            stamp_ns = header_ns(message.decode())
        except SampleError:
            continue
        try:
            check_stamp(stamp_ns, message.log_ns, FUTURE_S)
        except SampleError:
            ahead_ns = stamp_ns if ahead_ns is None and stamp_ns > 0 else ahead_ns
            continue
        return stamp_ns
    return ahead_ns


def usual_rate_hz(bag: Bag, topic: Topic) -> float:
    """Messages per second, by the usual interval at the beginning: lost ones and outages do not count. 1 to 240."""
    logs = [message.log_ns for message in islice(bag.messages([topic.name]), _PROBED)]
    intervals = sorted(after - before for before, after in pairwise(logs) if after > before)
    return min(max(1e9 / intervals[len(intervals) // 2], 1.0), 240.0) if intervals else 30.0


def origin_ns(bag: Bag, sensors: Sensors) -> tuple[str, int]:
    """The stamp that times of a bag count from, and whose it is: the camera's first, else the first of what there is.

    :raises KarmmaError: there is none.
    """
    for modality, topic in sensors.items():
        stamp_ns = first_stamp_ns(bag, topic)
        if stamp_ns is not None:
            return modality, stamp_ns
    raise KarmmaError(f"{bag.path}: no camera, flow or sound with a stamp; `karmma record-check` says more")


def picture_decoder(topic: Topic) -> Callable[..., npt.NDArray[np.uint8]]:
    """`image_to_rgb` or `compressed_to_rgb`: what decodes a camera's messages."""
    return compressed_to_rgb if topic.type == COMPRESSED else image_to_rgb


def first_picture(bag: Bag, topic: Topic, rotate: int) -> tuple[int, int]:
    """(width, height) of a camera's pictures, upright.

    :raises KarmmaError: none of its first messages can be decoded.
    """
    to_rgb = picture_decoder(topic)
    fault = "it has no messages"
    for message in islice(bag.messages([topic.name]), _PROBED):
        try:
            height, width = to_rgb(message.decode(), rotate=rotate).shape[:2]
            return width, height
        except SampleError as error:
            fault = str(error)
    raise KarmmaError(f"{bag.path}: no picture on {topic.name} can be decoded ({fault}): choose another with --image")
