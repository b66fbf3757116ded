# SPDX-License-Identifier: Apache-2.0
"""EPIC-KITCHENS-100 as a data set: what of it is on disk, read where it lies.

A video that lacks a modality is a recording without it: training goes on with what exists. Flow that was not downloaded
is computed from the camera while training, as on the robot.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from karmma_training.data.labels import Labels
from karmma_training.data.recording import Recording, disjoint
from karmma_training.data.store import StoreFormat
from karmma_training.data.tracks import (
    ComputedFlow,
    FileRecording,
    FlowPictures,
    ImageTrack,
    PictureTrack,
    Track,
    VideoTrack,
)
from karmma_training.datasets.check import VideoCheck
from karmma_training.datasets.epic_kitchens.annotations import (
    SPLIT_FILES,
    Segment,
    find_annotations,
    read_classes,
    read_segments,
)
from karmma_training.datasets.epic_kitchens.check import check_video
from karmma_training.datasets.epic_kitchens.index import VideoEntry, facts, index_files
from karmma_training.datasets.epic_kitchens.layout import VideoFiles, find_files, flow_timing, frame_rate
from karmma_training.datasets.source import Preparation, RecordingJob, prepare
from karmma_training.parallel import map_processes

__all__ = ["EpicKitchensSource"]


class EpicKitchensSource:
    """EPIC-KITCHENS-100 below a folder; see layout.py.

    :raises UsageError: no annotations, or rows of them that make no sense.
    """

    name = "epic-kitchens-100"

    def __init__(self, root: Path, form: StoreFormat) -> None:
        self.root = root
        self._form = form
        self.annotations = find_annotations(root)
        self.verbs, self.nouns = (
            read_classes(self.annotations / f"EPIC_100_{head}_classes.csv") for head in ("verb", "noun")
        )
        self._segments: dict[str, list[Segment]] = {}
        self.notes: list[str] = []
        self.told = 0
        self._labels = self._read_labels()

    def labels(self) -> Labels:
        """All verbs and nouns in official order; actions are the pairs that occur in training."""
        return self._labels

    def _read_labels(self) -> Labels:
        split = "train" if self.has_split("train") else "val"
        if split == "val":
            self.notes.append(f"no {SPLIT_FILES['train']}: actions are the pairs of the validation split")
        pairs = sorted({(s.verb, s.noun) for s in self.segments(split)})
        actions = [(self.verbs[verb], self.nouns[noun]) for verb, noun in pairs]
        return Labels.from_names({"verb": self.verbs, "noun": self.nouns}, actions)

    def segments(self, split: str) -> list[Segment]:
        """The annotated actions of a split, whether or not their videos are on disk.

        :raises UsageError: no such file, or rows that make no sense.
        """
        if split not in self._segments:
            path = self.annotations / SPLIT_FILES[split]
            self._segments[split] = read_segments(
                path, verbs=len(self.verbs), nouns=len(self.nouns), labelled=split != "test"
            )
        return self._segments[split]

    def _by_video(self, split: str) -> dict[str, list[Segment]]:
        """The annotated actions of every video, in the order of their starts."""
        actions: dict[str, list[Segment]] = {}
        for segment in sorted(self.segments(split), key=lambda s: s.start_s):
            actions.setdefault(segment.video, []).append(segment)
        return actions

    def has_split(self, split: str) -> bool:
        """See CheckedSource."""
        return (self.annotations / SPLIT_FILES[split]).is_file()

    def check(self, split: str, tries: int, workers: int | None, console: Console) -> list[VideoCheck]:
        """See CheckedSource."""
        actions = sorted(self._by_video(split).items())
        jobs = [(v, find_files(self.root, v), segments, tries) for v, segments in actions]
        return map_processes(_check, jobs, workers, f"checking {split}", console)

    def entries(self, split: str, work: Preparation) -> dict[str, VideoEntry]:
        """The videos of a split that are on disk, found once and kept in the sample store.

        :raises UsageError: some cannot be prepared.
        """
        videos = dict.fromkeys(s.video for s in self.segments(split))
        files = {video: found for video in videos if (found := find_files(self.root, video)).any}
        root = hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:8]
        jobs = {
            video: RecordingJob(
                f"{self.name}-{root}/{self._form.key(decoded=True, source=self.name, video=video, files=facts(found))}",
                index_files,
                (video, found, self._form.rate),
            )
            for video, found in files.items()
        }
        prepare(list(jobs.values()), work, f"{self.name} {split}")
        return {video: VideoEntry.open(work.store / job.path, files[video]) for video, job in jobs.items()}

    def recordings(self, split: str, work: Preparation, minutes: float | None = None) -> list[Recording]:
        """See Source: one recording per video, more where its annotated actions overlap."""
        entries = self.entries(split, work)
        actions = self._by_video(split)
        out: list[Recording] = []
        lacking, beyond = Counter[str](), 0
        for video, segments in actions.items():
            entry = entries.get(video)
            if entry is None:
                lacking["not on disk"] += 1
                continue
            tracks = self._tracks(video, entry)
            lacking.update(f"without {m}" for m in ("video", "flow") if m not in tracks)
            lacking["flow computed while training"] += isinstance(tracks.get("flow"), ComputedFlow)
            lacking["without audio"] += entry.sound is None
            lacking["with files that are damaged or end early"] += bool(entry.faults)
            made = self._recordings(video, entry, tracks, segments)
            beyond += len(segments) - sum(len(recording.ids) for recording in made)
            out += made
        facts = ", ".join(f"{count} {what}" for what, count in sorted(lacking.items()) if count)
        lost = f"; {beyond} actions beyond what was recorded are left out" if beyond else ""
        self.notes.append(f"{split}: {len(actions)} videos with annotated actions{f', {facts}' if facts else ''}{lost}")
        return out

    def _tracks(self, video: str, entry: VideoEntry) -> dict[str, Track]:
        """The tracks of a video's files."""
        form, tracks = self._form, dict[str, Track]()
        size = (form.video_height, form.video_width)
        camera: ImageTrack | None = None
        if entry.rgb:
            camera = PictureTrack(entry.rgb, _stamps(entry.rgb.numbers, frame_rate(video)), size)
        elif entry.video and entry.files.video:
            camera = VideoTrack(entry.files.video, entry.video, size)
        if camera:
            tracks["video"] = camera
        size = (form.flow_height, form.flow_width)
        if entry.flow:
            timing = flow_timing(video)
            stamps = _stamps(timing.newest_frame(entry.flow[0].numbers), frame_rate(video))
            tracks["flow"] = FlowPictures(*entry.flow, stamps, size, bound=timing.bound, gap_s=timing.gap_s)
        elif camera:
            tracks["flow"] = ComputedFlow(
                camera, size, (form.producer_width, form.producer_height), form.producer_preset
            )
        return tracks

    def _recordings(
        self, video: str, entry: VideoEntry, tracks: dict[str, Track], segments: Sequence[Segment]
    ) -> list[Recording]:
        """The actions of a video that lie within what was recorded of it."""
        ends_ns = [int(track.stamps[-1]) for track in tracks.values() if len(track.stamps)]
        if entry.sound is not None:
            ends_ns.append(entry.sound_start_ns + round(len(entry.sound) * 1e9 / entry.rate))
        recorded = [s for s in segments if s.start_s < max(ends_ns, default=0) / 1e9]
        return [
            FileRecording(
                f"{self.name}/{video}",
                entry.key,
                self._labels,
                [(s.start_s, min(s.stop_s, max(ends_ns) / 1e9), *self._names(s)) for s in layer],
                tracks,
                sound=entry.sound,
                sound_start_ns=entry.sound_start_ns,
                rate=entry.rate,
                ids=[s.narration_id for s in layer],
            )
            for layer in disjoint(recorded, lambda s: (s.start_s, s.stop_s))
        ]

    def _names(self, segment: Segment) -> tuple[str, ...]:
        return () if segment.verb < 0 else (self.verbs[segment.verb], self.nouns[segment.noun])


def _check(job: tuple[str, VideoFiles, list[Segment], int]) -> VideoCheck:
    return check_video(*job)


def _stamps(frames: npt.NDArray[np.int64], rate: int) -> npt.NDArray[np.int64]:
    """Stamps of RGB frames by their numbers, which count from 1."""
    return np.round((frames - 1) * (1e9 / rate)).astype(np.int64)
