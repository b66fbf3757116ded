# SPDX-License-Identifier: Apache-2.0
"""Tests that go by the clock are run again where the machine stood still, and only there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TEST = """
import os, signal, time
import pytest
from fixtures.stumbles import witnesses

runs = []


def stand_still(config):
    pids = [process.pid for process in config.stash[witnesses].processes]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            os.kill(pid, number)
        time.sleep(0.1)


@pytest.mark.clock
def test_fails_once(request):
    runs.append(1)
    if {still}:
        stand_still(request.config)
    assert len(runs) == 2, "the first time"
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be given a core here")
@pytest.mark.parametrize("still", [True, False])
def test_a_failure_counts_unless_the_machine_stood_still(tmp_path: Path, still: bool) -> None:
    (tmp_path / "test_once.py").write_text(TEST.replace("{still}", str(still)))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = clock\n")
    command = [sys.executable, "-m", "pytest", "-p", "fixtures.stumbles", "-p", "no:cacheprovider", "-q"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment |= {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    if still:
        assert done.returncode == 0, done.stdout
        assert re.search(r"run again: test_once\.py::test_fails_once: a core stood still for \d\.\d+ s", done.stdout)
        assert "1 passed" in done.stdout
    else:
        assert done.returncode == 1, done.stdout
        assert "the first time" in done.stdout
        assert "run again" not in done.stdout
