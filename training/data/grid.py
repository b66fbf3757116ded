# SPDX-License-Identifier: Apache-2.0
"""Stamps of a recording's samples as the robot would have them: frames and flow as they are, sound on its grid.

On the robot sound is encoded at multiples of the slot spacing since the epoch. A recording has no epoch of its own, so
the phase of the grid is a parameter: drawn in training, zero in evaluation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from karmma_ros.period import PeriodEstimator
from karmma_ros.window import SlotSpec, assign_slots, to_ns
from karmma_training.config import Config
from karmma_training.data.recording import Context, Recording

__all__ = ["AUDIO_PHASES", "audio_stamps", "contexts", "fill_slots", "frames_of", "phases_ns", "slot_specs"]

AUDIO_PHASES = 8  # phases of the audio grid that training draws from: few enough to cache the tokens of each


def slot_specs(config: Config) -> dict[str, SlotSpec]:
    """Slot layout of every modality of a run."""
    specs = {}
    for modality in config.modalities:
        c = config.slots(modality)
        specs[modality] = SlotSpec(c.slots, c.spacing_s, c.delay_s, c.tokens, c.dim)
    return specs


def contexts(config: Config) -> dict[str, Context]:
    """What an extractor run of every modality of a run sees."""
    found = {}
    for modality in config.modalities:
        c = config.slots(modality)
        found[modality] = Context(c.context, 0 if modality == "audio" else to_ns(c.context_step_s))
    return found


def audio_stamps(
    recording: Recording,
    spec: SlotSpec,
    context: Context,
    *,
    phase_ns: int = 0,
    until_ns: int | None = None,
    horizon: int = 0,
) -> npt.NDArray[np.int64]:
    """Stamps (ends) of the audio chunks that the recording's sound allows, ascending.  -> (n,)

    :param context: what a chunk holds.
    :param phase_ns: the grid is at `phase_ns` plus multiples of the spacing.
    :param until_ns: no chunk ends later than this.
    :param horizon: with `until_ns`, at most so many chunks, the newest (0: all).
    """
    if "audio" not in recording.modalities:
        return np.zeros(0, np.int64)
    first = recording.sound_start_ns + to_ns(context.count / recording.rate)
    last = recording.sound_stop_ns if until_ns is None else min(recording.sound_stop_ns, until_ns)
    step = spec.spacing_ns
    low = -(-(first - phase_ns) // step)
    high = (last - phase_ns) // step
    if horizon:
        low = max(low, high - horizon + 1)
    return np.arange(low, high + 1, dtype=np.int64) * step + phase_ns


def frames_of(stamps: npt.NDArray[np.int64], frames: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The frame that each of some samples was made of: the nearest, since files round stamps in ways of their own.

    :param stamps: (n,) of fields of flow or of detections; frames: (k,) of a camera's frames; both ascending.
    :return: (n,) indexes of frames; -1 where none is within half of the camera's usual interval.
    """
    if not len(stamps) or not len(frames):
        return np.full(len(stamps), -1, np.int64)
    low, high = np.searchsorted(frames, [stamps[0], stamps[-1]])
    first, last = max(0, int(low) - 2), min(len(frames), int(high) + 2)
    near = frames[first:last]
    usual = np.median(np.diff(near)) if len(near) > 1 else 1e9 * PeriodEstimator.UNKNOWN_S
    after = np.minimum(np.searchsorted(near, stamps), len(near) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(np.abs(near[before] - stamps) <= np.abs(near[after] - stamps), before, after)
    return np.where(np.abs(near[nearest] - stamps) <= usual / 2, nearest + first, -1).astype(np.int64)


def fill_slots(
    index: npt.NDArray[np.int64], stamps: npt.NDArray[np.int64], t_ns: int, spec: SlotSpec
) -> npt.NDArray[np.int64]:
    """What fills the slots of a window: entries of `index`, -1 where there is nothing.  (n,), (n,) -> (S,)"""
    where = assign_slots(stamps, t_ns, spec)
    return np.where(where >= 0, index[where] if len(index) else -1, -1)


def phases_ns(spec: SlotSpec) -> npt.NDArray[np.int64]:
    """The phases of the audio grid that training draws from.  -> (AUDIO_PHASES,)"""
    return np.arange(AUDIO_PHASES, dtype=np.int64) * (spec.spacing_ns // AUDIO_PHASES)
