# SPDX-License-Identifier: Apache-2.0
"""`karmma synth`: renders a data set of tabletop scenes in the manifest format, with every core there is."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from karmma_ros import __version__
from karmma_ros.cli.common import add_seed, add_split_shares, check_out, count, positive
from karmma_ros.console import make_console
from karmma_ros.contact_sheet import write_contact_sheet
from karmma_ros.errors import UsageError
from karmma_ros.files import whole_folder, write_json
from karmma_ros.synthesis import Job, Row, disk_bytes, plan, render, write_manifest
from karmma_ros.worker_processes import in_processes

HELP = "Renders first-person tabletop scenes with flow and sound as a data set: manifest.csv and lossless media."

MEDIA = "media"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's arguments."""
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT", help="folder to make; it must not have content")
    parser.add_argument("--clips", type=count, default=0, metavar="N", help="short recordings of one action each")
    parser.add_argument("--sequences", type=count, default=0, metavar="M", help="long continuous recordings")
    parser.add_argument(
        "--minutes", type=positive, default=5.0, metavar="L", help="length of each sequence (default: 5)"
    )
    add_split_shares(parser)
    parser.add_argument(
        "--format",
        choices=("manifest", "bags"),
        default="manifest",
        help="a data set for training; or rosbags as a robot records them, with intervals.csv: the sequences are then "
        "takes of one scene (default: manifest)",
    )
    parser.add_argument("--workers", type=count, default=0, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--contact-sheet", type=Path, metavar="FILE.png", help="write a picture of every action")
    add_seed(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    console = make_console()
    jobs = _check(args)
    if args.contact_sheet is not None:
        with console.status("drawing the contact sheet"):
            write_contact_sheet(args.contact_sheet, args.seed)
        console.print(f"written to {args.contact_sheet}", soft_wrap=True)
    if not jobs:
        return 0
    with whole_folder(args.out) as folder:
        workers = args.workers or len(os.sched_getaffinity(0))
        rows, table = (_as_bags if args.format == "bags" else _as_manifest)(jobs, folder, workers, console)
        write_json(folder / "synth.json", _origin(args))
    console.print(
        f"{len(jobs)} recordings, {len(rows)} labelled intervals: {args.out / table}",
        soft_wrap=True,
    )
    return 0


def _check(args: argparse.Namespace) -> list[Job]:
    """The recordings asked for, once it is sure that they can be had."""
    if sum(args.split_shares) <= 0:
        raise UsageError("--split-shares: at least one must be above 0")
    jobs = _plan(args)
    if args.contact_sheet is not None and args.contact_sheet.is_dir():
        raise UsageError(f"--contact-sheet {args.contact_sheet}: is a folder")
    if not jobs:
        if args.contact_sheet is None:
            raise UsageError("nothing to render: give --clips or --sequences, or --contact-sheet")
        return []
    if args.out is None:
        raise UsageError("OUT is missing: the folder for the recordings")
    if check_out(args.out).exists() and any(args.out.iterdir()):
        raise UsageError(f"{args.out}: not empty; give a folder that does not exist yet")
    existing = next(folder for folder in (args.out, *args.out.absolute().parents) if folder.exists())
    free, needed = shutil.disk_usage(existing).free, disk_bytes(jobs)
    if needed > free:
        raise UsageError(f"{args.out}: about {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")
    return jobs


def _plan(args: argparse.Namespace) -> list[Job]:
    if args.format == "manifest":
        return plan(args.seed, args.clips, args.sequences, args.minutes, tuple(args.split_shares))
    from karmma_ros.bags.session import plan_session

    if args.clips:
        raise UsageError("--clips: a robot records sequences; with --format bags give --sequences")
    return plan_session(args.seed, args.sequences, args.minutes)


def _as_manifest(jobs: Sequence[Job], folder: Path, workers: int, console: Console) -> tuple[list[Row], str]:
    """Renders media files and `manifest.csv`."""
    media = folder / MEDIA
    media.mkdir()
    rows = _render_all(render, jobs, media, workers, console)
    write_manifest(folder / "manifest.csv", rows, MEDIA)
    return rows, "manifest.csv"


def _as_bags(jobs: Sequence[Job], folder: Path, workers: int, console: Console) -> tuple[list[Row], str]:
    """Renders rosbags and `intervals.csv`."""
    from karmma_ros.bags.session import INTERVALS, render_take, write_intervals

    rows = _render_all(render_take, jobs, folder, workers, console)
    write_intervals(folder / INTERVALS, rows)
    return rows, INTERVALS


def _render_all(
    make: Callable[[Job, Path], list[Row]], jobs: Sequence[Job], folder: Path, workers: int, console: Console
) -> list[Row]:
    """Renders everything, longest first; gives the labelled intervals in the order of the jobs."""
    columns = (TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    longest_first = sorted(jobs, key=lambda job: -job.seconds)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(jobs))
        made = in_processes(partial(_made, make, folder), longest_first, workers, done=partial(progress.advance, task))
    rows = {job.name: rows for job, rows in zip(longest_first, made, strict=True)}
    return [row for job in jobs for row in rows[job.name]]


def _made(make: Callable[[Job, Path], list[Row]], folder: Path, job: Job) -> list[Row]:
    """In a worker."""
    return make(job, folder)


def _origin(args: argparse.Namespace) -> dict[str, object]:
    """What made this data set."""
    return {
        "generator": f"karmma_ros {__version__}",
        "seed": args.seed,
        "clips": args.clips,
        "sequences": args.sequences,
        "minutes": args.minutes,
        "split_shares": list(args.split_shares),
        "format": args.format,
    }
