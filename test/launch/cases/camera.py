# SPDX-License-Identifier: Apache-2.0
"""karmma.launch.py starts a camera driver too, gives it our transport profile and takes its images, raw or as JPEG."""

from __future__ import annotations

import unittest
from typing import Any

import launch_testing
from launch_testing.actions import ReadyToTest
from launch_testing.asserts import assertExitCodes
from launching import include, robot_of, toy_bundle
from node.harness import Robot
from sensor_msgs.msg import Image

from launch import LaunchDescription

CAMERA = {"image": "front/image", "camera_package": "toy_camera", "camera_executable": "driver"}


def generate_test_description() -> LaunchDescription:
    jpeg = {"namespace": "jpeg", "image_transport": "compressed", "flow_from": "node", "overlay": "true"}
    return LaunchDescription(
        [
            include("karmma", bundle=toy_bundle(), **CAMERA),
            include("karmma", bundle=toy_bundle(), **CAMERA, **jpeg),
            ReadyToTest(),
        ]
    )


def hearing(r: Robot, topic: str) -> set[str]:
    """Names of the nodes that have subscribed to a topic."""
    return {end.node_name for end in r.node.get_subscriptions_info_by_topic(topic)}


class TestCamera(unittest.TestCase):
    def test_the_drivers_images_are_predicted(self) -> None:
        with robot_of() as r:
            prediction = r.wait_prediction("a frame of the driver's", lambda p: p.camera)
            assert prediction.message.header.frame_id == "fastdds.xml"
            topics = dict(r.node.get_topic_names_and_types())
            assert "/front/image" in topics
            assert "/image_raw" not in topics
            r.wait_prediction("flow computed inside", lambda p: p.modality("flow").coverage > 0)

    def test_its_compressed_images_are_what_all_nodes_take_where_that_is_asked_for(self) -> None:
        with robot_of("/jpeg") as r:
            pictures = r.listen(Image, "/jpeg/overlay_node/image")
            prediction = r.wait_prediction("a frame of the driver's", lambda p: p.camera)
            assert prediction.message.header.frame_id == "fastdds.xml jpeg"
            r.wait_prediction("flow_node's flow", lambda p: p.modality("flow").coverage > 0)
            # As large as the driver's: it has had a frame of its own.
            r.wait("overlay_node's picture", lambda: any((p.width, p.height) == (64, 48) for p in pictures))
            nodes = {"action_node", "flow_node", "overlay_node"}
            r.wait("all to be known", lambda: hearing(r, "/jpeg/front/image/compressed") == nodes)
            assert hearing(r, "/jpeg/front/image") == set()
            assert "/jpeg/image_raw/compressed" not in dict(r.node.get_topic_names_and_types())


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_all_nodes_end_with_status_0(self, proc_info: Any) -> None:
        assertExitCodes(proc_info, allowable_exit_codes=[0])
