# SPDX-License-Identifier: Apache-2.0
"""A bag played to the running node says what the same bag says offline, whether its sensors are well or fail.

A prediction that is due and does not come counts as one on which they differ.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bag_helpers import NS, RATE, SMALL, changes
from lifecycle_msgs.msg import Transition
from node.harness import STATES, Received, Robot, node_and_robot
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from karmma_msgs.msg import Audio, ModalityStatus
from karmma_ros.bags.reader import Bag, BagMessage
from karmma_ros.bags.replay import Replay
from karmma_ros.bags.topics import NONE, choose
from karmma_ros.bags.writer import BagWriter
from karmma_ros.flow import FlowProducer
from karmma_ros.recognizer import Recognizer
from karmma_ros.records import PredictionRecord, SensorRecord

TYPES = {
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    "sensor_msgs/msg/Image": Image,
    "karmma_msgs/msg/Audio": Audio,
}
CAMERA, FLOW, AUDIO = "/camera/image_raw/compressed", "/flow", "/audio"
NODE_TOPICS = {CAMERA: "image/compressed", FLOW: "flow", AUDIO: "audio"}
ATTEMPTS = 5
LATE_S = 0.01  # [s] behind the recording, from which on this machine is compared and not the node
# [s] of log time, from the beginning on
SILENT, COVERED, MUTED = (1.2, 1.7), (2.7, 3.4), (4.0, 5.2)

Moment = tuple[int, str]  # frame of the recording's 30 Hz grid, trigger


def moment(stamp_ns: int, trigger: str) -> Moment:
    """What a prediction is about. The timer's stamps lie on the camera's grid but for nanoseconds."""
    return round(stamp_ns * RATE / NS), trigger


def as_it_is(folder: Path) -> Path:
    """The bag that ships with the tests."""
    return SMALL


def failing(folder: Path) -> Path:
    """The same, but the camera dies for a while (and flow with it), then is covered, and later the microphone muted."""
    black = cv2.imencode(".jpg", np.zeros((180, 240, 3), np.uint8))[1].ravel()
    with Bag(SMALL) as bag, BagWriter(folder / "failing") as made:
        for message in bag.messages(list(NODE_TOPICS)):
            topic, sample = message.topic.name, message.decode()
            t_s = (message.log_ns - bag.start_ns) / NS
            if topic != AUDIO and SILENT[0] <= t_s < SILENT[1]:
                continue
            if topic == CAMERA and COVERED[0] <= t_s < COVERED[1]:
                sample = replace(sample, data=black)
            if topic == AUDIO and MUTED[0] <= t_s < MUTED[1]:
                sample = replace(sample, samples=np.zeros_like(sample.samples))
            made.message(topic, message.topic.type, sample, log_ns=message.log_ns)
    return made.path


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

    def play(self, seconds: float = math.inf) -> float:
        """Plays it (the first `seconds`) in real time; the worst delay of this process against the recording [s]."""
        begin_s, first_ns, late_s = time.monotonic() + 0.01, self._messages[0].log_ns, 0.0
        for message in self._messages:
            at_s = (message.log_ns - first_ns) * 1e-9
            if at_s > seconds:
                break
            pause = begin_s + at_s - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            late_s = max(late_s, time.monotonic() - begin_s - at_s)
            self.publishers[message.topic.name].publish(message.cdr)
        return late_s


def offline(bundle: str, bag: Bag, *, computed: bool) -> list[PredictionRecord]:
    """Every prediction, in order.

    :param computed: flow, from the camera; else it is the bag's.
    """
    recognizer = Recognizer(bundle)
    producer = None
    if computed:
        spec = recognizer.bundle.modalities["flow"].producer
        assert spec is not None
        producer = FlowProducer(spec.size, spec.preset)
    sensors = choose(bag, {"flow": NONE} if computed else {})
    return [answer.record for answer in Replay(recognizer, bag, sensors, producer=producer).run(origin_ns=0)]


def play_once(r: Robot, player: Player, expected: Sequence[PredictionRecord]) -> tuple[dict[Moment, Received], float]:
    """Plays the bag to a node that knows nothing; (what it said of the bag's time, `Player.play`'s delay)."""
    r.change_state(Transition.TRANSITION_DEACTIVATE)
    assert r.change_state(Transition.TRANSITION_ACTIVATE)
    r.forget()
    r.wait_matched(*player.publishers.values())
    late_s = player.play()
    first_ns, last_ns = expected[0].stamp_ns, expected[-1].stamp_ns
    # The timer goes on after the bag. Before it the node has predicted by its own clock, at times far from the bag's.
    r.wait("what comes after it", lambda: any(last_ns + NS // RATE < p.stamp_ns < last_ns + NS for p in r.predictions))
    inside = [p for p in r.predictions if first_ns - NS < p.stamp_ns < last_ns + NS // (2 * RATE)]
    return {moment(p.stamp_ns, "CAMERA" if p.camera else "TIMER"): p for p in inside}, late_s


def best(actions: Sequence[Any]) -> tuple[str, float]:
    """The first action and its score."""
    return (actions[0].name, actions[0].score) if actions else ("", 0.0)


def alike(said: ModalityStatus, sensor: SensorRecord) -> bool:
    """Whether a sensor is in the same state, with as much of the window filled; a frame may be lost on the way."""
    return STATES[said.state] == sensor.state and abs(said.coverage - sensor.coverage) < 0.05


@pytest.mark.parametrize("computed", [False, True], ids=["flow of the bag", "flow computed"])
@pytest.mark.parametrize("make_bag", [as_it_is, failing])
def test_online_and_offline_agree_on_99_of_100_predictions(
    tmp_path: Path, ros_env: dict[str, str], make_bag: Callable[[Path], Path], computed: bool
) -> None:
    topics = {name: topic for name, topic in NODE_TOPICS.items() if topic != "flow" or not computed}
    parameters: dict[str, Any] = {"bundle": "tabletop", "image__transport": "compressed", "flow__compute": computed}
    with (
        Bag(make_bag(tmp_path)) as bag,
        node_and_robot(tmp_path / "log", ros_env, compressed=True, **parameters) as (_, r),
    ):
        player = Player(r, bag, topics)
        r.wait_matched(*player.publishers.values())
        expected = offline("tabletop", bag, computed=computed)
        player.play(1.0)  # the first frames of a process are slow; what it knows of them it forgets
        for _ in range(ATTEMPTS):
            said, late_s = play_once(r, player, expected)
            if late_s < LATE_S:
                break
    moments = [moment(record.stamp_ns, record.trigger) for record in expected]
    if make_bag is failing:
        assert sum(trigger == "TIMER" for _, trigger in moments) >= 10
        seen = {name: list(changes([r.sensors[name].state for r in expected])) for name in ("video", "flow", "audio")}
        assert seen["video"] == ["OK", "STALE", "OK", "OCCLUDED", "OK"]
        assert "STALE" in seen["flow"]
        assert seen["audio"][-3:] == ["OK", "MUTED", "OK"]
    both = [(said[at], record) for at, record in zip(moments, expected, strict=True) if at in said]
    same = [p for p, record in both if best(p.message.actions)[0] == best(record.actions)[0]]
    assert len(same) >= 0.99 * len(expected), (len(said), len(expected), late_s)
    assert len(said.keys() - set(moments)) <= 0.01 * len(expected)
    # A change of state that is due with a prediction may come with the next.
    agreed = [p for p, record in both if all(alike(p.modality(name), s) for name, s in record.sensors.items())]
    assert len(agreed) >= 0.98 * len(expected), (len(agreed), len(expected), late_s)
    apart = sorted(abs(best(p.message.actions)[1] - best(record.actions)[1]) for p, record in both)
    assert apart[len(apart) // 2] < 0.01  # a frame lost on the way leaves its slot to a neighbour
