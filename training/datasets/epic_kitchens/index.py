# SPDX-License-Identifier: Apache-2.0
"""What is kept of a video in the sample store: where its pictures lie, and its sound.

A folder per video: `rgb_numbers.npy` (and `_offsets`, `_sizes` in a tar), the same for `flow_u` and `flow_v`, or
`video_pts.npy`, `_stamps_ns`, `_keys` and `_size` of an MP4; `audio.npy`; `meta.json` with how the pictures of folders
are called, and what is wrong with the files. What cannot be read counts as not recorded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import KarmmaError, MediaError
from karmma_ros.files import whole_folder
from karmma_ros.resample import Resampler
from karmma_training.data.pictures import FolderPictures, Naming, Pictures, TarIndex, TarPictures, index_tar
from karmma_training.data.sound import read_sound
from karmma_training.data.video_frames import VideoIndex, index_video
from karmma_training.datasets.epic_kitchens.hdf5_sound import HDF5_RATE, read_hdf5
from karmma_training.datasets.epic_kitchens.layout import VideoFiles
from karmma_training.datasets.lengths import media_length

__all__ = ["FLOW_PARTS", "VideoEntry", "facts", "index_files"]

FLOW_PARTS = ("u", "v")
VERSION = 4  # of what is kept


def facts(files: VideoFiles) -> list[Any]:
    """What changes when the files do: of a folder, when those change that its pictures lie in."""
    rgb, flow = _held(files.rgb, ("",)), _held(files.flow, FLOW_PARTS)
    return [VERSION, *([_fact(path) for path in paths] for paths in (rgb, flow, [files.video], files.sounds))]


def _held(path: Path | None, parts: tuple[str, ...]) -> list[Path | None]:
    return [path / part for part in parts] if path and path.is_dir() else [path]


def _fact(path: Path | None) -> Any:
    if path is None or not path.exists():
        return path and str(path)
    status = path.stat()
    return [str(path), 0 if path.is_dir() else status.st_size, status.st_mtime_ns, os.access(path, os.R_OK)]


def index_files(folder: Path, video: str, files: VideoFiles, rate: int) -> None:
    """Write what is to be kept of a video; runs in a worker process.

    :param rate: of the sound, Hz.
    """
    faults: list[str] = []
    naming: dict[str, Naming] = {}
    with whole_folder(folder) as temporary:
        if files.rgb:
            _index_pictures(temporary, "rgb", files.rgb, ("",), naming, faults)
        if files.flow:
            _index_pictures(temporary, "flow", files.flow, FLOW_PARTS, naming, faults)
        if files.video and not (temporary / "rgb_numbers.npy").exists():
            _index_movie(temporary, files.video, faults)
        start_ns = _index_sound(temporary, video, files, rate, faults)
        meta = {"name": video, "rate": rate, "sound_start_ns": start_ns, "faults": faults}
        meta["naming"] = {stem: asdict(n) for stem, n in naming.items()}
        (temporary / "meta.json").write_text(json.dumps(meta, indent=1))


def _index_pictures(
    folder: Path, kind: str, path: Path, parts: tuple[str, ...], naming: dict[str, Naming], faults: list[str]
) -> None:
    try:
        if path.is_dir():
            listed = [FolderPictures(path / part) for part in parts]
            naming |= {_stem(kind, part): pictures.naming for part, pictures in zip(parts, listed, strict=True)}
            columns = [{"numbers": pictures.numbers} for pictures in listed]
        else:
            found, fault = index_tar(path, parts)
            faults += [fault] if fault else []
            columns = [vars(found[part]) for part in parts]
    except MediaError as error:
        faults.append(str(error))
        return
    for part, column in zip(parts, columns, strict=True):
        if not len(column["numbers"]):
            faults.append(f"{path}: no pictures{f' in {part}/' if part else ''}")
            return
    for part, column in zip(parts, columns, strict=True):
        for name, values in column.items():
            np.save(folder / f"{_stem(kind, part)}_{name}.npy", values)


def _index_movie(folder: Path, path: Path, faults: list[str]) -> None:
    try:
        index, length = index_video(path), media_length(path, "video")
    except MediaError as error:
        faults.append(str(error))
        return
    for name, values in vars(index).items():
        np.save(folder / f"video_{name}.npy", values)
    if length and length.early:
        faults.append(f"{path} {length.early}")


def _index_sound(folder: Path, video: str, files: VideoFiles, rate: int, faults: list[str]) -> int:
    """Write the video's sound, if there is any; the stamp of its first sample."""
    for path in (*files.sounds, files.video):
        if path is None:
            continue
        try:
            packed = path.suffix == ".hdf5"
            found = _packed_sound(path, video, rate) if packed else read_sound(path, rate)
            length = None if packed or found is None else media_length(path, "audio")
        except MediaError as error:
            faults.append(str(error))
            continue
        if found is not None:
            np.save(folder / "audio.npy", found[0])
            if length and length.early:
                faults.append(f"sound of {path} {length.early}")
            return found[1]
    return 0


