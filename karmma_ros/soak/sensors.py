# SPDX-License-Identifier: Apache-2.0
"""The sensors in the storm: a process that publishes a scene in real time, each topic as its episode says.

    python -m karmma_ros.soak.sensors SECONDS SEED START_NS

START_NS: ROS time at which the storm began or will begin; a process that is started later joins where the storm is.
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
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from karmma_msgs.msg import Audio
from karmma_ros import transport
from karmma_ros.demo.sensors import set_header
from karmma_ros.flow import FlowProducer
from karmma_ros.messages import image_to_msg
from karmma_ros.soak.storm import RATE, Storm, make_storm
from karmma_ros.tabletop.failures import cover
from karmma_ros.tabletop.sequence import make_sequence

SIZE = (320, 240)
SOUND_RATE = 16000
LOOP_S = 6.0  # length of the scene, which is repeated
HOUR_NS = 3_600_000_000_000
CHUNK = SOUND_RATE // RATE


class Scene:
    """A rendered scene in memory."""

    def __init__(self, seed: int) -> None:
        sequence = make_sequence(seed, "test", duration_s=LOOP_S, size=SIZE, fps=RATE)
        self.frames: list[npt.NDArray[np.uint8]] = [np.asarray(frame, np.uint8) for frame in sequence.frames()]
        producer = FlowProducer((160, 120))
        fields = [producer.push(i * 10**9 // RATE, frame) for i, frame in enumerate(self.frames)]
        self.flows = [field if field is not None else fields[1] for field in fields]
        self.sound = np.asarray(sequence.sound(), np.float32)
        rng = np.random.default_rng(seed)
        self.covers = [cover("hand", SIZE, rng) for _ in range(8)]

    def frame(self, index: int) -> npt.NDArray[np.uint8]:
        return self.frames[index % len(self.frames)]

    def flow(self, index: int) -> npt.NDArray[np.float32]:
        field = self.flows[index % len(self.flows)]
        assert field is not None
        return field * np.float32(field.shape[1])  # pixels per second

    def chunk(self, index: int) -> npt.NDArray[np.float32]:
        begin = index * CHUNK % (len(self.sound) - CHUNK)
        return self.sound[begin : begin + CHUNK]


class Sensors:
    """Publishes; one method for each sensor, called once a frame."""

    def __init__(self, scene: Scene, storm: Storm, start_ns: int) -> None:
        rclpy.init()
        self._node = rclpy.create_node("storm")
        profile = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._images = self._node.create_publisher(Image, "image", profile)
        self._flows = self._node.create_publisher(Image, "flow", profile)
        self._sounds = self._node.create_publisher(Audio, "audio", QoSProfile(depth=50))
        self._scene, self._storm, self._start_ns = scene, storm, start_ns
        self._held: dict[str, Any] = {}  # what a shuffled sensor sends after the next

    def tick(self, index: int) -> None:
        """Everything of frame `index`."""
        episode = self._storm.episodes[self._storm.number_at(index / RATE)]
        rng = np.random.default_rng([self._storm.seed, index])
        first = round(episode.start_s * RATE)
        self._send(self._images, "video", episode.video, self._camera(index, first, episode.video, rng))
        self._send(self._flows, "flow", episode.flow, self._flow(index, episode.flow, rng))
        self._send(self._sounds, "audio", episode.audio, self._sound(index, episode.audio, rng))

    def _send(self, publisher: Any, name: str, kind: str, message: Any) -> None:
        held = self._held.pop(name, None)
        if kind == "shuffled" and held is None:
            self._held[name] = message
            return
        for one in (message, held):
            if one is not None:
                for _ in range(10 if kind == "flood" else 1):
                    publisher.publish(one)

    def _stamp(self, index: int) -> int:
        return self._start_ns + index * 10**9 // RATE

    def _camera(self, index: int, first: int, kind: str, rng: np.random.Generator) -> Any:
        if kind == "off" or (kind == "lossy" and rng.random() < 0.5):
            return None
        pictures: dict[str, Callable[[], npt.NDArray[np.uint8]]] = {
            "covered": lambda: self._scene.covers[index % len(self._scene.covers)],
            "black": lambda: np.zeros((SIZE[1], SIZE[0], 3), np.uint8),
            "frozen": lambda: self._scene.frame(first),
        }
        rgb = pictures.get(kind, lambda: self._scene.frame(index))()
        stamp = {"future": self._stamp(index) + HOUR_NS, "no stamp": 0, "repeated": self._stamp(first)}
        message = image_to_msg(stamp.get(kind, self._stamp(index)), "camera", rgb)
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
        message = image_to_msg(0 if kind == "no stamp" else self._stamp(index), "camera", field)
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
    seconds, seed, start_ns = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    transport.prepare()
    scene = Scene(seed)
    sensors = Sensors(scene, make_storm(seconds, seed), start_ns)
    steady_ns = time.monotonic_ns() + start_ns - time.time_ns()
    index = max(0, -(-(time.time_ns() - start_ns) * RATE // 10**9))
    while index < seconds * RATE:
        early_ns = steady_ns + index * 10**9 // RATE - time.monotonic_ns()
        if early_ns > 0:
            time.sleep(early_ns / 1e9)
        sensors.tick(index)
        index += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
