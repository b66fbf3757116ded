# SPDX-License-Identifier: Apache-2.0
"""Two robots on one network: each in its namespace, deaf to the other; one of them is started by hand."""

from __future__ import annotations

import unittest
from typing import Any

import launch_testing
from launch_testing.actions import ReadyToTest
from launch_testing.asserts import assertExitCodes
from launching import include, robot_of, toy_bundle
from lifecycle_msgs.msg import Transition

from launch import LaunchDescription


def generate_test_description() -> LaunchDescription:
    robots = (("robot1", "true"), ("robot2", "false"))
    return LaunchDescription(
        [
            *(include("karmma", bundle=toy_bundle(), namespace=name, autostart=auto) for name, auto in robots),
            ReadyToTest(),
        ]
    )


class TestRobots(unittest.TestCase):
    def test_each_robot_hears_its_own_sensors(self) -> None:
        with robot_of("/robot1") as first, robot_of("/robot2") as second:
            first.wait_matched(first.images)
            assert first.state() == "active"
            assert second.state() == "unconfigured"
            assert second.change_state(Transition.TRANSITION_CONFIGURE)
            assert second.change_state(Transition.TRANSITION_ACTIVATE)
            second.wait_matched(second.images)
            assert first.images.get_subscription_count() == 1
            first.play(1.0)
            first.wait_prediction("its own", lambda p: p.modality("video").received >= 10)
            second.wait_prediction("nothing of the other's", lambda p: p.modality("video").received == 0)


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_all_nodes_end_with_status_0(self, proc_info: Any) -> None:
        assertExitCodes(proc_info, allowable_exit_codes=[0])
