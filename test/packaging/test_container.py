# SPDX-License-Identifier: Apache-2.0
"""The container is built on an image that cannot change under it."""

from __future__ import annotations

import re
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "docker" / "Dockerfile.jetson"


def test_the_base_is_pinned_by_digest_and_can_be_replaced() -> None:
    instructions = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if re.match(r"[A-Z]+ ", line)]
    base, first = instructions[:2]
    assert re.fullmatch(r"ARG BASE=ros:jazzy-ros-base-noble@sha256:[0-9a-f]{64}", base)
    assert first == "FROM ${BASE}", "--build-arg BASE=... has to reach it"
    assert [line for line in instructions if line.startswith("FROM")] == [first]
