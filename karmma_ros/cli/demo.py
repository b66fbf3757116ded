# SPDX-License-Identifier: Apache-2.0
"""`karmma demo`: plays a rendered scene, or a video file, to the action node over ROS 2 while its sensors fail."""

from __future__ import annotations

import argparse
from pathlib import Path

from karmma_ros.bundle import load_bundle
from karmma_ros.cli.common import (
    add_bundle,
    add_json,
    add_out,
    add_seed,
    check_file,
    check_out,
    positive,
    terminable,
)
from karmma_ros.console import make_console
from karmma_ros.demo.sources import SceneSource, Source, open_file_source
from karmma_ros.errors import UsageError
from karmma_ros.files import write_json

HELP = "Plays a scene to the action node over ROS 2 in real time while its sensors fail one after another."

SHORTEST_S = 3.5  # seven phases of half a second


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's arguments."""
    parser.add_argument("--video", type=Path, metavar="FILE", help="play this video and its sound instead of a scene")
    parser.add_argument(
        "--seconds", type=positive, default=60.0, metavar="S", help="length; a shorter video repeats (default: 60)"
    )
    parser.add_argument("--no-view", action="store_true", help="show nothing while it plays")
    parser.add_argument("--no-overlay", action="store_true", help="do not make overlay.mp4 afterwards")
    add_bundle(parser)
    add_out(parser, "out/demo")
    add_json(parser)
    add_seed(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the demo."""
    if not SHORTEST_S <= args.seconds <= 3600:
        raise UsageError(f"--seconds {args.seconds:g}: from {SHORTEST_S} to 3600")
    check_out(args.out)
    bundle = load_bundle(args.bundle)
    source: Source
    if args.video is not None:
        source = open_file_source(check_file(args.video), args.seconds)
    else:
        source = SceneSource(args.seed, args.seconds)
    from karmma_ros.demo.run import Settings, run_demo

    console = make_console()
    settings = Settings(bundle, source, args.out, args.seed, view=not args.no_view, film=not args.no_overlay)
    with terminable():
        summary = run_demo(settings, console)
    if args.json is not None:
        write_json(args.json, summary)
    return 0
