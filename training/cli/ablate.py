# SPDX-License-Identifier: Apache-2.0
"""`karmma ablate`: train teacher, student, baselines and controls over several seeds, and write the comparison.

karmma ablate --preset demo --seeds 3 --out runs/ablation --report docs/results.md
karmma ablate --preset demo --seeds 3 --out runs/ablation --only teacher,student,baseline
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from karmma_ros.cli.common import terminable
from karmma_ros.console import make_console
from karmma_ros.errors import KarmmaError, UsageError
from karmma_ros.files import write_json
from karmma_training.cli.train import train
from karmma_training.comparison.ablation import BY_NAME, RUNS, Run, comparison, run_config, run_folder
from karmma_training.comparison.measured import Measured, check_folders, comparison_settings
from karmma_training.comparison.results import write_results
from karmma_training.config import Config
from karmma_training.config_file import apply_overrides
from karmma_training.data.recording import Recording
from karmma_training.data.store import default_store
from karmma_training.datasets.source import DATA_FORMS, Source, StoredSource, open_recordings, open_source
from karmma_training.datasets.tabletop import TabletopSource
from karmma_training.evaluation.plots import plot_evaluation
from karmma_training.evaluation.predictor import load_predictor
from karmma_training.evaluation.report import evaluate
from karmma_training.machine import machine
from karmma_training.presets import PRESETS
from karmma_training.side_by_side import run_side_by_side

__all__ = ["HELP", "add_arguments", "run"]

TEST_MINUTES = 20.0
SPENT = "spent.json"  # minutes of a run's sessions so far

HELP = "Compare teacher, student, baselines and controls over several seeds, as the paper does."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `karmma ablate`."""
    parser.add_argument("--preset", choices=PRESETS, default="demo", help="default: demo")
    parser.add_argument("--data", metavar="DATA", default="tabletop", help=f"{DATA_FORMS}; default: tabletop")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="default 3")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder of run folders; goes on there")
    parser.add_argument("--only", metavar="LIST", help=f"some of {', '.join(r.name for r in RUNS)}, and what they need")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the comparison there; default: into --out")
    parser.add_argument(
        "--test-minutes",
        type=float,
        default=TEST_MINUTES,
        metavar="M",
        help=f"rendered to test on (default {TEST_MINUTES:g})",
    )
    parser.add_argument("--note", metavar="TEXT", help="how the record came about: kept in it and shown at its top")
    parser.add_argument("--store", type=Path, metavar="DIR", help="sample store; default in the user's cache folder")
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="runs at the same time (default 1): small ones leave much of a GPU idle",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes that prepare data; default one per core")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting, for all runs")


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    console = make_console(stderr=True)
    if args.seeds < 1 or args.jobs < 1 or args.test_minutes <= 0:
        raise UsageError("--seeds, --jobs and --test-minutes must be positive")
    student = comparison(args.preset)
    student.data.source = args.data
    student = apply_overrides(student, args.set)
    student.check()
    chosen = _chosen(args.only, larger_set=args.data == TabletopSource.name)
    store = args.store or default_store()
    report = args.report or args.out / "results.md"
    command = f"karmma ablate --preset {args.preset} --data {args.data} --seeds {args.seeds}"
    command += f" --test-minutes {args.test_minutes:g}" if args.test_minutes != TEST_MINUTES else ""
    command += "".join(f" --set {item}" for item in args.set) + " --out DIR"
    source = open_source(student)
    if not isinstance(source, StoredSource):
        raise UsageError(
            f"{source.name} has no labelled test split, which the comparison is read on: train each system with "
            "`karmma train --system`, and compare them with `karmma evaluate RUN --segments --split val`"
        )
    if not source.jobs("test", args.test_minutes):
        raise UsageError(f"{args.data} has nothing in split test, which the comparison is read on")
    measured = Measured(report.with_suffix(".json"), comparison_settings(student, args.test_minutes))
    measured.note = args.note or measured.note
    check_folders(args.out, student, args.seeds)
    measured.collect(args.out, args.seeds)
    write_results(report, measured, student, command)
    work = _Work(student, args.out, store, args.workers, args.test_minutes)
    due = _due(chosen, measured, args.seeds, args.out)
    if args.jobs == 1:
        for one, seed in due:
            console.rule(_name((one, seed)))
            work.finish(one, seed, console)
            measured.add(args.out, one, seed)
            write_results(report, measured, student, command)
    else:
        if not student.train.threads:
            student.train.threads = max(1, (os.cpu_count() or 1) // max(1, min(args.jobs, len(due))))

        def before(task: _Task) -> None:
            work.prepare(*task, console)  # with all cores
            console.print(f"{_name(task)} begins: {run_folder(args.out, *task)}/log.txt", soft_wrap=True)

        with terminable(), closing(run_side_by_side(work, due, args.jobs, before=before)) as ended:
            for number, task in enumerate(ended, 1):
                measured.add(args.out, *task)
                write_results(report, measured, student, command)
                console.print(f"{number} of {len(due)} done: {_name(task)}: {measured.words(*task)}", soft_wrap=True)
    console.print(f"written: {report}")
    return 0


_Task = tuple[Run, int]  # and seed


@dataclass(frozen=True)
class _Work:
    """How the runs of a comparison are trained and tested.

    out: folder of the run folders; workers: processes that prepare data.
    """

    student: Config
    out: Path
    store: Path
    workers: int | None
    test_minutes: float

    def __call__(self, task: _Task) -> None:
        """In a process of its own, which says nothing: the run folder has a log.

        :raises KarmmaError: see `train`; it names the run.
        """
        with terminable():
            try:
                self.finish(*task, Console(quiet=True))
            except KarmmaError as error:
                raise KarmmaError(f"{_name(task)}: {error}") from error

    def prepare(self, one: Run, seed: int, console: Console) -> None:
        """Make the samples that a run needs."""
        config = run_config(self.student, one, seed, self.out)
        for split in ("train", "val"):
            self._recordings(config, split, console)
        if config.system != "extractors":
            self._recordings(config, "test", console)

    def finish(self, one: Run, seed: int, console: Console) -> None:
        """Train a run, or go on with it, and read the test split."""
        folder = run_folder(self.out, one, seed)
        config = run_config(self.student, one, seed, self.out)
        self.prepare(one, seed, console)  # rendering is no part of a run's minutes
        with _timed(folder):
            trained = train(config, folder, resume=True, store=self.store, workers=self.workers, console=console)
        if config.system != "extractors":
            self._test(folder, config, console)
        where = f"{machine(trained.accelerator.device)}, {trained.precision}"
        write_json(folder / "done.json", {"minutes": round(_spent(folder), 1), "machine": where})

    def _test(self, folder: Path, config: Config, console: Console) -> None:
        """Read the test split, once, with the weights that were best in validation."""
        predictor, _ = load_predictor(folder, config.train.device)
        source, recordings = self._recordings(config, "test", console)
        report = {
            "target": folder.parent.name,
            "data": source.name,
            "split": "test",
            **evaluate(predictor, recordings, every=7, seed=0, console=console, losses=False),
        }
        write_json(folder / "evaluation.json", report)
        plot_evaluation(report, folder / "evaluation.png")

    def _recordings(self, config: Config, split: str, console: Console) -> tuple[Source, list[Recording]]:
        config = copy.deepcopy(config)
        if split == "test":
            config.data.recording_s = 30.0
        source = open_source(config)
        minutes = self.test_minutes if split == "test" else None
        return source, open_recordings(
            source, split, self.store, minutes=minutes, workers=self.workers, console=console
        )


def _name(task: _Task) -> str:
    one, seed = task
    return one.title if one.larger else f"{one.title}, seed {seed}"


@contextmanager
def _timed(folder: Path) -> Iterator[None]:
    """Counts the minutes of this session, however it ends short of a kill, with those of the sessions before."""
    before, started = _spent(folder), time.monotonic()
    try:
        yield
    finally:
        if folder.is_dir():
            write_json(folder / SPENT, {"minutes": before + (time.monotonic() - started) / 60})


def _spent(folder: Path) -> float:
    path = folder / SPENT
    return float(json.loads(path.read_text())["minutes"]) if path.exists() else 0.0


def _chosen(only: str | None, *, larger_set: bool) -> list[Run]:
    """The runs asked for; by default all that this data has an answer to.

    :param larger_set: whether there is one beside the student's data.
    :raises UsageError: there is no such run.
    """
    if only is None:
        return [run for run in RUNS if larger_set or not run.about_larger]
    wanted = [name.strip() for name in only.split(",")]
    unknown = [name for name in wanted if name not in BY_NAME]
    if unknown:
        raise UsageError(f"--only: no run {unknown[0]!r}; choose from {', '.join(BY_NAME)}")
    if pointless := [name for name in wanted if BY_NAME[name].about_larger and not larger_set]:
        raise UsageError(f"--only: {pointless[0]} asks what a larger set is worth, which only tabletop has")
    return [BY_NAME[name] for name in wanted]


def _due(chosen: list[Run], measured: Measured, seeds: int, root: Path) -> dict[_Task, list[_Task]]:
    """Which runs are still to be trained, in order, and which of them each needs: those not measured, and those whose
    weights they need."""
    due: dict[_Task, list[_Task]] = {}
    for seed in range(seeds):
        names: set[str] = set()
        ask = [run.name for run in chosen if not measured.has(run, seed)]
        while ask:
            run = BY_NAME[ask.pop()]
            if run.name not in names and not (run_folder(root, run, seed) / "done.json").exists():
                names.add(run.name)
                ask += _needed(run)
        for run in RUNS:
            if run.name in names:
                needed = [(BY_NAME[name], BY_NAME[name].own_seed(seed)) for name in _needed(run) if name in names]
                due[run, run.own_seed(seed)] = needed
    return due


def _needed(run: Run) -> list[str]:
    return [name for name in (run.extractors, run.teacher) if name]
