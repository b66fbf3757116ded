# SPDX-License-Identifier: Apache-2.0
"""A disk that is full when the demo writes its results: a small file system in a mount namespace of its own."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("size", "film", "written"),
    [
        ("64k", ["--no-overlay"], set()),  # less than the predictions take
        ("256k", [], {"predictions.jsonl", "summary.json", "truth.jsonl"}),  # and the disk is full within the film
    ],
    ids=["predictions", "film"],
)
def test_a_full_disk_is_one_line_and_leaves_no_half_file(
    tmp_path: Path, bundle: Path, ros_env: dict[str, str], size: str, film: list[str], written: set[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    mount = f"mount -t tmpfs -o size={size} tmpfs {out}"
    if subprocess.run(["unshare", "-Urm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("no mount namespaces for users on this machine")
    command = [sys.executable, "-m", "karmma_ros.cli.main", "demo", "--bundle", str(bundle), "--out", str(out)]
    command += ["--seconds", "4", "--no-view", *film]
    demo = f"{shlex.join(command)} >/dev/null; status=$?; ls -A {out}; exit $status"
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", f"{mount} && {demo}"], env=ros_env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "No space left on device" in done.stderr
    assert set(done.stdout.split()) == written
