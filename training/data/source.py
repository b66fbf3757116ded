# SPDX-License-Identifier: Apache-2.0
"""Where recordings come from: one interface for rendered and recorded data, and the job that fills the sample store."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from karmma_ros.errors import KarmmaError, UsageError
from karmma_ros.orphans import die_with
from karmma_training.config import Config
from karmma_training.data.labels import Labels
from karmma_training.data.store import Interval, Recording, StoreFormat
from karmma_training.progress import progress_bar

__all__ = ["RecordingJob", "Source", "open_recordings", "open_source"]

SHOWN = 20  # faults listed before "and n more"


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

    def labels(self) -> Labels:
        """Class names and valid actions."""

    def jobs(self, split: str, minutes: float | None) -> list[RecordingJob]:
        """The recordings of a split; `minutes` bounds rendered ones."""


def open_source(config: Config) -> Source:
    """The data set that `config.data.source` names.

    :raises UsageError: neither a known name nor a readable manifest.
    """
    from karmma_training.data.manifest import ManifestSource
    from karmma_training.data.tabletop import TabletopSource

    form = StoreFormat.of(config)
    if config.data.source == TabletopSource.name:
        return TabletopSource(config.data, form)
    path = Path(config.data.source)
    if path.is_dir():
        path = path / "manifest.csv"
    if not path.is_file():
        raise UsageError(f"--data {config.data.source}: neither `tabletop` nor a manifest CSV, or a folder with one")
    return ManifestSource(path, form)


def open_recordings(
    source: Source,
    split: str,
    store: Path,
    *,
    minutes: float | None = None,
    workers: int | None = None,
    console: Console,
) -> list[Recording]:
    """The recordings of a split, memory-mapped; those the store lacks are made first, in worker processes.

    :raises UsageError: the split is empty, or some recordings cannot be read: all of them are named.
    """
    jobs = source.jobs(split, minutes)
    for note in source.notes if split == "train" else ():
        console.print(f"note: {note}", highlight=False)
    if not jobs:
        raise UsageError(f"{source.name} has no recordings in split {split!r}")
    missing = list({job.path: job for job in jobs if not (store / job.path / "meta.json").exists()}.values())
    if missing:
        _make(missing, store, workers or min(len(missing), os.cpu_count() or 1), f"{source.name} {split}", console)
    labels = source.labels()
    return [Recording(store / job.path, labels, job.intervals) for job in jobs]


def _make(jobs: list[RecordingJob], store: Path, workers: int, title: str, console: Console) -> None:
    # spawn: a fork of a process with torch's threads may hang
    context = multiprocessing.get_context("spawn")
    with progress_bar(console) as bar:
        task = bar.add_task(f"preparing {title}", total=len(jobs), note="")
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=die_with, initargs=(os.getpid(),))
        try:
            faults = []
            for future in as_completed([pool.submit(job.make, store / job.path, *job.arguments) for job in jobs]):
                try:
                    future.result()
                except KarmmaError as error:
                    faults.append(str(error))
                bar.advance(task)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise UsageError(f"{title}: {'; '.join(sorted(faults)[:SHOWN])}{more}")
