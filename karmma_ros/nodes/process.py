# SPDX-License-Identifier: Apache-2.0
"""A node as a process: runs it until SIGINT, SIGTERM or shutdown, and ends with status 0; a mistake of the user is one
line and status 2."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from karmma_ros import transport
from karmma_ros.errors import KarmmaError

__all__ = ["run"]

N = TypeVar("N", bound=Node)


def run(
    make_node: Callable[[], N],
    name: str,
    args: Sequence[str] | None = None,
    *,
    start: Callable[[N], None] | None = None,
) -> int:
    """Runs a node; returns the exit status.

    :param make_node: called once ROS is initialised; what it raises as KarmmaError is shown to the user.
    :param name: what the line about a mistake begins with.
    :param args: the command line; the process's own by default.
    :param start: called once, before the first callback.
    """
    transport.prepare()
    executor: SingleThreadedExecutor | None = None
    node: N | None = None
    try:
        rclpy.init(args=None if args is None else list(args))
        executor = SingleThreadedExecutor()
        node = make_node()
    except KeyboardInterrupt:
        return 0
    except (KarmmaError, RuntimeError) as error:  # rclpy's errors about arguments and parameter files are RuntimeErrors
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    try:
        executor.add_node(node)
        if start is not None:
            start(node)
        while rclpy.ok():
            executor.spin_once(timeout_sec=0.5)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        if rclpy.ok():  # what breaks because the context is gone is no fault
            raise
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0
