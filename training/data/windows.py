# SPDX-License-Identifier: Apache-2.0
"""Training windows, drawn as the robot sees them.

t is uniform over the labelled time of continuous recordings (idle included), or the stamp of a frame near it; the label
is the truth at t. The samples that fill the slots are chosen by `karmma_ros.window.assign_slots`, the same function as
online, after the sensors of the window have been drawn: frame rate and phase, jitter of the stamps, lost frames, phase
of the audio grid. Row `row` of batch `step` of a seed is always the same window, which is what makes resuming exact and
lets processes share a batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import MediaError, UsageError
from karmma_ros.window import to_ns
from karmma_training.config import Config
from karmma_training.data.augment import Look, draw_look
from karmma_training.data.damage import DamageLog
from karmma_training.data.dropout import ModalityDropout, SlotSubset, TokenRunDropout
from karmma_training.data.features import FeatureCache
from karmma_training.data.grid import audio_stamps, contexts, fill_slots, frames_of, phases_ns, slot_specs
from karmma_training.data.recording import Context, LabelledTime, Recording

__all__ = ["Window", "WindowBatch", "WindowSampler"]

Ints = npt.NDArray[np.int64]
_Samples = dict[str, npt.NDArray[Any]]  # of a window, by modality

_MOMENTS, _TRIES = 100, 20  # recordings drawn, and times in each, until one has samples


@dataclass(frozen=True)
class Window:
    """One drawn window.

    number: of the recording; t_ns: the time asked about; slots: {m: (S,)} what fills each slot, the index of the
    sample (of sound: the stamp of the chunk), -1 where it stays empty; beside: the same in a teacher's own layout.
    """

    number: int
    t_ns: int
    slots: dict[str, Ints]
    beside: dict[str, Ints]


@dataclass(frozen=True)
class WindowBatch:
    """B windows; only the samples that are present, in one flat array per modality.

    samples: video (n, context, h, w, 3) uint8, flow (n, context, h, w, 2) float32, audio (n, context) float32,
        detections (n, context, boxes, 6) float32
    features: (n, N, D) float16, the tokens that frozen extractors made of the same samples
    places: (n,) row * slots + slot of each sample
    present: (B, slots) which slots hold a sample
    targets: (B, heads) class indexes
    origin: (B, 2) number of the recording, t in nanoseconds
    beside: the same windows in the layout of a teacher that sees other samples, without features
    """

    samples: dict[str, npt.NDArray[Any]]
    features: dict[str, npt.NDArray[np.float16]]
    places: dict[str, Ints]
    present: dict[str, npt.NDArray[np.bool_]]
    targets: Ints
    origin: Ints
    beside: WindowBatch | None = None


class WindowSampler:
    """Draws batches of windows from recordings.

    :param samples: whether batches carry samples, which are augmented.
    :param features: tokens of frozen extractors that batches carry too, of the samples as they are. Whatever a batch
        carries, what its windows lack is the same.
    :param beside: the configuration of a teacher whose slots or contexts are others: batches carry its windows too, of
        the same moments, without the same modalities, seen with the same look.
    """

    def __init__(
        self,
        recordings: list[Recording],
        config: Config,
        *,
        batch: int,
        seed: int,
        samples: bool = True,
        features: FeatureCache | None = None,
        beside: Config | None = None,
    ) -> None:
        self._recordings = recordings
        self._config = config
        self._batch = batch
        self._seed = seed
        self._samples, self._features = samples, features
        self._damage = DamageLog("no window is drawn there")
        self._specs, self._contexts = slot_specs(config), contexts(config)
        self._beside = {m: s for m, s in slot_specs(beside).items() if m in self._specs} if beside else {}
        self._beside_contexts = contexts(beside) if beside else {}
        self._time = LabelledTime(recordings, config.data.draw, self._specs, seed)
        self._modality_dropout = ModalityDropout(config.dropout.modality_p)
        self._runs = TokenRunDropout(config.dropout.runs_p)
        d = config.dropout
        self._subset = SlotSubset(d.full_share, d.encode_min, d.encode_max)

    def batch(self, step: int, rows: Iterable[int] | None = None) -> WindowBatch:
        """Batch number `step`, or some of its rows; depends on nothing but the seed and the numbers."""
        windows: list[Window] = []
        samples: dict[str, list[npt.NDArray[Any]]] = {m: [] for m in self._specs}
        features: dict[str, list[npt.NDArray[np.float16]]] = {m: [] for m in self._specs}
        others: dict[str, list[npt.NDArray[Any]]] = {m: [] for m in self._beside}
        for row in range(self._batch) if rows is None else rows:
            window, own_samples, other_samples = self._read(step, row)
            windows.append(window)
            for m, slots in window.slots.items():
                if self._features is not None and (slots >= 0).any():
                    features[m].append(self._features.tokens(window.number, m, slots[slots >= 0]))
            for all_of, of_window in ((samples, own_samples), (others, other_samples)):
                for m, values in of_window.items():
                    all_of[m].append(values)
        targets = np.stack([self._target(w) for w in windows])
        origin = np.asarray([(w.number, w.t_ns) for w in windows], np.int64)
        own = _Parts.of([w.slots for w in windows], samples)
        beside = None
        if self._beside:
            parts = _Parts.of([w.beside for w in windows], others)
            beside = WindowBatch(parts.samples, {}, parts.places, parts.present, targets, origin)
        tokens = {m: np.concatenate(v) for m, v in features.items() if v}
        return WindowBatch(own.samples, tokens, own.places, own.present, targets, origin, beside)

    def _target(self, window: Window) -> Ints:
        recording = self._recordings[window.number]
        target: Ints = recording.targets[recording.interval_at(np.array([window.t_ns / 1e9]))[0]]
        return target

    def _read(self, step: int, row: int) -> tuple[Window, _Samples, _Samples]:
        """A window, its samples and those of the teacher's layout; another window where samples are damaged."""
        for attempt in range(_TRIES):
            rng = np.random.default_rng([self._seed, step, row, *([attempt] if attempt else [])])
            window = self._draw(rng, None if attempt else step * self._batch + row)
            if not self._samples:
                return window, {}, {}
            look = draw_look(self._config.augment, rng)
            try:
                own = self._augmented(window.number, window.slots, self._contexts, look, rng)
                return window, own, self._augmented(window.number, window.beside, self._beside_contexts, look, rng)
            except MediaError as error:
                self._damage.tell(window.number, error)
        raise UsageError(f"hardly any window can be read, {self._recordings[window.number].name} for one")

    def _augmented(
        self,
        number: int,
        slots: dict[str, Ints],
        contexts: dict[str, Context],
        look: Look,
        rng: np.random.Generator,
    ) -> _Samples:
        """A window's samples, all seen with one look."""
        recording = self._recordings[number]
        return {
            m: look.samples(recording, m, which[which >= 0], contexts[m], rng)
            for m, which in slots.items()
            if (which >= 0).any()
        }

    def _draw(self, rng: np.random.Generator, turn: int | None) -> Window:
        """A window with at least one token: t uniform over all labelled time, or within the action of that turn."""
        for attempt in range(_MOMENTS):
            number, interval = self._time.draw(rng, None if attempt else turn)
            recording = self._recordings[number]
            recorded = np.array([[m in recording.modalities for m in self._specs]])
            kept = self._modality_dropout.draw(recorded, rng)[0]
            for _ in range(_TRIES):
                t_ns = to_ns(recording.time_at(rng.random(), interval))
                t_ns, slots, beside = self._draw_samples(recording, t_ns, kept, rng)
                if any((v >= 0).any() for v in slots.values()):
                    return Window(number, t_ns, slots, beside)
                kept |= True  # nothing left: a window without token teaches nothing
        raise UsageError(f"hardly any labelled moment has samples of {', '.join(self._specs)} in the window before it")

    def _draw_samples(
        self, recording: Recording, t_ns: int, kept: npt.NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[int, dict[str, Ints], dict[str, Ints]]:
        """Draw the sensors and fill the slots.

        :return: t (moved to a frame's stamp where the draw says so), what fills the slots, and those of the teacher.
        """
        keep = dict(zip(self._specs, kept, strict=True))
        frames = self._camera(recording, t_ns, rng)
        s = self._config.sensors
        if len(frames) and rng.random() < s.snap_p:
            stamp = int(recording.stamps["video"][frames[-1]])
            if recording.interval_at(np.array([stamp / 1e9]))[0] >= 0:
                t_ns = stamp
        chosen: dict[str, Ints] = {}
        others: dict[str, Ints] = {}
        for m, spec in self._specs.items():
            if m == "audio":
                phase = int(rng.choice(phases_ns(spec))) if s.audio_phase else 0
                until = t_ns - int(1e9 * s.audio_lag_s * rng.random())
                stamps = audio_stamps(
                    recording, spec, self._contexts[m], phase_ns=phase, until_ns=until, horizon=spec.slots + 2
                )
                index = stamps
                if m in self._beside:
                    other, context = self._beside[m], self._beside_contexts[m]
                    heard = audio_stamps(
                        recording, other, context, phase_ns=phase, until_ns=until, horizon=other.slots + 2
                    )
                    others[m] = fill_slots(heard, heard, t_ns, other)
            elif m in ("flow", "detections"):
                index, stamps = self._of_frames(recording, m, frames, t_ns, rng)
            else:
                index, stamps = frames, recording.stamps["video"][frames] if len(frames) else frames
            if m != "audio":
                stamps = self._jitter(stamps, t_ns, rng)
                if m in self._beside:
                    others[m] = fill_slots(index, stamps, t_ns, self._beside[m])
            slots = fill_slots(index, stamps, t_ns, spec)
            slots = np.where(keep[m] & self._runs.draw(spec.slots, rng), slots, -1)
            chosen[m] = np.where(self._subset.draw(slots >= 0, rng), slots, -1)
            if m in others and not keep[m]:
                others[m] = np.full_like(others[m], -1)
        return t_ns, chosen, others

    def _camera(self, recording: Recording, t_ns: int, rng: np.random.Generator) -> Ints:
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

    def _of_frames(
        self, recording: Recording, modality: str, frames: Ints, t_ns: int, rng: np.random.Generator
    ) -> tuple[Ints, Ints]:
        """Indexes and stamps of what is made of frames: of those that were delivered, or, one time in five, of all.

        What belongs to no frame comes from a sensor of its own, and stays.
        """
        if modality not in recording.stamps:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        stamps = recording.stamps[modality]
        low, high = np.searchsorted(stamps, [t_ns - self._horizon_ns(), t_ns], side="right")
        index = np.arange(low, high)
        if len(frames) and rng.random() < 0.8:
            made_of = frames_of(stamps[low:high], recording.stamps["video"])
            index = index[(made_of < 0) | _delivered(made_of, frames)]
        return index, stamps[index]

    def _jitter(self, stamps: Ints, t_ns: int, rng: np.random.Generator) -> Ints:
        """The stamps with errors, in order and not beyond t (the newest frame may be the one that says t)."""
        sigma = self._config.sensors.jitter_s
        noise = np.clip(rng.normal(0, sigma, len(stamps)), -2 * sigma, 2 * sigma) * 1e9
        return np.sort(np.minimum(stamps + noise.astype(np.int64), t_ns))

    def _horizon_ns(self) -> int:
        """How far back any slot reaches."""
        specs = [*self._specs.values(), *self._beside.values()]
        return max(s.delay_ns + s.slots * s.spacing_ns for s in specs)


def _delivered(made_of: Ints, frames: Ints) -> npt.NDArray[np.bool_]:
    """Whether the frame that something was made of was delivered; where only every n-th frame has a field, whether one
    within half of that was: a camera that keeps every other frame would otherwise lose all fields, or none."""
    own = made_of[made_of >= 0]
    reach = int(np.median(np.diff(own))) // 2 if len(own) > 1 else 0
    after = np.minimum(np.searchsorted(frames, made_of), len(frames) - 1)
    before = np.maximum(after - 1, 0)
    away = np.minimum(np.abs(frames[after] - made_of), np.abs(frames[before] - made_of))
    return np.asarray(away <= reach)


@dataclass(frozen=True)
class _Parts:
    """Some windows in one layout; see WindowBatch."""

    samples: dict[str, npt.NDArray[Any]]
    places: dict[str, Ints]
    present: dict[str, npt.NDArray[np.bool_]]

    @classmethod
    def of(cls, windows: list[dict[str, Ints]], samples: dict[str, list[npt.NDArray[Any]]]) -> _Parts:
        present = {m: np.stack([slots[m] >= 0 for slots in windows]) for m in windows[0]}
        places = {m: np.flatnonzero(here).astype(np.int64) for m, here in present.items()}
        return cls(
            {m: np.concatenate(v) for m, v in samples.items() if v},
            {m: where for m, where in places.items() if len(where)},
            present,
        )
