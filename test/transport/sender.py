# SPDX-License-Identifier: Apache-2.0
"""Sends numbered VGA images, best effort, at 30 Hz, once a subscriber is there: sender.py COUNT [default]"""

import array
import sys

import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from karmma_ros import transport


def main() -> None:
    count = int(sys.argv[1])
    if sys.argv[2:] != ["default"]:
        assert transport.prepare().profile is not None
    rclpy.init()
    node = rclpy.create_node("sender")
    publisher = node.create_publisher(Image, "image", qos_profile_sensor_data)
    message = Image(encoding="rgb8", height=480, width=640, step=1920)
    message.data = array.array("B", bytes(480 * 1920))
    sent = 0

    def tick() -> None:
        nonlocal sent
        if publisher.get_subscription_count() and sent < count:
            message.header.frame_id = str(sent)
            publisher.publish(message)
            sent += 1

    node.create_timer(1 / 30, tick)
    while rclpy.ok():  # until the receiver ends it
        rclpy.spin_once(node, timeout_sec=0.5)


if __name__ == "__main__":
    main()
