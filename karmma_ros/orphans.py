# SPDX-License-Identifier: Apache-2.0
"""No process outlives the one that it works for, however that one ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["die_with"]

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
