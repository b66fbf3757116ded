# SPDX-License-Identifier: Apache-2.0
"""Recordings described by a CSV: anyone's own data, and what `karmma synth` writes.

Columns: `clip_id, split, video, flow, audio, start_s, stop_s` and one per label head (`verb, noun`, or `action`). Paths
are relative to the CSV; an empty one means that the modality does not exist for the clip, except `flow` beside a video,
which is computed. Rows that share their files are one recording with several labelled intervals: start_s and
stop_s bound the times that are asked about, earlier content of the file is context. A flow file is an .npz with
`stamps_ns` int64 (n,), ascending, and `flow` (n, h, w, 2) in image widths per second.
"""

from __future__ import annotations

import csv
import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from karmma_ros.errors import MediaError, UsageError
from karmma_ros.flow_file import read_flow_file
from karmma_ros.media import read_audio, read_video
from karmma_training.data.labels import Labels
from karmma_training.data.recording import Interval, Recording, disjoint
from karmma_training.data.sound import read_sound
from karmma_training.data.store import StoredRecording, StoreFormat, write_recording
from karmma_training.datasets.faults import joined
from karmma_training.datasets.source import Preparation, RecordingJob, StoredSource, make_missing

__all__ = ["ManifestSource"]

FIXED = ("clip_id", "split", "video", "flow", "audio", "start_s", "stop_s")
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
FIRST = ("idle", "none")  # these names lead their head's classes
_SHOWN_OF_NAME = 200  # letters shown of a file's name
_NO_SOUND = "has no sound: leave the cell empty where there is none"
_LOOKED_AT = 100  # files that are opened where rows are wrong: who wrote them waits for the answer
_SLACK_S = 0.5  # that stop_s may be beyond the end without a word


@dataclass(frozen=True)
class _Row:
    line: int  # of the CSV
    clip_id: str
    split: str
    files: tuple[str, str, str]  # video, flow, audio as written, "" where absent
    start_s: float
    stop_s: float
    names: tuple[str, ...]


class ManifestSource(StoredSource):
    """The recordings of a manifest.

    :raises UsageError: every fault of the file at once, with row and column.
    """

    def __init__(self, path: Path, form: StoreFormat) -> None:
        self.name = path.stem
        self._folder = path.parent
        self._form = form
        self._heads, self._rows = _read(path)
        self._labels, self.notes = _labels(self._heads, self._rows)

    def labels(self) -> Labels:
        """Class names and valid combinations, both from the training split."""
        return self._labels

    def jobs(self, split: str, minutes: float | None) -> list[RecordingJob]:
        """The recordings of a split, all of them: `minutes` is for rendered data."""
        return [self._job(split, rows) for rows in self._layers(split)]

    def recordings(self, split: str, work: Preparation, minutes: float | None = None) -> list[Recording]:
        """See Source. Rows that begin after their files have ended are faults, those that only end then are cut."""
        cut: list[int] = []
        layers, jobs = self._layers(split), self.jobs(split, minutes)
        faults = make_missing(jobs, work, f"{self.name} {split}")
        recordings: list[Recording] = []
        for job, rows in zip(jobs, layers, strict=True):
            if not (work.store / job.path / "meta.json").exists():
                continue  # of this one it has been said
            recording = StoredRecording(work.store / job.path, self._labels, job.intervals)
            recordings.append(recording)
            end_s = recording.end_s
            faults += [
                f"row {row.line}, start_s: {row.start_s:g} s, but its files end at {end_s:.2f} s"
                for row in rows
                if row.start_s >= end_s
            ]
            cut += [row.line for row in rows if row.stop_s > end_s + _SLACK_S]
            recording.stops = np.minimum(recording.stops, end_s)
        if faults:
            raise UsageError(f"{self.name} {split}: {joined(faults)}")
        if cut:
            self.notes.append(
                f"{split}: {joined([f'row {line}' for line in cut])} end where their files do, not at stop_s"
            )
        return recordings

    def _layers(self, split: str) -> list[list[_Row]]:
        """The rows of each recording of a split: same files, times that do not overlap."""
        known = [set(classes) for classes in self._labels.heads.values()]
        groups: dict[tuple[str, str, str], list[_Row]] = {}
        for row in sorted(self._rows, key=lambda r: r.start_s):
            if row.split == split and all(n in k for n, k in zip(row.names, known, strict=True)):
                groups.setdefault(row.files, []).append(row)
        return [layer for rows in groups.values() for layer in disjoint(rows, lambda row: (row.start_s, row.stop_s))]

    def _job(self, split: str, rows: list[_Row]) -> RecordingJob:
        paths = [self._folder / file if file else None for file in rows[0].files]
        facts = [[str(p), p.stat().st_size, p.stat().st_mtime_ns] if p else None for p in paths]
        intervals: tuple[Interval, ...] = tuple((r.start_s, r.stop_s, *r.names) for r in rows)
        key = self._form.key(decoded=True, source="manifest", files=facts)
        digest = hashlib.sha256(str(self._folder.resolve()).encode()).hexdigest()[:8]
        name = f"{self.name}/{split}/{rows[0].clip_id}"
        where = ", ".join(str(r.line) for r in rows[:3]) + (", ..." if len(rows) > 3 else "")
        where = f"row{'s' if len(rows) > 1 else ''} {where}"
        return RecordingJob(f"manifest-{digest}/{key}", _decode, (*paths, self._form, name, where), intervals)


