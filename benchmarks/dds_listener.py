# SPDX-License-Identifier: Apache-2.0
"""Whoever waits for predictions: a process that notes when it heard which.

    python -m karmma_benchmarks.dds_listener TOPIC

It says `ready`, `heard` at the first prediction, and after a line on its standard input, as JSON, a row for every
prediction: stamp [ns], when it was heard [ns], trigger, and what the node says: how long it computed for it, and how
long after the stamp it was made [s].
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile

from karmma_msgs.msg import ActionPrediction
from karmma_ros import transport

Row = tuple[int, int, int, float, float]


def main() -> int:
    """The process."""
    transport.prepare()
    rclpy.init()
    node = rclpy.create_node("bench_listener")
    rows: list[Row] = []
    begun = threading.Event()  # a frame has been answered

    def heard(message: ActionPrediction) -> None:
        now = time.time_ns()
        stamp = message.header.stamp
        if message.trigger == ActionPrediction.CAMERA and not begun.is_set():
            begun.set()
            print("heard", flush=True)
        stamp_ns = stamp.sec * 10**9 + stamp.nanosec
        rows.append((stamp_ns, now, message.trigger, message.processing_time, message.latency))

    node.create_subscription(ActionPrediction, sys.argv[1], heard, QoSProfile(depth=50))
    listening = threading.Thread(target=_spin, args=(node,), daemon=True)
    listening.start()
    print("ready", flush=True)
    sys.stdin.readline()
    rclpy.try_shutdown()
    listening.join()
    print(json.dumps(rows), flush=True)
    return 0


def _spin(node: rclpy.node.Node) -> None:
    with contextlib.suppress(ExternalShutdownException):
        rclpy.spin(node)


if __name__ == "__main__":
    sys.exit(main())
