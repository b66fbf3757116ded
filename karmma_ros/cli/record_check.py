# SPDX-License-Identifier: Apache-2.0
"""`karmma record-check`: says whether a rosbag is fit for replay, and what to do where it is not."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from karmma_ros.bags.check import BagReport, check_bag
from karmma_ros.bags.reader import Bag
from karmma_ros.bags.topic_check import Finding, Severity
from karmma_ros.cli.bag_options import add_topics, wanted_topics
from karmma_ros.cli.common import add_json
from karmma_ros.cli.recognition import progress_bar
from karmma_ros.console import make_console
from karmma_ros.errors import BagError, UsageError
from karmma_ros.files import write_json

HELP = "Says whether a rosbag is fit for replay: exit status 0, or 1 with what is wrong and its remedy."

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's arguments."""
    parser.add_argument("bag", type=Path, metavar="BAG", help="a bag's folder, an .mcap or a .db3")
    add_topics(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    console = make_console()
    if not args.bag.exists():
        raise UsageError(f"{args.bag}: no such bag")
    report = _check(args, console)
    if args.json is not None:
        write_json(args.json, report.to_json())
    _print(console, report)
    return 0 if report.fit else 1


def _check(args: argparse.Namespace, console: Console) -> BagReport:
    try:
        bag = Bag(args.bag)
    except BagError as error:  # a bag that cannot be opened is what this command is asked about
        text, _, remedy = str(error).removeprefix(f"{args.bag}: ").partition(": ")
        return BagReport(str(args.bag), findings=[Finding(Severity.ERROR, "", text, remedy)])
    with bag, progress_bar(console) as progress:
        task = progress.add_task("", total=bag.duration_s, action="")
        return check_bag(bag, wanted_topics(args), lambda done_s: progress.update(task, completed=done_s))


def _print(console: Console, report: BagReport) -> None:
    def say(text: str, style: str = "") -> None:
        console.print(text, style=style, soft_wrap=True)

    say(f"{report.path}: {report.duration_s:.1f} s, {report.messages} messages")
    if report.topics:
        console.print(_topics(report))
    for finding in report.findings:
        where = f"{finding.topic}: " if finding.topic else ""
        say(f"{finding.severity}: {where}{finding.text}", _STYLES[finding.severity])
        say(f"  -> {finding.remedy}")
    count = sum(finding.severity is Severity.WARNING for finding in report.findings)
    if report.fit:
        say("fit for replay" + (f", with {count} warning{'s' * (count > 1)}" if count else ""), "bold green")
    else:
        say("not fit for replay", "bold red")


def _topics(report: BagReport) -> Table:
    table = Table()
    table.add_column("topic", overflow="fold", min_width=max(len(name) for name in report.topics))
    for heading in ("type", "used as", "holds"):
        table.add_column(heading, overflow="fold")
    for heading in ("messages", "rate", "lag"):  # lag: from stamp to log time
        table.add_column(heading, justify="right", no_wrap=True)
    used = {topic.name: topic for topic in report.used}
    for name, topic in report.topics.items():
        kind = topic["type"].replace("/msg/", "/")
        facts = used.get(name)
        cells = [name, kind, topic["used_as"] or "-", facts.details if facts else "", str(topic["messages"])]
        if facts:
            lag = "-" if facts.lag_s is None else f"{facts.lag_s * 1e3:.0f} ms"
            cells += [f"{facts.rate_hz:.1f}/s", lag]
        table.add_row(*cells)
    return table
