# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C in a training loop: the step under way is finished first, so that what is saved is a state of the run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["interrupts_wait"]


@contextmanager
def interrupts_wait() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether Ctrl-C was pressed; pressed twice, it interrupts at once.

    Where interrupts are ignored, or outside the main thread, nothing is changed.
    """
    pressed = False

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) != signal.SIG_IGN
    previous = signal.signal(signal.SIGINT, handler) if mine else None
    try:
        yield lambda: pressed
    finally:
        if mine:
            signal.signal(signal.SIGINT, previous)
