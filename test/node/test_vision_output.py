# SPDX-License-Identifier: Apache-2.0
"""action_node speaks vision_msgs where that is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from node.harness import node_and_robot, ns_of
from rclpy.qos import QoSDurabilityPolicy, QoSProfile

vision_msgs = pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")


def test_every_prediction_is_a_classification_too(tmp_path: Path, ros_env: dict[str, str], toy: Path) -> None:
    with node_and_robot(tmp_path / "log", ros_env, bundle=toy) as (_, r):
        results: list[Any] = r.listen(vision_msgs.Classification, "/action_node/classification")
        r.wait_matched()
        infos: list[Any] = []
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        r.node.create_subscription(vision_msgs.LabelInfo, "/action_node/label_info", infos.append, latched)
        r.play(1.0)
        ours = r.wait_prediction("a prediction", lambda p: len(p.message.actions) > 0)
        theirs = r.wait("the same", lambda: next((m for m in results if ns_of(m.header.stamp) == ours.stamp_ns), None))
        names = r.wait("the names", lambda: {e.class_id: e.class_name for e in infos[0].class_map} if infos else None)
        assert [names[int(result.class_id)] for result in theirs.results] == [a.name for a in ours.message.actions]
        assert [result.score for result in theirs.results] == pytest.approx([a.score for a in ours.message.actions])
