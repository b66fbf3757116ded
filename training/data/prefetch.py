# SPDX-License-Identifier: Apache-2.0
"""Batches made by threads ahead of their use."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import cv2

from karmma_training.data.recording import Recording

__all__ = ["loader_threads", "prefetch"]

T = TypeVar("T")


def loader_threads(recordings: Sequence[Recording], wanted: int) -> int:
    """How many threads prepare windows: `wanted`, or for 0 one, and one per core where samples have to be decoded."""
    return wanted or ((os.cpu_count() or 1) if any(r.decodes for r in recordings) else 1)


def prefetch(
    make: Callable[[int], T], first: int, count: int, *, threads: int = 1, depth: int = 3
) -> Generator[T, None, None]:
    """`make(first)` .. `make(first + count - 1)`, in order; what `make` raises is raised here. Close it to end early.

    :param make: called by all threads at once; decoders and OpenCV let others run meanwhile.
    :param depth: how many are ready, or being made, beyond one per thread.
    """
    cv2.setNumThreads(1)  # these threads share the cores already
    pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch")
    pending: deque[Future[T]] = deque()
    numbers = iter(range(first, first + count))
    try:
        pending.extend(pool.submit(make, number) for number in islice(numbers, threads - 1 + depth))
        while pending:
            item = pending.popleft().result()
            pending.extend(pool.submit(make, number) for number in islice(numbers, 1))
            yield item
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
