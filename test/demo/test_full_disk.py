# SPDX-License-Identifier: Apache-2.0
"""A disk that is full when the demo writes its results: a file system of 64 KB in a mount namespace of its own."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

MOUNT = "mount -t tmpfs -o size=64k tmpfs"


def test_a_full_disk_is_one_line_and_leaves_no_half_file(tmp_path: Path, bundle: Path, ros_env: dict[str, str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if subprocess.run(["unshare", "-Urm", "sh", "-c", f"{MOUNT} {out}"], capture_output=True).returncode:
        pytest.skip("no mount namespaces for users on this machine")
    command = [sys.executable, "-m", "karmma_ros.cli.main", "demo", "--bundle", str(bundle), "--out", str(out)]
    demo = f"{shlex.join(command)} --seconds 4 --no-view --no-film; status=$?; ls -A {out}; exit $status"
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", f"{MOUNT} {out} && {demo}"],
        env=ros_env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr
    assert not [name for name in done.stdout.split() if name.endswith(".jsonl") or "partial" in name], done.stdout
