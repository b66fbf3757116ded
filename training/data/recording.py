# SPDX-License-Identifier: Apache-2.0
"""A recording: the samples of its sensors, their stamps, and what was done when. Where samples come from is for others
to say: the sample store (store.py)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from karmma_ros.clips import clip_positions
from karmma_ros.errors import UsageError
from karmma_ros.records import SETTLE_S
from karmma_training.data.labels import Labels

__all__ = ["Context", "Interval", "LabelledTime", "Recording", "Stamps", "disjoint"]

T = TypeVar("T")

Stamps = npt.NDArray[np.int64]
Interval = tuple[float | str, ...]  # start_s, stop_s, one class name per label head


@dataclass(frozen=True)
class Context:
    """What an extractor run sees: so many samples, the newest last; of sound, PCM samples."""

    count: int = 1
    step_ns: int = 0  # from one to the next; of sound 0: they are neighbours


class Recording(ABC):
    """One recording.

    name: for people; key: names what is kept of it, a path of two parts.
    modalities: what was recorded; stamps: {modality: (n,)} of the samples, ascending; audio has none (see
    `sound_start_ns`, `sound_stop_ns` and `rate`).
    starts, stops: (k,) s, labelled intervals in order, disjoint; targets: (k, heads) class indexes, -1 without a label;
    ids: (k) what a data set calls each, "" where it has no names for them.

    :param intervals: in any order; ids: in theirs.
    :param sound: stamp of the first PCM sample, and how many there are; None: no sound was recorded.
    :param rate: of the sound in Hz.
    """

    def __init__(
        self,
        name: str,
        key: str,
        labels: Labels,
        intervals: Sequence[Interval],
        *,
        stamps: Mapping[str, Stamps],
        sound: tuple[int, int] | None,
        rate: int,
        ids: Sequence[str] = (),
    ) -> None:
        self.name, self.key = name, key
        self.stamps = dict(stamps)
        self.rate = rate
        self.sound_start_ns, count = sound or (0, 0)
        self.sound_stop_ns = self.sound_start_ns + round(count * 1e9 / rate)  # end of the last PCM sample
        self.modalities = frozenset([*stamps, *(["audio"] if sound else [])])
        order = sorted(range(len(intervals)), key=lambda i: intervals[i])
        rows = [intervals[i] for i in order]
        self.ids = [ids[i] for i in order] if ids else [""] * len(rows)
        self.starts = np.asarray([r[0] for r in rows], np.float64)
        self.stops = np.asarray([r[1] for r in rows], np.float64)
        names = list(labels.heads.values())
        self.targets = np.full((len(rows), len(names)), -1, np.int64)
        for target, row in zip(self.targets, rows, strict=True):
            for head, word in enumerate(row[2:]):
                target[head] = names[head].index(str(word))

    decodes = False  # whether reading samples takes a core's time

    @abstractmethod
    def read(self, modality: str, which: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Samples as the network takes them: video (n, h, w, 3) uint8, flow (n, h, w, 2) floating, detections
        (n, boxes, 6) float32.

        :param which: (n,) indexes, in any order.
        """

    @abstractmethod
    def pcm(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """Mono PCM samples number `first` to `last` - 1, all of them recorded.  -> (last - first,)"""

    @property
    def end_s(self) -> float:
        """When the last sample of any modality was taken."""
        return max([self.sound_stop_ns, *(int(s[-1]) for s in self.stamps.values() if len(s))]) / 1e9

    @property
    def labelled_s(self) -> float:
        """Seconds of labelled time."""
        return float((self.stops - self.starts).sum())

    def time_at(self, share: float, interval: int = -1) -> float:
        """The time, in seconds, below which `share` of the labelled time lies; or of one interval."""
        if interval >= 0:
            start, stop = self.starts[interval], self.stops[interval]
            return float(np.clip(start + share * (stop - start), start + 1e-6, stop - 1e-6))
        spans = np.cumsum(self.stops - self.starts)
        at = share * spans[-1]
        k = min(int(np.searchsorted(spans, at, side="right")), len(spans) - 1)
        start, stop = self.starts[k], self.stops[k]
        # a microsecond inside, so that rounding to nanoseconds cannot leave the interval
        return float(np.clip(stop - (spans[k] - at), start + 1e-6, stop - 1e-6))

    def interval_at(self, times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Index of the interval that holds each time (half-open); -1 where nothing is labelled.  -> (n,)"""
        k = np.searchsorted(self.starts, times_s, side="right") - 1
        inside = (k >= 0) & (times_s < self.stops[np.maximum(k, 0)])
        return np.where(inside, k, -1).astype(np.int64)

    def settled(self, times_s: npt.NDArray[np.float64], margin_s: float = SETTLE_S) -> npt.NDArray[np.bool_]:
        """Whether the label is the same `margin_s` before and after; unlabelled time does not count as a change."""
        same = np.ones(len(times_s), bool)
        now = self.targets[self.interval_at(times_s)]
        for shift in (-margin_s, margin_s):
            k = self.interval_at(times_s + shift)
            same &= (k < 0) | (self.targets[k] == now).all(1)
        return same

    def sound(self, end_ns: int, n: int) -> npt.NDArray[np.float32]:
        """The n PCM samples that end at `end_ns`; the caller keeps within the recording.  -> (n,)"""
        last = round((end_ns - self.sound_start_ns) * self.rate / 1e9)
        return self.pcm(last - n, last)

    def samples(self, modality: str, which: npt.NDArray[np.int64], context: Context) -> npt.NDArray[Any]:
        """Samples in the shape of the extractor's graph input, copied.

        :param which: (n,) indexes; of sound the stamps at which chunks end.
        """
        if modality == "audio":
            return np.stack([self.sound(int(stamp), context.count) for stamp in which])
        clips = self.clips(modality, which, context)
        samples = self.read(modality, clips.ravel())
        return np.array(samples, np.uint8 if modality == "video" else np.float32).reshape(
            *clips.shape, *samples.shape[1:]
        )

    def clips(self, modality: str, which: npt.NDArray[np.int64], context: Context) -> npt.NDArray[np.int64]:
        """Indexes of the samples in the context of each, as online; see `karmma_ros.clips`.

        :param which: (n,) indexes of the newest.
        :return: (n, context.count)
        """
        return clip_positions(self.stamps[modality], which, context.count, context.step_ns)


def disjoint(items: Sequence[T], span: Callable[[T], tuple[float, float]]) -> list[list[T]]:
    """Overlapping intervals have two truths at one time: they are put into separate recordings of the same samples.

    :param items: in the order of their starts; span: start and stop of one.
    """
    layers: list[list[T]] = []
    for item in items:
        layer = next((layer for layer in layers if span(layer[-1])[1] <= span(item)[0]), None)
        if layer is None:
            layers.append([item])
        else:
            layer.append(item)
    return layers


class LabelledTime:
    """The labelled time of some recordings, to draw from uniformly.

    :param by: time: every second is as likely; actions: every labelled interval has its turn before any has another.
    :param modalities: recordings that have none of them are never drawn.
    :param seed: of the order in which actions have their turn.
    :raises UsageError: there is nothing to draw.
    """

    def __init__(self, recordings: Sequence[Recording], by: str, modalities: Iterable[str], seed: int = 0) -> None:
        self._by_action = by == "actions"
        self._seed = seed
        self._order = (-1, np.zeros(0, np.int64))  # of the actions in the pass under way, and which pass it is
        wanted = frozenset(modalities)
        sizes = [len(r.starts) if self._by_action else r.labelled_s for r in recordings]
        usable = [bool(r.modalities & wanted) for r in recordings]
        self._until = np.cumsum(np.array(sizes, np.float64) * usable)
        if not len(self._until) or not self._until[-1]:
            raise UsageError(f"nothing to train on: no labelled recording has {' or '.join(sorted(wanted))}")

    def draw(self, rng: np.random.Generator, turn: int | None = None) -> tuple[int, int]:
        """Number of the recording that holds a random moment, and which interval of it, -1 for any.

        :param turn: how many were drawn before, which decides whose turn it is; None: any action, as likely as another.
        """
        if self._by_action and turn is not None:
            at = self._whose_turn(turn) + 0.5
        else:
            at = min(rng.random() * self._until[-1], np.nextafter(self._until[-1], 0))
        number = int(np.searchsorted(self._until, at, side="right"))
        if not self._by_action:
            return number, -1
        before = self._until[number - 1] if number else 0
        return number, int(min(at, self._until[-1] - 0.5) - before)

    def _whose_turn(self, turn: int) -> int:
        """Actions are shuffled anew for every pass over them; the same for every process."""
        count = int(self._until[-1])
        number, place = divmod(turn, count)
        passed, order = self._order  # one tuple: several threads draw
        if passed != number:
            order = np.random.default_rng([self._seed, number]).permutation(count)
            self._order = (number, order)
        return int(order[place])
