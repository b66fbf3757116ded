# SPDX-License-Identifier: Apache-2.0
"""The container, which nobody has built (docs/jetson.md): a base that cannot change under it, what the robot needs."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile.jetson"


def test_the_base_is_pinned_by_digest_and_can_be_replaced() -> None:
    instructions = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if re.match(r"[A-Z]+ ", line)]
    base, first = instructions[:2]
    assert re.fullmatch(r"ARG BASE=ros:jazzy-ros-base-noble@sha256:[0-9a-f]{64}", base)
    assert first == "FROM ${BASE}", "--build-arg BASE=... has to reach it"
    assert [line for line in instructions if line.startswith("FROM")] == [first]


def test_what_the_image_installs_besides_is_what_the_robot_needs() -> None:
    """ONNX Runtime is chosen by an argument, setuptools is Ubuntu's."""
    text = DOCKERFILE.read_text(encoding="utf-8")
    (step,) = re.findall(r"grep -v '[^']+' requirements/robot-system\.txt", text)
    done = subprocess.run(shlex.split(step), cwd=ROOT, capture_output=True, text=True, check=True)
    wanted = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    everything = (ROOT / "requirements" / "robot-system.txt").read_text().splitlines()
    assert wanted == [line for line in everything if re.match(r"(?!onnxruntime|setuptools)\w", line)]
    assert len(wanted) == 5
    assert 'ARG ONNXRUNTIME="onnxruntime>=1.18,<2"' in text
    assert "onnxruntime>=1.18,<2" in everything, "the same range as everywhere"


def test_nothing_that_the_build_needs_is_left_out_of_it() -> None:
    """A pattern without a slash is about the repository's root alone."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    left_out = {pattern.rstrip("/") for pattern in patterns if "/" not in pattern}
    needed = {"package.xml", "setup.py", "karmma_ros", "karmma_msgs", "models", "config", "launch", "requirements"}
    assert {name for name in needed if (ROOT / name).exists()} == needed
    assert not needed & left_out
    assert {pattern for pattern in patterns if "/" in pattern} == {"**/__pycache__"}
