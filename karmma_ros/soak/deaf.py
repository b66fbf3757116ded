# SPDX-License-Identifier: Apache-2.0
"""A subscriber that never reads: it subscribes, reliably, to the node's predictions and stops itself.

python -m karmma_ros.soak.deaf TOPIC
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """The process; it goes on only to die."""
    import rclpy
    from rclpy.qos import QoSProfile

    from karmma_msgs.msg import ActionPrediction

    rclpy.init()
    node = rclpy.create_node("deaf")
    node.create_subscription(ActionPrediction, sys.argv[1], print, QoSProfile(depth=10))
    while not node.count_publishers(sys.argv[1]):
        rclpy.spin_once(node, timeout_sec=0.1)
    os.kill(os.getpid(), signal.SIGSTOP)
    return 0


if __name__ == "__main__":
    sys.exit(main())
