# SPDX-License-Identifier: Apache-2.0
"""A node ends in time when it is told to, also while an inference does not return.

Python calls the handler of a signal between two of its own instructions. None comes while the main thread runs a graph,
nor while it waits for a thread that does. The kernel's note of the signal reaches a thread of ours at once, however: it
gives the rest of the process its time, and then ends it. What holds the interpreter's lock meanwhile, as ONNX Runtime
does while it loads a graph, is waited for.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["END_S", "ending_in_time"]

_LAST_S = 0.2  # [s] for the last words
END_S = 1.5  # [s] for an end in order; with what the system needs to clear away it is less than 2


@contextmanager
def ending_in_time(name: str) -> Iterator[None]:
    """The process ends, with status 0, END_S after SIGINT or SIGTERM, unless what runs within is over by then.

    Outside the main thread, which is told of no signals, nothing is done.

    :param name: of the node, for the line that says that it was not waited for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    notes, note = os.pipe()
    os.set_blocking(note, False)
    over = threading.Event()
    threading.Thread(target=_watch, args=(notes, over, name), name="karmma_deadline", daemon=True).start()
    before = signal.set_wakeup_fd(note, warn_on_full_buffer=False)
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(note)


def _watch(notes: int, over: threading.Event, name: str) -> None:
    """Reads the numbers of signals; the end of the pipe is the end of the watch."""
    with os.fdopen(notes, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] in (signal.SIGINT, signal.SIGTERM) and not over.wait(END_S):
                told = signal.Signals(number[0]).name
                line = f"{name}: not done {END_S} s after {told}: what does not return is left"
                # In a thread: whoever reads what we say may have stopped, or be gone, and that must not keep us.
                last = threading.Thread(
                    target=print, args=(line,), kwargs={"file": sys.stderr, "flush": True}, daemon=True
                )
                last.start()
                last.join(_LAST_S)
                os._exit(0)
