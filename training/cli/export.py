# SPDX-License-Identifier: Apache-2.0
"""`karmma export`: a run's best weights -> a bundle for the robot.

karmma export runs/demo --out models/tabletop
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from pathlib import Path

from rich.console import Console

from karmma_ros.errors import UsageError
from karmma_ros.files import whole_folder
from karmma_training.checkpoint import load_student
from karmma_training.data.source import open_recordings, open_source
from karmma_training.data.store import Recording, default_store
from karmma_training.evaluate import Logits, encode_recording, predict, subsets
from karmma_training.export import export_bundle
from karmma_training.metrics import fit_temperatures
from karmma_training.model_card import model_card
from karmma_training.predictor import Predictor, StudentPredictor

__all__ = ["HELP", "add_arguments", "export", "run"]

HELP = "Turn a run's best weights into a bundle, verified against PyTorch."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `karmma export`."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="run folder of `karmma train`")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle's folder")
    parser.add_argument("--name", help="the bundle's name; default the folder's")
    parser.add_argument("--replace", action="store_true", help="replace the bundle that is there")
    parser.add_argument("--store", type=Path, metavar="DIR", help="sample store; default in the user's cache folder")


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    console = Console(stderr=True)
    worst = export(args.run_folder, args.out, name=args.name, replace=args.replace, store=args.store, console=console)
    console.print(f"{args.out}: ONNX Runtime and PyTorch agree to {worst:.1e}", highlight=False)
    return 0


def export(
    run_folder: Path,
    out: Path,
    *,
    name: str | None = None,
    replace: bool = False,
    store: Path | None = None,
    console: Console,
) -> float:
    """Export a run; the temperatures are fitted on its validation recordings.

    :return: largest difference between ONNX Runtime and PyTorch.
    :raises UsageError: `out` is taken, or the run is unusable.
    """
    name = name or out.resolve().name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(f"{name!r} cannot name a bundle: use letters, digits, '.', '_' and '-'")
    taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if taken and not (replace and (out / "bundle.json").is_file()):
        hint = "--replace replaces a bundle" if not replace else "it is no bundle, so it is not replaced"
        raise UsageError(f"{out} exists: {hint}")
    student, config, labels, about = load_student(run_folder)
    source = open_source(config)
    recordings = open_recordings(source, "val", store or default_store(), console=console)
    predictor = StudentPredictor(student, labels, config.audio.context)
    temperature = _temperatures(predictor, recordings, config.train.validate_step)
    fresh = out.with_name(f".{out.name}.new") if taken else out
    shutil.rmtree(fresh, ignore_errors=True) if taken else None
    with whole_folder(fresh) as folder:
        worst = export_bundle(folder, name, student, config, labels, temperature)
        size_mb = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        card = model_card(name, config, labels, about, temperature, size_mb)
        (folder / "README.md").write_text(card)
    if taken:
        old = out.with_name(f".{out.name}.old")
        os.replace(out, old)
        os.replace(fresh, out)
        shutil.rmtree(old)
    return worst


def _temperatures(predictor: Predictor, recordings: list[Recording], every: int) -> dict[str, float]:
    """Fitted over all modality subsets together: probabilities must hold whatever sensors are left."""
    pooled = Logits()
    for number, recording in enumerate(recordings):
        encoded = encode_recording(predictor, recording, every=every)
        for pattern in subsets(list(predictor.specs)).values():
            pooled.add(predict(predictor, encoded, pattern(encoded, number)), encoded)
    logits, targets, _ = pooled.arrays()
    return fit_temperatures(logits, targets)
