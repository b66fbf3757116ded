# SPDX-License-Identifier: Apache-2.0
"""A bag played to the running node says what the same bag says offline.

Not asserted: that a busy machine loses no frame on the way; of those that the node predicted, all are compared.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bag_helpers import SMALL
from lifecycle_msgs.msg import Transition
from node.harness import Robot, node_and_robot
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from karmma_msgs.msg import Audio
from karmma_ros.bags.reader import Bag, BagMessage
from karmma_ros.bags.replay import Replay
from karmma_ros.bags.topics import choose
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

    def __init__(self, r: Robot, bag: Bag) -> None:
        quality = QoSProfile(depth=50, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._messages: list[BagMessage] = list(bag.messages(list(NODE_TOPICS)))
        self.publishers = {
            name: r.node.create_publisher(TYPES[bag.topics[name].type], topic, quality)
            for name, topic in NODE_TOPICS.items()
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


def offline(bundle: Any, bag: Bag) -> dict[int, tuple[str, float]]:
    """Stamp of each frame -> best action and its score."""
    answers = Replay(Recognizer(bundle), bag, choose(bag, {})).run(origin_ns=0)
    records = [answer.record for answer in answers]
    return {r.stamp_ns: (r.actions[0].name, r.actions[0].score) for r in records if r.trigger == "CAMERA"}


@contextmanager
def playing(tmp_path: Path, ros_env: dict[str, str]) -> Iterator[tuple[Robot, Player, Bag]]:
    parameters = {"bundle": "tabletop", "image__transport": "compressed"}
    with (
        Bag(SMALL) as bag,
        node_and_robot(tmp_path / "log", ros_env, compressed=True, **parameters) as (_, r),
    ):
        player = Player(r, bag)
        r.wait_matched(*player.publishers.values())
        yield r, player, bag


def play_once(r: Robot, player: Player, expected: dict[int, tuple[str, float]]) -> tuple[dict[int, Any], bool]:
    """Plays the bag to a node that knows nothing; (stamp -> best action, whether the machine kept up)."""
    r.change_state(Transition.TRANSITION_DEACTIVATE)
    assert r.change_state(Transition.TRANSITION_ACTIVATE)
    r.forget()
    r.wait_matched(*player.publishers.values())
    late_s = player.play()
    end_ns = max(expected)
    r.wait("the last frame's prediction", lambda: any(p.stamp_ns >= end_ns for p in r.predictions))
    said = {p.stamp_ns: p.message.actions[0] for p in r.predictions if p.camera and p.stamp_ns in expected}
    return said, late_s < 0.015 and len(said) >= 0.98 * len(expected)


def test_online_and_offline_agree_on_99_of_100_frames(tmp_path: Path, ros_env: dict[str, str]) -> None:
    with playing(tmp_path, ros_env) as (r, player, bag):
        expected = offline("tabletop", bag)
        for _ in range(ATTEMPTS):
            said, calm = play_once(r, player, expected)
            if calm:
                break
    assert len(said) > 0.9 * len(expected)
    differ = [(stamp, expected[stamp], best.name) for stamp, best in said.items() if best.name != expected[stamp][0]]
    assert len(differ) <= 0.01 * len(said), differ
    apart = sorted(abs(best.score - expected[stamp][1]) for stamp, best in said.items())
    assert apart[len(apart) // 2] < 0.01  # a frame lost on the way leaves its slot to a neighbour
