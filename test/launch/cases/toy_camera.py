# SPDX-License-Identifier: Apache-2.0
"""A camera driver: publishes `image_raw` at 10 Hz. Its frame_id names the Fast DDS profile that it was given."""

from __future__ import annotations

import os
from pathlib import Path

import rclpy
from node.harness import picture
from rclpy.executors import ExternalShutdownException
from sensor_msgs.msg import Image

from karmma_ros.messages import image_to_msg


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("driver")
    images = node.create_publisher(Image, "image_raw", 1)
    profile = Path(os.environ.get("FASTRTPS_DEFAULT_PROFILES_FILE", "")).name
    count = 0

    def publish() -> None:
        nonlocal count
        count += 1
        images.publish(image_to_msg(node.get_clock().now().nanoseconds, profile, picture(100, count)))

    node.create_timer(0.1, publish)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
