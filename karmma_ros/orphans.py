# SPDX-License-Identifier: Apache-2.0
"""Processes that work for another: it alone ends them, and none outlives it, however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

__all__ = ["deaf_to_interrupts", "die_with"]

_PR_SET_PDEATHSIG = 1  # sys/prctl.h


def die_with(parent: int, death: int = signal.SIGTERM) -> None:
    """Asks Linux to end this process when its parent dies, even by SIGKILL; elsewhere nothing is done.

    To be called in the child.

    :param parent: the parent's process id, to notice that it died in between; death: the signal that it is sent.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, death, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes started within by this thread never hear Ctrl-C, not even while they start.

    A terminal sends it to all of them, and Python tells of it where it has not come to ignore it yet. We hear it, at
    the latest at the end of the block.
    """
    resource_tracker.ensure_running()  # it would be started with the first process, and let interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
