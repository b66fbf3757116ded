# SPDX-License-Identifier: Apache-2.0
"""A sensor in the storm: a process that publishes a scene in real time, as the episodes say.

    python -m karmma_ros.soak.sensors SENSOR SECONDS SEED START_NS TRANSPORT

SENSOR: video, flow or audio. START_NS: ROS time at which the storm began or will begin; a process that is started later
joins where the storm is. TRANSPORT: of the camera, raw or compressed.
"""

from __future__ import annotations

import array
import sys
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from karmma_msgs.msg import Audio
from karmma_ros import transport
from karmma_ros.demo.sensors import set_header
from karmma_ros.flow import FlowProducer
from karmma_ros.messages import image_to_msg
from karmma_ros.soak.storm import RATE, SENSORS, SLOW, Storm, make_storm
from karmma_ros.tabletop.failures import cover
from karmma_ros.tabletop.sequence import make_sequence

SIZE = (320, 240)
SOUND_RATE = 16000
LOOP_S = 4.0  # length of the scene, which is repeated
HOUR_NS = 3_600_000_000_000
LATE_NS = {"video": 200_000_000, "flow": 300_000_000, "audio": 600_000_000}  # by which late stamps lag
DRIFT = 0.02  # by which a drifting clock is slow
CHUNK = SOUND_RATE // RATE


