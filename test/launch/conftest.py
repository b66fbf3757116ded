# SPDX-License-Identifier: Apache-2.0
"""Launch tests run where launch_testing is installed. They start this checkout's nodes, or the installed ones."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
NODES = ("action_node", "flow_node", "overlay_node", "wait_active")


@pytest.fixture(scope="session")
def launch_env(ros_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a launch: `ros_env`, where the package index knows karmma_ros and its executables."""
    for module in ("launch_testing", "launch_ros"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: it comes with a ROS 2 installation, not from the package index")
    prefix = tmp_path_factory.mktemp("prefix")
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "karmma_ros").touch()
    executables = prefix / "lib" / "karmma_ros"
    executables.mkdir(parents=True)
    for name in NODES:
        script = executables / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m karmma_ros.nodes.{name} "$@"\n')
        script.chmod(0o755)
    prefixes = [str(prefix), *os.environ.get("AMENT_PREFIX_PATH", sys.prefix).split(os.pathsep)]
    ours = (CHECKOUT, CHECKOUT / "test", CHECKOUT / "test" / "launch")
    paths = [*map(str, ours), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    logs = tmp_path_factory.mktemp("log")
    return {
        **ros_env,
        "AMENT_PREFIX_PATH": os.pathsep.join(prefixes),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "ROS_LOG_DIR": str(logs),
    }
