# SPDX-License-Identifier: Apache-2.0
"""karmma.launch.py starts a camera driver too, gives it our transport profile and takes its images."""

from __future__ import annotations

import unittest
from typing import Any

import launch_testing
from launch_testing.actions import ReadyToTest
from launch_testing.asserts import assertExitCodes
from launching import include, robot_of, toy_bundle

from launch import LaunchDescription


def generate_test_description() -> LaunchDescription:
    return LaunchDescription(
        [
            include(
                "karmma",
                bundle=toy_bundle(),
                image="front/image",
                camera_package="toy_camera",
                camera_executable="driver",
            ),
            ReadyToTest(),
        ]
    )


class TestCamera(unittest.TestCase):
    def test_the_drivers_images_are_predicted(self) -> None:
        with robot_of() as r:
            prediction = r.wait_prediction("a frame of the driver's", lambda p: p.camera)
            assert prediction.message.header.frame_id == "fastdds.xml"
            topics = dict(r.node.get_topic_names_and_types())
            assert "/front/image" in topics
            assert "/image_raw" not in topics
            r.wait_prediction("flow computed inside", lambda p: p.modality("flow").coverage > 0)


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_all_nodes_end_with_status_0(self, proc_info: Any) -> None:
        assertExitCodes(proc_info, allowable_exit_codes=[0])
