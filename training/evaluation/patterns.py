# SPDX-License-Identifier: Apache-2.0
"""Which samples of a recording arrive: the modality subsets, the failures of the demo, and losses one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from karmma_training.data.grid import frames_of
from karmma_training.evaluation.evaluate import EncodedRecording

__all__ = ["LOST", "Pattern", "demo_patterns", "initials", "loss_patterns", "subsets"]

Stamps = npt.NDArray[np.int64]
Pattern = Callable[[EncodedRecording, int], dict[str, Stamps]]  # (recording, number) -> {modality: sample indexes}

LOST = (0.25, 0.5, 0.75, 0.9, 0.95)  # shares of frames, or of chunks of sound, that are lost
CHUNK_NS = 100_000_000  # of sound


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
