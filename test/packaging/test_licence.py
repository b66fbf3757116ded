# SPDX-License-Identifier: Apache-2.0
"""Every source file names its licence."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {".py", ".xml", ".yaml", ".yml", ".cmake", ".sh", ".toml"}
NAMES = {"CMakeLists.txt", "Makefile"}
# Written by tools, or in a format that another tool prescribes.
EXEMPT = {"package.xml", "colcon_defaults.yaml", "metadata.yaml", "pyproject.toml"}


def test_every_source_file_names_its_licence() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a checkout")
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    sources = [
        path
        for path in paths
        if (path.suffix in SOURCES or path.name in NAMES) and path.name not in EXEMPT and path.exists()
    ]
    assert len(sources) > 200
    without = [
        str(path.relative_to(ROOT))
        for path in sources
        if "SPDX-License-Identifier: Apache-2.0" not in path.read_text(encoding="utf-8")[:400]
    ]
    assert not without
