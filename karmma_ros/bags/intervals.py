# SPDX-License-Identifier: Apache-2.0
"""What a person says was done in a recording, and when: `intervals.csv`.

Columns `start_s, stop_s` and `verb, noun` (or `action`); with several bags also `bag`, the bag's name. Times are
seconds from the bag's first camera stamp (without a camera: its first stamp), or seconds since the epoch. Time outside
all intervals is not labelled: label idle time (`idle`, `none`) where it should count.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from karmma_ros.errors import UsageError
from karmma_ros.manifest import action_name

__all__ = ["BagIntervals", "Interval", "Intervals", "read_intervals"]

_EPOCH_S = 1e8  # [s] a later start is a time since the epoch: no bag lasts three years
_SHOWN = 20  # faults listed before "and n more"


@dataclass(frozen=True)
class Interval:
    """A labelled stretch [start_s, stop_s). `names`: (verb, noun) or (action,); `line` of the file."""

    line: int
    bag: str
    start_s: float
    stop_s: float
    names: tuple[str, ...]

    @property
    def action(self) -> str:
        """The action's name, as bundles name theirs."""
        return action_name(*self.names)


@dataclass(frozen=True)
class Intervals:
    """The intervals of a file, ordered by time within each bag. `heads`: ("verb", "noun") or ("action",)."""

    path: Path
    heads: tuple[str, ...]
    rows: tuple[Interval, ...]

    def of(self, bag: str, origin_ns: int) -> BagIntervals:
        """Those of one bag, in seconds from `origin_ns`; without a column `bag`, all."""
        rows = [row for row in self.rows if row.bag in ("", bag)]
        origin_s = origin_ns / 1e9
        relative = [
            replace(row, start_s=row.start_s - origin_s, stop_s=row.stop_s - origin_s)
            if row.start_s >= _EPOCH_S
            else row
            for row in rows
        ]
        return BagIntervals(sorted(relative, key=lambda row: row.start_s))


class BagIntervals:
    """The intervals of one bag, in order and disjoint."""

    def __init__(self, rows: Sequence[Interval]) -> None:
        self.rows = rows
        self._starts = [row.start_s for row in rows]

    def at(self, t_s: float) -> Interval | None:
        """The interval that holds a moment."""
        place = bisect_right(self._starts, t_s) - 1
        return self.rows[place] if place >= 0 and t_s < self.rows[place].stop_s else None

    def settled(self, t_s: float, margin_s: float) -> bool:
        """Whether nothing changes within `margin_s`; unlabelled time is no change."""
        here = self.at(t_s)
        first = max(bisect_right(self._starts, t_s - margin_s) - 1, 0)
        last = bisect_right(self._starts, t_s + margin_s)
        around = (row for row in self.rows[first:last] if row.stop_s > t_s - margin_s)
        return here is not None and all(row.names == here.names for row in around)


def read_intervals(path: Path, bags: Collection[str]) -> Intervals:
    """Reads and checks the file.

    :param bags: names of the bags that are asked about; rows about others are left out.
    :raises UsageError: every fault of the file at once, with row and column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    heads = ("verb", "noun") if {"verb", "noun"} <= set(columns) else ("action",)
    missing = [name for name in ("start_s", "stop_s", *heads) if name not in columns]
    if len(bags) > 1 and "bag" not in columns:
        missing.append("bag")
    if missing:
        wanted = "start_s, stop_s and verb, noun (or action)" + (", and bag, with several bags" * (len(bags) > 1))
        raise UsageError(f"{path}: no column {', '.join(missing)}; the columns are {wanted}")
    faults: list[str] = []
    rows = [row for number, line in lines if (row := _row(number, line, heads, faults)) is not None]
    kept = sorted((row for row in rows if row.bag in ("", *bags)), key=lambda row: (row.bag, row.start_s))
    _overlaps(kept, faults)
    named = sorted({row.bag for row in rows})
    if rows and "bag" in columns:
        faults += [f"no row about bag {name!r}, only about {', '.join(named)}" for name in bags if name not in named]
    if faults:
        more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise UsageError(f"{path}: {'; '.join(faults[:_SHOWN])}{more}")
    if not kept:
        raise UsageError(f"{path}: no rows")
    return Intervals(path, heads, tuple(kept))


def _row(number: int, line: dict[str, str | None], heads: tuple[str, ...], faults: list[str]) -> Interval | None:
    """One line of the CSV; what is wrong with it goes into `faults`."""
    before = len(faults)
    cells = {name: (line.get(name) or "").strip() for name in ("bag", "start_s", "stop_s", *heads)}
    times = {}
    for column in ("start_s", "stop_s"):
        try:
            times[column] = float(cells[column])
        except ValueError:
            times[column] = math.nan
        if not math.isfinite(times[column]) or times[column] < 0:
            faults.append(f"row {number}, {column}: {cells[column]!r} is not a time in seconds")
    if times["stop_s"] <= times["start_s"]:
        faults.append(f"row {number}, stop_s: must be later than start_s")
    faults += [f"row {number}, {head}: no label" for head in heads if not cells[head]]
    if len(faults) > before:
        return None
    names = tuple(cells[head] for head in heads)
    return Interval(number, cells["bag"], times["start_s"], times["stop_s"], names)


def _overlaps(rows: Sequence[Interval], faults: list[str]) -> None:
    """Two truths at one time are a mistake."""
    for before, after in pairwise(rows):
        if before.bag == after.bag and after.start_s < before.stop_s - 1e-6:
            faults.append(
                f"row {after.line}, start_s: begins before the end of row {before.line} ({before.stop_s:g} s)"
            )
