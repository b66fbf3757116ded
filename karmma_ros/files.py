# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all: written beside their final place and renamed when complete.

A reader (or a person after Ctrl-C, a full disk, a crash) must never find half a file under the final name. A single
file is on the disk by then, also if the power fails; of a folder's files that is the system's affair.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["whole_file", "whole_folder", "write_json"]


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, renamed to it when the block ends well and removed when it does not.

    The suffix is kept (writers choose the container format by it); missing folders are made.
    :raises OSError: if the folder cannot be made or written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        _to_disk(temporary)  # else a power cut may leave an empty file under the final name
        os.replace(temporary, path)
        with suppress(OSError):  # it is there, whatever is said of the folder
            _to_disk(path.parent)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _to_disk(path: Path) -> None:
    """Waits until a file, or a folder's list of files, is on the disk; a file system that cannot say is trusted.

    :raises OSError: it does not get there: the disk or a quota is full, say, which some file systems tell only now.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(handle)


@contextmanager
def whole_folder(path: str | Path, *, shared: bool = False) -> Iterator[Path]:
    """Like `whole_file` for a folder: `path` must not exist, or be an empty folder.

    :param shared: other processes make the same folder: whoever is first is right, and what comes later is dropped.
    :raises FileExistsError: if `path` exists and is not an empty folder, or cannot be replaced: a mount point.
    :raises OSError: if it cannot be made or written.
    """
    path = Path(os.path.realpath(path))  # a link stays one, and its target becomes the folder
    if os.path.ismount(path):  # found now, not when the work of hours is to be put there
        raise FileExistsError(f"{path} is a mount point: name a folder in it")
    if not shared and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} exists and is not empty")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    temporary.mkdir()
    try:
        yield temporary
        try:
            os.replace(temporary, path)
        except OSError:
            if not (shared and path.is_dir() and any(path.iterdir())):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all.

    :raises OSError: if it cannot be written.
    """
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
