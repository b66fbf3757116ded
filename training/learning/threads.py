# SPDX-License-Identifier: Apache-2.0
"""How many threads torch should use, measured now and again while training.

Threads that wait for one another at every operation lose much when another process keeps a core busy:
on two shared cores one thread was measured five times as fast as two.
"""

from __future__ import annotations

import os
import statistics

import torch

__all__ = ["ThreadTuner"]

TRIAL = 4  # steps per candidate
PERIOD = 80  # steps from one trial to the next


class ThreadTuner:
    """Tries all cores and one thread in turn and keeps the faster, until the next trial.

    :param threads: a fixed number, or 0 to measure. Only a fixed number gives the same weights to the last bit in every
        run, since the order of sums depends on it.
    """

    def __init__(self, threads: int) -> None:
        self._candidates = [threads] if threads else sorted({os.cpu_count() or 1, 1}, reverse=True)
        self._times: dict[int, list[float]] = {}
        self._left = 0  # steps until the next trial
        self.threads = self._candidates[0]
        torch.set_num_threads(self.threads)

    def step_took(self, seconds: float) -> None:
        """Tell the duration of a step; the thread count may change with it."""
        if len(self._candidates) == 1:
            return
        if self._left:
            self._left -= 1
            if not self._left:
                self._times = {}
                self._use(self._candidates[0])
            return
        times = self._times.setdefault(self.threads, [])
        times.append(seconds)
        if len(times) < TRIAL:
            return
        untried = [n for n in self._candidates if n not in self._times]
        if untried:
            self._use(untried[0])
        else:
            self._use(min(self._times, key=lambda n: statistics.median(self._times[n])))
            self._left = PERIOD

    def _use(self, threads: int) -> None:
        self.threads = threads
        torch.set_num_threads(threads)
