# SPDX-License-Identifier: Apache-2.0
"""Evaluation as the robot runs: every sample of a recording is encoded once, windows are read at many times.

Which samples arrive is said by a pattern (patterns.py). Slots are filled by `karmma_ros.window.assign_slots`, the
function the robot uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import UsageError
from karmma_ros.window import assign_slots
from karmma_training.data.features import encode_samples
from karmma_training.data.grid import audio_stamps
from karmma_training.data.labels import Labels
from karmma_training.data.recording import Recording
from karmma_training.evaluation.metrics import accuracies, fit_temperatures, score
from karmma_training.evaluation.predictor import Predictor

__all__ = [
    "Answers",
    "EncodedRecording",
    "Logits",
    "encode_recording",
    "pooled_temperatures",
    "predict",
    "summarise",
]

Stamps = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

FUSE_BATCH = 256
TIMER_S = 0.5  # without a camera, until predictions go by the timer


@dataclass(frozen=True)
class EncodedRecording:
    """A recording's tokens, and the times to predict for.

    stamps: {m: (n,)}; tokens: {m: (n, N, D)}; times_ns (k,), targets (k, heads), settled (k,).
    """

    stamps: dict[str, Stamps]
    tokens: dict[str, Floats]
    times_ns: Stamps
    targets: npt.NDArray[np.int64]
    settled: npt.NDArray[np.bool_]


@dataclass
class Logits:
    """Predictions gathered over recordings."""

    logits: dict[str, list[Floats]] = field(default_factory=dict)
    targets: list[npt.NDArray[np.int64]] = field(default_factory=list)
    settled: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    recorded: list[npt.NDArray[np.bool_]] = field(default_factory=list)

    def add(self, logits: Mapping[str, Floats], recording: EncodedRecording) -> None:
        """Append the predictions for one recording."""
        for head, values in logits.items():
            self.logits.setdefault(head, []).append(values)
        self.targets.append(recording.targets)
        self.settled.append(recording.settled)
        here = [len(stamps) > 0 for stamps in recording.stamps.values()]
        self.recorded.append(np.tile(here, (len(recording.targets), 1)))

    def arrays(self) -> tuple[dict[str, Floats], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """{head: (n, C)}, (n, heads), (n,)

        :raises UsageError: there are none.
        """
        if not self.logits:
            raise UsageError(
                "not a single frame of these recordings has a label: check start_s and stop_s of this split"
            )
        return (
            {h: np.concatenate(v) for h, v in self.logits.items()},
            np.concatenate(self.targets),
            np.concatenate(self.settled),
        )

    def recordings(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Number of the recording of every prediction (n,), and which modalities it has (n, M)."""
        return np.repeat(np.arange(len(self.targets)), [len(t) for t in self.targets]), np.concatenate(self.recorded)


def encode_recording(predictor: Predictor, recording: Recording, *, every: int = 7) -> EncodedRecording:
    """Encode all samples of a recording and choose the times to predict for.

    :param every: every so many frames (of 1/30 s where there is no video); a number that shares no factor with the slot
        spacing varies the phase of the audio grid. Of a recording that is too short for that, a frame in the middle.
    """
    stamps, tokens = {}, {}
    for m, spec in predictor.specs.items():
        if m == "audio":
            which = stamps[m] = audio_stamps(recording, spec, predictor.contexts[m])
        else:
            stamps[m] = recording.stamps.get(m, np.zeros(0, np.int64))
            which = np.arange(len(stamps[m]))
        tokens[m], readable = encode_samples(predictor.encode, recording, m, which, spec, predictor.contexts[m])
        stamps[m] = stamps[m][readable]
    if "video" in recording.stamps:
        frames = recording.stamps["video"]
        last_s = frames[-1] / 1e9 if len(frames) else 0.0
        if recording.stops[-1] > last_s + TIMER_S:  # the camera ends first
            frames = np.concatenate([frames, _timer(last_s, recording.stops[-1])])
    else:
        frames = _timer(0.0, recording.stops[-1])
    interval = recording.interval_at(frames / 1e9)
    labelled = np.flatnonzero(interval >= 0)
    chosen = labelled[(labelled + 1) % every == 0]
    if not len(chosen):
        chosen = labelled[len(labelled) // 2 :][:1]
    times, targets = frames[chosen], recording.targets[interval[chosen]]
    return EncodedRecording(stamps, tokens, times, targets, recording.settled(times / 1e9))


def _timer(first_s: float, last_s: float) -> Stamps:
    """Times 1/30 s apart between two, without these: a robot's timer predicts where no camera does."""
    return np.round((first_s + np.arange(1, (last_s - first_s) * 30) / 30) * 1e9).astype(np.int64)


def predict(predictor: Predictor, recording: EncodedRecording, arrived: Mapping[str, Stamps]) -> dict[str, Floats]:
    """Logits at the recording's times when only some samples arrived.

    :param arrived: {modality: ascending sample indexes}; a modality that is not named sent nothing.
    :return: {head: (k, C)}; NaN where the window is empty.
    """
    parts: list[dict[str, Floats]] = []
    for low in range(0, len(recording.times_ns), FUSE_BATCH):
        times = recording.times_ns[low : low + FUSE_BATCH]
        tokens, present = {}, {}
        for m, spec in predictor.specs.items():
            index = arrived.get(m, np.zeros(0, np.int64))
            slots = assign_slots(recording.stamps[m][index], times, spec)  # (B, S)
            filled = slots >= 0
            window = np.zeros((*slots.shape, spec.tokens, spec.dim), np.float32)
            window[filled] = recording.tokens[m][index[slots[filled]]]
            tokens[m] = window.reshape(len(times), spec.slots * spec.tokens, spec.dim)
            present[m] = np.repeat(filled, spec.tokens, 1)
        logits = {h: np.array(v) for h, v in predictor.fuse(tokens, present).items()}
        empty = ~np.concatenate(list(present.values()), 1).any(1)
        for values in logits.values():
            values[empty] = np.nan
        parts.append(logits)
    return {head: np.concatenate([p[head] for p in parts]) for head in parts[0]} if parts else {}


class Answers(Protocol):
    """Predictions beside the truth."""

    def arrays(self) -> tuple[dict[str, Floats], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """{head: (n, C)} logits, NaN where there is no answer; (n, heads) targets; (n,) whether the label is settled"""


def pooled_temperatures(results: Mapping[str, Answers]) -> dict[str, float]:
    """Temperatures fitted over all patterns together: probabilities must hold whatever sensors are left."""
    arrays = [result.arrays()[:2] for result in results.values()]
    logits = {head: np.concatenate([values[head] for values, _ in arrays]) for head in arrays[0][0]}
    return fit_temperatures(logits, np.concatenate([targets for _, targets in arrays]))


def summarise(results: Mapping[str, Answers], labels: Labels, temperature: Mapping[str, float]) -> dict[str, Any]:
    """Accuracies of every pattern."""
    return {name: accuracies(score(*result.arrays(), labels, temperature)) for name, result in results.items()}
