# SPDX-License-Identifier: Apache-2.0
"""Predictions as vision_msgs: of the real package where it is installed, of classes with the same fields elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="there is no ROS 2 on this machine")
pytest.importorskip("karmma_msgs", reason="karmma_msgs has not been built")

from std_msgs.msg import Header

from karmma_ros.nodes import vision
from karmma_ros.recognizer import ScoredLabel


@dataclass
class Hypothesis:
    class_id: str
    score: float


@dataclass
class Classification:
    results: list[Hypothesis]
    header: Header = field(default_factory=Header)


@dataclass
class VisionClass:
    class_id: int
    class_name: str


@dataclass
class LabelInfo:
    class_map: list[VisionClass]


TYPES = vision.installed or SimpleNamespace(
    ObjectHypothesis=Hypothesis, Classification=Classification, VisionClass=VisionClass, LabelInfo=LabelInfo
)


def record(*actions: ScoredLabel) -> Any:
    return SimpleNamespace(stamp_ns=7_000_000_009, frame_id="eye", prediction=SimpleNamespace(actions=actions))


def test_results_are_the_actions_with_the_frames_header() -> None:
    message = vision.classification(record(ScoredLabel(3, "cut", 0.75), ScoredLabel(0, "idle", 0.25)), TYPES)
    assert [(result.class_id, result.score) for result in message.results] == [("3", 0.75), ("0", 0.25)]
    assert (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id) == (7, 9, "eye")


@pytest.mark.parametrize("actions", [(), (ScoredLabel(-1, "unknown", 0.1), ScoredLabel(2, "stir", 0.05))])
def test_no_prediction_and_an_unknown_one_have_no_results(actions: tuple[ScoredLabel, ...]) -> None:
    assert list(vision.classification(record(*actions), TYPES).results) == []


def test_every_class_id_finds_its_name() -> None:
    info = vision.label_info(SimpleNamespace(action_names=("idle", "pour cup")), TYPES)  # type: ignore[arg-type]
    assert [(entry.class_id, entry.class_name) for entry in info.class_map] == [(0, "idle"), (1, "pour cup")]
