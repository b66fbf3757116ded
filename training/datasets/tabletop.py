# SPDX-License-Identifier: Apache-2.0
"""Recordings rendered by `karmma_ros.tabletop`: in training several takes of every scene, elsewhere one."""

from __future__ import annotations

import math
from pathlib import Path

import cv2

from karmma_ros import tabletop
from karmma_ros.tabletop.sequence import make_sequence
from karmma_ros.tabletop.vocabulary import ACTIONS, NOUNS, VERBS
from karmma_training.config import DataConfig
from karmma_training.data.labels import Labels
from karmma_training.data.store import StoreFormat, source_digest, write_recording
from karmma_training.datasets.source import RecordingJob, StoredSource

__all__ = ["TabletopSource"]

SOUND_RATE = 16000  # Hz, of Sequence.sound()


class TabletopSource(StoredSource):
    """Rendered recordings, as many as asked for."""

    name = "tabletop"

    def __init__(self, data: DataConfig, form: StoreFormat) -> None:
        self._data = data
        self._form = form
        self.notes: list[str] = []

    def labels(self) -> Labels:
        """The tabletop's vocabulary."""
        return Labels.from_names({"verb": list(VERBS), "noun": list(NOUNS)}, list(ACTIONS))

    def jobs(self, split: str, minutes: float | None) -> list[RecordingJob]:
        """The recordings of a split: `minutes` of them (None: as the configuration says)."""
        if minutes is None:
            minutes = self._data.minutes if split == "train" else self._data.validation_minutes
        code = source_digest(*Path(tabletop.__file__).parent.glob("*.py"))
        d = self._data
        key = self._form.key(
            source="tabletop", code=code, size=[d.render_width, d.render_height], fps=d.fps, recording_s=d.recording_s
        )
        count = max(1, math.ceil(minutes * 60 / d.recording_s - 1e-9))
        takes, first = (max(1, d.takes), d.first_scene) if split == "train" else (1, 0)
        return [
            RecordingJob(f"{key}/{split}-{scene:05d}-{take}", _render, (split, scene, take, d, self._form))
            for scene, take in ((first + i // takes, i % takes) for i in range(count))
        ]


def _render(folder: Path, split: str, seed: int, take: int, data: DataConfig, form: StoreFormat) -> None:
    """Render one sequence into the store; runs in a worker process."""
    cv2.setNumThreads(1)  # one worker per core already
    size = (data.render_width, data.render_height)
    sequence = make_sequence(seed, split, duration_s=data.recording_s, size=size, fps=data.fps, take=take)
    if form.rate != SOUND_RATE:
        raise ValueError(f"tabletop sounds at {SOUND_RATE} Hz, the run wants {form.rate} Hz")
    intervals = [[i.start_s, i.stop_s, i.verb, i.noun] for i in sequence.intervals]
    write_recording(
        folder,
        form,
        frames=((round(i * 1e9 / data.fps), frame) for i, frame in enumerate(sequence.frames())),
        flows=None,
        sound=[sequence.sound()],
        meta={"name": f"tabletop/{split}/{seed}/{take}", "intervals": intervals},
    )
