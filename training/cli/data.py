# SPDX-License-Identifier: Apache-2.0
"""`karmma data check`: say per video what of a data set is on disk, before a training is started on it.

karmma data check epic-kitchens-100:/data/EPIC-KITCHENS
karmma data check epic-kitchens-100:/data/EPIC-KITCHENS --split val --decode 50 --json check.json
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from karmma_ros.console import make_console
from karmma_ros.errors import UsageError
from karmma_ros.files import write_json
from karmma_training.config import MODALITIES
from karmma_training.datasets.check import SPLITS, CheckedSource, VideoCheck
from karmma_training.datasets.source import open_source
from karmma_training.presets import preset

__all__ = ["HELP", "add_arguments", "run"]

HELP = "Look for the files of a data set: what is missing or broken, video by video."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `karmma data`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="check")
    check = actions.add_parser("check", help=HELP, description=HELP)
    check.add_argument(
        "data",
        metavar="DATA",
        help="epic-kitchens-100:FOLDER or something-something-v2:FOLDER; manifests are checked when used",
    )
    check.add_argument("--split", choices=SPLITS, help="default: all that have annotations")
    check.add_argument("--decode", type=int, default=0, metavar="N", help="decode N pictures of every video, too")
    check.add_argument("--all", action="store_true", help="list the videos that lack nothing, too")
    check.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    check.add_argument("--workers", type=int, metavar="N", help="processes; default one per core")


def run(args: argparse.Namespace) -> int:
    """Run the subcommand: status 0, or 1 where nothing is there to train on."""
    if args.decode < 0:
        raise UsageError("--decode must not be negative")
    config = preset("demo")
    config.data.source = args.data
    source = open_source(config)
    if not isinstance(source, CheckedSource):
        raise UsageError(f"{args.data}: nothing to check here, its files are checked whenever they are used")
    console = make_console()
    splits = [args.split] if args.split else [s for s in SPLITS if source.has_split(s)]
    found: dict[str, list[VideoCheck]] = {}
    for split in splits:
        found[split] = source.check(split, args.decode, args.workers, make_console(stderr=True))
        _print(console, split, found[split], everything=args.all)
    for note in source.notes:
        console.print(f"note: {note}", soft_wrap=True)
    if args.json:
        write_json(args.json, {split: [asdict(c) for c in checks] for split, checks in found.items()})
    return 0 if any(c.has for checks in found.values() for c in checks) else 1


def _print(console: Console, split: str, checks: Sequence[VideoCheck], *, everything: bool) -> None:
    table = Table(title=f"{split}: videos that lack something" if not everything else split, title_justify="left")
    table.add_column("video")
    table.add_column("actions", justify="right")
    table.add_column("has")
    table.add_column("findings", overflow="fold")
    shown = [c for c in checks if c.findings or everything]
    for c in shown:
        table.add_row(c.video, str(c.actions), ", ".join(c.has) or "nothing", "\n".join(c.findings))
    if shown:
        console.print(table)
    videos = Counter(name for c in checks for name in (*c.has, "any" if c.has else "none"))
    parts = ", ".join(f"{m} {videos[m]}" for m in MODALITIES if videos[m] or m != "detections")
    covered, total = sum(c.covered for c in checks), sum(c.actions for c in checks)
    console.print(
        f"{split}: {videos['any']} of {len(checks)} videos on disk ({parts}), with {covered} of {total} actions that "
        "samples lie within",
        soft_wrap=True,
    )
