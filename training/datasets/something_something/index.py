# SPDX-License-Identifier: Apache-2.0
"""What is kept of the videos of Something-Something v2: where their frames lie, and which pictures of flow there are.

A video is `20bn-something-something-v2/ID.webm`. Flow that was computed before is `rawframes/ID/flow_x_00001.jpg` and
`flow_y_00001.jpg`, as MMAction2 has it made by denseflow (`-a=tvl1 -b=20 -s=1`): picture i, counted from 0, is the flow
from frame i to frame i + 1, value v is v * 40 / 255 - 20 pixels. denseflow numbers from 0, older tools from 1: where
there is no picture 0, the first is 1.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import MediaError, UsageError
from karmma_ros.files import whole_file
from karmma_training.data.pictures import FolderPictures, Naming
from karmma_training.data.tracks import FlowPictures
from karmma_training.data.video_frames import VideoIndex, index_video
from karmma_training.datasets.lengths import Length, media_length

__all__ = ["FLOW", "VERSION", "ClipIndex", "clip_facts", "given_flow", "index_clips", "load", "save", "video_path"]

Ints = npt.NDArray[np.int64]

VIDEOS, FLOW = "20bn-something-something-v2", "rawframes"
BOUND = 20.0  # pixels, of the largest value
PARTS = ("flow_x_", "flow_y_")
COLUMNS = ("pts", "stamps_ns", "keys", "size")  # of a VideoIndex
VERSION = 3  # of what is kept


@dataclass(frozen=True)
class ClipIndex:
    """One video.

    flow: (n,) numbers of the pictures that both components have, ascending; digits, suffix: how these are called;
    lacks: the component without pictures where the other has some, else "".
    """

    video: VideoIndex
    length: Length
    flow: Ints
    digits: int
    suffix: str
    lacks: str


def video_path(root: Path, video: str) -> Path:
    """Where a video is."""
    return root / VIDEOS / f"{video}.webm"


def clip_facts(root: Path, video: str) -> list[int] | None:
    """What changes when the files of a video do; None where it is not on disk."""
    path, flow = video_path(root, video), root / FLOW / video
    if not path.is_file():
        return None
    status = path.stat()
    given = flow.stat().st_mtime_ns if flow.is_dir() else 0
    return [status.st_size, status.st_mtime_ns, given, int(os.access(path, os.R_OK))]


def index_clips(root: Path, videos: Sequence[str]) -> list[tuple[str, ClipIndex] | str]:
    """Index some videos; what is wrong in place of one that cannot be. Runs in a worker process."""
    out: list[tuple[str, ClipIndex] | str] = []
    for video in videos:
        path = video_path(root, video)
        try:
            index, length = index_video(path), media_length(path, "video")
            assert length is not None  # a file with frames has one
            flow, naming, lacks = _listed(root / FLOW / video)
            out.append((video, ClipIndex(index, length, flow, naming.digits, naming.suffix, lacks)))
        except MediaError as error:
            out.append(str(error))
    return out


def _listed(folder: Path) -> tuple[Ints, Naming, str]:
    """Numbers of the pictures that both components have, how these are called, and which one lacks all."""
    if not folder.is_dir():
        return np.zeros(0, np.int64), Naming(), ""
    across, down = (FolderPictures(folder, Naming(part)) for part in PARTS)
    empty = [part for part, pictures in zip(PARTS, (across, down), strict=True) if not len(pictures.numbers)]
    numbers = np.intersect1d(across.numbers, down.numbers)
    if len(numbers) and (across.naming.digits, across.naming.suffix) != (down.naming.digits, down.naming.suffix):
        raise MediaError(f"{folder}: {across.naming.name(1)} and {down.naming.name(1)} are numbered differently")
    return numbers, across.naming, empty[0] if len(empty) == 1 else ""


def given_flow(root: Path, video: str, index: ClipIndex, size: tuple[int, int]) -> FlowPictures | None:
    """The flow of a video that was computed before; None without any. Its times are those of the video's frames.

    :param size: (height, width) of the network's input.
    """
    newer = index.flow + (1 if 0 in index.flow else 0)  # positions of the frames that they lead to
    stamps = index.video.stamps_ns
    here = newer < len(stamps)
    if not here.any():
        return None
    across, down = (
        FolderPictures(root / FLOW / video, Naming(part, index.digits, index.suffix), index.flow[here])
        for part in PARTS
    )
    gap_s = float(np.median(np.diff(stamps))) / 1e9
    return FlowPictures(across, down, stamps[newer[here]], size, bound=BOUND, gap_s=gap_s)


def save(path: Path, rows: Sequence[tuple[str, ClipIndex] | str]) -> None:
    """Write what `index_clips` found, all of it into one file."""
    good = [row for row in rows if not isinstance(row, str)]
    columns = {name: [getattr(entry.video, name) for _, entry in good] for name in COLUMNS}
    columns["flow"] = [entry.flow for _, entry in good]
    arrays: dict[str, Any] = {
        "videos": np.asarray([video for video, _ in good], np.str_),  # with zeros before them, and however long
        "digits": np.asarray([entry.digits for _, entry in good], np.int64),
        "suffix": np.asarray([entry.suffix for _, entry in good], np.str_),
        "lacks": np.asarray([entry.lacks for _, entry in good], np.str_),
        "there_s": np.asarray([entry.length.there_s for _, entry in good], np.float64),
        "claimed_s": np.asarray([entry.length.claimed_s for _, entry in good], np.float64),
        "faults": np.asarray([row for row in rows if isinstance(row, str)], np.str_),
    }
    for name, values in columns.items():
        arrays[name] = np.concatenate([np.zeros(0, np.int64), *values])
        arrays[f"{name}_ends"] = np.cumsum([len(v) for v in values], dtype=np.int64)
    with whole_file(path) as temporary:
        np.savez(temporary, **arrays)


def load(path: Path) -> tuple[Mapping[str, ClipIndex], list[str]]:
    """What `save` wrote: the videos that can be read, and what is wrong with the others.

    :raises UsageError: damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = [np.split(file[name], file[f"{name}_ends"][:-1]) for name in (*COLUMNS, "flow")]
            plain = [file[name].tolist() for name in ("videos", "there_s", "claimed_s", "digits", "suffix", "lacks")]
            faults = file["faults"].tolist()
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"sample store damaged at {path}: delete that file ({error})") from error
    rows = zip(*plain, *columns, strict=True) if plain[0] else ()
    return {
        video: ClipIndex(VideoIndex(*frames), Length(there_s, claimed_s), flow, digits, suffix, lacks)
        for video, there_s, claimed_s, digits, suffix, lacks, *frames, flow in rows
    }, faults
