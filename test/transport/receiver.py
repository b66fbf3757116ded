# SPDX-License-Identifier: Apache-2.0
"""Starts a sender and prints how many of its images arrived whole: receiver.py SENDER COUNT [default]"""

import subprocess
import sys
import time

import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from karmma_ros import transport

QUIET_S = 2.0  # after this long without an image there will be no more
FIRST_S = 20.0  # starting and discovery


def main() -> None:
    sender, count, *options = sys.argv[1:]
    if options != ["default"]:
        transport.prepare()
    rclpy.init()
    node = rclpy.create_node("receiver")
    arrived: set[str] = set()
    last = time.monotonic() + FIRST_S - QUIET_S

    def receive(message: Image) -> None:
        nonlocal last
        last = time.monotonic()
        if len(message.data) == 480 * 1920:
            arrived.add(message.header.frame_id)

    node.create_subscription(Image, "image", receive, qos_profile_sensor_data)
    process = subprocess.Popen([sys.executable, sender, count, *options])
    try:
        while len(arrived) < int(count) and time.monotonic() < last + QUIET_S:
            rclpy.spin_once(node, timeout_sec=0.1)
    finally:
        process.kill()
        process.wait()
    print(len(arrived))


if __name__ == "__main__":
    main()
