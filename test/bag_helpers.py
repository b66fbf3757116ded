# SPDX-License-Identifier: Apache-2.0
"""Bags of every kind for the tests, and the small one that ships with them (test/bags/make_small_bag.py makes it)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from interface_package import VISION_MSGS
from rosbags.typesys import get_types_from_msg

from karmma_ros.bags.writer import BagWriter
from karmma_ros.decode_detections import DETECTIONS

DATA = Path(__file__).parent / "bags" / "data"
SMALL = DATA / "tabletop"
SMALL_INTERVALS = DATA / "intervals.csv"

NS = 1_000_000_000
START_NS = 1_700_000_000 * NS
RATE = 30
SOUND_RATE = 16_000
CHUNK = 1600


def picture(index: int, *, height: int = 48, width: int = 64) -> np.ndarray:
    """Stripes that move, (height, width, 3) uint8: no two neighbours alike."""
    stripes = (np.arange(width) + 2 * index) // 6 % 2 * 120 + 60
    rgb = np.repeat(np.tile(stripes, (height, 1))[..., None], 3, axis=2)
    rgb[:, :, 1] = rgb[:, :, 1] * 2 // 3
    return rgb.astype(np.uint8)


def frame_stamps(seconds: float, start_ns: int = START_NS) -> list[int]:
    """Stamps at 30 Hz."""
    return [start_ns + round(i * NS / RATE) for i in range(round(seconds * RATE))]


Box = tuple[str, float, float, float, float, float]


def _write_detections(bag: BagWriter, topic: str, stamp_ns: int, boxes: Sequence[Box], log_ns: int) -> None:
    types = bag.types
    if DETECTIONS not in types.fielddefs:
        for name, definition in VISION_MSGS.items():
            types.register(get_types_from_msg(definition, f"vision_msgs/msg/{name}"))

    def make(kind: str, **fields: Any) -> Any:
        package, _, name = kind.rpartition("/")
        return types.types[f"{package or 'vision_msgs'}/msg/{name}"](**fields)

    stamp = make("builtin_interfaces/Time", sec=stamp_ns // NS, nanosec=stamp_ns % NS)
    header = make("std_msgs/Header", stamp=stamp, frame_id="camera")
    pose = make(
        "geometry_msgs/PoseWithCovariance",
        pose=make(
            "geometry_msgs/Pose",
            position=make("geometry_msgs/Point", x=0.0, y=0.0, z=0.0),
            orientation=make("geometry_msgs/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
        ),
        covariance=np.zeros(36),
    )
    detections = []
    for class_id, score, x, y, width, height in boxes:
        hypothesis = make("ObjectHypothesis", class_id=class_id, score=score)
        center = make("Pose2D", position=make("Point2D", x=x, y=y), theta=0.0)
        detections.append(
            make(
                "Detection2D",
                header=header,
                results=[make("ObjectHypothesisWithPose", hypothesis=hypothesis, pose=pose)],
                bbox=make("BoundingBox2D", center=center, size_x=width, size_y=height),
                id="",
            )
        )
    message = make("Detection2DArray", header=header, detections=detections)
    bag.message(topic, DETECTIONS, message, log_ns=log_ns)


@dataclass
class Recording:
    """What goes into a bag: (log time, writer of one message), put in order when it is written."""

    events: list[tuple[int, Callable[[BagWriter], None]]] = field(default_factory=list)

    def add(self, log_ns: int, write: Callable[[BagWriter], None]) -> None:
        self.events.append((log_ns, write))

    def camera(
        self,
        stamps: Sequence[int],
        *,
        topic: str = "/camera/image_raw",
        lag_s: float = 0.01,
        compressed: bool = False,
        pictures: Callable[[int], np.ndarray] = picture,
    ) -> Recording:
        """Frames with these stamps, received `lag_s` later."""
        for index, stamp in enumerate(stamps):
            log = stamp + round(lag_s * NS)
            rgb = pictures(index)

            def write(bag: BagWriter, stamp: int = stamp, rgb: np.ndarray = rgb, log: int = log) -> None:
                (bag.jpeg if compressed else bag.image)(topic, stamp, rgb, log_ns=log)

            self.add(log, write)
        return self

    def flow(self, stamps: Sequence[int], *, topic: str = "/flow", lag_s: float = 0.015) -> Recording:
        """Smooth fields of 16x12."""
        for index, stamp in enumerate(stamps):
            log = stamp + round(lag_s * NS)
            field_ = np.full((12, 16, 2), 0.1 + 0.01 * (index % 7), np.float32)
            self.add(log, lambda bag, s=stamp, f=field_, g=log: bag.flow(topic, s, f, log_ns=g))
        return self

    def detections(
        self,
        stamps: Sequence[int],
        *,
        topic: str = "/detections",
        lag_s: float = 0.03,
        boxes: Callable[[int], Sequence[Box]] = lambda index: [("cup", 0.9, 32.0, 24.0, 16.0, 12.0)],
    ) -> Recording:
        """What is found in the images with these stamps: class, score, centre and size [pixels] of each box."""
        for index, stamp in enumerate(stamps):
            log, found = stamp + round(lag_s * NS), boxes(index)
            self.add(log, lambda bag, s=stamp, b=found, g=log: _write_detections(bag, topic, s, b, g))
        return self

    def sound(
        self,
        seconds: float,
        *,
        start_ns: int = START_NS,
        topic: str = "/audio",
        lag_s: float = 0.005,
        level: float = 0.3,
        chunk: int = CHUNK,
        channels: int = 1,
        lost: Callable[[float], bool] = lambda t_s: False,
    ) -> Recording:
        """A tone in chunks that arrive when they are over; `lost`: which, by the time of their start."""
        tone = self.tone(seconds, level)
        for begin in range(0, len(tone) - chunk + 1, chunk):
            if lost(begin / SOUND_RATE):
                continue
            stamp = start_ns + begin * NS // SOUND_RATE
            log = stamp + chunk * NS // SOUND_RATE + round(lag_s * NS)
            samples = np.repeat(tone[begin : begin + chunk, None], channels, axis=1)
            self.add(log, lambda bag, s=stamp, x=samples, g=log: bag.audio(topic, s, x, SOUND_RATE, log_ns=g))
        return self

    @staticmethod
    def tone(seconds: float, level: float = 0.3) -> np.ndarray:
        """float32 (n,): a tone that rises."""
        t = np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE
        return (np.sin(2 * np.pi * (300 + 100 * t) * t) * level).astype(np.float32)

    def write(self, path: Path, *, storage: str = "mcap") -> Path:
        """Writes the bag; its path."""
        with BagWriter(path, storage=storage) as bag:
            for _, write in sorted(self.events, key=lambda event: event[0]):
                write(bag)
        return path


def everything(seconds: float = 2.0, **camera: Any) -> Recording:
    """Camera, flow and sound for some seconds."""
    stamps = frame_stamps(seconds)
    return Recording().camera(stamps, **camera).flow(stamps[1:]).sound(seconds)


def changes(states: Sequence[str]) -> Iterator[str]:
    """The states in the order in which they came."""
    last = ""
    for state in states:
        if state != last:
            yield state
        last = state
