# SPDX-License-Identifier: Apache-2.0
"""Labelled bags as a data set: the rows of a `manifest.csv`, and which of them train, validate and test."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from karmma_ros.bags.extract import Extracted
from karmma_ros.bags.intervals import BagIntervals, Interval
from karmma_ros.files import whole_file

__all__ = ["SPLITS", "Labelled", "outside", "recorded", "split_by_bag", "split_by_time", "write_rows"]

SPLITS = ("train", "val", "test")
_SLACK_S = 1.0  # a person may end the last interval a little after the recording
_SHORTEST_S = 0.1  # a piece of an interval that is cut at the border of two splits, or of what was recorded
_HEARD = 0.5  # share of an interval that has to have sound for it to have that modality


@dataclass(frozen=True)
class Labelled:
    """An interval with its split."""

    bag: str
    split: str
    interval: Interval


def outside(name: str, intervals: BagIntervals, duration_s: float) -> list[str]:
    """What is wrong with intervals that do not lie within their bag, with row and column."""
    faults = []
    for row in intervals.rows:
        if row.start_s < -_SLACK_S:
            faults.append(f"row {row.line}, start_s: {-row.start_s:.1f} s before the first picture of bag {name}")
        if row.stop_s > duration_s + _SLACK_S:
            text = f"{row.stop_s:.1f} s is after the end of bag {name}, {duration_s:.1f} s"
            faults.append(f"row {row.line}, stop_s: {text}")
    return faults


def recorded(intervals: BagIntervals, made: Extracted, late_s: float) -> tuple[BagIntervals, list[Interval]]:
    """What of a bag's intervals lies within its files, in their time; and the intervals of which less than 0.1 s does.

    :param late_s: when the files start, in the intervals' time.
    """
    within, lost = [], []
    for row in intervals.rows:
        begin_s, end_s = row.start_s - late_s, row.stop_s - late_s
        start_s, stop_s = max(0.0, begin_s), min(end_s, made.stop_s)
        if stop_s - start_s >= min(_SHORTEST_S, end_s - begin_s):
            within.append(replace(row, start_s=start_s, stop_s=stop_s))
        else:
            lost.append(row)
    return BagIntervals(within), lost


def split_by_bag(labelled: Mapping[str, BagIntervals], shares: tuple[float, float, float], seed: int) -> list[Labelled]:
    """Every bag goes to one split, drawn by the seed; train, then val, then test get at least one, if wanted.

    :param shares: of the bags.
    """
    names = sorted(labelled)
    order = np.random.default_rng(seed).permutation(len(names))
    wanted = [place for place, share in enumerate(shares) if share > 0]
    counts = np.zeros(3, int)
    counts[wanted[: len(names)]] = 1
    for _ in range(len(names) - int(counts.sum())):  # the next bag goes where the most is missing
        counts[int(np.argmax(np.array(shares) / sum(shares) * len(names) - counts))] += 1
    splits = np.repeat(SPLITS, counts)
    of_bag = {names[place]: str(split) for place, split in zip(order, splits, strict=True)}
    return [Labelled(name, of_bag[name], row) for name, rows in labelled.items() for row in rows.rows]


def split_by_time(labelled: Mapping[str, BagIntervals], shares: tuple[float, float, float]) -> list[Labelled]:
    """The first part of each bag's labelled time trains, the next validates, the last tests.

    An interval in which that changes is cut there.
    """
    made = []
    for name, intervals in labelled.items():
        total_s = sum(row.stop_s - row.start_s for row in intervals.rows)
        ends_s = np.cumsum(shares) / sum(shares) * total_s
        done_s = 0.0
        for row in intervals.rows:
            length_s = row.stop_s - row.start_s
            for place, split in enumerate(SPLITS):
                begin_s = max(0.0, (ends_s[place - 1] if place else 0.0) - done_s)
                end_s = min(length_s, ends_s[place] - done_s)
                if end_s - begin_s >= min(_SHORTEST_S, length_s):
                    piece = replace(row, start_s=row.start_s + float(begin_s), stop_s=row.start_s + float(end_s))
                    made.append(Labelled(name, split, piece))
            done_s += length_s
    return made


def write_rows(
    path: Path, rows: Sequence[Labelled], media: Mapping[str, Extracted], folder: str, heads: Sequence[str]
) -> int:
    """Writes the CSV; the number of its rows.

    A row has the sound of its bag only where at least half of it was recorded.

    :param rows: in the files' time, and within it (see `recorded`).
    :param media: bag -> its files, in `folder` beside the CSV.
    :param heads: the columns of the labels.
    :raises OSError: it cannot be written.
    """
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("clip_id", "split", "video", "flow", "audio", "start_s", "stop_s", *heads))
        for number, row in enumerate(rows):
            made = media[row.bag]
            start_s, stop_s = row.interval.start_s, row.interval.stop_s
            names = dict(made.files)
            if made.heard_share(start_s, stop_s) < _HEARD:
                names.pop("audio", None)
            cells = [f"{folder}/{names[m]}" if m in names else "" for m in ("video", "flow", "audio")]
            times = (round(start_s, 6), round(stop_s, 6))
            writer.writerow((f"{row.bag}-{number:04d}", row.split, *cells, *times, *row.interval.names))
    return len(rows)
