# SPDX-License-Identifier: Apache-2.0
"""Work spread over processes, with a progress bar."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from rich.console import Console

from karmma_ros.errors import UsageError
from karmma_ros.worker_processes import in_processes
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
    :raises KarmmaError: a worker died.
    """
    check_workers(workers)
    with progress_bar(console) as bar:
        task = bar.add_task(title, total=len(items), note="")
        return in_processes(work, items, workers or os.cpu_count() or 1, done=partial(bar.advance, task))
