# SPDX-License-Identifier: Apache-2.0
"""The demo as a process of its own, and a way to find every process that it started."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_helpers import wait_until
from toy_bundle import make_toy_bundle

MARK = "KARMMA_TEST_MARK"


class Demo:
    """A running `karmma demo`; everything it starts inherits a mark in its environment."""

    def __init__(self, folder: Path, *arguments: object, env: dict[str, str]) -> None:
        self.mark = uuid.uuid4().hex
        command = [sys.executable, "-m", "karmma_ros.cli.main", "demo", "--out", folder / "out", *arguments]
        self.process = subprocess.Popen(
            [str(part) for part in command],
            env={**env, MARK: self.mark},
            stdout=(folder / "stdout").open("w"),
            stderr=(folder / "stderr").open("w"),
            start_new_session=True,
        )
        self.folder = folder
        self.out = folder / "out"

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def processes(self) -> dict[int, str]:
        """Every living process of this demo: {pid: command line}."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
        return found

    def find(self, part: str) -> int:
        """The process whose command line has `part`, once there is one."""
        wait_until(lambda: any(part in line for line in self.processes().values()), 60)
        return next(pid for pid, line in self.processes().items() if part in line)

    def shared_memory(self) -> set[str]:
        """The files in /dev/shm that the demo's processes have mapped."""
        found: set[str] = set()
        for pid in self.processes():
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
                found |= {line.split(maxsplit=5)[5] for line in lines if "/dev/shm/fastrtps" in line}
        return found

    def wait_playing(self) -> None:
        """Until predictions are shown: every process is there and at work."""
        wait_until(lambda: self.process.poll() is not None or "ms, p99" in self.stdout, 90)
        assert self.process.poll() is None, self.stderr


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy bundle that no test may change."""
    return make_toy_bundle(tmp_path_factory.mktemp("bundles") / "toy")


@pytest.fixture
def start(tmp_path: Path, bundle: Path, ros_env: dict[str, str]) -> Iterator[object]:
    """`start(*arguments)` starts a demo; whatever is left of it at the end of the test is killed."""
    demos: list[Demo] = []

    def begin(*arguments: object) -> Demo:
        demos.append(Demo(tmp_path, "--bundle", bundle, *arguments, env=ros_env))
        return demos[-1]

    yield begin
    for demo in demos:
        for pid in demo.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        demo.process.wait()
