# SPDX-License-Identifier: Apache-2.0
"""What the subcommands share, so that the same option means the same everywhere and errors look alike."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from karmma_ros.errors import UsageError

__all__ = [
    "Parser",
    "add_bundle",
    "add_json",
    "add_out",
    "add_seed",
    "add_split_shares",
    "add_threads",
    "check_file",
    "check_out",
    "count",
    "one_line",
    "positive",
    "share",
    "terminable",
]

DEFAULT_BUNDLE = "tabletop"


class Parser(argparse.ArgumentParser):
    """A parser that answers a mistake with one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {one_line(message)} (see `{self.prog} --help`)")


def one_line(message: object) -> str:
    """The message on one line, whatever it was."""
    return " ".join(str(message).split())


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """`--bundle NAME|PATH`."""
    parser.add_argument(
        "--bundle",
        default=DEFAULT_BUNDLE,
        metavar="NAME|PATH",
        help="the bundle to run: its name or its folder (default: %(default)s)",
    )


def add_out(parser: argparse.ArgumentParser, default: str) -> None:
    """`--out DIR`."""
    parser.add_argument(
        "--out", type=Path, default=Path(default), metavar="DIR", help="folder for the results (default: %(default)s)"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json FILE`."""
    parser.add_argument("--json", type=json_file, metavar="FILE", help="also write the result as JSON")


def add_seed(parser: argparse.ArgumentParser, default: int = 0) -> None:
    """`--seed N`."""
    parser.add_argument(
        "--seed", type=count, default=default, metavar="N", help="seed of everything random (default: %(default)s)"
    )


def add_split_shares(parser: argparse.ArgumentParser) -> None:
    """`--split-shares TRAIN VAL TEST`."""
    parser.add_argument(
        "--split-shares",
        type=share,
        nargs=3,
        default=(0.8, 0.1, 0.1),
        metavar=("TRAIN", "VAL", "TEST"),
        help="how the recordings are divided (default: 0.8 0.1 0.1)",
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """`--threads N`."""
    parser.add_argument(
        "--threads", type=int, default=1, choices=range(1, 65), metavar="N", help="threads of inference"
    )


def json_file(text: str) -> Path:
    """An argparse type: a file to write."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder: name a file in it")
    return path


def count(text: str) -> int:
    """An argparse type: an integer of at least 0."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def positive(text: str) -> float:
    """An argparse type: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def share(text: str) -> float:
    """An argparse type: a finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a share")
    return value


def check_file(path: Path) -> Path:
    """`path`, if it is a file. :raises UsageError: if it is not."""
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    if not path.is_file():
        raise UsageError(f"{path}: not a file")
    return path


def check_out(path: Path) -> Path:
    """`path`, if results can be put there: a folder, or nothing yet. :raises UsageError: if it is something else."""
    for folder in (path, *path.parents):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{path}: {folder} is a file, not a folder")
    return path


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM, and a terminal that is closed, end what runs within as Ctrl-C does: in order, with its processes."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is not signal.SIG_IGN:  # nohup stays what it is
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])
