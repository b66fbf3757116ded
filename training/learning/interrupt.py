# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C, or SIGTERM, in a training loop: the step under way is finished first, so that what is saved is a state of the
run."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["SAME_S", "interrupts_wait"]

SAME_S = 1.0


@contextmanager
def interrupts_wait() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether Ctrl-C was pressed or SIGTERM came; the second time it interrupts at once.

    Signals within `SAME_S` are one: a group's and a parent's reach a process together. A signal that is ignored stays
    so, and outside the main thread nothing is changed.
    """
    pressed = math.inf

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        now = time.monotonic()
        if now - pressed >= SAME_S:
            raise KeyboardInterrupt
        pressed = min(pressed, now)

    main = threading.current_thread() is threading.main_thread()
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if main and signal.getsignal(n) != signal.SIG_IGN]
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield lambda: pressed < math.inf
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
