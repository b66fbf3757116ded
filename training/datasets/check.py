# SPDX-License-Identifier: Apache-2.0
"""What `karmma data check` finds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from rich.console import Console

from karmma_ros.errors import MediaError
from karmma_training.data.video_frames import index_video, read_frames

__all__ = ["SPLITS", "CheckedSource", "VideoCheck", "damaged_frames"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class VideoCheck:
    """One video.

    covered: how many of its annotated actions some sample lies within, of any modality; has: the modalities that
    training finds; findings: what is missing or broken.
    """

    video: str
    actions: int
    covered: int
    has: tuple[str, ...]
    findings: tuple[str, ...]


@runtime_checkable
class CheckedSource(Protocol):
    """A source whose files can be looked for."""

    notes: list[str]

    def has_split(self, split: str) -> bool:
        """Whether there are annotations of a split."""

    def check(self, split: str, tries: int, workers: int | None, console: Console) -> list[VideoCheck]:
        """What of every video of a split is on disk.

        :param tries: pictures of each to decode; workers: None: one per core.
        """


def damaged_frames(path: Path, tries: int) -> list[str]:
    """What is wrong with some frames of a movie that opens, spread evenly."""
    if not tries:
        return []
    try:
        index = index_video(path)
        which = np.unique(np.linspace(0, len(index.pts) - 1, min(tries, len(index.pts))).astype(np.int64))
        lost = np.setdiff1d(which, list(read_frames(path, index, which)))
    except MediaError as error:
        return [str(error)]
    at = f"at {index.stamps_ns[lost[0]] / 1e9:.2f} s" if len(lost) else ""
    return [f"{path.name}: {len(lost)} of {len(which)} frames tried are damaged, the first {at}"] if len(lost) else []
