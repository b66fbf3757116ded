# SPDX-License-Identifier: Apache-2.0
"""`karmma doctor`: looks whether everything that the nodes need is there and works, and says what to do if not."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from rich.console import Console
from rich.text import Text

from karmma_ros.cli.common import add_bundle, add_json, one_line
from karmma_ros.console import make_console
from karmma_ros.doctor.bundles import check_bundle, try_bundle
from karmma_ros.doctor.dds import Camera, Host, check_dds
from karmma_ros.doctor.engine import check_engine
from karmma_ros.doctor.finding import Finding, Level, fault
from karmma_ros.doctor.machine import check_machine
from karmma_ros.doctor.ros import check_ros
from karmma_ros.doctor.sound import check_sound
from karmma_ros.files import write_json

HELP = "Looks at everything that the nodes need: each finding with its remedy. Exit status 1 if something is at fault."

_STYLES = {Level.OK: "green", Level.ADVICE: "yellow", Level.FAULT: "bold red"}

Check = Callable[[], Iterable[Finding]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's arguments."""
    add_bundle(parser)
    parser.add_argument(
        "--camera",
        default="640x480@30",
        metavar="WxH@HZ",
        help="what the robot's camera sends, to judge buffers by (default: %(default)s)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the checks; 1 if something is at fault."""
    camera = Camera.parse(args.camera)
    environ = dict(os.environ)
    checks: dict[str, Check] = {
        "machine": check_machine,
        "ROS 2": partial(check_ros, environ),
        "Fast DDS": lambda: check_dds(environ, camera, Host.read()),
        "bundle": partial(check_bundle, args.bundle),
        "ONNX Runtime": partial(check_engine, partial(try_bundle, args.bundle)),
        "microphone": check_sound,
    }
    console = make_console()
    with console.status("looking ..."):
        findings = [finding for name, check in checks.items() for finding in _all_of(name, check)]
    faults = sum(finding.level is Level.FAULT for finding in findings)
    if args.json is not None:
        write_json(args.json, _as_dict(findings, faults))
    _show(console, findings, faults)
    return 1 if faults else 0


def _all_of(name: str, check: Check) -> Iterator[Finding]:
    """What a check finds; one that breaks is a finding too, and the others go on."""
    try:
        yield from check()
    except Exception as error:
        yield fault(name, f"the check broke: {type(error).__name__}: {one_line(error)}", "report it as an issue")


def _as_dict(findings: Iterable[Finding], faults: int) -> dict[str, object]:
    rows = [{"level": f.level.value, "subject": f.subject, "text": f.text, "remedy": f.remedy} for f in findings]
    return {"faults": faults, "findings": rows}


def _show(console: Console, findings: list[Finding], faults: int) -> None:
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        line = Text.assemble((f"{finding.level.value:<6}", _STYLES[finding.level]), "  ")
        line.append(f"{finding.subject:<{width}}  ", style="bold")
        line.append(one_line(finding.text))
        console.print(line, soft_wrap=True)
        if finding.remedy:
            remedy = Text.assemble(" " * (10 + width), ("->", "cyan"), f" {finding.remedy}")
            console.print(remedy, soft_wrap=True)
    advised = sum(finding.level is Level.ADVICE for finding in findings)
    verdict = f"{faults} at fault" if faults else "everything works"
    style = _STYLES[Level.FAULT if faults else Level.OK]
    rest = f", {advised} worth a look" if advised else ""
    console.print(Text.assemble((verdict, style), rest))
