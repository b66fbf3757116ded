# SPDX-License-Identifier: Apache-2.0
"""Every source file names its licence."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Documents, data and pictures; messages, which `ros2 interface show` prints as they are.
BARE = {".md", ".rst", ".msg", ".json", ".csv", ".onnx", ".mcap", ".png", ".jpg"}
# The licence itself, a marker that is empty, and what the recorder of a bag wrote.
BARE_FILES = {"LICENSE", "resource/karmma_ros", "test/bags/data/tabletop/metadata.yaml"}


def test_every_source_file_names_its_licence() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a checkout")
    names = [line for line in listed.stdout.splitlines() if (ROOT / line).exists()]
    sources = [name for name in names if Path(name).suffix not in BARE and name not in BARE_FILES]
    assert len(sources) > 400
    assert {"package.xml", "karmma_msgs/package.xml", "setup.cfg", "pyproject.toml", ".ci/run"} <= set(sources)
    without = [
        name for name in sources if b"SPDX-License-Identifier: Apache-2.0" not in (ROOT / name).read_bytes()[:400]
    ]
    assert not without
