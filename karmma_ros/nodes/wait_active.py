# SPDX-License-Identifier: Apache-2.0
"""Ends with status 0 once a life cycle node is active: what starts afterwards finds it listening.

ros2 run karmma_ros wait_active /action_node && ros2 bag play BAG --clock
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.exceptions import NameValidationException
from rclpy.executors import ExternalShutdownException
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from karmma_ros.nodes.state_question import StateQuestion

__all__ = ["main"]

_LOOK_S = 0.1  # [s] between two looks for the service


def _wait_active(name: str, timeout_s: float) -> bool:
    """Whether the node became active in time."""
    asking = rclpy.create_node("wait_active")
    client = asking.create_client(GetState, f"{name}/get_state")
    question = StateQuestion(client, GetState.Request, State.PRIMARY_STATE_UNKNOWN)
    end_s = time.monotonic() + timeout_s
    try:
        while time.monotonic() < end_s:
            if question.ask() == State.PRIMARY_STATE_ACTIVE:
                return True
            rclpy.spin_once(asking, timeout_sec=_LOOK_S)
        return False
    finally:
        asking.destroy_node()


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of `ros2 run karmma_ros wait_active`.

    Exit status 1: it is not active in time; 2: that is no name; 130: Ctrl-C or SIGTERM.
    """
    parser = argparse.ArgumentParser(prog="wait_active", description="Waits until a life cycle node is active.")
    parser.add_argument("node", help="its full name, such as /action_node")
    parser.add_argument("--timeout", type=float, default=120.0, metavar="S", help="[s] (default: %(default)g)")
    command = list(sys.argv if args is None else ["wait_active", *args])
    options = parser.parse_args(remove_ros_args(command)[1:])
    try:
        # Not rclpy's own handlers, which shut ROS down from a thread of theirs while this one takes the node apart.
        rclpy.init(args=command, signal_handler_options=SignalHandlerOptions.NO)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        active = _wait_active(options.node, options.timeout)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    except NameValidationException as error:
        print(f"wait_active: {options.node} is no node's name: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    finally:
        rclpy.try_shutdown()
    if not active:
        print(f"wait_active: {options.node} is not active after {options.timeout:g} s: see its log", file=sys.stderr)
    return 0 if active else 1


if __name__ == "__main__":
    sys.exit(main())
