# SPDX-License-Identifier: Apache-2.0
"""Renders a data set of tabletop scenes: lossless video, flow and sound, and the manifest that says what happens in it.

Every recording is a function of (seed, kind, number) alone, so that the number of worker processes does not matter: the
same seed gives the same bytes (on the same machine, with the same versions).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from karmma_ros.files import whole_file
from karmma_ros.flow import FlowProducer
from karmma_ros.flow_file import FlowFileWriter
from karmma_ros.media import VideoWriter, write_wav
from karmma_ros.tabletop.sequence import SOUND_RATE, Interval, make_sequence

__all__ = ["COLUMNS", "Job", "Row", "disk_bytes", "plan", "render", "write_manifest"]

COLUMNS = ("clip_id", "split", "video", "flow", "audio", "start_s", "stop_s", "verb", "noun")
SPLITS = ("train", "val", "test")
FLOW_SIZE = (160, 120)  # (width, height)
FPS = 30.0
SIZE = (320, 240)

_NS = 1_000_000_000
_SCENE_S = 20.0  # a clip is cut from a sequence of this length
_CONTEXT_S = 2.0  # what comes before the action in a clip, at most
_CLIP_S = 4.0  # of the action in a clip, at most
_BYTES_PER_FRAME = 230_000  # lossless video and flow, measured
_KINDS = {"clip": 0, "sequence": 1}


@dataclass(frozen=True)
class Job:
    """One recording to render. `seconds`: its length; 0 for a clip, whose length its action decides."""

    name: str
    kind: str  # clip or sequence
    split: str
    seed: int  # of the scene
    seconds: float = 0.0
    take: int = 0  # of the scene


@dataclass(frozen=True)
class Row:
    """A line of the manifest: in recording `name`, `verb` is done to `noun` from `start_s` to `stop_s`."""

    clip_id: str
    split: str
    name: str
    start_s: float
    stop_s: float
    verb: str
    noun: str


def plan(
    seed: int, clips: int, sequences: int, minutes: float, shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> list[Job]:
    """The recordings of a data set.

    :param minutes: length of each sequence.
    :param shares: of the splits train, val, test; their scenes have no parameter in common.
    """
    jobs = []
    for kind, count, seconds in (("clip", clips, 0.0), ("sequence", sequences, minutes * 60)):
        bounds = np.round(np.cumsum(shares) / sum(shares) * count)
        for number in range(count):
            split = SPLITS[int(np.searchsorted(bounds, number, side="right"))]
            scene = int(np.random.SeedSequence([seed, _KINDS[kind], number]).generate_state(1)[0])
            jobs.append(Job(f"{kind}-{number:05d}", kind, split, scene, seconds))
    return jobs


def disk_bytes(jobs: Sequence[Job]) -> int:
    """About how much the recordings will take."""
    seconds = sum(job.seconds or _CONTEXT_S + _CLIP_S for job in jobs)
    return round(seconds * FPS * _BYTES_PER_FRAME)


def render(job: Job, folder: Path) -> list[Row]:
    """Writes a recording's video, flow and sound into `folder`; gives its lines of the manifest.

    :raises OSError: if they cannot be written.
    """
    cv2.setNumThreads(1)  # one process a core already
    sequence = make_sequence(job.seed, job.split, duration_s=job.seconds or _SCENE_S, size=SIZE, fps=FPS)
    if job.kind == "clip":
        begin, end, interval = _cut(sequence.intervals, job.seed)
        rows = [_row(job, 0, interval)]
    else:
        begin, end = 0, sequence.n_frames
        rows = [_row(job, number, interval) for number, interval in enumerate(sequence.intervals)]
    first, last = (round(frame / FPS * SOUND_RATE) for frame in (begin, end))
    write_wav(folder / f"{job.name}.wav", np.asarray(sequence.sound()[first:last], np.float32), SOUND_RATE)
    with (
        VideoWriter(folder / f"{job.name}.avi", SIZE, FPS, codec="lossless") as video,
        FlowFileWriter(folder / f"{job.name}.npz", FLOW_SIZE) as flow,
    ):
        producer = FlowProducer(FLOW_SIZE)
        for place, index in enumerate(range(begin, end)):
            stamp_ns = round(place * _NS / FPS)
            frame = np.asarray(sequence.frame(index), dtype=np.uint8)
            video.write(frame, stamp_ns)
            field = producer.push(stamp_ns, frame)
            if field is not None:
                flow.write(stamp_ns, field)
    return rows


def _row(job: Job, number: int, interval: Interval) -> Row:
    clip_id = job.name if job.kind == "clip" else f"{job.name}-{number:03d}"
    start, stop = round(interval.start_s, 6), round(interval.stop_s, 6)
    return Row(clip_id, job.split, job.name, start, stop, interval.verb, interval.noun)


def _cut(intervals: Sequence[Interval], seed: int) -> tuple[int, int, Interval]:
    """Chooses an action: (first frame, frame after the last, the action in the clip's own time)."""
    rng = np.random.default_rng([seed, 1])
    interval = intervals[int(rng.integers(len(intervals)))]
    length = min(interval.stop_s - interval.start_s, _CLIP_S)
    start_s = interval.start_s + rng.uniform(0.0, interval.stop_s - interval.start_s - length)
    begin = int(max(0.0, start_s - _CONTEXT_S) * FPS)
    end = round((start_s + length) * FPS)
    return begin, end, Interval(start_s - begin / FPS, (end - begin) / FPS, interval.verb, interval.noun)


def write_manifest(path: Path, rows: Sequence[Row], media: str) -> None:
    """Writes the CSV; `media` is the recordings' folder, relative to it.

    :raises OSError: if it cannot be written.
    """
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            files = [f"{media}/{row.name}{suffix}" for suffix in (".avi", ".npz", ".wav")]
            writer.writerow([row.clip_id, row.split, *files, row.start_s, row.stop_s, row.verb, row.noun])
