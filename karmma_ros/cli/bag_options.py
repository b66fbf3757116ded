# SPDX-License-Identifier: Apache-2.0
"""What the subcommands that read bags share: the bag, and which of its topics is which sensor."""

from __future__ import annotations

import argparse

from karmma_ros.bags.topics import NONE, OPTIONS

__all__ = ["add_rotate", "add_topics", "wanted_topics"]


def add_topics(parser: argparse.ArgumentParser, *, computed: bool = False, detections: bool = True) -> None:
    """`--image`, `--flow`, `--audio` and `--detections`.

    :param computed: flow can be computed from the camera, and is where the bag has none.
    :param detections: whether they are of use.
    """
    parser.add_argument("--image", metavar="TOPIC|none", help="the camera's topic (default: found by type)")
    if computed:
        text = "the flow's topic; camera: computed from the picture (default: found by type, else camera)"
        parser.add_argument("--flow", metavar="TOPIC|camera|none", help=text)
    else:
        parser.add_argument("--flow", metavar="TOPIC|none", help="the flow's topic (default: found by type)")
    parser.add_argument("--audio", metavar="TOPIC|none", help="the microphone's topic (default: found by type)")
    if detections:
        text = "the object detector's topic (default: found by type)"
        parser.add_argument("--detections", metavar="TOPIC|none", help=text)


def add_rotate(parser: argparse.ArgumentParser) -> None:
    """`--rotate DEGREES`."""
    text = "clockwise turn that makes the picture upright (default: 0)"
    parser.add_argument("--rotate", type=int, default=0, choices=(0, 90, 180, 270), help=text)


def wanted_topics(args: argparse.Namespace) -> dict[str, str | None]:
    """modality -> what the user says of its topic."""
    return {modality: getattr(args, option.removeprefix("--"), NONE) for modality, option in OPTIONS.items()}
