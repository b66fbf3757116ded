# SPDX-License-Identifier: Apache-2.0
"""What `karmma data check` finds, and the processes that look for it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from rich.console import Console

from karmma_ros.orphans import die_with
from karmma_training.progress import progress_bar

__all__ = ["SPLITS", "CheckedSource", "VideoCheck", "check_videos"]

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

    def check(self, split: str, tries: int, workers: int, console: Console) -> list[VideoCheck]:
        """What of every video of a split is on disk.

        :param tries: pictures of each to decode.
        """


def check_videos(
    check: Callable[..., VideoCheck], arguments: Sequence[tuple[Any, ...]], workers: int, title: str, console: Console
) -> list[VideoCheck]:
    """Check many videos in worker processes.

    :param check: a function of a module; arguments: of each call.
    :return: in the order of `arguments`.
    """
    out: list[VideoCheck | None] = [None] * len(arguments)
    context = multiprocessing.get_context("spawn")  # a fork of a process with torch's threads may hang
    with (
        progress_bar(console) as bar,
        ProcessPoolExecutor(
            min(workers, len(arguments) or 1), mp_context=context, initializer=die_with, initargs=(os.getpid(),)
        ) as pool,
    ):
        task = bar.add_task(title, total=len(arguments), note="")
        futures = {pool.submit(check, *given): i for i, given in enumerate(arguments)}
        for future in as_completed(futures):
            out[futures[future]] = future.result()
            bar.advance(task)
    return [found for found in out if found is not None]
