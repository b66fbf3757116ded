# SPDX-License-Identifier: Apache-2.0
"""A machine without any network but its own loopback: the node starts, hears its sensors and predicts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from node.test_lifecycle import __file__ as lifecycle

ALONE = "ip link set lo up && exec"  # a network of its own has nothing else, and that is down at first


def test_nothing_is_fetched_at_start(ros_env: dict[str, str]) -> None:
    alone = ["unshare", "--map-root-user", "--net", "sh", "-c"]
    if not all(map(shutil.which, ("unshare", "ip"))) or subprocess.run([*alone, f"{ALONE} true"]).returncode:
        pytest.skip("a process cannot be given a network of its own here")
    test = f"{lifecycle}::test_signals_end_the_node_cleanly"
    command = f"{ALONE} {sys.executable} -m pytest -p no:cacheprovider -q '{test}'"
    environment = {**os.environ, **ros_env}
    done = subprocess.run([*alone, command], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "2 passed" in done.stdout
