# SPDX-License-Identifier: Apache-2.0
"""Arrays of the sample store stay open while they are trained on: thousands of files, where 1024 are usual."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import KarmmaError

__all__ = ["allow_many_files", "map_array"]


def allow_many_files() -> None:
    """Lets this process keep as many files open as the system allows any."""
    try:
        import resource
    except ImportError:  # not Unix
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def map_array(path: Path) -> npt.NDArray[Any]:
    """An .npy file, memory-mapped.

    :raises KarmmaError: too many files are open.
    :raises OSError, ValueError: not such a file.
    """
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        raise KarmmaError(
            "more recordings than this system lets a process open at once: raise its hard limit (`ulimit -Hn 65536`, "
            "or nofile in /etc/security/limits.conf)"
        ) from error
    return array
