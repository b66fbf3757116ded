# SPDX-License-Identifier: Apache-2.0
"""Where recordings come from: one interface for rendered and recorded data, and the job that fills the sample store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from karmma_ros.errors import KarmmaError, UsageError
from karmma_training.config import Config
from karmma_training.data.labels import Labels
from karmma_training.data.open_files import allow_many_files
from karmma_training.data.recording import Interval, Recording
from karmma_training.data.store import StoredRecording, StoreFormat
from karmma_training.datasets.faults import joined
from karmma_training.parallel import check_workers, map_processes

__all__ = [
    "DATA_FORMS",
    "Preparation",
    "RecordingJob",
    "Source",
    "StoredSource",
    "open_recordings",
    "open_source",
    "prepare",
    "source_name",
]


@dataclass(frozen=True)
class RecordingJob:
    """One recording that the store should hold.

    path: folder, relative to the store's root; make: module-level function (folder, *arguments) that writes it;
    intervals: (start_s, stop_s, label, ...) where they are not in the folder: samples do not change with a label.
    """

    path: str
    make: Callable[..., None]
    arguments: tuple[Any, ...]
    intervals: tuple[Interval, ...] | None = None


class Source(Protocol):
    """A data set: class names, and recordings per split."""

    name: str
    notes: list[str]  # what a user should know about the data
    told: int  # how many of them a user has been told

    def labels(self) -> Labels:
        """Class names and valid actions."""

    def recordings(self, split: str, work: Preparation, minutes: float | None) -> list[Recording]:
        """The recordings of a split, ready to be read; none where it has none.

        :param minutes: bounds rendered ones.
        :raises UsageError: some cannot be read: all of them are named.
        """


@dataclass(frozen=True)
class Preparation:
    """How recordings are made ready.

    store: folder of the sample store; workers: processes, None: one per core.

    :raises UsageError: fewer than one: told before anything is done, also where the store is complete.
    """

    store: Path
    workers: int | None
    console: Console

    def __post_init__(self) -> None:
        check_workers(self.workers)


class StoredSource(ABC):
    """A source whose recordings are kept in the sample store."""

    name: str
    notes: list[str]
    told = 0

    @abstractmethod
    def labels(self) -> Labels:
        """See Source."""

    @abstractmethod
    def jobs(self, split: str, minutes: float | None) -> list[RecordingJob]:
        """The recordings of a split; `minutes` bounds rendered ones."""

    def recordings(self, split: str, work: Preparation, minutes: float | None) -> list[Recording]:
        """See Source: those that the store lacks are made first, in worker processes."""
        jobs = self.jobs(split, minutes)
        prepare(jobs, work, f"{self.name} {split}")
        labels = self.labels()
        return [StoredRecording(work.store / job.path, labels, job.intervals) for job in jobs]


DATA_FORMS = (  # what --data takes
    "tabletop (rendered), a manifest CSV or a folder with one, epic-kitchens-100:FOLDER or "
    "something-something-v2:FOLDER"
)


def open_source(config: Config) -> Source:
    """The data set that `config.data.source` names.

    :raises UsageError: neither a known name nor a readable manifest.
    """
    from karmma_training.datasets.epic_kitchens.source import EpicKitchensSource
    from karmma_training.datasets.manifest import ManifestSource
    from karmma_training.datasets.something_something.source import SomethingSomethingSource
    from karmma_training.datasets.tabletop import TabletopSource

    form = StoreFormat.of(config)
    kind, _, where = config.data.source.partition(":")
    if kind == EpicKitchensSource.name:
        return EpicKitchensSource(Path(where), form)
    if kind == SomethingSomethingSource.name:
        return SomethingSomethingSource(Path(where), form, config.detections)
    if config.data.source == TabletopSource.name:
        return TabletopSource(config.data, form)
    path = Path(config.data.source)
    if path.is_dir():
        path = path / "manifest.csv"
    if not path.is_file():
        raise UsageError(
            f"--data {config.data.source}: neither `tabletop` nor a manifest CSV, or a folder with "
            "one, nor `epic-kitchens-100:FOLDER` or `something-something-v2:FOLDER`"
        )
    return ManifestSource(path, form)


def source_name(source: str) -> str:
    """What `config.data.source` names, without the folder that it lies in."""
    kind, colon, _ = source.partition(":")
    return kind if colon and f"{kind}:" in DATA_FORMS else Path(source).name


def open_recordings(
    source: Source,
    split: str,
    store: Path,
    *,
    minutes: float | None = None,
    workers: int | None = None,
    console: Console,
) -> list[Recording]:
    """The recordings of a split, made ready.

    :raises UsageError: the split is empty, or some recordings cannot be read: all of them are named.
    """
    allow_many_files()
    recordings = source.recordings(split, Preparation(store, workers, console), minutes)
    for note in source.notes[source.told :]:
        console.print(f"note: {note}")
    source.told = len(source.notes)
    if not recordings:
        raise UsageError(f"{source.name} has no recordings in split {split!r}")
    return recordings


def prepare(jobs: list[RecordingJob], work: Preparation, title: str) -> None:
    """Make the recordings that the store lacks, in worker processes.

    :raises UsageError: some cannot be read: all of them are named.
    """
    if faults := make_missing(jobs, work, title):
        raise UsageError(f"{title}: {joined(faults)}")


def make_missing(jobs: list[RecordingJob], work: Preparation, title: str) -> list[str]:
    """As `prepare`; what is wrong with those that cannot be read."""
    jobs = list({job.path: job for job in jobs if not (work.store / job.path / "meta.json").exists()}.values())
    if not jobs:
        return []
    made = map_processes(partial(_make, work.store), jobs, work.workers, f"preparing {title}", work.console)
    return sorted(fault for fault in made if fault)


def _make(store: Path, job: RecordingJob) -> str:
    """Make one recording; what is wrong with it, or "". Runs in a worker process."""
    try:
        job.make(store / job.path, *job.arguments)
    except KarmmaError as error:
        return str(error)
    return ""
