# SPDX-License-Identifier: Apache-2.0
"""What `karmma data check` finds, and the processes that look for it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from rich.console import Console

from karmma_ros.orphans import die_with
from karmma_training.progress import progress_bar

__all__ = ["SPLITS", "CheckedSource", "VideoCheck", "map_processes"]

A = TypeVar("A")
R = TypeVar("R")

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


def map_processes(
    work: Callable[[A], R], items: Sequence[A], workers: int | None, title: str, console: Console
) -> list[R]:
    """What a function of a module makes of every item, in their order, by worker processes.

    :param workers: None: one per core.
    """
    out: dict[int, R] = {}
    context = multiprocessing.get_context("spawn")  # a fork of a process with torch's threads may hang
    count = min(workers or os.cpu_count() or 1, len(items) or 1)
    with (
        progress_bar(console) as bar,
        ProcessPoolExecutor(count, mp_context=context, initializer=die_with, initargs=(os.getpid(),)) as pool,
    ):
        task = bar.add_task(title, total=len(items), note="")
        futures = {pool.submit(work, item): i for i, item in enumerate(items)}
        for future in as_completed(futures):
            out[futures[future]] = future.result()
            bar.advance(task)
    return [out[i] for i in range(len(items))]
