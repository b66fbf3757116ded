# SPDX-License-Identifier: Apache-2.0
"""Work spread over processes, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

from rich.console import Console

from karmma_ros.errors import UsageError
from karmma_ros.orphans import die_with
from karmma_training.progress import progress_bar

__all__ = ["check_workers", "map_processes"]

A = TypeVar("A")
R = TypeVar("R")


def check_workers(workers: int | None) -> None:
    """Refuse a number of processes that cannot work.

    :raises UsageError: it is below 1.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"--workers must be at least 1, not {workers}; leave it out for one per core")


def map_processes(
    work: Callable[[A], R], items: Sequence[A], workers: int | None, title: str, console: Console
) -> list[R]:
    """What a function of a module makes of every item, in their order, by worker processes.

    :param workers: None: one per core.
    :raises UsageError: fewer than one.
    """
    check_workers(workers)
    out: dict[int, R] = {}
    context = multiprocessing.get_context("spawn")  # a fork of a process with torch's threads may hang
    count = workers or min(len(items) or 1, os.cpu_count() or 1)
    with progress_bar(console) as bar:
        task = bar.add_task(title, total=len(items), note="")
        pool = ProcessPoolExecutor(count, mp_context=context, initializer=die_with, initargs=(os.getpid(),))
        try:
            futures = {pool.submit(work, item): i for i, item in enumerate(items)}
            for future in as_completed(futures):
                out[futures[future]] = future.result()
                bar.advance(task)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return [out[i] for i in range(len(items))]
