# SPDX-License-Identifier: Apache-2.0
"""What the core's tests share: the toy bundle's builder on the path, and one toy bundle for all that only read it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from toy_bundle import make_toy_bundle


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy bundle that no test may change."""
    return make_toy_bundle(tmp_path_factory.mktemp("bundles") / "toy")
