# SPDX-License-Identifier: Apache-2.0
"""Publishes what an object detector says as vision_msgs/Detection2DArray, 30 times a second, until it is ended."""

import time

import rclpy
from rclpy.qos import qos_profile_sensor_data
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose


def found(class_id: str, score: float, x: float, y: float) -> Detection2D:
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = class_id, score
    detection = Detection2D(results=[result])
    detection.bbox.center.position.x, detection.bbox.center.position.y = x, y
    detection.bbox.size_x, detection.bbox.size_y = 8.0, 6.0
    return detection


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("detector")
    output = node.create_publisher(Detection2DArray, "detections", qos_profile_sensor_data)

    def send() -> None:
        message = Detection2DArray(detections=[found("hand", 0.9, 20.0, 30.0), found("cup", 0.7, 40.0, 10.0)])
        stamp = message.header.stamp
        stamp.sec, stamp.nanosec = divmod(time.time_ns(), 10**9)
        output.publish(message)

    node.create_timer(1 / 30, send)
    while rclpy.ok():
        rclpy.spin_once(node, timeout_sec=0.5)


if __name__ == "__main__":
    main()
