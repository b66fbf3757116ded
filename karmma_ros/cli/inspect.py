# SPDX-License-Identifier: Apache-2.0
"""`karmma inspect`: what a bundle is made of, and whether it runs here."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from karmma_ros.bundle import Bundle, load_bundle, read_evaluation
from karmma_ros.cli.common import add_json
from karmma_ros.console import make_console
from karmma_ros.files import write_json
from karmma_ros.manifest import GraphSpec
from karmma_ros.runtime import Engine

HELP = "Shows what is in a bundle, and checks that it gives here what it gave where it was made."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's arguments."""
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle's name or folder")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    bundle = load_bundle(args.bundle)
    engine = Engine(bundle)  # loads every graph and runs the manifest's check
    facts = _facts(bundle, engine)
    if args.json is not None:
        write_json(args.json, facts)
    console = make_console()
    _show(console, facts)
    return 0


def _facts(bundle: Bundle, engine: Engine) -> dict[str, Any]:
    modalities = {}
    for name, spec in bundle.modalities.items():
        modalities[name] = {
            **_graph(bundle, spec),
            "input": list(spec.input.shape),
            "dtype": spec.input.dtype,
            "rate": spec.rate,
            "context": spec.context,
            "context_step_s": spec.context_step_s,
            "slots": spec.slots,
            "spacing_s": spec.spacing_s,
            "delay_s": spec.delay_s,
            "tokens": spec.tokens,
            "dim": spec.dim,
            "producer": [*spec.producer.size, spec.producer.preset] if spec.producer else None,
        }
    return {
        "name": bundle.name,
        "folder": str(bundle.folder),
        "created": bundle.created,
        "git": bundle.git,
        "preset": bundle.preset,
        "licence": bundle.licence,
        "window_s": bundle.window_s,
        "modalities": modalities,
        "fusion": _graph(bundle, bundle.fusion),
        "heads": {head: list(labels) for head, labels in bundle.heads.items()},
        "actions": list(bundle.action_names),
        "temperature": dict(bundle.temperature),
        "bytes": sum(path.stat().st_size for path in bundle.folder.iterdir() if path.is_file()),
        "providers": list(engine.providers),
        "providers_passed_over": list(engine.passed_over),
        "evaluation": read_evaluation(bundle.folder) or None,
    }


def _graph(bundle: Bundle, spec: GraphSpec) -> dict[str, Any]:
    size = (bundle.folder / spec.graph).stat().st_size
    return {"graph": spec.graph, "bytes": size, "precision": spec.precision, "sha256": spec.sha256}


def _show(console: Console, facts: dict[str, Any]) -> None:
    about = f"  {facts['preset']} preset, {facts['window_s']:g} s window, {facts['bytes'] / 1e6:.1f} MB, "
    heading = Text.assemble((facts["name"], "bold"), about, f"licence {facts['licence']}")
    console.print(heading, soft_wrap=True)
    console.print(f"{facts['folder']}  (made {facts['created']}, {facts['git']})", style="dim")
    table = Table()
    for column in ("graph", "size", "precision", "input", "slots", "spacing", "delay", "tokens"):
        table.add_column(column, justify="left" if column == "graph" else "right")
    for name, m in facts["modalities"].items():
        shape = "x".join(map(str, m["input"]))
        table.add_row(
            name,
            f"{m['bytes'] / 1e6:.2f} MB",
            m["precision"],
            f"{m['dtype']} {shape}" + (f" at {m['rate']} Hz" if m["rate"] else ""),
            str(m["slots"]),
            f"{m['spacing_s'] * 1e3:.0f} ms",
            f"{m['delay_s'] * 1e3:.0f} ms",
            f"{m['tokens']} of {m['dim']}",
        )
    fusion = facts["fusion"]
    table.add_row("fusion", f"{fusion['bytes'] / 1e6:.2f} MB", fusion["precision"])
    console.print(table)
    for head, labels in facts["heads"].items():
        console.print(f"{len(labels)} of head {head}: {_some(labels)}", soft_wrap=True)
    console.print(f"{len(facts['actions'])} actions: {_some(facts['actions'])}", soft_wrap=True)
    for reason in facts["providers_passed_over"]:
        console.print(f"passed over: {reason}", style="yellow", soft_wrap=True)
    console.print(f"runs on {', '.join(facts['providers'])}; the manifest's check passed", style="green")


def _some(labels: list[str], most: int = 12) -> str:
    return ", ".join(labels[:most]) + (", ..." if len(labels) > most else "")