class Scene:
    """A rendered scene in memory: as much of it as a sensor needs."""

    def __init__(self, seed: int, sensor: str) -> None:
        sequence = make_sequence(seed, "test", duration_s=LOOP_S, size=SIZE, fps=RATE)
        self.frames: list[npt.NDArray[np.uint8]] = []
        self.flows: list[npt.NDArray[np.float32]] = []
        self.covers: list[npt.NDArray[np.uint8]] = []
        self.sound = np.zeros(2 * CHUNK, np.float32)
        if sensor == "audio":
            self.sound = np.asarray(sequence.sound(), np.float32)
            return
        self.frames = [np.asarray(frame, np.uint8) for frame in sequence.frames()]
        rng = np.random.default_rng(seed)
        self.covers = [cover("hand", SIZE, rng) for _ in range(8)]
        if sensor == "flow":
            producer = FlowProducer((160, 120))
            fields = [producer.push(i * 10**9 // RATE, frame) for i, frame in enumerate(self.frames)]
            known = [field for field in fields if field is not None]
            self.flows = [known[0], *known]  # the first frame has none

    def frame(self, index: int) -> npt.NDArray[np.uint8]:
        return self.frames[index % len(self.frames)]

    def flow(self, index: int) -> npt.NDArray[np.float32]:
        field = self.flows[index % len(self.flows)]
        return field * np.float32(field.shape[1])  # pixels per second

    def chunk(self, index: int) -> npt.NDArray[np.float32]:
        begin = index * CHUNK % (len(self.sound) - CHUNK)
        return self.sound[begin : begin + CHUNK]


class Sensor:
    """What a sensor sends, whoever publishes it."""

    def __init__(self, name: str, scene: Scene, storm: Storm, start_ns: int, *, compressed: bool = False) -> None:
        """:param name: video, flow or audio; compressed: the camera sends JPEG."""
        self._name, self._scene, self._storm, self._start_ns = name, scene, storm, start_ns
        self._compressed = compressed
        self._held: Any = None  # what a shuffled sensor sends after the next

    def tick(self, index: int) -> list[Any]:
        """The messages that are due with frame `index`; called once for each, in order."""
        episode = self._storm.episodes[self._storm.number_at(index / RATE)]
        rng = np.random.default_rng([self._storm.seed, SENSORS.index(self._name), index])
        kind = getattr(episode, self._name)
        send = {"video": self._camera, "flow": self._flow, "audio": self._sound}[self._name]
        message = send(index, round(episode.start_s * RATE), kind, rng)
        held, self._held = self._held, None
        if kind == "shuffled" and held is None:
            self._held = message
            return []
        return [one for one in (message, held) if one is not None] * (10 if kind == "flood" else 1)

    def _stamp(self, index: int) -> int:
        return self._start_ns + index * 10**9 // RATE

    def _late(self, index: int, first: int, kind: str) -> int:
        """By how many nanoseconds the stamp of a sensor that is `late` or `drifting` lags."""
        if kind == "drifting":
            return round((index - first) * DRIFT * 1e9 / RATE)
        return LATE_NS[self._name] if kind == "late" else 0

    def _camera(self, index: int, first: int, kind: str, rng: np.random.Generator) -> Any:
        if kind == "off" or (kind == "lossy" and rng.random() < 0.5) or (kind == "slow" and index % SLOW):
            return None
        pictures: dict[str, Callable[[], npt.NDArray[np.uint8]]] = {
            "covered": lambda: self._scene.covers[index % len(self._scene.covers)],
            "black": lambda: np.zeros((SIZE[1], SIZE[0], 3), np.uint8),
            "frozen": lambda: self._scene.frame(first),
        }
        rgb = pictures.get(kind, lambda: self._scene.frame(index))()
        now = self._stamp(index)
        stamps = {
            "future": now + HOUR_NS,
            "no stamp": 0,
            "repeated": self._stamp(first),
        }
        stamp = stamps.get(kind, now - self._late(index, first, kind))
        if self._compressed:
            return _jpeg(stamp, rgb, kind, rng)
        message = image_to_msg(stamp, "camera", rgb)
        if kind == "huge":
            message.height = message.width = message.step = 2**31
        return _spoiled(message, rng) if kind == "garbage" else message

    def _flow(self, index: int, first: int, kind: str, rng: np.random.Generator) -> Any:
        if kind == "off":
            return None
        field = self._scene.flow(index)
        if kind == "zeros":
            field = np.zeros_like(field)
        elif kind == "noise":
            field = rng.normal(0, 50, field.shape).astype(np.float32)
        elif kind == "not finite":
            field = field.copy()
            field[rng.integers(field.shape[0])] = np.nan if rng.random() < 0.5 else np.inf
        stamp = 0 if kind == "no stamp" else self._stamp(index) - self._late(index, first, kind)
        message = image_to_msg(stamp, "camera", field)
        return _spoiled(message, rng) if kind == "garbage" else message

    def _sound(self, index: int, first: int, kind: str, rng: np.random.Generator) -> Any:
        if kind == "off" or (kind == "gaps" and rng.random() < 0.3):
            return None
        samples, rate = self._scene.chunk(index), SOUND_RATE
        stamp = self._stamp(index) - 10**9 // RATE - self._late(index, first, kind)
        if kind == "muted":
            samples = np.zeros_like(samples)
        elif kind == "not finite":
            samples = np.where(rng.random(len(samples)) < 0.01, np.nan, samples).astype(np.float32)
        elif kind == "loud":
            samples = samples * np.float32(1e6)
        elif kind == "overlaps":
            stamp -= 40_000_000
        elif kind == "other rate":
            samples, rate = np.repeat(samples, 3), 3 * SOUND_RATE
        elif kind == "future":
            stamp += HOUR_NS
        message = Audio(sample_rate=rate, channels=1)
        message.samples = array.array("f", np.ascontiguousarray(samples, np.float32).tobytes())
        set_header(message.header, stamp, "microphone")
        if kind == "garbage":
            message.sample_rate, message.channels = (int(v) for v in rng.integers(0, 2**32, 2))
        return message


def _spoiled(message: Any, rng: np.random.Generator) -> Any:
    """A message one of whose fields contradicts the others."""
    kind = rng.integers(6)
    if kind == 0:
        message.data = message.data[: int(rng.integers(len(message.data)))]
    elif kind == 1:
        message.step = int(rng.integers(2**32))
    elif kind == 2:
        message.height = int(rng.integers(2**32))
    elif kind == 3:
        message.width = int(rng.integers(2**32))
    elif kind == 4:
        message.encoding = "".join(chr(c) for c in rng.integers(32, 127, 12))
    else:
        message.height = message.width = message.step = 0
    return message


def _jpeg(stamp_ns: int, rgb: npt.NDArray[np.uint8], kind: str, rng: np.random.Generator) -> CompressedImage:
    """The same of a camera that compresses; what is huge is so in its header, and what is spoiled ends early or has
    other bytes somewhere."""
    data = bytearray(cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes())
    if kind == "huge":
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = b"\xff" * 4  # height and width
    elif kind == "garbage" and rng.random() < 0.5:
        del data[int(rng.integers(len(data))) :]
    elif kind == "garbage":
        at = int(rng.integers(len(data) - 32))
        data[at : at + 32] = rng.bytes(32)
    message = CompressedImage(format="rgb8; jpeg compressed bgr8", data=array.array("B", data))
    set_header(message.header, stamp_ns, "camera")
    return message


def main() -> int:
    """The process."""
    name, seconds, seed, start_ns = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    compressed = sys.argv[5] == "compressed"
    transport.prepare()
    sensor = Sensor(name, Scene(seed, name), make_storm(seconds, seed), start_ns, compressed=compressed)
    rclpy.init()
    publisher = _publisher(rclpy.create_node(f"storm_{name}"), name, compressed)
    steady_ns = time.monotonic_ns() + start_ns - time.time_ns()
    index = max(0, -(-(time.time_ns() - start_ns) * RATE // 10**9))
    while index < seconds * RATE:
        early_ns = steady_ns + index * 10**9 // RATE - time.monotonic_ns()
        if early_ns > 0:
            time.sleep(early_ns / 1e9)
        for message in sensor.tick(index):
            publisher.publish(message)
        index += 1
    return 0


def _publisher(node: Node, name: str, compressed: bool) -> Publisher:
    if name == "audio":
        return node.create_publisher(Audio, name, QoSProfile(depth=50))
    recent = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    if name == "flow":
        return node.create_publisher(Image, "flow", recent)
    if compressed:
        return node.create_publisher(CompressedImage, "image/compressed", recent)
    return node.create_publisher(Image, "image", recent)


if __name__ == "__main__":
    sys.exit(main())
