# SPDX-License-Identifier: Apache-2.0
"""action_node under another of rclpy's executors: `python -m karmma_benchmarks.node_with_executor NAME ...`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor

from karmma_ros.nodes import action_node, process


def _events() -> Any:
    from rclpy.experimental import EventsExecutor  # newer than the first releases of Jazzy

    return EventsExecutor()


EXECUTORS: Mapping[str, Callable[[], Any]] = {
    "single": SingleThreadedExecutor,
    "multi": partial(MultiThreadedExecutor, num_threads=2),
    "events": _events,
}

if __name__ == "__main__":
    process.SingleThreadedExecutor = EXECUTORS[sys.argv[1]]  # type: ignore[misc, assignment]
    sys.exit(action_node.main(sys.argv[2:]))
