# SPDX-License-Identifier: Apache-2.0
"""action_node speaks vision_msgs where that is installed: built here, and heard by a process of its own."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from node.harness import PATIENCE_S, Process, node_and_robot

from karmma_msgs.msg import ActionPrediction

HEARER = Path(__file__).with_name("hear_vision.py")


def test_every_prediction_is_a_classification_too(
    tmp_path: Path, ros_env: dict[str, str], toy: Path, vision_msgs: dict[str, str]
) -> None:
    environment = ros_env | vision_msgs
    with node_and_robot(tmp_path / "log", environment, bundle=toy) as (_, r):
        r.wait_matched()
        tool = Process([sys.executable, str(HEARER)], environment, tmp_path / "tool")  # late: the names are latched
        try:

            def heard() -> list[dict[str, Any]]:
                # The last line may be half written.
                return [json.loads(line) for line in tool.output.splitlines(keepends=True) if line.endswith("\n")]

            def predicted() -> dict[int, ActionPrediction]:
                return {p.stamp_ns: p.message for p in r.predictions}

            def both() -> list[tuple[ActionPrediction, dict[str, Any]]]:
                ours = predicted()
                return [(ours[line["stamp_ns"]], line) for line in heard() if line.get("stamp_ns") in ours]

            r.wait("a tool that hears", lambda: any("stamp_ns" in line for line in heard()))
            r.play(1.0)
            r.wait("predictions of something, heard by both", lambda: [p for p, _ in both() if p.actions], PATIENCE_S)
        finally:
            tool.end(signal.SIGKILL)
        (names,) = (line["names"] for line in heard() if "names" in line)
        assert any(not p.actions for p, _ in both()), "and of nothing, before the sensors were there"
        for ours, theirs in both():
            assert [names[class_id] for class_id, _ in theirs["results"]] == [a.name for a in ours.actions]
            assert [score for _, score in theirs["results"]] == pytest.approx([a.score for a in ours.actions])
            assert theirs["frame_id"] == ours.header.frame_id
