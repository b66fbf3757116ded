# SPDX-License-Identifier: Apache-2.0
"""karmma.launch.py with every companion; where there is no microphone, its node waits for one."""

from __future__ import annotations

import unittest
from ctypes.util import find_library
from importlib.util import find_spec
from typing import Any

import launch_testing
from launch_testing.actions import ReadyToTest
from launch_testing.asserts import assertExitCodes
from launching import include, robot_of, toy_bundle
from node.harness import Robot
from sensor_msgs.msg import Image

from karmma_msgs.msg import ActionPrediction
from launch import LaunchDescription

PORTAUDIO = find_spec("sounddevice") is not None and find_library("portaudio") is not None


def generate_test_description() -> LaunchDescription:
    return LaunchDescription(
        [
            include(
                "karmma",
                bundle=toy_bundle(),
                image="/eye/image_raw",
                flow_from="node",
                flow="eye/flow",
                audio="/ear/audio",
                microphone="true",
                overlay="true",
                log_level="debug",
            ),
            ReadyToTest(),
        ]
    )


def sending(r: Robot, topic: str) -> set[str]:
    """Names of the nodes that publish a topic."""
    return {end.node_name for end in r.node.get_publishers_info_by_topic(topic)}


class TestKarmma(unittest.TestCase):
    def test_nodes_come_up_and_predict_at_the_cameras_rate(self, proc_output: Any) -> None:
        with robot_of(image="/eye/image_raw", flow="/eye/unused", audio="/ear/audio") as r:
            pictures = r.listen(Image, "/overlay_node/image")
            nodes = {"action_node", "flow_node", "microphone_node", "overlay_node"}
            r.wait("all nodes", lambda: nodes <= set(r.node.get_node_names()))
            r.wait_matched(r.images)
            r.wait("all to hear the camera", lambda: r.images.get_subscription_count() == 3)
            assert r.state() == "active"
            played = r.play_calmly(3.0, flow=False)
            heard = r.heard(played.start_s, played.end_s)
            assert 85 <= len(heard) <= 95, len(heard)
            last = r.wait_prediction("flow", lambda p: p.modality("flow").received > 0)
            assert last.message.status == ActionPrediction.OK
            r.wait_prediction("the robot's sound", lambda p: p.modality("audio").received > 0)
            if PORTAUDIO:  # without it there is no publisher; what it sends is in microphone.py
                r.wait("the microphone's publisher", lambda: "microphone_node" in sending(r, "/ear/audio"))
            r.wait("a picture", lambda: pictures)
        proc_output.assertWaitFor("flow of 64x48 pixels", timeout=10)
        proc_output.assertWaitFor("[DEBUG]", timeout=10)  # rcl and rclpy say more than enough


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_all_nodes_end_with_status_0(self, proc_info: Any) -> None:
        assertExitCodes(proc_info, allowable_exit_codes=[0])
