# SPDX-License-Identifier: Apache-2.0
"""What a run leaves to read."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch")

from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from karmma_training.learning.run_log import RunLog


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_column_that_appears_late_joins_the_file(tmp_path: Path) -> None:
    log = RunLog(tmp_path, Console(quiet=True))
    log.epoch({"epoch": 1, "step": 10, "loss": 2.0})
    log.epoch({"epoch": 2, "step": 20, "loss": 1.0, "score": 0.5})
    assert rows(tmp_path) == [
        {"epoch": "1", "step": "10", "loss": "2.0", "score": ""},
        {"epoch": "2", "step": "20", "loss": "1.0", "score": "0.5"},
    ]


def test_epochs_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    log = RunLog(tmp_path, Console(quiet=True))
    for epoch in (1, 2, 3):
        log.epoch({"epoch": epoch, "step": 10 * epoch})
    log.cut(25)
    assert [row["epoch"] for row in rows(tmp_path)] == ["1", "2"]


def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path: Path) -> None:
    first = RunLog(tmp_path, Console(quiet=True))
    for step in (1, 2, 3):
        first.scalars({"train/loss": float(step)}, step)
    first.close()
    second = RunLog(tmp_path, Console(quiet=True))  # resumed from step 1
    for step in (2, 3):
        second.scalars({"train/loss": float(10 * step)}, step)
    second.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(e.step, e.value) for e in board.Scalars("train/loss")] == [(1, 1.0), (2, 20.0), (3, 30.0)]


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    log = RunLog(tmp_path, Console(quiet=True), silent=True)
    log.explain("x")
    log.line("x")
    log.epoch({"epoch": 1, "step": 1})
    log.scalars({"a": 1.0}, 1)
    log.close()
    assert not list(tmp_path.iterdir())
