# SPDX-License-Identifier: Apache-2.0
"""What rclpy and DDS cost by themselves: a node with the action node's topics that looks at nothing it hears.

    python -m karmma_benchmarks.dds_echo IMAGE_TYPE IMAGE_TOPIC TOPIC

It answers every image (IMAGE_TYPE: Image or CompressedImage) at once, from the callback, with a prediction of the usual
size that always says the same.
"""

from __future__ import annotations

import sys
import time

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from karmma_msgs.msg import ActionPrediction, Audio, ModalityStatus, ScoredLabel
from karmma_ros.nodes.process import run

_LABELS = 5  # of each ranking
TYPES: dict[str, type] = {"Image": Image, "CompressedImage": CompressedImage}


class Echo(rclpy.node.Node):
    """Answers images."""

    def __init__(self, kind: str, image_topic: str, topic: str) -> None:
        super().__init__("bench_echo")
        latest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        every = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._out = self.create_publisher(ActionPrediction, topic, QoSProfile(depth=10))
        self._held = [
            self.create_subscription(TYPES[kind], image_topic, self._answer, latest),
            self.create_subscription(Image, "flow", self._pass, latest),
            self.create_subscription(Audio, "audio", self._pass, every),
        ]
        labels = [ScoredLabel(id=number, name="pour bottle", score=0.2) for number in range(_LABELS)]
        sensors = [ModalityStatus(name=name, state=ModalityStatus.OK) for name in ("video", "flow", "audio")]
        self._answered = ActionPrediction(
            trigger=ActionPrediction.CAMERA,
            actions=labels,
            verbs=labels,
            nouns=labels,
            modalities=sensors,
            bundle="echo",
        )

    def _answer(self, image: Image | CompressedImage) -> None:
        stamp = image.header.stamp
        self._answered.header = image.header
        self._answered.latency = (time.time_ns() - stamp.sec * 10**9 - stamp.nanosec) * 1e-9
        self._out.publish(self._answered)

    def _pass(self, message: object) -> None:
        """Hears it, as the node does."""


def main() -> int:
    """The process."""
    return run(lambda: Echo(*sys.argv[1:4]), "bench_echo", [])


if __name__ == "__main__":
    sys.exit(main())
