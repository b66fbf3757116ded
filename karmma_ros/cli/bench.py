# SPDX-License-Identifier: Apache-2.0
"""`karmma bench`: how fast recognition is on this machine, as JSON, tables and pictures."""

from __future__ import annotations

import argparse
import importlib
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable

from karmma_ros.bundle import load_bundle
from karmma_ros.cli.common import add_bundle, add_out, add_threads, check_out, terminable
from karmma_ros.console import make_console
from karmma_ros.errors import UsageError
from karmma_ros.files import whole_file, write_json
from karmma_ros.inference.gpu import find_gpus
from karmma_ros.records import describe_machine

HELP = "Measures cost, latency and speed on this machine; nothing is judged by time, so compare within one run."

BENCHMARKS = {
    "choices": "what the node was not built with: other executors, more threads, bound buffers, extractors at the same "
    "time, graphs optimised ahead (needs ROS 2)",
    "cost": "cost of a prediction: streaming, the window encoded again, a clip model; by window and by sensors",
    "dds": "latency from camera to listener over DDS, losses, processor and memory of the node (needs ROS 2)",
    "decode": "clips a second and core out of a data set's files, against a plain OpenCV loop",
    "precision": "graphs in FP32, FP16 and INT8: size, cost and accuracy",
    "providers": "every execution provider that is here, graphs as exported and in FP16: cost of each and of a frame",
    "replay": "how many times faster than real time a bag is watched",
}
_ON_ANY = ("cost", "dds", "replay")  # execution provider; the others compare them, or have none
_NEEDS = {
    "choices": {"rclpy": "source a ROS 2 installation"},
    "dds": {"rclpy": "source a ROS 2 installation"},
    "decode": {"torch": "install the training extra"},
    "precision": {"torch": "install the training extra", "onnx": "install the training extra"},
    "replay": {"rosbags": "install the bags extra"},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's arguments."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="; ".join(f"{name}: {what}" for name, what in BENCHMARKS.items()) + " (default: all)",
    )
    parser.add_argument("--quick", action="store_true", help="under two minutes in all, to see that it works")
    add_bundle(parser)
    add_threads(parser)
    parser.add_argument(
        "--providers",
        default="cpu",
        metavar="LIST",
        help="execution providers of cost, dds and replay: auto, or names with commas (default: %(default)s)",
    )
    add_out(parser, "out/bench")


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    unknown = [name for name in args.names if name not in BENCHMARKS]
    if unknown:
        raise UsageError(f"no benchmark {unknown[0]!r}: choose from {', '.join(BENCHMARKS)}")
    check_out(args.out)
    console = make_console()
    from karmma_benchmarks.settings import Settings

    lacking = {name: lack for name in args.names or BENCHMARKS if (lack := _lack(name))}
    if args.names and lacking:
        raise UsageError("; ".join(f"{name} {lack}" for name, lack in lacking.items()))
    settings = Settings(load_bundle(args.bundle), args.threads, args.quick, make_console(stderr=True), args.providers)
    machine = describe_machine() | {"gpus": [gpu.name for gpu in find_gpus()]}
    with terminable():
        for name in args.names or BENCHMARKS:
            if name in lacking:
                console.print(f"not measured: {name} {lacking[name]}", style="yellow")
                continue
            begun = time.monotonic()
            report = importlib.import_module(f"karmma_benchmarks.{name}").run(settings)
            result = {
                "benchmark": name,
                "machine": machine,
                "bundle": settings.bundle.name,
                "threads": settings.threads,
                **({"providers": settings.providers} if name in _ON_ANY else {}),
                "quick": settings.quick,
                "seconds": round(time.monotonic() - begun, 1),
                "skipped": report.skipped,
                **report.data,
            }
            write_json(args.out / f"{name}.json", result)
            with whole_file(args.out / f"{name}.md") as path:
                path.write_text("\n".join(_markdown(table) for table in report.tables), encoding="utf-8")
            if report.tables:
                _draw(name, result, machine, args.out)
            for table in report.tables:
                console.print(_as_rich(table))
            for what, why in report.skipped.items():
                console.print(f"not measured: {what}: {why}", style="yellow")
    console.print(f"written to {args.out}", soft_wrap=True)
    return 0


def _lack(name: str) -> str:
    """What a benchmark needs and is not here; ""."""
    missing = [f"needs {module}: {remedy}" for module, remedy in _NEEDS.get(name, {}).items() if not find_spec(module)]
    return ", ".join(missing)


def _draw(name: str, result: dict[str, Any], machine: dict[str, Any], out: Path) -> None:
    if find_spec("matplotlib") is None:
        make_console(stderr=True).print(f"no {name}.png: matplotlib is not installed", style="yellow")
        return
    from karmma_benchmarks.pictures import draw

    draw(name, result, machine, out / f"{name}.png")


def _markdown(table: Any) -> str:
    rows = [table.headings, ["---"] + ["---:"] * (len(table.headings) - 1), *table.rows]
    return f"{table.title}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _as_rich(table: Any) -> RichTable:
    shown = RichTable(title=table.title, title_justify="left")
    for heading in table.headings:
        shown.add_column(heading, justify="left" if heading == table.headings[0] else "right")
    for row in table.rows:
        shown.add_row(*row)
    return shown
