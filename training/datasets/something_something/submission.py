# SPDX-License-Identifier: Apache-2.0
"""Predictions of Something-Something's test split as its leaderboard took them: `ID;CLASS;CLASS;CLASS;CLASS;CLASS`.

A line per video, best class first, classes by their numbers in labels.json. No page of the data set that we could reach
describes a file; TSM's `test_models.py --csv_file` (Lin et al., ICCV 2019) writes this one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import UsageError
from karmma_ros.files import whole_file

__all__ = ["check_all", "write_predictions"]

BEST = 5  # classes of each video


def check_all(videos: Sequence[str], ids: Collection[str]) -> None:
    """Makes sure that every video of the split has, or can have, a prediction.

    :raises UsageError: some have not.
    """
    there = set(ids)
    missing = [video for video in videos if video not in there]
    if missing:
        raise UsageError(
            f"{len(missing)} of {len(videos)} videos have no prediction, {missing[0]}.webm for one: "
            "`karmma data check` says what is not on disk"
        )


def write_predictions(
    path: Path, videos: Sequence[str], ids: Sequence[str], logits: npt.NDArray[np.floating[Any]]
) -> None:
    """Write the file, whole or not at all.

    :param videos: all of the split; ids: of the predicted ones; logits: (n, C) in the order of `ids`, a row of
        NaN being no prediction.
    :raises UsageError: a video has no prediction.
    """
    rows = {name: i for i, name in enumerate(ids) if np.isfinite(logits[i]).all()}
    check_all(videos, rows)
    best = np.argsort(-logits, axis=1, kind="stable")[:, :BEST]
    lines = [";".join([video, *map(str, best[rows[video]])]) for video in videos]
    with whole_file(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
