# SPDX-License-Identifier: Apache-2.0
"""The file of guesses for Something-Something's test split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from karmma_ros.errors import UsageError
from karmma_training.datasets.something_something.submission import write_predictions


def test_a_line_holds_the_video_and_its_five_best_classes(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).permutation(2 * 174).reshape(2, 174).astype(np.float32)
    path = tmp_path / "guesses.csv"
    write_predictions(path, ["007", "41"], ["41", "007"], logits)
    first, second = ([int(part) for part in line.split(";")] for line in path.read_text().splitlines())
    assert path.read_text().startswith("007;")
    for row, line in ((1, first), (0, second)):
        _, *classes = line
        assert len(classes) == 5
        assert logits[row][classes].tolist() == sorted(logits[row], reverse=True)[:5]
    assert second[0] == 41


@pytest.mark.parametrize("lost", ["absent", "without a sample"])
def test_every_video_needs_a_prediction(tmp_path: Path, lost: str) -> None:
    logits = np.zeros((2, 3), np.float32)
    if lost == "absent":
        ids = ["1", "3"]
    else:
        ids, logits[1] = ["1", "2"], np.nan
    with pytest.raises(UsageError, match=r"1 of 2 videos have no prediction, 2\.webm for one"):
        write_predictions(tmp_path / "guesses.csv", ["1", "2"], ids, logits)
    assert not list(tmp_path.iterdir())
