# SPDX-License-Identifier: Apache-2.0
"""`karmma soak`: the real node under a storm of failing sensors, for as long as you like, and a verdict."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from karmma_ros.bundle import load_bundle
from karmma_ros.cli.common import add_bundle, add_json, add_out, add_seed, check_out, positive, terminable
from karmma_ros.console import make_console
from karmma_ros.errors import UsageError
from karmma_ros.files import write_json

HELP = "Runs the node under a storm of failing sensors and judges: predictions, gaps, exceptions, memory."

SHORTEST_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's arguments."""
    parser.add_argument(
        "--minutes", type=positive, default=20.0, metavar="M", help="length of the storm (default: %(default)s)"
    )
    parser.add_argument(
        "--transport",
        choices=("raw", "compressed"),
        default="raw",
        help="of the camera: Image, or CompressedImage as JPEG (default: %(default)s)",
    )
    add_bundle(parser)
    add_out(parser, "out/soak")
    add_json(parser)
    add_seed(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the soak; 1 if the node failed it."""
    if args.minutes * 60 < SHORTEST_S:
        raise UsageError(f"--minutes {args.minutes:g}: at least {SHORTEST_S / 60:g}")
    check_out(args.out)
    bundle = load_bundle(args.bundle)
    from karmma_ros.soak.run import run_soak

    console = make_console()
    with terminable():
        result = run_soak(bundle, args.minutes * 60, args.seed, args.out, console, transport=args.transport)
    console.print(_table(result))
    for text in result["failed"]:
        console.print(f"failed: {text}", style="red")
    console.print(f"written to {args.out}: soak.json, node.log", soft_wrap=True)
    if args.json is not None:
        write_json(args.json, result)
    return 1 if result["failed"] else 0


def _table(result: dict[str, Any]) -> Table:
    memory, least, most = result["resident_mb"], result["due"], result["due_at_most"]
    due = f"{least}" if least == most else f"{least} to {most}"
    title = f"soak of {result['seconds'] / 60:g} min, seed {result['seed']}, {result['transport']} images"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    rows = {
        "predictions delivered / due": f"{result['delivered']} / {due}",
        "worst gap": f"{result['worst_gap_s']:.2f} s ({_about(result['gaps'][0])})",
        "exceptions": f"{result['exceptions']}",
        "resident memory, second / last quarter": f"{memory['second_quarter']:.1f} / {memory['last_quarter']:.1f} MB",
        "threads, second / last quarter": " / ".join(f"{n:g}" for n in result["threads"]),
        "open files, second / last quarter": " / ".join(f"{n:g}" for n in result["files"]),
        "processes of sensors killed": f"{result['killed']}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _about(gap: Mapping[str, Any]) -> str:
    """The weather in which nothing was heard, and what of it was not the node's."""
    machine = f"; the machine stood still for {gap['machine_s']:.2f} s of it" if gap["machine_s"] else ""
    return f"{gap['weather']}{machine}"
