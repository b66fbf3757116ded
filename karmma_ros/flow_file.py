# SPDX-License-Identifier: Apache-2.0
"""Flow on disk: an .npz of `flow` float16 (n, h, w, 2), image widths per second, and `stamps_ns` int64 (n,)."""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
import zlib
from contextlib import ExitStack
from pathlib import Path
from tokenize import TokenError  # of NumPy, where an array's header breaks off
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import MediaError
from karmma_ros.files import whole_file

__all__ = ["FlowFileWriter", "read_flow_file"]

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # that NumPy writes
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_flow_file(path: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """(n,) stamps [ns] and (n, h, w, 2) flow, of whatever numbers it was saved as.

    :raises MediaError: not such a file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            stamps, fields = (_read_member(archive, f"{name}.npy") for name in ("stamps_ns", "flow"))
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, TokenError, zipfile.BadZipFile, zlib.error) as error:
        raise MediaError(f"{path}: not a flow file with stamps_ns and flow ({error})") from error
    if fields.ndim != 4 or fields.shape[3] != 2 or stamps.shape != fields.shape[:1]:
        raise MediaError(f"{path}: flow is {fields.shape} and stamps_ns {stamps.shape}, expected (n, h, w, 2) and (n,)")
    if fields.dtype.kind not in "fiu":
        raise MediaError(f"{path}: flow is of type {fields.dtype}, expected numbers")
    if stamps.dtype.kind not in "iu" or (stamps[1:] <= stamps[:-1]).any():
        raise MediaError(f"{path}: stamps_ns are not ascending integers")
    return stamps, fields


def _read_member(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    """An array of the archive. What its header claims is allocated only where the archive has as much."""
    info = archive.getinfo(name)
    if info.compress_type not in _COMPRESSIONS:
        raise ValueError(f"{name} is compressed in a way that NumPy does not use")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{name} is of version {version}")
        shape, _, dtype = _HEADERS[version](file)
        if file.tell() + math.prod(shape) * dtype.itemsize != info.file_size:
            raise ValueError(f"{name} is not as long as it says")
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


class FlowFileWriter:
    """Writes the file field by field; a context manager. `numpy.savez` would want all of it in memory: 2 MB a second.

    :param size: (width, height) of the fields to come.
    :raises OSError: it cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        self.size = size
        self._stamps: list[int] = []
        with ExitStack() as stack:
            self._path = stack.enter_context(whole_file(path))
            # The header in front tells how many fields there are, and a member of an archive cannot be rewritten.
            self._fields = stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
            self._stack = stack.pop_all()

    def write(self, stamp_ns: int, field: npt.NDArray[np.float32]) -> None:
        """Adds a field, float32 (h, w, 2)."""
        if field.shape[1::-1] != self.size:
            raise ValueError(f"a field of {field.shape} in a file of {self.size}")
        self._stamps.append(stamp_ns)
        self._fields.write(field.astype("<f2").tobytes())

    def __enter__(self) -> FlowFileWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except Exception as failure:
            self._stack.__exit__(type(failure), failure, None)
            raise
        self._stack.__exit__(kind, error, trace)

    def _finish(self) -> None:
        width, height = self.size
        header = {"descr": "<f2", "fortran_order": False, "shape": (len(self._stamps), height, width, 2)}
        with zipfile.ZipFile(self._path, "w", zipfile.ZIP_STORED) as archive:
            with archive.open("flow.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, header)
                self._fields.seek(0)
                shutil.copyfileobj(self._fields, file, 1 << 20)
            with archive.open("stamps_ns.npy", "w") as file:
                np.lib.format.write_array(file, np.array(self._stamps, dtype="<i8"))
