# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C, or SIGTERM, in a training loop: the step under way is finished first, so that what is saved is a state of the
run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["interrupts_wait"]


@contextmanager
def interrupts_wait() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether Ctrl-C was pressed or SIGTERM came; the second time it interrupts at once.

    A signal that is ignored stays so, and outside the main thread nothing is changed.
    """
    pressed = False

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    main = threading.current_thread() is threading.main_thread()
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if main and signal.getsignal(n) != signal.SIG_IGN]
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield lambda: pressed
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
