# SPDX-License-Identifier: Apache-2.0
"""A subscriber that wants every prediction and takes none, until a byte comes on stdin: then it says how many it holds.

    full_reader.py TOPIC

How many it can hold is said by the Fast DDS profile that its environment names.
"""

import sys

import rclpy
from rclpy.qos import QoSHistoryPolicy, QoSProfile

from karmma_msgs.msg import ActionPrediction


def main() -> None:
    rclpy.init()
    # Nothing else that is subscribed to: the profile's limit would be for it, too.
    node = rclpy.create_node("full_reader", start_parameter_services=False, enable_rosout=False)
    everything = QoSProfile(history=QoSHistoryPolicy.KEEP_ALL)  # and reliable: DDS asks for what is lost
    subscription = node.create_subscription(ActionPrediction, sys.argv[1], print, everything)
    print("ready", flush=True)
    sys.stdin.read(1)
    held = 0
    with subscription.handle:
        while subscription.handle.take_message(ActionPrediction, False) is not None:
            held += 1
    print(held, flush=True)


if __name__ == "__main__":
    main()
