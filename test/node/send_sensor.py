# SPDX-License-Identifier: Apache-2.0
"""A driver of its own, to be killed: publishes a camera or a microphone at 30 Hz until it is ended.

send_sensor.py image|audio
"""

import array
import sys
import time

import numpy as np
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from karmma_msgs.msg import Audio

RATE = 30
SOUND_RATE = 15_000  # Hz: whole samples a period


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("driver")
    name = sys.argv[1]
    publisher = node.create_publisher({"image": Image, "audio": Audio}[name], name, qos_profile_sensor_data)
    rng = np.random.default_rng(0)
    begun_ns, sent = time.time_ns(), 0

    def send() -> None:
        nonlocal sent
        stamp_ns = begun_ns + sent * 10**9 // RATE
        if name == "image":
            message = Image(height=48, width=64, encoding="rgb8", step=192)
            message.data = array.array("B", rng.integers(0, 256, 48 * 192, dtype=np.uint8).tobytes())
        else:
            message = Audio(sample_rate=SOUND_RATE, channels=1)
            message.samples = array.array("f", (0.1 * rng.standard_normal(SOUND_RATE // RATE)).astype("f").tobytes())
        stamp = message.header.stamp
        stamp.sec, stamp.nanosec = divmod(stamp_ns, 10**9)
        publisher.publish(message)
        sent += 1

    node.create_timer(1 / RATE, send)
    rclpy.spin(node)


if __name__ == "__main__":
    main()
