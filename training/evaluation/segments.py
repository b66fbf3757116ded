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

BATCH = 16  # windows encoded at a time
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
    asked = [(r, i, t) for r in recordings for i in range(len(r.starts)) for t in _times_ns(r, i, clips)]
    views = [(*question, look) for question in asked for look in looks]
    count = -(-len(views) // BATCH)
    sums: dict[str, dict[str, list[Floats]]] = {subset: {} for subset in subsets}
    threads = loader_threads(recordings, 0)
    batches = prefetch(lambda n: _read(predictor, views[n * BATCH : (n + 1) * BATCH]), 0, count, threads=threads)
    with progress_bar(console or Console(quiet=True)) as bar:
        task = bar.add_task("predicting actions", total=count, note="")
        for batch in batches:
            tokens, present = _encode(predictor, batch)
            for subset in subsets:
                for head, values in _fuse(predictor, tokens, present, subset.split("+")).items():
                    sums[subset].setdefault(head, []).append(values)
            bar.advance(task)
    names = [(r.ids[i], r.targets[i]) for r in recordings for i in range(len(r.starts))]
    return {
        subset: SegmentLogits(
            [name for name, _ in names],
            {head: _mean(np.concatenate(parts), len(names)) for head, parts in heads.items()},
            np.array([target for _, target in names], np.int64).reshape(len(names), len(predictor.labels.heads)),
        )
        for subset, heads in sums.items()
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


def _read(predictor: Predictor, views: Sequence[tuple[Recording, int, int, Look | None]]) -> _Batch:
    rng = np.random.default_rng(0)  # unused: these looks add no noise
    samples: dict[str, list[npt.NDArray[Any]]] = {m: [] for m in predictor.specs}
    filled: dict[str, list[npt.NDArray[np.bool_]]] = {m: [] for m in predictor.specs}
    for recording, _, t_ns, look in views:
        for m, spec in predictor.specs.items():
            slots = _slots(recording, m, t_ns, spec, predictor.contexts[m])
            there = slots >= 0
            which, context = slots[there], predictor.contexts[m]
            try:
                if look is None and len(which):
                    samples[m].append(recording.samples(m, which, context))
                elif look is not None and len(which):
                    samples[m].append(look.samples(recording, m, which, context, rng))
            except MediaError as error:  # damaged over a while: the window is without
                warn_of_damage(error, "predicted without it")
                there = np.zeros_like(there)
            filled[m].append(there)
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


def _mean(logits: Floats, count: int) -> Floats:
    """Average over the times and crops of each action, of those that saw anything.  (count * k, C) -> (count, C)"""
    parts = logits.reshape(count, -1, logits.shape[1])
    there = np.isfinite(parts[:, :, 0])
    total = np.where(there[..., None], parts, 0).sum(1)
    seen = there.sum(1, dtype=np.float32)
    seen[seen == 0] = np.nan
    return np.asarray(total / seen[:, None], np.float32)
