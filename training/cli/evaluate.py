# SPDX-License-Identifier: Apache-2.0
"""`karmma evaluate`: measure a bundle (through the robot's engine) or a run (through PyTorch).

karmma evaluate models/tabletop --split test --minutes 20
karmma evaluate runs/demo --split val --out out/demo
"""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path

import torch

from karmma_ros.bundle import find_bundle, load_bundle
from karmma_ros.console import make_console
from karmma_ros.errors import UsageError
from karmma_ros.files import write_json
from karmma_training.bundle.model_card import update_evaluation
from karmma_training.cli.evaluate_segments import add_segment_arguments, check_segment_arguments, run_segments
from karmma_training.config import Config
from karmma_training.data.store import default_store
from karmma_training.datasets.source import DATA_FORMS, open_recordings, open_source
from karmma_training.evaluation.bundle_predictor import BundlePredictor, bundle_config
from karmma_training.evaluation.plots import plot_confusion, plot_evaluation
from karmma_training.evaluation.predictor import Predictor, device_of, load_predictor
from karmma_training.evaluation.report import evaluate, print_report
from karmma_training.machine import machine

__all__ = ["HELP", "add_arguments", "run"]

RECORDING_S = 30.0  # length of a rendered recording

HELP = "Measure a bundle or a run: every modality subset, failing sensors, calibration; JSON and pictures."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `karmma evaluate`."""
    parser.add_argument("target", metavar="RUN|BUNDLE", help="run folder, bundle folder or bundle name")
    parser.add_argument("--data", metavar="DATA", help=f"{DATA_FORMS}; default: as trained")
    parser.add_argument("--split", choices=["train", "val", "test"], default="test")
    parser.add_argument("--minutes", type=float, default=20.0, metavar="M", help="of rendered recordings (default 20)")
    parser.add_argument(
        "--recording-s", type=float, default=RECORDING_S, metavar="S", help="length of each (default 30)"
    )
    parser.add_argument("--every", type=int, default=7, metavar="N", help="predict at every Nth frame (default 7)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the frames that get lost")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write evaluation.json and pictures there; default: into the target"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write this file instead")
    parser.add_argument("--store", type=Path, metavar="DIR", help="sample store; default in the user's cache folder")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument(
        "--device", choices=["cpu", "auto"], default="auto", help="of a run: a GPU where there is one, or not"
    )
    add_segment_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    console = make_console(stderr=True)
    check_segment_arguments(args)
    if args.minutes <= 0 or args.recording_s <= 0 or args.every < 1 or args.threads < 1:
        raise UsageError("--minutes, --recording-s, --every and --threads must be positive")
    folder, predictor, config = _open(args.target, args.threads, args.device)
    if args.data:
        config.data.source = args.data
    config.data.recording_s = args.recording_s
    source = open_source(config)
    if source.labels().to_json() != predictor.labels.to_json():
        raise UsageError(f"{source.name} has other classes than {args.target}")
    recordings = open_recordings(
        source, args.split, args.store or default_store(), minutes=args.minutes, console=console
    )
    head = {
        "command": _command(args),
        "target": folder.resolve().name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(device_of(args.device)),
        "seed": args.seed,
        "data": source.name,
        "split": args.split,
    }
    if args.segments:
        return run_segments(args, folder, predictor, source, recordings, head)
    if any((recording.targets < 0).any() for recording in recordings):
        raise UsageError(f"{source.name} has no labels in split {args.split!r}")
    report = head | evaluate(predictor, recordings, every=args.every, seed=args.seed, console=console)
    path = args.json or (args.out or folder) / "evaluation.json"
    write_json(path, report)
    plot_evaluation(report, path.with_suffix(".png"))
    plot_confusion(report, path.with_name(f"{path.stem}-confusion.png"))
    if path.parent == folder:
        update_evaluation(folder / "README.md", report)
    print_report(make_console(), report, predictor.labels)
    console.print(f"written: {path}")
    return 0


def _open(target: str, threads: int, device: str) -> tuple[Path, Predictor, Config]:
    """A run folder in PyTorch, anything else as a bundle."""
    torch.set_num_threads(threads)
    folder = Path(target)
    if (folder / "config.yaml").is_file():
        return folder, *load_predictor(folder, device)
    bundle = load_bundle(target)
    return Path(find_bundle(target)), BundlePredictor(bundle, threads), bundle_config(bundle)


def _command(args: argparse.Namespace) -> str:
    parts = ["karmma", "evaluate", args.target, "--split", args.split, "--minutes", f"{args.minutes:g}"]
    parts += ["--data", args.data] if args.data else []
    parts += ["--recording-s", f"{args.recording_s:g}"] if args.recording_s != RECORDING_S else []
    parts += ["--every", str(args.every)] if args.every != 7 else []
    parts += ["--seed", str(args.seed)] if args.seed else []
    parts += ["--segments", "--clips", str(args.clips), "--crops", str(args.crops)] if args.segments else []
    return shlex.join(parts)
