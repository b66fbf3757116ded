# SPDX-License-Identifier: Apache-2.0
"""A subscriber that never reads: it subscribes to the node's predictions, wants every one, and takes none.

python -m karmma_ros.soak.deaf TOPIC
"""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """The process; it goes on only to die."""
    import rclpy
    from rclpy.qos import QoSHistoryPolicy, QoSProfile

    from karmma_msgs.msg import ActionPrediction

    rclpy.init()
    node = rclpy.create_node("deaf")
    everything = QoSProfile(history=QoSHistoryPolicy.KEEP_ALL)  # and reliable: DDS asks for what is lost
    node.create_subscription(ActionPrediction, sys.argv[1], print, everything)
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
