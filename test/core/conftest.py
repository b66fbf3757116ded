# SPDX-License-Identifier: Apache-2.0
"""What the core's tests share: one toy bundle for all that only read it."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_bundle import make_toy_bundle


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy bundle that no test may change."""
    return make_toy_bundle(tmp_path_factory.mktemp("bundles") / "toy")