def _packed_sound(path: Path, video: str, rate: int) -> tuple[npt.NDArray[np.float32], int] | None:
    """As `read_sound`, from an HDF5 file."""
    mono = read_hdf5(path, video)
    if mono is None:
        return None
    resampler = Resampler(HDF5_RATE, rate)
    return np.concatenate([resampler.process(mono), resampler.flush()]), 0


def _stem(kind: str, part: str) -> str:
    return f"{kind}_{part}" if part else kind


@dataclass(frozen=True)
class VideoEntry:
    """A video as the store keeps it.

    key: its folder in the store, a path of two parts; rgb, flow (x, y): pictures; video: index of the MP4; sound: (n,)
    or None; faults: what is wrong with its files.
    """

    key: str
    files: VideoFiles
    rgb: Pictures | None
    flow: tuple[Pictures, Pictures] | None
    video: VideoIndex | None
    sound: npt.NDArray[np.float32] | None
    sound_start_ns: int
    rate: int
    faults: tuple[str, ...]

    @classmethod
    def open(cls, folder: Path, files: VideoFiles) -> VideoEntry:
        """Open what `index_files` wrote.

        :raises KarmmaError: damaged.
        """
        try:
            meta = json.loads((folder / "meta.json").read_text())
            sound = np.load(folder / "audio.npy", mmap_mode="r") if (folder / "audio.npy").exists() else None
            naming = {stem: Naming(**n) for stem, n in meta["naming"].items()}
            flow = _same_numbers([_pictures(folder, "flow", part, files.flow, naming) for part in FLOW_PARTS])
            video = [
                np.load(path)
                for name in ("pts", "stamps_ns", "keys", "size")
                if (path := folder / f"video_{name}.npy").exists()
            ]
            return cls(
                f"{folder.parent.name}/{folder.name}",
                files,
                _pictures(folder, "rgb", "", files.rgb, naming),
                flow,
                VideoIndex(*video) if video else None,
                sound,
                meta["sound_start_ns"],
                meta["rate"],
                tuple(meta["faults"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise KarmmaError(f"sample store damaged at {folder}: delete that folder ({error})") from error


def _same_numbers(parts: list[Pictures | None]) -> tuple[Pictures, Pictures] | None:
    """Both components of the flow, where both have a picture."""
    across, down = parts
    if across is None or down is None:
        return None
    numbers = np.intersect1d(across.numbers, down.numbers)
    return (across.only(numbers), down.only(numbers)) if len(numbers) else None


def _pictures(folder: Path, kind: str, part: str, path: Path | None, naming: Mapping[str, Naming]) -> Pictures | None:
    stem = _stem(kind, part)
    columns = [
        np.load(file) for name in ("numbers", "offsets", "sizes") if (file := folder / f"{stem}_{name}.npy").exists()
    ]
    if not columns or path is None:
        return None
    if len(columns) == 3:
        return TarPictures(path, TarIndex(*columns))
    return FolderPictures(path / part, naming[stem], columns[0])
