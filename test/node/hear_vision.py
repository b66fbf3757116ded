# SPDX-License-Identifier: Apache-2.0
"""Hears what action_node says as vision_msgs and prints it, a line of JSON for each message, until it is ended."""

import json

import rclpy
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from vision_msgs.msg import Classification, LabelInfo


def names(info: LabelInfo) -> None:
    print(json.dumps({"names": {entry.class_id: entry.class_name for entry in info.class_map}}), flush=True)


def results(message: Classification) -> None:
    stamp = message.header.stamp
    found = [[result.class_id, result.score] for result in message.results]
    line = {"stamp_ns": stamp.sec * 10**9 + stamp.nanosec, "frame_id": message.header.frame_id, "results": found}
    print(json.dumps(line), flush=True)


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("tool")
    latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(LabelInfo, "/action_node/label_info", names, latched)
    node.create_subscription(Classification, "/action_node/classification", results, 50)
    while rclpy.ok():
        rclpy.spin_once(node, timeout_sec=0.5)


if __name__ == "__main__":
    main()
