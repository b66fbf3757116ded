# SPDX-License-Identifier: Apache-2.0
"""What the command line's tests share: a toy bundle and a way to run `karmma`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from toy_bundle import make_toy_bundle

from karmma_ros.cli.main import main


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy bundle that no test may change."""
    return make_toy_bundle(tmp_path_factory.mktemp("bundles") / "toy")


@dataclass
class Result:
    """How a command ended."""

    status: int
    out: str
    err: str


class Karmma:
    """Runs `karmma` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Result:
        self._capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = self._capsys.readouterr()
        return Result(status, captured.out, captured.err)


@pytest.fixture
def karmma(capsys: pytest.CaptureFixture[str]) -> Karmma:
    """`karmma("video", path)` runs it and tells how it ended."""
    return Karmma(capsys)
