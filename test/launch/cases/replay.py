# SPDX-License-Identifier: Apache-2.0
"""replay.launch.py: a bag is played once the node listens, on the bag's clock, and all ends with it.

`ros2 bag play` is not on every machine that has launch: bag_player.py stands in for it, with the same arguments.
"""

from __future__ import annotations

import sys
import unittest
from pathlib import Path
from typing import Any

import launch_testing
from bag_player import BEGIN_NS, FRAMES, STEP_NS, write_bag
from launch_testing.actions import ReadyToTest
from launch_testing.asserts import assertExitCodes
from launching import folder, include, robot_of, toy_bundle

from karmma_msgs.msg import ActionPrediction
from launch import LaunchDescription


def generate_test_description() -> LaunchDescription:
    player = Path(__file__).with_name("bag_player.py")
    return LaunchDescription(
        [
            include(
                "replay",
                bag=str(write_bag(folder() / "bag")),
                player=f"{sys.executable} {player}",
                bundle=toy_bundle(),
                namespace="robot",
                image="/eye/image_raw",
                enclave="/karmma",
            ),
            ReadyToTest(),
        ]
    )


class TestReplay(unittest.TestCase):
    def test_frames_are_predicted_on_the_bags_clock(self, proc_info: Any, proc_output: Any) -> None:
        with robot_of("/robot") as r:
            proc_info.assertWaitForShutdown(process="player", timeout=60)
            frames = {p.stamp_ns for p in r.predictions if p.camera}
            recorded = {BEGIN_NS + index * STEP_NS for index in range(FRAMES)}
            assert frames <= recorded
            assert len(frames) >= 0.9 * FRAMES, len(frames)  # this machine may skip some
            last = max(r.predictions, key=lambda p: p.stamp_ns).message
            assert last.status == ActionPrediction.OK
        # By the machine's clock the stamps would be years old, and action_node would say so.
        said = "".join(line.text.decode() for line in proc_output)
        assert "bundle toy" in said
        assert "older than the clock" not in said


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_all_processes_end_with_status_0(self, proc_info: Any) -> None:
        assertExitCodes(proc_info, allowable_exit_codes=[0])

    def test_our_processes_have_enclaves_of_their_own(self, proc_info: Any) -> None:
        commands = [process.process_details["cmd"] for process in proc_info.processes()]
        enclaves = [command[command.index("--enclave") + 1] for command in commands if "--enclave" in command]
        assert sorted(enclaves) == ["/karmma/action_node", "/karmma/wait_active"]
