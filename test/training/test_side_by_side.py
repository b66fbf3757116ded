# SPDX-License-Identifier: Apache-2.0
"""Work that needs other work: in which order it is done, and how it ends.

The work is functions of the standard library: tests are no module that another process could import.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from karmma_ros.errors import KarmmaError
from karmma_training.side_by_side import run_side_by_side


def test_what_is_needed_comes_first(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    inside = a / "inside"
    needs: dict[Path, list[Path]] = {inside: [a], a: [], b: []}
    begun: list[Path] = []
    done = list(run_side_by_side(os.mkdir, needs, 2, before=begun.append))
    assert sorted(done) == [a, inside, b]
    assert done.index(a) < done.index(inside)
    assert begun[:2] == [a, b], "two at once, in the order given"
    assert inside.is_dir()


def test_one_at_a_time_waits_for_the_one_before(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    started: list[Path] = []
    for number, path in enumerate(run_side_by_side(os.mkdir, dict.fromkeys(paths, ()), 1, before=started.append), 1):
        assert path == paths[number - 1]
        assert len(started) == number


def test_a_failure_ends_the_others(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    needs: dict[Path, list[Path]] = {tmp_path / "there": [], tmp_path / "never": [tmp_path / "there"]}
    with pytest.raises(KarmmaError, match="FileExistsError"):
        list(run_side_by_side(os.mkdir, needs, 2, before=lambda path: None))
    assert not (tmp_path / "never").exists()


def test_a_process_that_dies_is_a_failure() -> None:
    with pytest.raises(KarmmaError, match="ended with status -9"):
        list(run_side_by_side(signal.raise_signal, {signal.SIGKILL: []}, 1, before=lambda number: None))


def test_a_circle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wait for one another"):
        list(run_side_by_side(os.mkdir, {tmp_path / "a": [tmp_path / "a"]}, 1, before=lambda path: None))
