# SPDX-License-Identifier: Apache-2.0
"""A node as a process: runs it until SIGINT, SIGTERM or shutdown, and ends with status 0; a mistake of the user is one
line and status 2."""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import rclpy
import rclpy.signals
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from karmma_ros import transport
from karmma_ros.errors import KarmmaError
from karmma_ros.nodes.deadline import ending_in_time

__all__ = ["run"]

N = TypeVar("N", bound=Node)

_LOOK_S = 0.1  # [s] between two looks for a signal: one that comes while the executor waits is seen after it


def run(
    make_node: Callable[[], N],
    name: str,
    args: Sequence[str] | None = None,
    *,
    start: Callable[[N], None] | None = None,
) -> int:
    """Runs a node; returns the exit status. Within 2 s of SIGINT or SIGTERM it ends, see `deadline`.

    :param make_node: called once ROS is initialised; what it raises as KarmmaError is shown to the user.
    :param name: what the line about a mistake begins with.
    :param args: the command line; the process's own by default.
    :param start: called once, before the first callback.
    """
    with ending_in_time(name):
        return _run(make_node, name, args, start)


def _run(make_node: Callable[[], N], name: str, args: Sequence[str] | None, start: Callable[[N], None] | None) -> int:
    faulthandler.enable()  # a crash in native code says where
    transport.prepare()
    executor: SingleThreadedExecutor | None = None
    node: N | None = None
    _on_signals(signal.default_int_handler)
    try:
        # Not rclpy's own handlers: they shut ROS down from a thread of theirs while this one takes the node apart. Now
        # and then that ends in a segmentation fault, and a node has things to say before it goes.
        rclpy.init(
            args=None if args is None else list(args), signal_handler_options=rclpy.signals.SignalHandlerOptions.NO
        )
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
        ended = threading.Event()
        _on_signals(lambda number, frame: ended.set())
        while rclpy.ok() and not ended.is_set():
            executor.spin_once(timeout_sec=_LOOK_S)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        if rclpy.ok():  # what breaks because the context is gone is no fault
            raise
    finally:
        _on_signals(lambda number, frame: None)  # not SIG_IGN, of which `ending_in_time` would hear nothing
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _on_signals(handler: Any) -> None:
    """What SIGINT and SIGTERM do; like Python itself, nothing outside the main thread."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, handler)
