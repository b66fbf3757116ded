# SPDX-License-Identifier: Apache-2.0
"""A bag played to the running node says what the same bag says offline.

A frame that got no prediction of its own counts as one on which they differ.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from bag_helpers import SMALL
from lifecycle_msgs.msg import Transition
from node.harness import Robot, node_and_robot
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from karmma_msgs.msg import Audio
from karmma_ros.bags.reader import Bag, BagMessage
from karmma_ros.bags.replay import Replay
from karmma_ros.bags.topics import NONE, choose
from karmma_ros.flow import FlowProducer
from karmma_ros.recognizer import Recognizer

TYPES = {
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    "sensor_msgs/msg/Image": Image,
    "karmma_msgs/msg/Audio": Audio,
}
NODE_TOPICS = {"/camera/image_raw/compressed": "image/compressed", "/flow": "flow", "/audio": "audio"}
ATTEMPTS = 5


class Player:
    """Publishes a bag's messages as they were recorded, byte for byte, at their log times."""

    def __init__(self, r: Robot, bag: Bag, topics: Mapping[str, str]) -> None:
        """:param topics: of the bag -> the node's."""
        quality = QoSProfile(depth=50, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._messages: list[BagMessage] = list(bag.messages(list(topics)))
        self.publishers = {
            name: r.node.create_publisher(TYPES[bag.topics[name].type], topic, quality)
            for name, topic in topics.items()
        }

    def play(self) -> float:
        """Plays it in real time; the worst delay of this process against the recording [s]."""
        begin_s, first_ns, late_s = time.monotonic() + 0.01, self._messages[0].log_ns, 0.0
        for message in self._messages:
            due_s = begin_s + (message.log_ns - first_ns) * 1e-9
            pause = due_s - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            late_s = max(late_s, time.monotonic() - due_s)
            self.publishers[message.topic.name].publish(message.cdr)
        return late_s


def offline(bundle: str, bag: Bag, *, computed: bool) -> dict[int, tuple[str, float]]:
    """Stamp of each frame -> best action and its score.

    :param computed: flow, from the camera; else it is the bag's.
    """
    recognizer = Recognizer(bundle)
    producer = None
    if computed:
        spec = recognizer.bundle.modalities["flow"].producer
        assert spec is not None
        producer = FlowProducer(spec.size, spec.preset)
    sensors = choose(bag, {"flow": NONE} if computed else {})
    records = [answer.record for answer in Replay(recognizer, bag, sensors, producer=producer).run(origin_ns=0)]
    return {r.stamp_ns: (r.actions[0].name, r.actions[0].score) for r in records if r.trigger == "CAMERA"}


def play_once(r: Robot, player: Player, expected: dict[int, tuple[str, float]]) -> tuple[dict[int, Any], bool]:
    """Plays the bag to a node that knows nothing; (stamp -> best action, whether this process kept its times)."""
    r.change_state(Transition.TRANSITION_DEACTIVATE)
    assert r.change_state(Transition.TRANSITION_ACTIVATE)
    r.forget()
    r.wait_matched(*player.publishers.values())
    late_s = player.play()
    end_ns = max(expected)
    r.wait("the last frame's prediction", lambda: any(p.stamp_ns >= end_ns for p in r.predictions))
    said = {p.stamp_ns: p.message.actions[0] for p in r.predictions if p.camera and p.stamp_ns in expected}
    return said, late_s < 0.015 and len(said) >= 0.99 * len(expected)


@pytest.mark.parametrize("computed", [False, True], ids=["flow of the bag", "flow computed"])
def test_online_and_offline_agree_on_99_of_100_frames(tmp_path: Path, ros_env: dict[str, str], computed: bool) -> None:
    topics = {name: topic for name, topic in NODE_TOPICS.items() if topic != "flow" or not computed}
    parameters = {"bundle": "tabletop", "image__transport": "compressed", "flow__compute": computed}
    with (
        Bag(SMALL) as bag,
        node_and_robot(tmp_path / "log", ros_env, compressed=True, **parameters) as (_, r),
    ):
        player = Player(r, bag, topics)
        r.wait_matched(*player.publishers.values())
        expected = offline("tabletop", bag, computed=computed)
        for _ in range(ATTEMPTS):
            said, calm = play_once(r, player, expected)
            if calm:
                break
    same = [stamp for stamp, best in said.items() if best.name == expected[stamp][0]]
    assert len(same) >= 0.99 * len(expected), (len(said), len(expected))
    apart = sorted(abs(best.score - expected[stamp][1]) for stamp, best in said.items())
    assert apart[len(apart) // 2] < 0.01  # a frame lost on the way leaves its slot to a neighbour
