# SPDX-License-Identifier: Apache-2.0
"""What the code imports is what the requirements name: pinned, and each with its reason."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"karmma_ros", "karmma_training", "karmma_benchmarks", "karmma_msgs"}
# Come with what is named: message packages and tools of ROS, and what a named library is built on.
IMPLIED = {"builtin_interfaces", "domain_coordinator", "lifecycle_msgs", "rcl_interfaces", "rosgraph_msgs", "std_msgs"}
IMPLIED |= {"safetensors"}


def names(file: str) -> dict[str, str]:
    """{distribution: its line} of a requirements file."""
    lines = (ROOT / "requirements" / file).read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    return {re.split(r"[\[=<>;\s]", line)[0].lower().replace("_", "-"): line for line in wanted}


def imported(folder: str) -> set[str]:
    """Top-level packages that a folder's code imports from elsewhere."""
    found: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - OURS - set(sys.stdlib_module_names)


@pytest.mark.parametrize("file", ["robot.txt", "ros.txt", "training.txt", "test.txt"])
def test_every_dependency_is_pinned(file: str) -> None:
    assert names(file)
    for line in names(file).values():
        assert "==" in line, line


@pytest.mark.parametrize("file", ["robot.txt", "training.txt", "test.txt"])
def test_every_dependency_has_its_reason(file: str) -> None:
    without = [name for name, line in names(file).items() if "#" not in line and not name.startswith("colcon")]
    assert not without


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("karmma_ros", ["robot.txt"]),
        ("training", ["robot.txt", "training.txt"]),
        ("benchmarks", ["robot.txt", "training.txt"]),
    ],
)
def test_nothing_is_imported_that_no_requirement_names(folder: str, files: list[str]) -> None:
    pytest.importorskip("torch", reason="the training packages are not here")
    named = {name for file in [*files, "ros.txt"] for name in names(file)}
    known = packages_distributions()
    strangers = {}
    for package in imported(folder) - IMPLIED - {"cv_bridge", "vision_msgs"}:  # which are used where ROS brings them
        distributions = {name.lower().replace("_", "-") for name in known.get(package, [package])}
        if not distributions & named:
            strangers[package] = distributions
    assert not strangers
