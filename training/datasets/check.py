# SPDX-License-Identifier: Apache-2.0
"""What `karmma data check` finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rich.console import Console

__all__ = ["SPLITS", "CheckedSource", "VideoCheck"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class VideoCheck:
    """One video. has: the modalities that training finds; findings: what is missing or broken."""

    video: str
    actions: int
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
