# SPDX-License-Identifier: Apache-2.0
"""The demo's topics as a camera driver, a flow node and a microphone driver would publish them."""

from __future__ import annotations

import array
from collections.abc import Collection

import numpy as np
import numpy.typing as npt
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from karmma_msgs.msg import Audio
from karmma_ros.demo.sources import SOUND_RATE
from karmma_ros.messages import flow_to_msg, image_to_msg

__all__ = ["Sensors", "set_header"]

_NS = 1_000_000_000


class Sensors:
    """Publishers of `image` (rgb8), `flow` (32FC2, pixels per second at working size) and `audio` (mono, 16 kHz).

    Messages are built before their moment, so that publishing takes no longer than it must.
    """

    def __init__(self, modalities: Collection[str]) -> None:
        """:param modalities: those that are published and heard: of "video", "flow" and "audio"."""
        self._node = Node("demo_sensors")

        def publisher(modality: str, kind: type, topic: str, depth: int) -> Publisher | None:
            wanted = modality in modalities
            return self._node.create_publisher(kind, topic, _best_effort(depth)) if wanted else None

        self._image = publisher("video", Image, "image", 2)
        self._flow = publisher("flow", Image, "flow", 2)
        self._audio = publisher("audio", Audio, "audio", 50)

    def matched(self) -> bool:
        """Whether every topic has a subscriber."""
        publishers = [self._image, self._flow, self._audio]
        return all(publisher is None or publisher.get_subscription_count() > 0 for publisher in publishers)

    def image(self, stamp_ns: int, rgb: npt.NDArray[np.uint8]) -> Image:
        """A camera message of `rgb` (H, W, 3)."""
        return image_to_msg(stamp_ns, "camera", rgb)

    def flow(self, stamp_ns: int, flow: npt.NDArray[np.float32]) -> Image:
        """A flow message of `flow` (h, w, 2), image widths per second."""
        return flow_to_msg(stamp_ns, "camera", flow)

    def publish_image(self, message: Image) -> None:
        if self._image is not None:
            self._image.publish(message)

    def publish_flow(self, message: Image) -> None:
        if self._flow is not None:
            self._flow.publish(message)

    def publish_audio(self, stamp_ns: int, samples: array.array[float]) -> None:
        """Publishes mono float32 samples whose first was taken at `stamp_ns`."""
        if self._audio is not None:
            message = Audio(sample_rate=SOUND_RATE, channels=1, samples=samples)
            set_header(message.header, stamp_ns, "microphone")
            self._audio.publish(message)

    def destroy(self) -> None:
        """Takes the sensors off the network."""
        self._node.destroy_node()


def _best_effort(depth: int) -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)


def set_header(header: Header, stamp_ns: int, frame_id: str) -> None:
    """Stamps a message [ns] and says where it was sensed."""
    header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, _NS)
    header.frame_id = frame_id
