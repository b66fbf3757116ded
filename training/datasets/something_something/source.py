# SPDX-License-Identifier: Apache-2.0
"""Something-Something v2 (Goyal et al., ICCV 2017) as a data set: its official JSON files, its videos where they lie.

The labels are in `labels/{labels,train,validation,test}.json` (or in the root, or with the names of 2018,
`something-something-v2-labels.json` and so on), the videos in `20bn-something-something-v2/ID.webm`. An action is a
template without its brackets, its id that of the official list. Flow is computed from the video while training, as on
the robot, unless it is given; see index.py. Detections are taken where they are found; see detections.py.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from karmma_ros.errors import UsageError
from karmma_training.config import DetectionsConfig
from karmma_training.data.labels import Labels
from karmma_training.data.recording import Recording
from karmma_training.data.store import StoreFormat
from karmma_training.data.tracks import ComputedFlow, DetectionTrack, FileRecording, FlowPictures, Track, VideoTrack
from karmma_training.data.video_frames import VideoIndex
from karmma_training.datasets.check import VideoCheck, damaged_frames
from karmma_training.datasets.faults import joined
from karmma_training.datasets.something_something.detections import (
    CATEGORIES,
    Frames,
    detected_videos,
    find_detections,
    read_detections,
)
from karmma_training.datasets.something_something.index import (
    FLOW,
    VERSION,
    ClipIndex,
    clip_facts,
    given_flow,
    index_clips,
    load,
    save,
    video_path,
)
from karmma_training.datasets.source import Preparation
from karmma_training.parallel import map_processes

__all__ = ["HEAD", "SomethingSomethingSource"]

SPLIT_FILES = {"train": "train", "val": "validation", "test": "test"}
FOLDERS = ("labels", "")
HEAD = "action"
DIGITS = 100  # of a video's id: file systems have their limits
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
        self.told = 0
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
        known: set[str] = set()
        for i, entry in enumerate(entries if isinstance(entries, list) else []):
            video = str(entry.get("id", "")) if isinstance(entry, dict) else ""
            label = (
                answers.get(video, "")
                if answers is not None
                else _name(str(entry.get("template", "")) if video else "")
            )
            if not (video.isdecimal() and len(video) <= DIGITS):  # it becomes part of a path
                faults.append(f"entry {i}: id {video[:40]!r} is not a number of up to {DIGITS} digits")
            elif video in known:
                faults.append(f"entry {i}: id {video} is there already")
            elif label not in self._names and (label or answers is None):
                faults.append(f"entry {i}, video {video}: {label[:60]!r} is not in the list of actions")
            known.add(video)
            out.append(Clip(video, label))
        if not out:
            faults.append("not a list of videos")
        if faults:
            raise UsageError(f"{path}: {joined(faults)}")
        return out

    def _answers(self, test: Path) -> dict[str, str]:
        """Actions of the test split, where they were published: `ID;name` per line."""
        path = test.with_name("test-answers.csv")
        if not path.is_file():
            return {}
        try:
            with path.open(newline="", encoding="utf-8") as file:
                return {row[0]: row[1] for row in csv.reader(file, delimiter=";") if len(row) == 2}
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"cannot read {path}: {error}") from error

    def recordings(self, split: str, work: Preparation, minutes: float | None = None) -> list[Recording]:
        """See Source: one per video."""
        clips = self.clips(split)
        facts = {c.video: found for c in clips if (found := clip_facts(self.root, c.video))}
        entries, faults = self._entries(split, facts, work)
        files = find_detections(self.root)
        boxes = [[str(p.relative_to(self.root)), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
        prepared = self._form.key(decoded=True, source=self.name, root=str(self.root.resolve()), detections=boxes)
        detected = read_detections(files, list(entries), work.store / self.name) if files else {}
        out: list[Recording] = []
        given = 0
        for clip in clips:
            entry = entries.get(clip.video)
            if entry is None:
                continue
            tracks = self._tracks(clip.video, entry, detected.get(clip.video))
            given += isinstance(tracks.get("flow"), FlowPictures)
            stop_s = int(entry.video.stamps_ns[-1]) / 1e9
            names = (clip.label,) if clip.label else ()
            out.append(
                FileRecording(
                    f"{self.name}/{clip.video}",
                    f"{prepared}/{clip.video}-{_digest(facts[clip.video])[:8]}",
                    self._labels,
                    [(0.0, max(stop_s, 1e-3), *names)],
                    tracks,
                    sound=None,
                    sound_start_ns=0,
                    rate=self._form.rate,
                    ids=[clip.video],
                )
            )
        halves = [_lacks(video, entry) for video, entry in entries.items() if entry.lacks]
        early = [f"{video}.webm {entry.length.early}" for video, entry in entries.items() if entry.length.early]
        parts = [f"{split}: {len(out)} of {len(clips)} videos"]
        parts += [f"{len(detected)} with detections"] if files else []
        parts += [f"flow of {given} given"] if given else []
        parts += [f"{len(halves)} with half of their flow, which is computed instead ({halves[0]})"] if halves else []
        parts += [f"{missing} not on disk"] if (missing := len(clips) - len(out) - len(faults)) else []
        parts += [f"{len(faults)} broken ({faults[0]})"] if faults else []
        parts += [f"{len(early)} without the rest of their action ({early[0]})"] if early else []
        self.notes.append(", ".join(parts))
        return out

    def _tracks(self, video: str, entry: ClipIndex, boxes: Frames | None) -> dict[str, Track]:
        """The tracks of a video's files."""
        form = self._form
        camera = VideoTrack(video_path(self.root, video), entry.video, (form.video_height, form.video_width))
        tracks: dict[str, Track] = {"video": camera}
        size = (form.flow_height, form.flow_width)
        flow = given_flow(self.root, video, entry, size) or ComputedFlow(
            camera, size, (form.producer_width, form.producer_height), form.producer_preset
        )
        if len(flow.stamps):
            tracks["flow"] = flow
        if boxes is not None:
            tracks["detections"] = self._boxes(boxes, entry.video)
        return tracks

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

    def _entries(
        self, split: str, facts: Mapping[str, list[int]], work: Preparation
    ) -> tuple[Mapping[str, ClipIndex], list[str]]:
        """Where the frames of all videos on disk lie; found once, and kept in one file for all of them."""
        key = _digest([VERSION, str(self.root.resolve()), split, facts])[:16]
        path = work.store / self.name / f"{split}-{key}.npz"
        if not path.is_file():
            save(path, self._index(list(facts), work.workers, f"indexing {self.name} {split}", work.console))
        return load(path)

    def _index(
        self, videos: Sequence[str], workers: int | None, title: str, console: Console
    ) -> list[tuple[str, ClipIndex] | str]:
        parts = [videos[i : i + BATCH] for i in range(0, len(videos), BATCH)]
        found = map_processes(partial(index_clips, self.root), parts, workers, title, console)
        return [row for part in found for row in part]

    def check(self, split: str, tries: int, workers: int | None, console: Console) -> list[VideoCheck]:
        """See CheckedSource; what is damaged or cut off is found by the packets."""
        videos = [c.video for c in self.clips(split)]
        rows = self._index(videos, workers, f"checking {split}", console)
        files = find_detections(self.root)
        detected = detected_videos(files) if files else None
        checks = [self._check(video, row, detected) for video, row in zip(videos, rows, strict=True)]
        if not tries:
            return checks
        opens = [video for video, row in zip(videos, rows, strict=True) if not isinstance(row, str)]
        paths = [video_path(self.root, video) for video in opens]
        found = map_processes(partial(damaged_frames, tries=tries), paths, workers, f"decoding {split}", console)
        damaged = dict(zip(opens, found, strict=True))
        return [replace(c, findings=(*c.findings, *damaged.get(c.video, []))) for c in checks]

    def _check(self, video: str, row: tuple[str, ClipIndex] | str, detected: Set[str] | None) -> VideoCheck:
        if isinstance(row, str):
            here = video_path(self.root, video).is_file()
            return VideoCheck(video, 1, 0, (), (row if here else "not on disk",))
        entry = row[1]
        has = ["video", "flow"]
        findings = [f"{video}.webm {entry.length.early}"] if entry.length.early else []
        if 0 < len(entry.flow) < (wanted := len(entry.video.pts) - 1):
            findings.append(f"flow: {len(entry.flow)} of {wanted} pictures are there")
        if entry.lacks:
            findings += [_lacks(video, entry), "no flow: computed while training"]
        if detected is not None and video in detected:
            has.append("detections")
        elif detected is not None:
            findings.append("no detections")
        return VideoCheck(video, 1, 1, tuple(has), tuple(findings))


def _lacks(video: str, entry: ClipIndex) -> str:
    return f"{FLOW}/{video}: no pictures of {entry.lacks}"


def _name(template: str) -> str:
    """The action's name: its template without brackets."""
    return template.replace("[", "").replace("]", "")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
