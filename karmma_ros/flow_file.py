# SPDX-License-Identifier: Apache-2.0
"""Flow on disk: an .npz of `flow` float16 (n, h, w, 2), image widths per second, and `stamps_ns` int64 (n,)."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from karmma_ros.files import whole_file

__all__ = ["FlowFileWriter"]


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
