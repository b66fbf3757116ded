# SPDX-License-Identifier: Apache-2.0
"""Something-Something v2 (Goyal et al., ICCV 2017) as a data set: its official JSON files, its videos where they lie.

The labels are in `labels/{labels,train,validation,test}.json` (or in the root, or with the names of 2018,
`something-something-v2-labels.json` and so on), the videos in `20bn-something-something-v2/ID.webm`. An action is a
template without its brackets, its id that of the official list. Flow is computed from the video while training, as on
the robot. Detections are taken where they are found; see detections.py.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from karmma_ros.errors import MediaError, UsageError
from karmma_ros.files import whole_file
from karmma_training.config import DetectionsConfig
from karmma_training.data.labels import Labels
from karmma_training.data.recording import Recording
from karmma_training.data.store import StoreFormat
from karmma_training.data.tracks import ComputedFlow, DetectionTrack, FileRecording, Track, VideoTrack
from karmma_training.data.video_frames import VideoIndex, index_video
from karmma_training.datasets.check import VideoCheck
from karmma_training.datasets.faults import joined
from karmma_training.datasets.something_something.detections import CATEGORIES, Frames, find_detections, read_detections
from karmma_training.datasets.source import Preparation
from karmma_training.parallel import map_processes

__all__ = ["SomethingSomethingSource"]

Ints = npt.NDArray[np.int64]

SPLIT_FILES = {"train": "train", "val": "validation", "test": "test"}
FOLDERS = ("labels", "")
VIDEOS = "20bn-something-something-v2"
HEAD = "action"
COLUMNS = ("pts", "stamps_ns", "keys", "size")  # of a VideoIndex
BATCH = 64  # videos that a worker looks at in one go


@dataclass(frozen=True)
class Clip:
    """One video and the name of its action, "" where that is not known."""

    video: str
    label: str


class SomethingSomethingSource:
    """Something-Something v2 below a folder.

    :raises UsageError: no labels, or entries of them that make no sense.
    """

    name = "something-something-v2"

    def __init__(self, root: Path, form: StoreFormat, detections: DetectionsConfig | None = None) -> None:
        self.root = root
        self._form = form
        self._detections = detections or DetectionsConfig()
        self.notes: list[str] = []
        self._names = self._read_names()
        self._clips: dict[str, list[Clip]] = {}
        names = list(self._names)
        self._labels = Labels.from_names({HEAD: names}, [(name,) for name in names])

    def labels(self) -> Labels:
        """The actions of the official list, in its order."""
        return self._labels

    def has_split(self, split: str) -> bool:
        """See CheckedSource."""
        return self._file(SPLIT_FILES[split]) is not None

    def _file(self, name: str) -> Path | None:
        """The official file of that name, under either of its names."""
        for folder in FOLDERS:
            for stem in (name, f"something-something-v2-{name}"):
                if (path := self.root / folder / f"{stem}.json").is_file():
                    return path
        return None

    def _read_names(self) -> dict[str, int]:
        path = self._file("labels")
        if path is None:
            raise UsageError(f"{self.root}: no labels/labels.json: unpack the official labels there")
        tree = _json(path)
        ids = list(tree.values()) if isinstance(tree, dict) else []
        if not ids or [str(i) for i in ids] != [str(i) for i in range(len(ids))]:
            raise UsageError(f"{path}: not the official list, whose ids count from 0")
        return {name: int(i) for name, i in tree.items()}

    def clips(self, split: str) -> list[Clip]:
        """The videos of a split, whether or not they are on disk.

        :raises UsageError: no such file, or entries that make no sense.
        """
        if split not in self._clips:
            path = self._file(SPLIT_FILES[split])
            if path is None:
                raise UsageError(f"{self.root}: no labels/{SPLIT_FILES[split]}.json: unpack the official labels there")
            answers = self._answers(path) if split == "test" else None
            self._clips[split] = self._read_clips(path, answers)
        return self._clips[split]

    def _read_clips(self, path: Path, answers: Mapping[str, str] | None) -> list[Clip]:
        entries = _json(path)
        faults: list[str] = []
        out: list[Clip] = []
        for i, entry in enumerate(entries if isinstance(entries, list) else []):
            video = str(entry.get("id", "")) if isinstance(entry, dict) else ""
            label = (
                answers.get(video, "")
                if answers is not None
                else _name(str(entry.get("template", "")) if video else "")
            )
            if not video.isdecimal():  # it becomes part of a path
                faults.append(f"entry {i}: id {video[:40]!r} is not a number")
            elif label not in self._names and (label or answers is None):
                faults.append(f"entry {i}, video {video}: {label[:60]!r} is not in the list of actions")
            out.append(Clip(video, label))
        if not out:
            faults.append("not a list of videos")
        if faults:
            raise UsageError(f"{path}: {joined(faults)}")
        return out

    def _answers(self, test: Path) -> dict[str, str]:
        """Actions of the test split, where they were published: `ID;name` per line."""
        path = next((p for p in (test.with_name("test-answers.csv"),) if p.is_file()), None)
        if path is None:
            return {}
        try:
            with path.open(newline="", encoding="utf-8") as file:
                return {row[0]: row[1] for row in csv.reader(file, delimiter=";") if len(row) == 2}
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"cannot read {path}: {error}") from error

    def _path(self, video: str) -> Path:
        return self.root / VIDEOS / f"{video}.webm"

    def recordings(self, split: str, work: Preparation, minutes: float | None = None) -> list[Recording]:
        """See Source: one per video."""
        clips = self.clips(split)
        indexes, faults = self._indexes(split, [c.video for c in clips], work)
        form = self._form
        size, working = (form.flow_height, form.flow_width), (form.producer_width, form.producer_height)
        files = find_detections(self.root)
        facts = [[str(p.relative_to(self.root)), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
        prepared = form.key(source=self.name, detections=facts)
        detected = read_detections(files, list(indexes), work.store / self.name) if files else {}
        out: list[Recording] = []
        for clip in clips:
            index = indexes.get(clip.video)
            if index is None:
                continue
            camera = VideoTrack(self._path(clip.video), index, (form.video_height, form.video_width))
            flow = ComputedFlow(camera, size, working, form.producer_preset)
            tracks: dict[str, Track] = {"video": camera}
            if len(flow.stamps):
                tracks["flow"] = flow
            if clip.video in detected:
                tracks["detections"] = self._boxes(detected[clip.video], index)
            stop_s = int(index.stamps_ns[-1]) / 1e9
            names = (clip.label,) if clip.label else ()
            out.append(
                FileRecording(
                    f"{self.name}/{clip.video}",
                    f"{prepared}/{clip.video}",
                    self._labels,
                    [(0.0, max(stop_s, 1e-3), *names)],
                    tracks,
                    sound=None,
                    sound_start_ns=0,
                    rate=form.rate,
                    ids=[clip.video],
                )
            )
        missing = f", {len(clips) - len(out) - len(faults)} not on disk" if len(out) + len(faults) < len(clips) else ""
        broken = f", {len(faults)} broken ({faults[0]})" if faults else ""
        boxes = f", {len(detected)} with detections" if files else ""
        self.notes.append(f"{split}: {len(out)} of {len(clips)} videos{boxes}{missing}{broken}")
        return out

    def _boxes(self, frames: Frames, index: VideoIndex) -> DetectionTrack:
        """Detections of a video: entry i is about frame i, in pixels of the video."""
        boxes, size = frames
        height, width = index.size.tolist() if size is None else size[::-1]
        scale = np.array([width, height, width, height, 1, 1], np.float32)
        count = min(len(boxes), len(index.stamps_ns))
        d = self._detections
        kinds = [d.categories.index(name) if name in d.categories else -1 for name in CATEGORIES]
        made = []
        for found in boxes[:count]:
            row = found / scale
            row[:, 5] = np.asarray(kinds, np.float32)[found[:, 5].astype(int)]
            made.append(row[row[:, 5] >= 0])  # a category that is not asked for is not there
        return DetectionTrack(made, index.stamps_ns[:count], d.boxes, len(d.categories))

    def _indexes(self, split: str, videos: Sequence[str], work: Preparation) -> tuple[dict[str, VideoIndex], list[str]]:
        """Where the frames of all videos on disk lie; found once, and kept in one file for all of them."""
        present = [v for v in videos if self._path(v).is_file()]
        sizes = [self._path(v).stat().st_size for v in present]
        key = hashlib.sha256(json.dumps([str(self.root.resolve()), split, present, sizes]).encode()).hexdigest()[:16]
        path = work.store / self.name / f"{split}-{key}.npz"
        if not path.is_file():
            parts = [present[i : i + BATCH] for i in range(0, len(present), BATCH)]
            found = map_processes(
                partial(_index_many, self.root / VIDEOS),
                parts,
                work.workers,
                f"indexing {self.name} {split}",
                work.console,
            )
            _save(path, [row for part in found for row in part])
        return _load(path)

    def check(self, split: str, tries: int, workers: int, console: Console) -> list[VideoCheck]:
        """See CheckedSource; a damaged video is found by its packets."""
        videos = [c.video for c in self.clips(split)]
        parts = [videos[i : i + BATCH] for i in range(0, len(videos), BATCH)]
        found = map_processes(partial(_index_many, self.root / VIDEOS), parts, workers, f"checking {split}", console)
        out = []
        for video, row in zip(videos, (row for part in found for row in part), strict=True):
            fault = row if isinstance(row, str) else ""
            missing = not self._path(video).is_file()
            findings = ("not on disk",) if missing else (fault,) if fault else ()
            out.append(VideoCheck(video, 1, () if findings else ("video", "flow"), findings))
        return out


def _name(template: str) -> str:
    """The action's name: its template without brackets."""
    return template.replace("[", "").replace("]", "")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def _index_many(folder: Path, videos: Sequence[str]) -> list[tuple[str, VideoIndex] | str]:
    """Index some videos; what is wrong in place of one that cannot be. Runs in a worker process."""
    out: list[tuple[str, VideoIndex] | str] = []
    for video in videos:
        try:
            out.append((video, index_video(folder / f"{video}.webm")))
        except MediaError as error:
            out.append(str(error))
    return out


def _save(path: Path, rows: Sequence[tuple[str, VideoIndex] | str]) -> None:
    good = [row for row in rows if not isinstance(row, str)]
    columns = {name: [getattr(index, name) for _, index in good] for name in COLUMNS}
    arrays: dict[str, Any] = {"videos": np.asarray([int(video) for video, _ in good], np.int64)}
    for name, values in columns.items():
        arrays[name] = np.concatenate([np.zeros(0, np.int64), *values])
        arrays[f"{name}_ends"] = np.cumsum([len(v) for v in values], dtype=np.int64)
    faults = np.asarray([row for row in rows if isinstance(row, str)], dtype=np.str_)
    with whole_file(path) as temporary:
        np.savez(temporary, faults=faults, **arrays)


def _load(path: Path) -> tuple[dict[str, VideoIndex], list[str]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = [np.split(file[name], file[f"{name}_ends"][:-1]) for name in COLUMNS]
            videos, faults = file["videos"].tolist(), file["faults"].tolist()
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"sample store damaged at {path}: delete that file ({error})") from error
    return {str(v): VideoIndex(*parts) for v, *parts in zip(videos, *columns, strict=True)} if videos else {}, faults
