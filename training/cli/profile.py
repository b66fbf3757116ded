# SPDX-License-Identifier: Apache-2.0
"""`karmma profile`: what teacher and student of a preset cost, per modality subset, beside the paper's own values.

karmma profile --preset paper --out out/profile
karmma profile --preset paper --runs 0              # count only: nothing is run
karmma profile --preset stream --no-teacher         # on a CPU, where a teacher takes minutes
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from karmma_ros.console import make_console
from karmma_ros.errors import UsageError
from karmma_ros.files import write_json
from karmma_training.config_file import apply_overrides
from karmma_training.evaluation.patterns import initials
from karmma_training.evaluation.plots import plot_profile
from karmma_training.evaluation.predictor import device_of
from karmma_training.evaluation.profile import PAPER_GFLOPS, PAPER_GIGABYTES, count, measure
from karmma_training.machine import machine
from karmma_training.presets import PRESETS, as_system, preset
from karmma_training.progress import progress_bar

__all__ = ["HELP", "add_arguments", "run"]

HELP = "Count GFLOPs and parameters, measure latency and memory, of teacher and student."
PAPER_STUDENT = "the paper's student"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `karmma profile`."""
    parser.add_argument("--preset", choices=PRESETS, default="paper", help="default: paper")
    heads = ["verb=97", "noun=300"]
    parser.add_argument(
        "--heads", nargs="+", default=heads, metavar="NAME=CLASSES", help="default: those of EPIC-KITCHENS-100"
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of every subset (default 3); 0: only count")
    parser.add_argument("--no-teacher", action="store_true", help="leave it out: it is by far the slowest")
    parser.add_argument("--device", choices=["cpu", "auto"], default="auto", help="auto: a GPU where there is one")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of the CPU; 0: as torch likes")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the student")
    parser.add_argument("--out", type=Path, default=Path("out/profile"), metavar="DIR", help="default: out/profile")


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    if args.runs < 0 or args.threads < 0:
        raise UsageError("--runs and --threads must not be negative")
    heads = _heads(args.heads)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = device_of(args.device)
    student = apply_overrides(preset(args.preset, "baseline-dropout"), args.set)
    student.check()
    console = make_console(stderr=True)
    configs = {} if args.no_teacher else {"teacher": as_system(student, "teacher")}
    configs["student"] = student
    if args.preset == "stream":  # what its student replaces
        configs[PAPER_STUDENT] = preset("paper", "baseline-dropout")
        configs[PAPER_STUDENT].modalities = student.modalities
    systems: dict[str, dict[str, dict[str, float]]] = {system: {} for system in configs}
    with progress_bar(console) as bar:
        task = bar.add_task("profiling", total=len(configs) * (2 ** len(student.modalities) - 1), note="")
        for system, config in configs.items():
            rows = systems[system]
            for chosen, row in count(config, heads).items():
                if args.runs:
                    row |= measure(config, heads, chosen, args.runs, device)
                rows[initials("+".join(chosen))] = row
                bar.advance(task)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    report = {
        "preset": args.preset,
        "heads": heads,
        "machine": machine(device),
        "device": where,
        "runs": args.runs,
        "systems": systems,
        "paper": {"gflops": PAPER_GFLOPS, "gigabytes": PAPER_GIGABYTES} if args.preset == "paper" else None,
    }
    write_json(args.out / "profile.json", report)
    plot_profile(report, args.out / "profile.png")
    _print(report)
    console.print(f"written: {args.out}/profile.json, profile.png")
    return 0


def _heads(texts: list[str]) -> dict[str, int]:
    heads = {}
    for text in texts:
        name, _, classes = text.partition("=")
        if not name or not classes.isdecimal() or int(classes) < 1:
            raise UsageError(f"--heads {text}: expected NAME=CLASSES, e.g. verb=97")
        heads[name] = int(classes)
    return heads


def _print(report: dict[str, Any]) -> None:
    console = make_console()
    paper, runs = report["paper"], report["runs"]
    for system, rows in report["systems"].items():
        which = "" if system == PAPER_STUDENT else f" of the {report['preset']} preset"
        table = Table(title=f"{system}{which}, {report['device']}", title_justify="left", caption_justify="left")
        table.caption = "online: of one prediction per camera frame, which encodes what is new and keeps the window"
        table.caption += "; timed with something new from every sensor" if runs else ""
        table.add_column("sensors")
        columns = ["GFLOPs", *(["paper's"] if paper else []), "as deployed", "online", "parameters [M]"]
        columns += ["memory [GB]", *(["paper's"] if paper else []), "whole window [ms]", "online [ms]"] if runs else []
        for column in columns:
            table.add_column(column, justify="right")
        for subset, row in rows.items():
            cells = [f"{row['gflops']:.2f}"]
            cells += [_published(paper["gflops"][system], subset, 2)] if paper else []
            cells += [f"{row[f'gflops_{kind}']:.2f}" for kind in ("deployed", "online")]
            cells += [f"{row['parameters'] / 1e6:.2f}"]
            if runs:
                cells += [f"{row['megabytes'] / 1e3:.3f}"]
                cells += [_published(paper["gigabytes"][system], subset, 3)] if paper else []
                cells += [f"{row[name]:.1f}" for name in ("latency_ms", "latency_online_ms")]
            table.add_row(subset, *cells)
        console.print(table)


def _published(values: Mapping[str, float], subset: str, digits: int) -> str:
    """The paper's value, where it has one: its bars are those of V, F and A."""
    return f"{values[subset]:.{digits}f}" if subset in values else "-"
