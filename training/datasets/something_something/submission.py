# SPDX-License-Identifier: Apache-2.0
"""Predictions of Something-Something's test split as its leaderboard took them: `ID;CLASS;CLASS;CLASS;CLASS;CLASS`.

A line per video, best class first, classes by their numbers in labels.json. No page of the data set that we could reach
describes a file; TSM's `test_models.py --csv_file` (Lin et al., ICCV 2019) writes this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.files import whole_file
from karmma_training.datasets.predicted import check_predicted, predicted_rows

__all__ = ["write_predictions"]

BEST = 5  # classes of each video


def write_predictions(
    path: Path, videos: Sequence[str], ids: Sequence[str], logits: npt.NDArray[np.floating[Any]]
) -> None:
    """Write the file, whole or not at all.

    :param videos: all of the split; ids: of the predicted ones; logits: (n, C) in the order of `ids`, a row of
        NaN being no prediction.
    :raises UsageError: a video has no prediction.
    """
    rows = predicted_rows(ids, {"action": logits})
    check_predicted(videos, rows, "videos", ".webm")
    best = np.argsort(-logits, axis=1, kind="stable")[:, :BEST]
    lines = [";".join([video, *map(str, best[rows[video]])]) for video in videos]
    with whole_file(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
