# SPDX-License-Identifier: Apache-2.0
"""What worker processes are given to do in tests; in a module of its own, since it has to travel to them."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from karmma_ros.errors import KarmmaError
from karmma_ros.files import whole_folder


def is_deaf(_: object) -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def slower_first(number: int) -> tuple[int, int]:
    time.sleep(0.05 * (3 - number))  # what takes longest is given first
    return number, os.getpid()


def write_for_ever(folder: Path, number: int) -> None:
    with whole_folder(folder / str(number)) as unfinished:
        (unfinished / "begun").touch()
        threading.Event().wait()


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(number: int) -> None:
    raise KarmmaError(f"{number} cannot be done")
