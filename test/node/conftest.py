# SPDX-License-Identifier: Apache-2.0
"""On a machine without ROS 2 only the timing rules can be tested here; the rest needs rclpy to be imported at all."""

from importlib.util import find_spec

if find_spec("rclpy") is None or find_spec("karmma_msgs.msg") is None:
    collect_ignore_glob = ["test_[!p]*.py"]
