# SPDX-License-Identifier: Apache-2.0
"""Work spread over processes, all of which are gone when it is done or given up."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from types import FrameType
from typing import TypeVar

from karmma_ros.errors import KarmmaError
from karmma_ros.orphans import deaf_to_interrupts, die_with

__all__ = ["in_processes"]

A = TypeVar("A")
R = TypeVar("R")


def in_processes(work: Callable[[A], R], items: Sequence[A], workers: int, *, done: Callable[[], None]) -> list[R]:
    """What a function of a module makes of every item, in their order; the first are begun first.

    However this ends, Ctrl-C included, what is still at work is told by SIGTERM to clean up, and waited for.

    :param done: called after every item.
    :raises KarmmaError: a worker died.
    """
    if not items:
        return []
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads, such as torch's, may hang
    count, others = min(workers, len(items)), set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=die_with, initargs=(os.getpid(),))
    try:
        with deaf_to_interrupts():  # each start of a worker is within
            futures = [pool.submit(_work, work, item) for item in items]
        for future in as_completed(futures):
            future.result()
            done()
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise KarmmaError("a worker process died: is there enough memory? try fewer --workers") from error
    except BaseException:
        ours = set(multiprocessing.active_children()) - others
        pool.shutdown(wait=False, cancel_futures=True)
        for child in ours:  # what they make nobody wants any more
            child.terminate()
        for child in ours:
            child.join()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end(number: int, frame: FrameType | None) -> None:
    """Ends a worker by an exception, so that what is half written is removed; once, since the pool may ask again."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(1)


def _work(work: Callable[[A], R], item: A) -> R:
    """In a worker."""
    try:
        signal.signal(signal.SIGTERM, _end)  # between two items there is nothing to clean up
        try:
            return work(item)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    except SystemExit:
        os._exit(1)  # else the pool would take it for the item's outcome, and go on with the next
