# SPDX-License-Identifier: Apache-2.0
"""A parameter file wins over the defaults of the launch file's arguments, and arguments that are given win over it."""

from __future__ import annotations

import unittest
from typing import Any

import launch_testing
from launch_testing.actions import ReadyToTest
from launch_testing.asserts import assertExitCodes
from launching import folder, include, robot_of, toy_bundle

from launch import LaunchDescription

FILE = """
{}:
  ros__parameters:
    use_sim_time: true
    autostart: false
    image: {{transport: compressed}}
    flow: {{compute: false}}
"""
NAMES = ("use_sim_time", "autostart", "image.transport", "flow.compute")
FILED = (True, False, "compressed", False)
GIVEN = (False, True, "raw", True)
ARGUMENTS = {"use_sim_time": "False", "autostart": "True", "image_transport": "raw", "flow_from": "inside"}


def generate_test_description() -> LaunchDescription:
    def one(namespace: str, section: str = "", **arguments: str) -> Any:
        if section:
            path = folder() / f"{namespace}.yaml"
            path.write_text(FILE.format(section))
            arguments["params_file"] = str(path)
        return include("karmma", bundle=toy_bundle(), namespace=namespace, enclave="/karmma/", **arguments)

    return LaunchDescription(
        [
            one("neither"),
            one("anywhere", "/**/action_node"),
            one("everything", "/**"),
            one("exactly", "/exactly/action_node"),
            one("both", "/**/action_node", **ARGUMENTS),
            one("all_of_it", "/all_of_it/action_node", **ARGUMENTS),
            ReadyToTest(),
        ]
    )


class TestParameters(unittest.TestCase):
    def test_what_wins(self) -> None:
        expected = {
            "neither": (False, True, "raw", True),
            "anywhere": FILED,
            "everything": FILED,
            "exactly": FILED,
            "both": GIVEN,
            "all_of_it": GIVEN,
        }
        for namespace, values in expected.items():
            with self.subTest(namespace), robot_of(f"/{namespace}") as r:
                assert r.parameters(*NAMES) == values


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_all_nodes_end_with_status_0(self, proc_info: Any) -> None:
        assertExitCodes(proc_info, allowable_exit_codes=[0])

    def test_each_node_has_an_enclave_of_its_own(self, proc_info: Any) -> None:
        for process in proc_info.processes():
            command = process.process_details["cmd"]
            assert "/karmma/action_node" in command[command.index("--enclave") + 1]
