# SPDX-License-Identifier: Apache-2.0
"""Launch tests run where launch_testing is installed. They start this checkout's nodes."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
CASES = Path(__file__).resolve().parent / "cases"
NODES = ("action_node", "flow_node", "microphone_node", "overlay_node", "wait_active")
EXECUTABLES = {
    "karmma_ros": {name: f"karmma_ros.nodes.{name}" for name in NODES},
    "toy_camera": {"driver": "toy_camera"},
}


@pytest.fixture(scope="session")
def launch_env(ros_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a launch: `ros_env`, where the package index knows karmma_ros and its executables."""
    for module in ("launch_testing", "launch_ros"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: it comes with a ROS 2 installation, not from the package index")
    prefix = tmp_path_factory.mktemp("prefix")
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    for package, executables in EXECUTABLES.items():
        (index / package).touch()
        folder = prefix / "lib" / package
        folder.mkdir(parents=True)
        for name, module in executables.items():
            script = folder / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
            script.chmod(0o755)
    prefixes = [str(prefix), *os.environ.get("AMENT_PREFIX_PATH", sys.prefix).split(os.pathsep)]
    ours = (CHECKOUT, CHECKOUT / "test", CASES)
    paths = [*map(str, ours), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    logs = tmp_path_factory.mktemp("log")
    return {
        **ros_env,
        "AMENT_PREFIX_PATH": os.pathsep.join(prefixes),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "ROS_LOG_DIR": str(logs),
    }
