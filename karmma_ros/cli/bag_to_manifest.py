# SPDX-License-Identifier: Apache-2.0
"""`karmma bag-to-manifest`: labelled rosbags become a data set for `karmma train`."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from karmma_ros.bags.extract import Extracted, ExtractSettings, extract
from karmma_ros.bags.intervals import BagIntervals, Interval, Intervals, read_intervals
from karmma_ros.bags.manifest import SPLITS, Labelled, outside, recorded, split_by_bag, split_by_time, write_rows
from karmma_ros.bags.reader import Bag, bag_name
from karmma_ros.bags.topics import Sensors, choose, origin_ns
from karmma_ros.cli.bag_options import add_rotate, add_topics, wanted_topics
from karmma_ros.cli.common import add_json, add_seed, add_split_shares, check_file, check_out
from karmma_ros.cli.recognition import progress_bar
from karmma_ros.console import make_console
from karmma_ros.errors import UsageError
from karmma_ros.files import whole_folder, write_json

HELP = "Turns labelled rosbags into a data set for `karmma train`: manifest.csv, pictures, sound and flow."

MEDIA = "media"
_SHOWN = 10  # intervals named before "and n more"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's arguments."""
    parser.add_argument("bags", type=Path, nargs="+", metavar="BAG", help="a bag's folder, an .mcap or a .db3")
    parser.add_argument(
        "--labels",
        type=Path,
        required=True,
        metavar="FILE.csv",
        help="what is done when: start_s, stop_s, verb, noun (or action); with several bags also bag",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--split",
        choices=("bag", "time"),
        help="whole bags train, validate or test, or the beginning, middle and end of each (default: bag with several)",
    )
    add_split_shares(parser)
    add_topics(parser, detections=False)
    add_rotate(parser)
    parser.add_argument(
        "--flow-unit",
        default="pixels_per_second",
        choices=("pixels_per_second", "pixels_per_frame"),
        help="unit of the flow topic (default: %(default)s)",
    )
    parser.add_argument("--lossless", action="store_true", help="pictures bit for bit, in much larger files")
    add_seed(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    console = make_console()
    labels = _check(args)
    with ExitStack() as stack:
        opened = {bag_name(path): stack.enter_context(Bag(path)) for path in args.bags}
        sensors = {name: choose(bag, wanted_topics(args)) for name, bag in opened.items()}
        origins = {name: origin_ns(opened[name], found)[1] for name, found in sensors.items()}
        intervals = {name: labels.of(name, origins[name]) for name in opened}
        faults = [f for name, bag in opened.items() for f in outside(name, intervals[name], bag.duration_s)]
        if faults:
            raise UsageError(f"{args.labels}: {'; '.join(faults)}")
        settings = ExtractSettings(rotate=args.rotate, lossless=args.lossless, flow_unit=args.flow_unit)
        with whole_folder(args.out) as folder:
            (folder / MEDIA).mkdir()
            made = _extract_all(console, opened, sensors, folder / MEDIA, settings)
            # Files start at the first picture that could be decoded.
            late_s = {name: (made[name].origin_ns - origins[name]) / 1e9 for name in opened}
            parts = {name: recorded(intervals[name], made[name], late_s[name]) for name in opened}
            rows = _split(args, {name: within for name, (within, _) in parts.items() if within.rows})
            if not rows:
                raise UsageError(f"{args.labels}: no interval lies within what was recorded")
            write_rows(folder / "manifest.csv", rows, made, MEDIA, labels.heads)
    lost = {name: rest for name, (_, rest) in parts.items()}
    if args.json is not None:
        write_json(args.json, _summary(args, made, rows, lost))
    _report(console, args, made, rows, lost)
    return 0


def _check(args: argparse.Namespace) -> Intervals:
    """The labels, once it is sure that the bags can be told apart and the results have a place."""
    if sum(args.split_shares) <= 0:
        raise UsageError("--split-shares: at least one must be above 0")
    if check_out(args.out).exists() and any(args.out.iterdir()):
        raise UsageError(f"{args.out}: not empty; give a folder that does not exist yet")
    twice = [name for name, count in Counter(map(bag_name, args.bags)).items() if count > 1]
    if twice:
        raise UsageError(f"two bags are called {twice[0]}: rename one, labels and files go by that name")
    if args.split == "bag" and len(args.bags) == 1:
        raise UsageError("--split bag: one bag can be in one split only; take --split time, or give more bags")
    return read_intervals(check_file(args.labels), [bag_name(path) for path in args.bags])


def _split(args: argparse.Namespace, intervals: Mapping[str, BagIntervals]) -> list[Labelled]:
    shares = tuple(args.split_shares)
    by_bag = args.split == "bag" or (args.split is None and len(args.bags) > 1)
    return split_by_bag(intervals, shares, args.seed) if by_bag else split_by_time(intervals, shares)


def _extract_all(
    console: Console,
    bags: Mapping[str, Bag],
    sensors: Mapping[str, Sensors],
    folder: Path,
    settings: ExtractSettings,
) -> dict[str, Extracted]:
    made = {}
    with progress_bar(console) as progress:
        task = progress.add_task("", total=sum(bag.duration_s for bag in bags.values()), action="")
        done_s = 0.0
        for name, bag in bags.items():
            progress.update(task, action=name)

            def tell(seconds: float, before_s: float = done_s) -> None:
                progress.update(task, completed=before_s + seconds)

            made[name] = extract(bag, sensors[name], folder, settings, tell)
            done_s += bag.duration_s
    return made


def _summary(
    args: argparse.Namespace,
    made: Mapping[str, Extracted],
    rows: Sequence[Labelled],
    lost: Mapping[str, Sequence[Interval]],
) -> dict[str, Any]:
    return {
        "manifest": str(args.out / "manifest.csv"),
        "rows": len(rows),
        "left_out": [
            {"bag": name, "row": row.line, "start_s": row.start_s, "stop_s": row.stop_s}
            for name, rest in lost.items()
            for row in rest
        ],
        "seconds": {split: round(_seconds(rows, split), 3) for split in SPLITS},
        # asdict takes a Counter for a mapping that can be made of pairs, and counts them.
        "bags": {name: asdict(extracted) | {"left_out": dict(extracted.left_out)} for name, extracted in made.items()},
    }


def _seconds(rows: Sequence[Labelled], split: str) -> float:
    return sum((row.interval.stop_s - row.interval.start_s for row in rows if row.split == split), 0.0)


def _report(
    console: Console,
    args: argparse.Namespace,
    made: Mapping[str, Extracted],
    rows: Sequence[Labelled],
    lost: Mapping[str, Sequence[Interval]],
) -> None:
    def say(text: str, style: str = "") -> None:
        console.print(text, style=style, soft_wrap=True)

    table = Table()
    for heading in ("bag", "files", "intervals", "actions", "labelled", "split"):
        table.add_column(heading, justify="right" if heading in ("intervals", "actions", "labelled") else "left")
    for name, extracted in made.items():
        own = [row for row in rows if row.bag == name]
        splits = ", ".join(split for split in SPLITS if any(row.split == split for row in own))
        seconds = sum(row.interval.stop_s - row.interval.start_s for row in own)
        actions = len({row.interval.names for row in own})
        table.add_row(name, ", ".join(extracted.files), str(len(own)), str(actions), f"{seconds:.1f} s", splits)
    console.print(table)
    for name, extracted in made.items():
        for what, count in extracted.left_out.most_common():
            say(f"{name}: {count} left out, {what}", "yellow")
        if lost[name]:
            named = [f"row {row.line} ({row.start_s:.2f} to {row.stop_s:.2f} s)" for row in lost[name][:_SHOWN]]
            more = f" and {len(lost[name]) - _SHOWN} more" if len(lost[name]) > _SHOWN else ""
            text = f"{len(lost[name])} labelled intervals left out, nothing was recorded then: {', '.join(named)}{more}"
            say(f"{name}: {text}", "yellow")
    unseen = {row.interval.action for row in rows} - {row.interval.action for row in rows if row.split == "train"}
    if unseen:
        say(f"never in train, so not learned: {', '.join(sorted(unseen))}", "yellow")
    for split in ("train", "val"):
        if not any(row.split == split for row in rows):
            say(f"nothing in split {split}, which `karmma train` needs: more bags, or --split time", "yellow")
    totals = ", ".join(f"{split} {_seconds(rows, split):.0f} s" for split in SPLITS)
    say(f"{len(rows)} labelled intervals ({totals}): {args.out / 'manifest.csv'}")
