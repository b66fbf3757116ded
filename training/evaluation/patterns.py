# SPDX-License-Identifier: Apache-2.0
"""Which samples of a recording arrive: modality subsets, the failures of the demo, losses one by one and in runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from karmma_training.data.grid import frames_of
from karmma_training.evaluation.evaluate import EncodedRecording

__all__ = ["LOST", "OUT", "Pattern", "demo_patterns", "initials", "loss_patterns", "outage_patterns", "subsets"]

Stamps = npt.NDArray[np.int64]
Pattern = Callable[[EncodedRecording, int], dict[str, Stamps]]  # (recording, number) -> {modality: sample indexes}

LOST = (0.25, 0.5, 0.75, 0.9, 0.95)  # shares of frames, or of chunks of sound, that are lost
CHUNK_NS = 100_000_000  # of sound
OUT = (0.25, 0.5, 0.75)  # shares of the time that a sensor is out
OUTAGE_S = (0.3, 1.5)  # [s] shortest and longest


def subsets(modalities: Sequence[str]) -> dict[str, Pattern]:
    """Every non-empty subset of the modalities, all first: {"video+flow+audio": pattern, ...}."""
    out: dict[str, Pattern] = {}
    for size in range(len(modalities), 0, -1):
        for chosen in combinations(modalities, size):
            out["+".join(chosen)] = _only(chosen)
    return out


def initials(subset: str) -> str:
    """video+flow -> V+F"""
    return "+".join(part[0].upper() for part in subset.split("+"))


def _only(chosen: Sequence[str]) -> Pattern:
    def pattern(recording: EncodedRecording, number: int) -> dict[str, Stamps]:
        return {m: np.arange(len(recording.stamps[m])) for m in chosen}

    return pattern


def demo_patterns(seed: int) -> dict[str, Pattern]:
    """The sensor failures of the demo, whose flow comes from a sensor of its own."""

    return {
        "all": _only(["video", "flow", "audio"]),
        "no_camera": _only(["flow", "audio"]),
        "no_flow": _only(["video", "audio"]),
        "no_audio": _only(["video", "flow"]),
        "audio_only": _only(["audio"]),
        "half_frames": _frames_lost(0.5, seed),
    }


def loss_patterns(context_s: float, seed: int) -> dict[tuple[str, float], Pattern]:
    """Samples lost one by one, independently of each other: {("frames" or "sound", share lost): pattern}.

    A lost frame takes the flow field that ends with it along; a lost chunk of sound (0.1 s) every sample of sound that
    reaches into it.

    :param context_s: what an audio token hears.
    """
    return {
        **{("frames", share): _frames_lost(share, seed) for share in LOST},
        **{("sound", share): _sound_lost(share, context_s, seed) for share in LOST},
    }


def outage_patterns(modalities: Sequence[str], context_s: float, seed: int) -> dict[float, Pattern]:
    """Sensors that come and go, each for itself: {share of the time that it is out: pattern}.

    So windows hold the beginnings and ends of what sensors sent, as on a robot, and rarely all of a modality or none.

    :param context_s: what an audio token hears; one that reaches into an outage is not there.
    """
    return {share: _outages(modalities, share, context_s, seed) for share in OUT}


def _outages(modalities: Sequence[str], share: float, context_s: float, seed: int) -> Pattern:
    def pattern(recording: EncodedRecording, number: int) -> dict[str, Stamps]:
        arrived = {}
        for place, m in enumerate(modalities):
            stamps = recording.stamps[m]
            rng = np.random.default_rng([seed, number, 2, place])
            until_s = (int(stamps[-1]) if len(stamps) else 0) * 1e-9 + OUTAGE_S[1]
            begins, ends = _times_out(until_s, share, rng)
            first = stamps * 1e-9 - (context_s if m == "audio" else 0.0)
            # Of the outages that end after its first moment, the earliest begins after its last.
            following = np.searchsorted(ends, first, side="right")
            arrived[m] = np.flatnonzero(np.append(begins, np.inf)[following] > stamps * 1e-9)
        return arrived

    return pattern


def _times_out(
    until_s: float, share: float, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(begins, ends) [s] of a sensor's outages, from before 0 on: it is out for `share` of the time."""
    mean_s = sum(OUTAGE_S) / 2
    count = int(2 * (until_s + 10) / (mean_s / share)) + 2
    out_s = rng.uniform(*OUTAGE_S, count)
    works_s = rng.uniform(*OUTAGE_S, count) * (1 - share) / share
    ends = np.cumsum(out_s + works_s) - rng.uniform(0, mean_s / share)
    return ends - out_s, ends


def _frames_lost(share: float, seed: int) -> Pattern:
    def pattern(recording: EncodedRecording, number: int) -> dict[str, Stamps]:
        rng = np.random.default_rng([seed, number])
        kept = np.flatnonzero(rng.random(len(recording.stamps["video"])) >= share)
        made_of = frames_of(recording.stamps["flow"], recording.stamps["video"])
        flow = np.flatnonzero((made_of < 0) | np.isin(made_of, kept))
        return {"video": kept, "flow": flow, "audio": np.arange(len(recording.stamps["audio"]))}

    return pattern


def _sound_lost(share: float, context_s: float, seed: int) -> Pattern:
    def pattern(recording: EncodedRecording, number: int) -> dict[str, Stamps]:
        rng = np.random.default_rng([seed, number, 1])
        ends = recording.stamps["audio"]
        heard = np.zeros(0, np.int64)
        if len(ends):
            lost = rng.random(int(ends[-1] // CHUNK_NS) + 1) < share
            before = np.concatenate([[0], np.cumsum(lost)])  # lost chunks before each
            first = np.maximum(ends - round(context_s * 1e9), 0) // CHUNK_NS
            last = (ends - 1) // CHUNK_NS
            heard = np.flatnonzero(before[last + 1] == before[first])
        return {
            "video": np.arange(len(recording.stamps["video"])),
            "flow": np.arange(len(recording.stamps["flow"])),
            "audio": heard,
        }

    return pattern
