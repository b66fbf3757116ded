# SPDX-License-Identifier: Apache-2.0
"""The robot side never imports torch, and the core never imports ROS."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import karmma_ros

ROOT = Path(karmma_ros.__file__).parent
SMALL_BAG = Path(__file__).parents[1] / "bags" / "data" / "tabletop"
WITH_ROS = {"nodes", "demo", "soak", "messages"}  # everything else does without
CORE = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in ROOT.rglob("*.py")
    if path.name != "__init__.py" and not WITH_ROS & set(path.relative_to(ROOT).with_suffix("").parts[:1])
)

# Refusing the import proves more than looking at sys.modules afterwards: a guarded `try: import` would be seen too.
PROGRAM = """
import importlib, sys
FORBIDDEN = {"torch", "torchvision", "rclpy", "rosidl_runtime_py", "ament_index_python", "launch", "onnx", "cv_bridge"}
asked = []
class Guard:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in FORBIDDEN or top.endswith("_msgs"):
            asked.append(name)
            raise ImportError(f"{name} is forbidden here")
        return None
sys.meta_path.insert(0, Guard())
if sys.argv[1] == "karmma":
    from karmma_ros.cli.main import main
    assert main(sys.argv[2:]) == 0
else:
    for name in sys.argv[1:]:
        importlib.import_module(name)
assert not asked, asked
assert not FORBIDDEN & set(sys.modules), FORBIDDEN & set(sys.modules)
print("imported", len(sys.argv) - 1)
"""


def run(*modules: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *modules], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_core_imports_neither_ros_nor_torch() -> None:
    result = run(*(f"karmma_ros.{name}" for name in CORE))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == f"imported {len(CORE)}"


@pytest.mark.parametrize("command", ["replay", "record-check"])
def test_a_bag_is_read_without_ros(command: str, tmp_path: Path) -> None:
    if find_spec("rosbags") is None:
        pytest.skip("bags need rosbags")
    options = ["--out", str(tmp_path / "out")] if command == "replay" else []
    result = run("karmma", command, str(SMALL_BAG), *options)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("module", ["rclpy", "onnx"])
def test_the_guard_sees_a_forbidden_import(module: str) -> None:
    result = run(module)
    assert result.returncode != 0
    assert "is forbidden here" in result.stderr
