# SPDX-License-Identifier: Apache-2.0
"""One prediction per annotated action, as data sets of trimmed clips count: logits averaged over times and crops.

Times are spread evenly over the action, and each sees the window that ends with it, as online. Only the samples of
those windows are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from karmma_ros.errors import MediaError
from karmma_ros.window import SlotSpec
from karmma_training.data.augment import Look, plain_look
from karmma_training.data.damage import warn_of_damage
from karmma_training.data.grid import audio_stamps, fill_slots
from karmma_training.data.prefetch import loader_threads, prefetch
from karmma_training.data.recording import Context, Recording
from karmma_training.evaluation.predictor import Predictor
from karmma_training.progress import progress_bar

__all__ = ["SegmentLogits", "crop_looks", "join_segments", "predict_segments"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

BATCH = 16  # windows encoded at a time; all crops of a time are among them
ZOOM = 1.15  # of each of several crops: left, middle and right of the image


@dataclass(frozen=True)
class SegmentLogits:
    """Predictions for n annotated actions with some modalities.

    ids: (n) what the data set calls them; logits: {head: (n, C)}, NaN where there was no sample; targets: (n, heads).
    """

    ids: list[str]
    logits: dict[str, Floats]
    targets: Ints

    def arrays(self) -> tuple[dict[str, Floats], Ints, npt.NDArray[np.bool_]]:
        """See Answers; within an annotated action nothing changes."""
        return self.logits, self.targets, np.ones(len(self.targets), bool)


def crop_looks(crops: int) -> list[Look | None]:
    """How a window is looked at: as it is (None), or zoomed at several places from left to right.

    :param crops: how many, at least 1.
    """
    if crops == 1:
        return [None]
    reach = (ZOOM - 1) / 2
    return [plain_look(scale=ZOOM, shift=(float(x), 0.0)) for x in np.linspace(reach, -reach, crops)]


def predict_segments(
    predictor: Predictor,
    recordings: Sequence[Recording],
    *,
    clips: int = 1,
    crops: int = 1,
    subsets: Sequence[str] | None = None,
    console: Console | None = None,
) -> dict[str, SegmentLogits]:
    """Predict every annotated action.

    :param clips: times per action; crops: of each.
    :param subsets: modalities that are present, as in "video+audio"; None: all of the model's.
    :param console: for a progress bar.
    :return: {subset: predictions}
    """
    subsets = ["+".join(predictor.specs)] if subsets is None else subsets
    looks = crop_looks(crops)
    asked = [(r, t) for r in recordings for i in range(len(r.starts)) for t in _times_ns(r, i, clips)]
    together = max(1, BATCH // len(looks))  # times: what one of them needs is read once for all of its crops
    count = -(-len(asked) // together)
    names = [(r.ids[i], r.targets[i]) for r in recordings for i in range(len(r.starts))]
    sums = {subset: _Sums(len(names), clips * len(looks)) for subset in subsets}
    threads = loader_threads(recordings, 0)
    batches = prefetch(
        lambda n: _read(predictor, asked[n * together : (n + 1) * together], looks), 0, count, threads=threads
    )
    with progress_bar(console or Console(quiet=True)) as bar:
        task = bar.add_task("predicting actions", total=count, note="")
        for batch in batches:
            tokens, present = _encode(predictor, batch)
            for subset in subsets:
                sums[subset].add(_fuse(predictor, tokens, present, subset.split("+")))
            bar.advance(task)
    return {
        subset: SegmentLogits(
            [name for name, _ in names],
            total.means(),
            np.array([target for _, target in names], np.int64).reshape(len(names), len(predictor.labels.heads)),
        )
        for subset, total in sums.items()
    }


def join_segments(parts: Sequence[Mapping[str, SegmentLogits]]) -> dict[str, SegmentLogits]:
    """Predictions for several sets of recordings, some of which may be empty, as those for all of them."""
    parts = [part for part in parts if next(iter(part.values())).ids] or list(parts[:1])
    return {
        subset: SegmentLogits(
            [name for part in parts for name in part[subset].ids],
            {head: np.concatenate([part[subset].logits[head] for part in parts]) for head in first.logits},
            np.concatenate([part[subset].targets for part in parts]),
        )
        for subset, first in parts[0].items()
    }


def _times_ns(recording: Recording, interval: int, clips: int) -> list[int]:
    start, stop = recording.starts[interval], recording.stops[interval]
    return [round((start + (i + 0.5) / clips * (stop - start)) * 1e9) for i in range(clips)]


@dataclass(frozen=True)
class _Batch:
    """Samples of B windows: {m: (n, ...)}, and the slots (B, S) that they fill."""

    samples: dict[str, npt.NDArray[Any]]
    filled: dict[str, npt.NDArray[np.bool_]]


def _read(predictor: Predictor, asked: Sequence[tuple[Recording, int]], looks: Sequence[Look | None]) -> _Batch:
    """Every look at every time, in this order."""
    rng = np.random.default_rng(0)  # unused: these looks add no noise
    samples: dict[str, list[npt.NDArray[Any]]] = {m: [] for m in predictor.specs}
    filled: dict[str, list[npt.NDArray[np.bool_]]] = {m: [] for m in predictor.specs}
    for recording, t_ns in asked:
        for m, spec in predictor.specs.items():
            slots = _slots(recording, m, t_ns, spec, predictor.contexts[m])
            there = slots >= 0
            which, context = slots[there], predictor.contexts[m]
            try:
                if len(which):
                    read = recording.samples(m, which, context)
                    samples[m] += [read if look is None else look.changed(m, read, rng) for look in looks]
            except MediaError as error:  # damaged over a while: the window is without
                warn_of_damage(error, "predicted without it")
                there = np.zeros_like(there)
            filled[m] += [there] * len(looks)
    return _Batch({m: np.concatenate(v) for m, v in samples.items() if v}, {m: np.stack(v) for m, v in filled.items()})


def _slots(recording: Recording, modality: str, t_ns: int, spec: SlotSpec, context: Context) -> Ints:
    """What fills the slots of a window, as `Recording.samples` takes it; -1 where there is nothing.  -> (S,)"""
    if modality == "audio":
        stamps = audio_stamps(recording, spec, context, until_ns=t_ns, horizon=spec.slots + 2)
        index = stamps
    elif modality in recording.stamps:
        horizon = spec.delay_ns + spec.slots * spec.spacing_ns
        low, high = np.searchsorted(recording.stamps[modality], [t_ns - horizon, t_ns], side="right")
        index = np.arange(low, high)
        stamps = recording.stamps[modality][index]
    else:
        index = stamps = np.zeros(0, np.int64)
    return fill_slots(index, stamps, t_ns, spec)


def _encode(predictor: Predictor, batch: _Batch) -> tuple[dict[str, Floats], dict[str, npt.NDArray[np.bool_]]]:
    tokens, present = {}, {}
    for m, spec in predictor.specs.items():
        filled = batch.filled[m]
        window = np.zeros((*filled.shape, spec.tokens, spec.dim), np.float32)
        if m in batch.samples:
            window[filled] = predictor.encode(m, batch.samples[m])
        tokens[m] = window.reshape(len(filled), spec.slots * spec.tokens, spec.dim)
        present[m] = np.repeat(filled, spec.tokens, 1)
    return tokens, present


def _fuse(
    predictor: Predictor,
    tokens: Mapping[str, Floats],
    present: Mapping[str, npt.NDArray[np.bool_]],
    chosen: Sequence[str],
) -> dict[str, Floats]:
    seen = {m: p if m in chosen else np.zeros_like(p) for m, p in present.items()}
    logits = {head: np.array(values) for head, values in predictor.fuse(dict(tokens), seen).items()}
    empty = ~np.concatenate(list(seen.values()), 1).any(1)
    for values in logits.values():
        values[empty] = np.nan
    return logits


class _Sums:
    """Logits of actions, averaged over the times and crops of each that saw anything, without keeping them.

    :param actions: how many; views: times and crops of each, which come one after the other.
    """

    def __init__(self, actions: int, views: int) -> None:
        self._actions, self._views = actions, views
        self._added = 0
        self._totals: dict[str, Floats] = {}
        self._seen: dict[str, Floats] = {}

    def add(self, logits: Mapping[str, Floats]) -> None:
        """The next B views: {head: (B, C)}, NaN where a view saw nothing."""
        count = len(next(iter(logits.values())))
        action = np.arange(self._added, self._added + count) // self._views
        self._added += count
        for head, values in logits.items():
            if head not in self._totals:
                self._totals[head] = np.zeros((self._actions, values.shape[1]), np.float32)
                self._seen[head] = np.zeros((self._actions, 1), np.float32)
            there = np.isfinite(values[:, 0])
            np.add.at(self._totals[head], action[there], values[there])
            np.add.at(self._seen[head], action[there], 1)

    def means(self) -> dict[str, Floats]:
        """{head: (actions, C)}, NaN where no view saw anything."""
        seen = {head: np.where(count > 0, count, np.nan) for head, count in self._seen.items()}
        return {head: np.asarray(total / seen[head], np.float32) for head, total in self._totals.items()}