def _read(path: Path) -> tuple[list[str], list[_Row]]:
    """Rows of a manifest and the names of its label heads."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    missing = [name for name in FIXED if name not in columns]
    heads = [name for name in columns if name not in FIXED]
    if missing:
        raise UsageError(f"{path}: no column {', '.join(missing)}")
    if sorted(heads) not in (["noun", "verb"], ["action"]):
        raise UsageError(f"{path}: label columns must be verb and noun, or action, not {', '.join(heads) or 'none'}")
    heads = ["verb", "noun"] if len(heads) == 2 else heads
    faults: list[str] = []
    rows = [row for number, line in lines if (row := _row(path.parent, number, line, heads, faults)) is not None]
    if faults:  # so that all is told at once, what else would be found while decoding
        raise UsageError(f"{path}: {joined([*faults, *_unreadable(path.parent, rows)])}")
    if not rows:
        raise UsageError(f"{path}: no rows")
    return heads, rows


def _unreadable(folder: Path, rows: list[_Row]) -> list[str]:
    """Which of the first files do not even begin as what they should be, with row and column."""
    faults: list[str] = []
    seen: set[tuple[str, str]] = set()
    for row in rows:
        for column, file in zip(("video", "flow", "audio"), row.files, strict=True):
            if not file or (column, file) in seen or len(seen) == _LOOKED_AT:
                continue
            seen.add((column, file))
            try:
                _begin(folder / file, column)
            except MediaError as error:
                faults.append(f"row {row.line}, {column}: {error}")
    return faults


def _begin(path: Path, column: str) -> None:
    """Reads the beginning of a file. :raises MediaError: it cannot be read as what the column says."""
    if column == "video":
        with read_video(path) as reader:
            next(iter(reader), None)
    elif column == "flow":
        read_flow_file(path)
    else:
        sound = read_audio(path)
        if sound is None:
            raise MediaError(f"{path} {_NO_SOUND}")
        with sound:
            next(iter(sound), None)


def _row(folder: Path, number: int, line: dict[str, Any], heads: list[str], faults: list[str]) -> _Row | None:
    """One line of the CSV; what is wrong with it goes into `faults`."""
    before = len(faults)
    cells = {name: (line.get(name) or "").strip() for name in (*FIXED, *heads)}

    def fault(column: str, text: str) -> None:
        faults.append(f"row {number}, {column}: {text}")

    if cells["split"] not in SPLITS:
        fault("split", f"{cells['split']!r} is not train, val or test")
    for column in ("video", "flow", "audio"):
        # os.path.isfile is False, where Path.is_file raises, for names that no file can have.
        if cells[column] and not os.path.isfile(folder / cells[column]):
            fault(column, f"no file {cells[column][:_SHOWN_OF_NAME]}")
    if not (cells["video"] or cells["flow"] or cells["audio"]):
        fault("video", "a clip needs at least one of video, flow and audio")
    times = {}
    for column in ("start_s", "stop_s"):
        try:
            times[column] = float(cells[column])
        except ValueError:
            times[column] = math.nan
        if not math.isfinite(times[column]) or times[column] < 0:
            fault(column, f"{cells[column]!r} is not a time in seconds")
    if times["stop_s"] <= times["start_s"]:
        fault("stop_s", "must be later than start_s")
    for head in heads:
        if not cells[head]:
            fault(head, "no label")
    if len(faults) > before:
        return None
    files = (cells["video"], cells["flow"], cells["audio"])
    names = tuple(cells[head] for head in heads)
    return _Row(number, cells["clip_id"], SPLITS[cells["split"]], files, times["start_s"], times["stop_s"], names)


def _labels(heads: list[str], rows: list[_Row]) -> tuple[Labels, list[str]]:
    """Classes of the training split, and notes on labels that occur elsewhere only."""
    train = [row.names for row in rows if row.split == "train"]
    if not train:
        raise UsageError("the manifest has no row in split train")
    classes: dict[str, list[str]] = {}
    notes = []
    for i, head in enumerate(heads):
        seen = {names[i] for names in train}
        classes[head] = sorted(seen, key=lambda name: (name not in FIRST, name))
        unseen = sorted({row.names[i] for row in rows} - seen)
        if unseen:
            notes.append(f"{head} never seen in training, its clips are left out: {', '.join(unseen)}")
    known = set(train)
    pairs = {row.names for row in rows if all(name in classes[h] for h, name in zip(heads, row.names, strict=True))}
    if new := sorted(" ".join(names) for names in pairs - known):
        notes.append(f"action never seen in training, its clips count as wrong: {', '.join(new)}")
    actions = sorted(known, key=lambda names: [classes[h].index(n) for h, n in zip(heads, names, strict=True)])
    return Labels.from_names(classes, actions), notes


def _decode(
    folder: Path,
    video: Path | None,
    flow: Path | None,
    audio: Path | None,
    form: StoreFormat,
    name: str,
    where: str,
) -> None:
    """Decode one recording into the store; runs in a worker process.

    :param where: the rows of the manifest that need it.
    :raises MediaError: a file that cannot be read, with rows and column.
    """
    cv2.setNumThreads(1)
    sound, start_ns = None, 0
    if audio:
        with _blame(f"{where}, audio"):
            found = read_sound(audio, form.rate)
            if found is None:
                raise MediaError(f"{audio} {_NO_SOUND}")
            sound, start_ns = found
    write_recording(
        folder,
        form,
        frames=_frames(video, f"{where}, video") if video else None,
        flows=_flows(flow, f"{where}, flow") if flow else None if video else (),
        sound=None if sound is None else [sound],
        sound_start_ns=start_ns,
        meta={"name": name, "intervals": []},
    )


@contextmanager
def _blame(where: str) -> Iterator[None]:
    """Say which rows and column a fault belongs to."""
    try:
        yield
    except MediaError as error:
        raise MediaError(f"{where}: {error}") from error


def _frames(path: Path, where: str) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    with _blame(where), read_video(path) as reader:
        for frame in reader:
            yield frame.stamp_ns, frame.rgb


def _flows(path: Path, where: str) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    with _blame(where):
        stamps, fields = read_flow_file(path)
    for stamp_ns, values in zip(stamps, fields, strict=True):
        yield int(stamp_ns), values.astype(np.float32)
