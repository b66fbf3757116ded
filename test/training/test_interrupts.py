# SPDX-License-Identifier: Apache-2.0
"""Training that is told to end, or killed: it stops between two steps, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch")

from karmma_training.learning.interrupt import SAME_S, interrupts_wait


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_waits_and_the_second_does_not(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    now_s = 100.0
    monkeypatch.setattr("karmma_training.learning.interrupt.time.monotonic", lambda: now_s)
    with interrupts_wait() as interrupted:
        assert not interrupted()
        os.kill(os.getpid(), number)
        assert interrupted()
        now_s += 0.9 * SAME_S
        os.kill(os.getpid(), signal.SIGTERM)  # of a parent that got the first one too
        now_s += 0.2 * SAME_S
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def children(pid: int) -> set[int]:
    try:
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except OSError:
        return set()


def is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child of its parent's death")
def test_workers_die_with_a_training_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "karmma_ros.cli.main", "train", "--preset", "tiny", "--workers", "2"]
    command += ["--out", str(tmp_path / "run"), "--store", str(tmp_path / "store"), "--minutes-of-data", "60"]
    training = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    workers: set[int] = set()
    try:
        deadline = time.monotonic() + 120
        made = tmp_path / "store"
        while len(workers) < 2 or not any(made.rglob("meta.json")):  # until they work
            assert training.poll() is None, "the training ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.05)
            workers = {pid for pid in children(training.pid) if is_worker(pid)}
    finally:
        training.kill()
        training.wait()
    deadline = time.monotonic() + 20
    while any(map(is_alive, workers)):
        assert time.monotonic() < deadline, "a worker outlived the training"
        time.sleep(0.05)
