# SPDX-License-Identifier: Apache-2.0
"""The official annotations of EPIC-KITCHENS-100, as github.com/epic-kitchens/epic-kitchens-100-annotations has them."""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from karmma_ros.errors import UsageError
from karmma_training.datasets.faults import joined

__all__ = [
    "SPLIT_FILES",
    "Segment",
    "find_annotations",
    "read_class_ids",
    "read_classes",
    "read_ids",
    "read_segments",
]

T = TypeVar("T", int, str)

SPLIT_FILES = {
    "train": "EPIC_100_train.csv",
    "val": "EPIC_100_validation.csv",
    "test": "EPIC_100_test_timestamps.csv",  # without labels
}
FOLDERS = ("", "annotations", "epic-kitchens-100-annotations")  # where they are looked for

_COLUMNS = ("narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp")
_LABELS = ("narration", "verb_class", "noun_class", "all_nouns", "all_noun_classes")
_TIME = re.compile(r"(\d{1,2}):([0-5]\d):([0-5]\d(?:\.\d+)?)")
_CLASS = re.compile(r"\d{1,9}")
_VIDEO = re.compile(r"P\d{2}_\d{2,3}")


@dataclass(frozen=True)
class Segment:
    """One annotated action.

    verb, noun: class ids, -1 in the test split; nouns: all of them, the first is `noun`; noun_names: as they were said,
    `bag:garbage` of the class `bag`.
    """

    narration_id: str
    participant: str
    video: str
    start_s: float
    stop_s: float
    verb: int = -1
    noun: int = -1
    nouns: tuple[int, ...] = ()
    noun_names: tuple[str, ...] = ()
    narration: str = ""


def find_annotations(root: Path) -> Path:
    """The folder below a data set's root that holds the annotations.

    :raises UsageError: there is none.
    """
    for name in FOLDERS:
        if (root / name / SPLIT_FILES["val"]).is_file() or (root / name / SPLIT_FILES["train"]).is_file():
            return root / name
    raise UsageError(
        f"{root}: no {SPLIT_FILES['train']} here or in {', '.join(FOLDERS[1:])}: clone "
        "github.com/epic-kitchens/epic-kitchens-100-annotations there"
    )


def read_classes(path: Path) -> list[str]:
    """Names of the classes in the order of their ids, from EPIC_100_verb_classes.csv or EPIC_100_noun_classes.csv.

    :raises UsageError: unreadable, or ids that do not count from 0.
    """
    rows = list(_rows(path, ("id", "key")))
    names = [row["key"] for _, row in rows]
    if [row["id"] for _, row in rows] != [str(i) for i in range(len(rows))] or len(set(names)) < len(names):
        raise UsageError(f"{path}: ids must count from 0, and every name must be there once")
    return names


def read_ids(path: Path) -> list[str]:
    """The one column of EPIC_100_unseen_participant_ids_validation.csv and its like.

    :raises UsageError: unreadable.
    """
    return [text for _, text in _column(path)]


def read_class_ids(path: Path) -> list[int]:
    """As `read_ids`, of EPIC_100_tail_verbs.csv and its like.

    :raises UsageError: unreadable, or some are no ids of classes: all of them are named.
    """
    rows = [(line, text, _class_id(text)) for line, text in _column(path)]
    faults = [f"row {line}: {text[:40]!r} is no id of a class" for line, text, number in rows if number < 0]
    if faults:
        raise UsageError(f"{path}: {joined(faults)}")
    return [number for _, _, number in rows]


def _column(path: Path) -> Iterator[tuple[int, str]]:
    """Row number and cell of a file's first column."""
    yield from ((line, next(iter(row.values()))) for line, row in _rows(path, ()))


def _class_id(text: str) -> int:
    """-1 where it is none."""
    return int(text) if _CLASS.fullmatch(text) else -1


def read_segments(path: Path, *, verbs: int, nouns: int, labelled: bool = True) -> list[Segment]:
    """The rows of an annotation file, in its order.

    :param verbs, nouns: how many classes there are.
    :param labelled: whether the file has labels: that of the test split has none.
    :raises UsageError: unreadable, or some rows make no sense: all of them are named.
    """
    faults: list[str] = []
    segments: list[Segment] = []
    known: set[str] = set()
    for line, row in _rows(path, (*_COLUMNS, *(_LABELS if labelled else ()))):
        before = len(faults)
        segment = _segment(row, labelled, faults)
        if not segment.narration_id:
            faults.append("narration_id: there is none")
        elif segment.narration_id in known:
            faults.append(f"narration_id: {segment.narration_id} is there already")
        for name, value, count in (("verb_class", segment.verb, verbs), ("noun_class", segment.noun, nouns)):
            if value >= count or (labelled and value < 0):
                faults.append(f"{name}: {row[name][:40]!r} is none of {count} classes")
        if not all(0 <= noun < nouns for noun in segment.nouns):
            faults.append(
                f"all_noun_classes: {row['all_noun_classes'][:40]!r} has ids that are none of {nouns} classes"
            )
        faults[before:] = [f"row {line}, {fault}" for fault in faults[before:]]
        known.add(segment.narration_id)
        segments.append(segment)
    if faults:
        raise UsageError(f"{path}: {joined(faults)}")
    return segments


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Number and cells of every row; a cell that is not there is empty."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            missing = [name for name in columns if name not in (reader.fieldnames or [])]
            if missing or not reader.fieldnames:
                raise UsageError(f"{path}: no column {', '.join(missing) or 'in its first line'}")
            yield from ((reader.line_num, row) for row in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def _segment(row: dict[str, str], labelled: bool, faults: list[str]) -> Segment:
    """One row; what is wrong with it goes into `faults`."""
    start, stop = (_seconds(row[name], name, faults) for name in ("start_timestamp", "stop_timestamp"))
    if stop <= start:
        faults.append(f"stop_timestamp: {row['stop_timestamp'][:40]} is not after {row['start_timestamp'][:40]}")
    if not _VIDEO.fullmatch(row["video_id"]):  # it becomes part of a path
        faults.append(f"video_id: {row['video_id'][:40]!r} is not like P01_01 or P01_101")
    elif row["participant_id"] != row["video_id"].split("_")[0]:  # it decides who counts as unseen
        faults.append(f"participant_id: {row['participant_id'][:40]!r} is not that of {row['video_id']}")
    segment = Segment(row["narration_id"], row["participant_id"], row["video_id"], start, stop)
    if not labelled:
        return segment
    nouns = _list(row, "all_noun_classes", int, faults)
    names = _list(row, "all_nouns", str, faults)
    verb, noun = (_class_id(row[name]) for name in ("verb_class", "noun_class"))
    return replace(segment, verb=verb, noun=noun, nouns=nouns, noun_names=names, narration=row["narration"])


def _seconds(text: str, column: str, faults: list[str]) -> float:
    match = _TIME.fullmatch(text)
    if match is None:
        faults.append(f"{column}: {text[:40]!r} is not hours:minutes:seconds")
        return 0.0
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])


def _list(row: dict[str, str], column: str, kind: type[T], faults: list[str]) -> tuple[T, ...]:
    """A list as Python writes it, `[2, 14]` or `['plate', 'cup']`."""
    try:
        values = ast.literal_eval(row[column])
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        values = None
    if isinstance(values, list) and all(isinstance(value, kind) for value in values):
        return tuple(values)
    faults.append(f"{column}: {row[column][:40]!r} is not a list of {'ids' if kind is int else 'names'}")
    return ()
