# SPDX-License-Identifier: Apache-2.0
"""A camera driver: publishes `image_raw` at 10 Hz, and as JPEG on `image_raw/compressed` as image_transport would.

Its frame_id names the Fast DDS profile that it was given, and of JPEG says so.
"""

from __future__ import annotations

import array
import os
from pathlib import Path

import cv2
import rclpy
from node.harness import picture
from rclpy.executors import ExternalShutdownException
from sensor_msgs.msg import CompressedImage, Image

from karmma_ros.messages import image_to_msg


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("driver")
    images = node.create_publisher(Image, "image_raw", 1)
    files = node.create_publisher(CompressedImage, "image_raw/compressed", 1)
    profile = Path(os.environ.get("FASTRTPS_DEFAULT_PROFILES_FILE", "")).name
    count = 0

    def publish() -> None:
        nonlocal count
        count += 1
        rgb = picture(100, count)
        message = image_to_msg(node.get_clock().now().nanoseconds, profile, rgb)
        images.publish(message)
        data = array.array("B", cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes())
        jpeg = CompressedImage(header=message.header, format="rgb8; jpeg compressed bgr8", data=data)
        jpeg.header.frame_id += " jpeg"
        files.publish(jpeg)

    node.create_timer(0.1, publish)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
