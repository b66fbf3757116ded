# SPDX-License-Identifier: Apache-2.0
"""A subscriber that takes nothing and has no more room does not hold up the node, nor those who do listen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from node.harness import PATIENCE_S, RATE, Received, node_and_robot
from toy_bundle import make_toy_bundle

SCRIPT = Path(__file__).with_name("full_reader.py")
PROFILE = Path(__file__).parents[2] / "config" / "fastdds.xml"
ROOM = 60  # predictions that the reader has room for: two seconds
PLAYED_S = 6
KEPT = 10  # that the node keeps, and sends again when there is room
LIMIT = f"""
  <data_reader profile_name="full" is_default_profile="true">
    <topic>
      <resourceLimitsQos>
        <max_samples>{ROOM}</max_samples>
        <max_samples_per_instance>{ROOM}</max_samples_per_instance>
        <allocated_samples>{ROOM}</allocated_samples>
      </resourceLimitsQos>
    </topic>
  </data_reader>
</profiles>
"""


def worst_gap_s(heard: Sequence[Received]) -> float:
    return max(b.at_s - a.at_s for a, b in pairwise(heard))


def test_a_full_reader_delays_nobody(tmp_path: Path, ros_env: dict[str, str]) -> None:
    profile = tmp_path / "full.xml"
    profile.write_text(PROFILE.read_text().replace("</profiles>", LIMIT))
    environment = {**ros_env, "FASTRTPS_DEFAULT_PROFILES_FILE": str(profile)}

    def play(how: str) -> list[Received]:
        played = r.play_calmly(PLAYED_S)
        heard = r.heard(played.start_s, played.end_s)
        print(f"{how}: {len(heard)} of {PLAYED_S * RATE} predictions, {1e3 * worst_gap_s(heard):.0f} ms apart at most")
        return heard

    with node_and_robot(tmp_path / "log", ros_env, bundle=make_toy_bundle(tmp_path / "toy")) as (_, r):
        r.wait_matched()
        play("without it")
        listeners = r.node.count_subscribers("/action_node/actions")
        with subprocess.Popen(
            [sys.executable, str(SCRIPT), "/action_node/actions"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as reader:
            assert reader.stdin is not None
            assert reader.stdout is not None
            try:
                assert "ready\n" in reader.stdout, "Fast DDS writes there, too"
                r.wait("the reader", lambda: r.node.count_subscribers("/action_node/actions") > listeners)
                r.play(1.5 * ROOM / RATE)
                heard = play("beside a reader that is full")
                told, _ = reader.communicate(".", PATIENCE_S)
            finally:
                reader.kill()
        assert ROOM <= int(told.split()[-1]) <= ROOM + KEPT, "it was full, and wanted more"
        assert len(heard) == pytest.approx(PLAYED_S * RATE, rel=0.01, abs=1)
        assert worst_gap_s(heard) < 0.1
