# SPDX-License-Identifier: Apache-2.0
"""Drivers of cameras and microphones that are killed and started again. Of flow_node: test_flow_node.py."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest
from node.harness import PATIENCE_S, Process, assert_increasing, node_and_robot

SENDER = Path(__file__).with_name("send_sensor.py")


@pytest.mark.parametrize(("topic", "modality"), [("image", "video"), ("audio", "audio")])
def test_a_driver_that_is_killed_is_missed_and_taken_back_when_it_returns(
    tmp_path: Path, ros_env: dict[str, str], toy: Path, topic: str, modality: str
) -> None:
    def reached(state: str) -> bool:
        last = r.predictions[-1].modality(modality) if r.predictions else None
        if last is None or r.predictions[-1].state(modality) != state:
            return False
        return state != "OK" or last.coverage > 0

    def play_until(state: str) -> None:
        """Plays the other sensors until this one's state is that, and if it is OK, until it counts."""
        end_s = time.monotonic() + PATIENCE_S
        while not reached(state):
            assert time.monotonic() < end_s, f"{state} in vain: {r.predictions[-1:]}"
            r.play(0.2, video=modality != "video", audio=modality != "audio")

    def driver(log: str) -> Process:
        return Process([sys.executable, str(SENDER), topic], ros_env, tmp_path / log)

    with node_and_robot(tmp_path / "log", ros_env, bundle=toy) as (_, r):
        r.wait_matched()
        source = driver("first")
        try:
            play_until("OK")
            source.end(signal.SIGKILL)
            play_until("STALE")
            assert r.predictions[-1].message.status == r.predictions[-1].message.OK, "the others are still there"
            source = driver("second")
            play_until("OK")
            assert_increasing(r.predictions)
        finally:
            source.end(signal.SIGKILL)
