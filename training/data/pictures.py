# SPDX-License-Identifier: Apache-2.0
"""Numbered pictures, as data sets deliver videos: in a folder, or in a tar that nobody unpacks."""

from __future__ import annotations

import os
import re
import tarfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import av
import av.error
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from karmma_ros.compressed import PictureInfo, picture_info
from karmma_ros.errors import MediaError, SampleError
from karmma_ros.samples import prepare_image
from karmma_training.data.small_frames import small_rgb

__all__ = ["FolderPictures", "Naming", "Pictures", "SmallPictures", "TarPictures", "decode_picture", "index_tar"]

Ints = npt.NDArray[np.int64]

_EXIF = b"Exif\0\0"
_NAME = re.compile(r"frame_(\d{1,18})\.jpe?g", re.IGNORECASE)
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_REDUCED_GREY = {
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


class Pictures(ABC):
    """Pictures with numbers.

    numbers: (n,) those that exist, ascending; where: what to call them in a message.
    """

    numbers: Ints
    where: str

    @abstractmethod
    def load(self, position: int) -> bytes:
        """The file of picture `numbers[position]`.

        :raises MediaError: it cannot be read.
        """

    @abstractmethod
    def only(self, numbers: Ints) -> Pictures:
        """The same with some of its pictures.

        :param numbers: ascending, all of them there.
        """

    def name(self, position: int) -> str:
        """What to call a picture in a message."""
        return f"{self.where}, picture {self.numbers[position]}"


@dataclass(frozen=True)
class Naming:
    """How the pictures of a folder are called; as they are here, `frame_0000000001.jpg` and so on."""

    prefix: str = "frame_"
    digits: int = 10  # of the number, with zeros before it
    suffix: str = ".jpg"

    def name(self, number: int) -> str:
        """The picture of that number."""
        return f"{self.prefix}{number:0{self.digits}d}{self.suffix}"


class FolderPictures(Pictures):
    """`frame_0000000001.jpg` and so on in a folder; the number may have any width, the suffix be `.jpeg` or `.JPG`.

    :param naming: its prefix says which pictures to list.
    :param numbers: where they are known already, `naming` too: listing a hundred thousand files takes its time.
    """

    def __init__(self, folder: Path, naming: Naming = Naming(), numbers: Ints | None = None) -> None:
        self.where = str(folder)
        self._folder = folder
        self.naming, self.numbers = _listed(folder, naming.prefix) if numbers is None else (naming, numbers)

    def load(self, position: int) -> bytes:
        """See Pictures."""
        path = self._folder / self.naming.name(int(self.numbers[position]))
        try:
            return path.read_bytes()
        except OSError as error:
            raise MediaError(f"cannot read {path}: {error.strerror}") from error

    def only(self, numbers: Ints) -> FolderPictures:
        """See Pictures."""
        return FolderPictures(self._folder, self.naming, numbers)


def _listed(folder: Path, prefix: str) -> tuple[Naming, Ints]:
    """What most pictures of a folder are named after, and their numbers: a copy under another name does not count."""
    pattern = re.compile(rf"({re.escape(prefix)})(\d{{1,18}})(\.jpe?g)", re.IGNORECASE)
    try:
        with os.scandir(folder) as entries:
            found = [m for e in entries if (m := pattern.fullmatch(e.name))]
    except OSError as error:
        raise MediaError(f"cannot read {folder}: {error.strerror}") from error
    kinds = {Naming(m[1], len(m[2]), m[3]) for m in found} or {Naming(prefix)}
    numbers = {kind: sorted(int(m[2]) for m in found if kind.name(int(m[2])) == m[0]) for kind in kinds}
    best = max(kinds, key=lambda kind: (len(numbers[kind]), kind.digits, kind.suffix))
    return best, np.asarray(numbers[best], np.int64)


@dataclass(frozen=True)
class TarIndex:
    """Pictures of one folder of a tar: numbers (n,) ascending, where their bytes begin (n,), how many (n,)."""

    numbers: Ints
    offsets: Ints
    sizes: Ints


def index_tar(path: Path, folders: Sequence[str]) -> tuple[dict[str, TarIndex], str]:
    """Find the pictures in some folders of a tar, "" being its root; names may begin with `./`.

    :return: the index of each folder, and what is wrong with the tar: "" or that it ends early.
    :raises MediaError: no tar.
    """
    found: dict[str, list[tuple[int, int, int]]] = {folder: [] for folder in folders}
    fault = ""
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar:
            try:
                for member in tar:
                    tar.members = []  # type: ignore[attr-defined]  # it would keep those of a hundred thousand files
                    name = PurePosixPath(member.name)
                    folder = "" if str(name.parent) == "." else str(name.parent)
                    match = _NAME.fullmatch(name.name)
                    if not member.isreg() or match is None or folder not in found:
                        continue
                    if member.offset_data + member.size > size:
                        fault = f"{path} ends early, in {member.name}"
                        break
                    found[folder].append((int(match[1]), member.offset_data, member.size))
            except tarfile.ReadError:
                fault = f"{path} ends early"
    except (OSError, tarfile.TarError) as error:
        raise MediaError(f"cannot read {path}: {error}") from error
    columns = {f: np.asarray(sorted(rows), np.int64).reshape(-1, 3).T.copy() for f, rows in found.items()}
    return {f: TarIndex(*c) for f, c in columns.items()}, fault


class TarPictures(Pictures):
    """Pictures of one folder of a tar, read in place."""

    def __init__(self, path: Path, index: TarIndex) -> None:
        self.where = str(path)
        self.numbers = index.numbers
        self._path, self._index = path, index

    def load(self, position: int) -> bytes:
        """See Pictures."""
        offset, size = int(self._index.offsets[position]), int(self._index.sizes[position])
        try:
            with self._path.open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), size, offset)
        except OSError as error:
            raise MediaError(f"cannot read {self._path}: {error.strerror}") from error
        if len(data) < size:
            raise MediaError(f"{self.name(position)}: the file ends early")
        return data

    def only(self, numbers: Ints) -> TarPictures:
        """See Pictures."""
        at = np.searchsorted(self.numbers, numbers)
        return TarPictures(self._path, TarIndex(numbers, self._index.offsets[at], self._index.sizes[at]))


