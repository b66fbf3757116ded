# SPDX-License-Identifier: Apache-2.0
"""A sensor that is switched off leaves nothing behind: the process's own memory is searched for what it sent."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from node.harness import PATIENCE_S
from node.marked_worker import half
from toy_bundle import make_toy_bundle

NUMBER = 20_240_817


def occurrences(pid: int, *markers: bytes) -> int:
    """How often the markers are in the writable anonymous memory of a process."""
    count = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw.p \S+ \S+ 0 *(\S*)", line)
            if match is None or match[3].startswith(("/", "[v")):
                continue
            begin, end = int(match[1], 16), int(match[2], 16)
            memory.seek(begin)
            try:
                content = memory.read(end - begin)
            except OSError:  # gone meanwhile
                continue
            count += sum(content.count(marker) for marker in markers)
    return count


@pytest.mark.parametrize(
    ("encoding", "flow", "clip"), [("rgb8", [], 1), ("bgr8", [], 1), ("rgb8", ["flow"], 1), ("rgb8", [], 4)]
)
@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc")
def test_nothing_of_a_camera_and_a_microphone_stays_when_they_are_switched_off(
    tmp_path: Path, encoding: str, flow: list[str], clip: int
) -> None:
    script = Path(__file__).with_name("marked_worker.py")
    size = (240, 320) if clip > 1 else (24, 32)  # images of the network's own size would be kept as they are
    bundle = make_toy_bundle(tmp_path / "toy", clip=clip, size=size)
    sent = (2 * half(NUMBER)).tobytes() * 86  # just more than a page: see karmma_ros/memory.py
    decoded = np.frombuffer(sent, np.uint8).reshape(-1, 3)[:, ::-1].tobytes()
    with subprocess.Popen(
        [sys.executable, str(script), str(bundle), str(NUMBER), encoding, *flow],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "sent\n"
            assert occurrences(child.pid, sent, decoded) > 20, "what is held and what waits"
            child.stdin.write("\n")
            child.stdin.flush()
            assert child.stdout.readline() == "off\n"
            end = time.monotonic() + PATIENCE_S
            while (left := occurrences(child.pid, sent, decoded)) and time.monotonic() < end:
                pass  # the worker is about to rest
            assert left == 0
            child.stdin.write("\n")
            child.stdin.flush()
            assert child.wait(PATIENCE_S) == 0
        finally:
            child.kill()
