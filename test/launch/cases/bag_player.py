# SPDX-License-Identifier: Apache-2.0
"""Stands in for `ros2 bag play BAG --clock HZ --rate R --delay S` where there is no rosbag2: plays a bag's messages.

As Jazzy's player since 0.26.6 it waits for nobody, and its first /clock comes one period after the first message.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

TOPIC = "/eye/image_raw"
BEGIN_NS = 1_600_000_000_000_000_000
STEP_NS = 33_333_333
FRAMES = 90


def write_bag(folder: Path) -> Path:
    """A bag of 3 s of a camera, of long ago."""
    from node.harness import picture
    from rclpy.serialization import serialize_message
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    from karmma_ros.messages import image_to_msg

    store = get_typestore(Stores.ROS2_JAZZY)
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TOPIC, "sensor_msgs/msg/Image", typestore=store)
        for index in range(FRAMES):
            stamp = BEGIN_NS + index * STEP_NS
            message = image_to_msg(stamp, "eye", picture(40 + 50 * (index % 4), index))
            writer.write(connection, stamp, serialize_message(message))
    return folder


def play(bag: Path, clock_hz: float, rate: float, delay_s: float) -> None:
    """Publishes the messages as the recording has them, and its time on /clock."""
    import rclpy
    from rclpy.qos import QoSProfile, QoSReliabilityPolicy
    from rosbags.rosbag2 import Reader
    from rosgraph_msgs.msg import Clock
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node("bag_player")
    clock = node.create_publisher(Clock, "/clock", 10)
    images = node.create_publisher(Image, TOPIC, QoSProfile(depth=5, reliability=QoSReliabilityPolicy.RELIABLE))
    with Reader(bag) as reader:
        messages = [(stamp, np.frombuffer(data, np.uint8).tobytes()) for _, stamp, data in reader.messages()]
    time.sleep(delay_s)
    begin_s, begin_ns = time.monotonic(), messages[0][0]
    count = int((messages[-1][0] - begin_ns) / 1e9 * clock_hz) + 60
    ticks = [(begin_ns + int(i * 1e9 / clock_hz), None) for i in range(1, count)]
    for stamp, data in sorted([*messages, *ticks], key=lambda entry: entry[0]):
        wait_s = begin_s + (stamp - begin_ns) / 1e9 / rate - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        if data is None:
            now = Clock()
            now.clock.sec, now.clock.nanosec = divmod(stamp, 10**9)
            clock.publish(now)
        else:
            images.publish(data)
    rclpy.try_shutdown()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("bag", type=Path)
    parser.add_argument("--clock", type=float, default=40.0)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--delay", type=float, default=0.0)
    options = parser.parse_args()
    play(options.bag, options.clock, options.rate, options.delay)
    return 0


if __name__ == "__main__":
    sys.exit(main())
