# SPDX-License-Identifier: Apache-2.0
"""A sensor in the storm: a process that publishes a scene in real time, as the episodes say.

    python -m karmma_ros.soak.sensors SENSOR SECONDS SEED START_NS

SENSOR: video, flow or audio. START_NS: ROS time at which the storm began or will begin; a process that is started later
joins where the storm is.
"""

from __future__ import annotations

import array
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

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

    def __init__(self, name: str, scene: Scene, storm: Storm, start_ns: int) -> None:
        """:param name: video, flow or audio."""
        self._name, self._scene, self._storm, self._start_ns = name, scene, storm, start_ns
        self._held: Any = None  # what a shuffled sensor sends after the next

    def tick(self, index: int) -> list[Any]:
        """The messages that are due with frame `index`; called once for each, in order."""
        episode = self._storm.episodes[self._storm.number_at(index / RATE)]
        rng = np.random.default_rng([self._storm.seed, SENSORS.index(self._name), index])
        kind = getattr(episode, self._name)
        if self._name == "video":
            message = self._camera(index, round(episode.start_s * RATE), kind, rng)
        else:
            message = (self._flow if self._name == "flow" else self._sound)(index, kind, rng)
        held, self._held = self._held, None
        if kind == "shuffled" and held is None:
            self._held = message
            return []
        return [one for one in (message, held) if one is not None] * (10 if kind == "flood" else 1)

    def _stamp(self, index: int) -> int:
        return self._start_ns + index * 10**9 // RATE

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
            "late": now - LATE_NS["video"],
        }
        message = image_to_msg(stamps.get(kind, now), "camera", rgb)
        if kind == "huge":
            message.height = message.width = message.step = 2**31
        return _spoiled(message, rng) if kind == "garbage" else message

    def _flow(self, index: int, kind: str, rng: np.random.Generator) -> Any:
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
        now = self._stamp(index)
        message = image_to_msg({"no stamp": 0, "late": now - LATE_NS["flow"]}.get(kind, now), "camera", field)
        return _spoiled(message, rng) if kind == "garbage" else message

    def _sound(self, index: int, kind: str, rng: np.random.Generator) -> Any:
        if kind == "off" or (kind == "gaps" and rng.random() < 0.3):
            return None
        samples, rate = self._scene.chunk(index), SOUND_RATE
        stamp = self._stamp(index) - 10**9 // RATE
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
        elif kind == "late":
            stamp -= LATE_NS["audio"]
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


def main() -> int:
    """The process."""
    name, seconds, seed, start_ns = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    transport.prepare()
    sensor = Sensor(name, Scene(seed, name), make_storm(seconds, seed), start_ns)
    rclpy.init()
    publisher = _publisher(rclpy.create_node(f"storm_{name}"), name)
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


def _publisher(node: Node, name: str) -> Publisher:
    if name == "audio":
        return node.create_publisher(Audio, name, QoSProfile(depth=50))
    topic = {"video": "image", "flow": "flow"}[name]
    return node.create_publisher(Image, topic, QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))


if __name__ == "__main__":
    sys.exit(main())
