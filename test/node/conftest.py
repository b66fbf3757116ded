# SPDX-License-Identifier: Apache-2.0
"""On a machine without ROS 2 only the timing rules can be tested here; the rest needs rclpy to be imported at all."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from node.bench import Bench

if find_spec("rclpy") is None or find_spec("karmma_msgs.msg") is None:
    collect_ignore_glob = ["test_[!p]*.py"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle that no test may change."""
    from toy_bundle import make_toy_bundle

    return make_toy_bundle(tmp_path_factory.mktemp("toy") / "toy")


@pytest.fixture(scope="session")
def vision_msgs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What to add to the environment of a process to have vision_msgs, built here."""
    from interface_package import VISION_MSGS, build_package

    folder = tmp_path_factory.mktemp("vision_msgs")
    return build_package(folder, "vision_msgs", VISION_MSGS, ("std_msgs", "geometry_msgs"))


@pytest.fixture
def bench(toy: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A worker on a bench; an indirect parameter holds settings other than the defaults."""
    from node.bench import Bench

    from karmma_ros.recognizer import Recognizer

    made = Bench(Recognizer(toy), **getattr(request, "param", {}))
    yield made
    made.worker.stop()
