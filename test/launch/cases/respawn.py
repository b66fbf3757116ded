# SPDX-License-Identifier: Apache-2.0
"""A node that dies is started again, and predicts again; a parameter file reaches it, an argument wins over that."""

from __future__ import annotations

import os
import signal
import unittest
from pathlib import Path
from typing import Any

import launch_testing
from launch_testing.actions import ReadyToTest
from launch_testing.asserts import assertExitCodes
from launching import folder, include, robot_of, toy_bundle
from node.harness import Robot

from launch import LaunchDescription


def generate_test_description() -> LaunchDescription:
    parameters = folder() / "mine.yaml"
    parameters.write_text("/**/action_node:\n  ros__parameters:\n    top_k: 2\n    bundle: nowhere\n")
    return LaunchDescription(
        [
            include(
                "karmma", bundle=toy_bundle(), params_file=str(parameters), use_respawn="true", respawn_delay="0.1"
            ),
            ReadyToTest(),
        ]
    )


def predicts(r: Robot) -> None:
    r.wait("a node that is configured", lambda: r.labels)
    r.wait_matched(r.images)
    r.play(3.0, flow=False, audio=False)  # long enough for both to find each other again
    prediction = r.wait("a prediction", lambda: next((p for p in r.predictions if p.message.actions), None))
    assert len(prediction.message.actions) == 2


class TestRespawn(unittest.TestCase):
    def test_a_node_that_dies_is_started_again(self) -> None:
        with robot_of() as r:
            predicts(r)
            r.forget()
            os.kill(node_pid(), signal.SIGKILL)
            predicts(r)


def node_pid() -> int:
    """The process of this launch's node, among this process's own children and theirs."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_text()
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # gone meanwhile
            continue
        if parent == os.getpid() and "action_node" in command:
            return int(path.name)
    raise AssertionError("the node's process is not there")


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_the_second_one_ends_with_status_0(self, proc_info: Any) -> None:
        assertExitCodes(proc_info, allowable_exit_codes=[0])
