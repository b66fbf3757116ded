# SPDX-License-Identifier: Apache-2.0
"""`karmma evaluate`: measure a bundle (through the robot's engine) or a run (through PyTorch).

karmma evaluate models/tabletop --split test --minutes 20
karmma evaluate runs/demo --split val --out out/demo
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from karmma_ros.bundle import Bundle, find_bundle, load_bundle
from karmma_ros.errors import UsageError
from karmma_ros.files import write_json
from karmma_training.bundle_predictor import BundlePredictor
from karmma_training.checkpoint import load_student
from karmma_training.config import Config, DataConfig, preset
from karmma_training.data.labels import Labels
from karmma_training.data.source import open_recordings, open_source
from karmma_training.data.store import Recording, default_store
from karmma_training.evaluate import Logits, demo_patterns, encode_recording, predict, subsets, summarise
from karmma_training.model_card import update_evaluation
from karmma_training.predictor import Predictor, StudentPredictor
from karmma_training.progress import progress_bar

__all__ = ["HELP", "add_arguments", "evaluate", "run"]

HELP = "Measure a bundle or a run for every modality subset and sensor failure."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `karmma evaluate`."""
    parser.add_argument("target", metavar="RUN|BUNDLE", help="run folder, bundle folder or bundle name")
    parser.add_argument("--data", metavar="NAME|CSV", help="tabletop or a manifest CSV; default: as trained")
    parser.add_argument("--split", choices=["train", "val", "test"], default="test")
    parser.add_argument("--minutes", type=float, default=20.0, metavar="M", help="of rendered recordings (default 20)")
    parser.add_argument("--recording-s", type=float, default=30.0, metavar="S", help="length of each (default 30)")
    parser.add_argument("--every", type=int, default=7, metavar="N", help="predict at every Nth frame (default 7)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the frames that get lost")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write DIR/evaluation.json; default: into the target")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write this file instead")
    parser.add_argument("--store", type=Path, metavar="DIR", help="sample store; default in the user's cache folder")
    parser.add_argument("--threads", type=int, default=2, metavar="N")


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    console = Console(stderr=True)
    if args.minutes <= 0 or args.recording_s <= 0 or args.every < 1 or args.threads < 1:
        raise UsageError("--minutes, --recording-s, --every and --threads must be positive")
    folder, predictor, config = _open(args.target, args.threads)
    if args.data:
        config.data.source = args.data
    config.data.recording_s = args.recording_s
    source = open_source(config)
    if source.labels().to_json() != predictor.labels.to_json():
        raise UsageError(f"{source.name} has other classes than {args.target}")
    recordings = open_recordings(
        source, args.split, args.store or default_store(), minutes=args.minutes, console=console
    )
    report = {
        "command": _command(args),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": _machine(),
        "seed": args.seed,
        "data": source.name,
        "split": args.split,
        **evaluate(predictor, recordings, every=args.every, seed=args.seed, console=console),
    }
    path = args.json or (args.out or folder) / "evaluation.json"
    write_json(path, report)
    if path.parent == folder:
        update_evaluation(folder / "README.md", report)
    _print(report, predictor.labels)
    console.print(f"written: {path}", highlight=False)
    return 0


def evaluate(
    predictor: Predictor, recordings: list[Recording], *, every: int, seed: int, console: Console
) -> dict[str, Any]:
    """Accuracies for all modality subsets and, with all three modalities, the demo's sensor patterns."""
    patterns = subsets(list(predictor.specs))
    failures = demo_patterns(seed) if len(predictor.specs) == 3 else {}
    results = {name: Logits() for name in (*patterns, *failures)}
    with progress_bar(console) as bar:
        task = bar.add_task("evaluating", total=len(recordings), note="")
        for number, recording in enumerate(recordings):
            encoded = encode_recording(predictor, recording, every=every)
            for name, pattern in (patterns | failures).items():
                results[name].add(predict(predictor, encoded, pattern(encoded, number)), encoded)
            bar.advance(task)
    scores = summarise(results, predictor.labels, predictor.temperature)
    _, targets, _ = next(iter(results.values())).arrays()
    actions = predictor.labels.action_ids(targets)
    shares = np.bincount(actions[actions >= 0], minlength=len(predictor.labels.actions)) / len(actions)
    return {
        "minutes": round(sum(r.labelled_s for r in recordings) / 60, 3),
        "recordings": len(recordings),
        "windows": len(targets),
        "subsets": {name: scores[name] for name in patterns},
        "patterns": {name: scores[name] for name in failures},
        "majority_share": float(shares.max()),
        "classes": {predictor.labels.action_name(i): round(float(s), 5) for i, s in enumerate(shares)},
    }


def _open(target: str, threads: int) -> tuple[Path, Predictor, Config]:
    """A run folder in PyTorch, anything else as a bundle."""
    torch.set_num_threads(threads)
    folder = Path(target)
    if (folder / "config.yaml").is_file():
        student, config, labels, _ = load_student(folder)
        return folder, StudentPredictor(student, labels, config.audio.context), config
    bundle = load_bundle(target)
    return Path(find_bundle(target)), BundlePredictor(bundle, threads), _bundle_config(bundle)


def _bundle_config(bundle: Bundle) -> Config:
    """The settings that preparing data for a bundle needs: sizes from its manifest, rendering as its preset's."""
    config = preset(bundle.preset) if bundle.preset in ("tiny", "demo") else Config(data=DataConfig())
    config.modalities = list(bundle.modalities)
    for m, spec in bundle.modalities.items():
        if m == "audio":
            config.audio.rate, config.audio.context = spec.rate, spec.context
        elif m == "flow":
            config.flow.height, config.flow.width = spec.input.size
            if spec.producer:
                config.flow.producer_preset = spec.producer.preset
                config.flow.producer_width, config.flow.producer_height = spec.producer.size
        else:
            config.video.height, config.video.width = spec.input.size
    return config


def _command(args: argparse.Namespace) -> str:
    parts = ["karmma", "evaluate", args.target, "--split", args.split, "--minutes", f"{args.minutes:g}"]
    parts += ["--data", args.data] if args.data else []
    parts += ["--every", str(args.every)] if args.every != 7 else []
    parts += ["--seed", str(args.seed)] if args.seed else []
    return shlex.join(parts)


def _machine() -> str:
    """Processor, cores and Python version."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def _print(report: Mapping[str, Any], labels: Labels) -> None:
    """The report as a table on stdout."""
    columns = ["action", "action_settled", "action_independent", *labels.heads]
    table = Table(title=f"top-1 accuracy, {report['data']} {report['split']}, {report['minutes']:.1f} min")
    table.add_column("sensors")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    for section in ("subsets", "patterns"):
        for name, scores in report[section].items():
            table.add_row(name, *(f"{100 * scores[c]:.1f}" for c in columns), end_section=False)
        table.add_section()
    console = Console()
    console.print(table)
    console.print(f"majority class: {100 * report['majority_share']:.1f} %", highlight=False)