class SmallPictures(threading.local):
    """Decodes JPEGs and PNGs to RGB at a network's size; each thread has a decoder of its own.

    :param size: (h, w).
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._reformatter = VideoReformatter()
        self._decoder: Any = None

    def decode(self, data: bytes, where: str) -> npt.NDArray[np.uint8]:
        """A picture as `prepare_image` of `decode_picture` gives it, (h, w, 3).

        A JPEG that is not much larger goes from its own colours to small RGB in one pass, in half the time; not one
        with a note of how it was held, which FFmpeg does not heed.

        :param where: what to call it in a message.
        :raises MediaError: no such picture, or truncated.
        """
        info = _info(data, where)
        height, width = self._size
        if info.kind == "JPEG" and not (info.height >= 2 * height and info.width >= 2 * width) and _EXIF not in data:
            try:
                return small_rgb(self._frame(data), self._size, self._reformatter)
            except av.error.FFmpegError:  # libjpeg knows kinds that FFmpeg does not
                self._decoder = None
        return prepare_image(decode_picture(data, where, grey=False, at_least=self._size), self._size)

    def _frame(self, data: bytes) -> Any:
        """:raises FFmpegError: FFmpeg cannot decode this JPEG."""
        if self._decoder is None:
            self._decoder = av.CodecContext.create("mjpeg", "r")
            self._decoder.thread_count = 1
        for frame in self._decoder.decode(av.Packet(data)):
            return frame
        raise av.error.InvalidDataError(0, "no picture")


def _info(data: bytes, where: str) -> PictureInfo:
    """What a picture's header says. :raises MediaError: no such picture, or truncated."""
    try:
        return picture_info(np.frombuffer(data, np.uint8))
    except SampleError as error:
        raise MediaError(f"{where}: {error}") from error


def decode_picture(data: bytes, where: str, *, grey: bool, at_least: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Decode a JPEG or PNG: RGB (h, w, 3), or grey (h, w).

    Where half, a quarter or an eighth of its size still holds `at_least` (height, width), a JPEG is decoded to that:
    averages over 8 x 8 pixels are in its coefficients already.

    :param where: what to call it in a message.
    :raises MediaError: no such picture, or truncated.
    """
    info = _info(data, where)
    flag = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
    for factor, reduced in (_REDUCED_GREY if grey else _REDUCED).items():
        if info.kind == "JPEG" and info.height >= factor * at_least[0] and info.width >= factor * at_least[1]:
            flag = reduced
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if image is None:
        raise MediaError(f"{where}: cannot be decoded")
    return np.asarray(image if grey else cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
