# SPDX-License-Identifier: Apache-2.0
"""Training windows, drawn as the robot sees them.

t is uniform over the labelled time of continuous recordings (idle included), or the stamp of a frame near it; the label
is the truth at t. The samples that fill the slots are chosen by `karmma_ros.window.assign_slots`, the same function as
online, after the sensors of the window have been drawn: frame rate and phase, jitter of the stamps, lost frames, phase
of the audio grid. Batch number `step` of a seed is always the same batch, which is what makes resuming exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.window import SlotSpec, assign_slots, to_ns
from karmma_training.config import Config
from karmma_training.data.augment import draw_look
from karmma_training.data.grid import audio_stamps, slot_specs
from karmma_training.data.store import Recording
from karmma_training.dropout import ModalityDropout, SlotSubset, TokenRunDropout

__all__ = ["WindowBatch", "WindowSampler"]


@dataclass(frozen=True)
class WindowBatch:
    """B windows; only the samples that are present, in one flat array per modality.

    samples: video (n, 1, h, w, 3) uint8, flow (n, 1, h, w, 2) float32, audio (n, context) float32
    places: (n,) row * slots + slot of each sample
    present: (B, slots) which slots hold a sample
    targets: (B, heads) class indexes
    origin: (B, 2) number of the recording, t in nanoseconds
    """

    samples: dict[str, npt.NDArray[Any]]
    places: dict[str, npt.NDArray[np.int64]]
    present: dict[str, npt.NDArray[np.bool_]]
    targets: npt.NDArray[np.int64]
    origin: npt.NDArray[np.int64]


class WindowSampler:
    """Draws batches of windows from recordings."""

    def __init__(self, recordings: list[Recording], config: Config, *, batch: int, seed: int) -> None:
        self._recordings = recordings
        self._config = config
        self._batch = batch
        self._seed = seed
        self._specs = slot_specs(config)
        self._share = np.cumsum([r.labelled_s for r in recordings])
        self._modality_dropout = ModalityDropout(config.dropout.modality_p)
        self._runs = TokenRunDropout(config.dropout.runs_p)
        d = config.dropout
        self._subset = SlotSubset(d.full_share, d.encode_min, d.encode_max)

    def batch(self, step: int) -> WindowBatch:
        """Batch number `step`; depends on nothing but the seed and the step."""
        rng = np.random.default_rng([self._seed, step])
        count, modalities = self._batch, list(self._specs)
        drawn = [self._draw_time(rng) for _ in range(count)]
        recorded = np.array([[m in self._recordings[k].arrays for m in modalities] for k, _ in drawn])
        kept = self._modality_dropout.draw(recorded, rng)
        samples: dict[str, list[npt.NDArray[Any]]] = {m: [] for m in modalities}
        places: dict[str, list[int]] = {m: [] for m in modalities}
        present = {m: np.zeros((count, s.slots), bool) for m, s in self._specs.items()}
        targets = np.zeros((count, self._recordings[0].targets.shape[1]), np.int64)
        origin = np.zeros((count, 2), np.int64)
        for row, (number, t_ns) in enumerate(drawn):
            recording = self._recordings[number]
            t_ns, chosen = self._draw_samples(recording, t_ns, kept[row], rng)
            targets[row] = recording.targets[recording.interval_at(np.array([t_ns / 1e9]))[0]]
            origin[row] = number, t_ns
            look = draw_look(self._config.augment, rng)
            for m, stamps in chosen.items():
                slots = np.flatnonzero(stamps >= 0)
                present[m][row, slots] = True
                places[m].extend((row * len(stamps) + slots).tolist())
                for value in stamps[slots]:
                    if m == "audio":
                        sound = recording.sound(int(value), self._config.audio.context)
                        samples[m].append(look.sound(sound, rng))
                    elif m == "flow":
                        samples[m].append(look.flow(recording.arrays[m][value])[None])
                    else:
                        samples[m].append(look.video(recording.arrays[m][value])[None])
        return WindowBatch(
            {m: np.stack(v) for m, v in samples.items() if v},
            {m: np.asarray(v, np.int64) for m, v in places.items() if v},
            present,
            targets,
            origin,
        )

    def _draw_time(self, rng: np.random.Generator) -> tuple[int, int]:
        """Number of a recording and t, uniform over all labelled time."""
        at = rng.random() * self._share[-1]
        k = min(int(np.searchsorted(self._share, at, side="right")), len(self._recordings) - 1)
        return k, to_ns(self._recordings[k].time_at(rng.random()))

    def _draw_samples(
        self, recording: Recording, t_ns: int, kept: npt.NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[int, dict[str, npt.NDArray[np.int64]]]:
        """Draw the sensors and fill the slots.

        :return: t (moved to a frame's stamp where the draw says so), and per modality (slots,) sample index
            (audio: stamp) or -1.
        """
        keep = dict(zip(self._specs, kept, strict=True))
        frames = self._camera(recording, t_ns, rng)
        s = self._config.sensors
        if len(frames) and rng.random() < s.snap_p:
            stamp = int(recording.stamps["video"][frames[-1]])
            if recording.interval_at(np.array([stamp / 1e9]))[0] >= 0:
                t_ns = stamp
        chosen: dict[str, npt.NDArray[np.int64]] = {}
        for m, spec in self._specs.items():
            if m == "audio":
                phase = int(rng.integers(spec.spacing_ns)) if s.audio_phase else 0
                until = t_ns - int(1e9 * s.audio_lag_s * rng.random())
                stamps = audio_stamps(
                    recording, spec, self._config.audio.context, phase_ns=phase, until_ns=until, horizon=spec.slots + 2
                )
                index = stamps
            elif m == "flow":
                index, stamps = self._flow(recording, frames, t_ns, spec, rng)
            else:
                index, stamps = frames, recording.stamps["video"][frames] if len(frames) else frames
            if m != "audio":
                stamps = self._jitter(stamps, t_ns, rng)
            where = assign_slots(stamps, t_ns, spec)
            slots = np.where(where >= 0, index[where] if len(index) else -1, -1)
            chosen[m] = np.where(keep[m] & self._runs.draw(spec.slots, rng), slots, -1)
        if not any((v >= 0).any() for v in chosen.values()):  # nothing left: a window without token teaches nothing
            return self._draw_samples(recording, to_ns(recording.time_at(rng.random())), kept | True, rng)
        for m, slots in chosen.items():
            chosen[m] = np.where(self._subset.draw(slots >= 0, rng), slots, -1)
        return t_ns, chosen

    def _camera(self, recording: Recording, t_ns: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Indexes of the frames that the window's camera delivered up to t."""
        if "video" not in recording.stamps:
            return np.zeros(0, np.int64)
        s = self._config.sensors
        stamps = recording.stamps["video"]
        low, high = np.searchsorted(stamps, [t_ns - self._horizon_ns(), t_ns], side="right")
        divisor = int(rng.choice(s.rate_divisors, p=s.rate_weights))
        frames = np.arange(low + int(rng.integers(divisor)), high, divisor)
        if rng.random() < s.loss_p:
            frames = frames[rng.random(len(frames)) >= s.loss_max * rng.random()]
        return frames

    def _flow(
        self, recording: Recording, frames: npt.NDArray[np.int64], t_ns: int, spec: SlotSpec, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Indexes and stamps of the flow fields: those of the delivered frames, or, one time in five, all."""
        if "flow" not in recording.stamps:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        stamps = recording.stamps["flow"]
        low, high = np.searchsorted(stamps, [t_ns - self._horizon_ns(), t_ns], side="right")
        index = np.arange(low, high)
        if len(frames) and rng.random() < 0.8:
            index = index[np.isin(stamps[low:high], recording.stamps["video"][frames])]
        return index, stamps[index]

    def _jitter(self, stamps: npt.NDArray[np.int64], t_ns: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """The stamps with errors, in order and not beyond t (the newest frame may be the one that says t)."""
        sigma = self._config.sensors.jitter_s
        noise = np.clip(rng.normal(0, sigma, len(stamps)), -2 * sigma, 2 * sigma) * 1e9
        return np.sort(np.minimum(stamps + noise.astype(np.int64), t_ns))

    def _horizon_ns(self) -> int:
        """How far back any slot reaches."""
        return max(s.delay_ns + s.slots * s.spacing_ns for s in self._specs.values())
