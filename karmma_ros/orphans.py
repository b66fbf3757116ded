# SPDX-License-Identifier: Apache-2.0
"""No process outlives the one that it works for, however that one ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["die_with"]

_PR_SET_PDEATHSIG = 1  # sys/prctl.h


def die_with(parent: int) -> None:
    """Asks Linux to end this process (SIGTERM) when its parent dies, even by SIGKILL; elsewhere nothing is done.

    To be called in the child.

    :param parent: the parent's process id, to notice that it died in between.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
