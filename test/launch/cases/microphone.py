# SPDX-License-Identifier: Apache-2.0
"""karmma.launch.py's microphone_node is what action_node hears: nobody else sends sound here.

The runner's environment leads to a virtual microphone, which hears what play_tone.py plays.
"""

from __future__ import annotations

import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any

import launch_testing
from launch_testing.actions import ReadyToTest
from launch_testing.asserts import assertExitCodes
from launching import include, robot_of, toy_bundle
from node.harness import Received

from launch import LaunchDescription

PLAYER = Path(__file__).resolve().parents[2] / "microphone" / "play_tone.py"


def generate_test_description() -> LaunchDescription:
    return LaunchDescription(
        [
            include("karmma", bundle=toy_bundle(), audio="/ear/audio", microphone="true", microphone_device="virtmic"),
            ReadyToTest(),
        ]
    )


def heard(p: Received) -> bool:
    return p.state("audio") == "OK" and p.modality("audio").coverage == 1


class TestMicrophone(unittest.TestCase):
    def test_a_tone_that_is_played_is_heard(self) -> None:
        with robot_of(audio="/nowhere/audio") as r:
            r.wait_prediction("the silence of the device", lambda p: p.state("audio") == "MUTED")
            command = [sys.executable, str(PLAYER), "440", "0.5", "60"]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as player:
                try:
                    r.wait_prediction("the tone", heard)
                finally:
                    player.kill()
            assert "/audio" not in dict(r.node.get_topic_names_and_types())


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_all_nodes_end_with_status_0(self, proc_info: Any) -> None:
        assertExitCodes(proc_info, allowable_exit_codes=[0])
