# SPDX-License-Identifier: Apache-2.0
"""What the launch tests share."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from node.harness import Robot, robot
from toy_bundle import make_toy_bundle

from karmma_ros.share import share_path


def folder() -> Path:
    """Where a test may write: the runner's folder, or the current one."""
    return Path(os.environ.get("KARMMA_TEST_FOLDER", "."))


def toy_bundle() -> str:
    """A small bundle."""
    return str(make_toy_bundle(folder() / "toy"))


def include(name: str, **arguments: str) -> IncludeLaunchDescription:
    """One of the package's launch files."""
    source = PythonLaunchDescriptionSource(str(share_path(f"launch/{name}.launch.py")))
    return IncludeLaunchDescription(source, launch_arguments=list(arguments.items()))


def robot_of(namespace: str = "", **topics: str) -> AbstractContextManager[Robot]:
    """Sensors and ears in a namespace; `image`, `flow` and `audio` may have other names."""
    return robot(namespace=namespace, topics=topics)
