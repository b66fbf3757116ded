# SPDX-License-Identifier: Apache-2.0
"""`karmma export`: a run's best weights -> a bundle for the robot.

karmma export runs/demo --out models/tabletop
karmma export runs/demo --out models/small --precision video=int8,fusion=int8
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from pathlib import Path

from rich.console import Console

from karmma_ros.console import make_console
from karmma_ros.errors import UsageError
from karmma_ros.files import whole_folder
from karmma_training.bundle.export import NO_LICENCE, OUR_LICENCE, export_bundle
from karmma_training.bundle.lineage import from_scratch, lineage
from karmma_training.bundle.model_card import model_card
from karmma_training.bundle.precision import Samples, calibration_samples, parse_precision, reduce_bundle
from karmma_training.checkpoint import load_model
from karmma_training.data.store import default_store
from karmma_training.datasets.source import open_recordings, open_source
from karmma_training.evaluation.plots import plot_training
from karmma_training.learning.run_log import METRICS

__all__ = ["HELP", "add_arguments", "export", "run"]

PICTURE = "training.png"

HELP = "Turn a run's best weights into a bundle, verified against PyTorch."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `karmma export`."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="run folder of `karmma train`")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle's folder")
    parser.add_argument("--name", help="the bundle's name; default the folder's")
    parser.add_argument("--replace", action="store_true", help="replace the bundle that is there")
    parser.add_argument(
        "--precision",
        default="fp32",
        metavar="P",
        help="fp32 (default), fp16 or int8 for all graphs, or e.g. video=int8,fusion=int8; int8 is calibrated on the "
        "validation recordings",
    )
    parser.add_argument(
        "--licence",
        metavar="TEXT",
        help="of the weights, e.g. CC-BY-NC-4.0, for the manifest and the card; default: Apache-2.0 where all was "
        "trained on rendered scenes from random weights, else 'not stated'",
    )
    parser.add_argument("--store", type=Path, metavar="DIR", help="sample store; default in the user's cache folder")


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    console = make_console(stderr=True)
    worst = export(
        args.run_folder,
        args.out,
        name=args.name,
        replace=args.replace,
        precision=args.precision,
        licence=args.licence,
        store=args.store,
        console=console,
    )
    console.print(f"{args.out}: ONNX Runtime and PyTorch agree to {worst:.1e}")
    return 0


def export(
    run_folder: Path,
    out: Path,
    *,
    name: str | None = None,
    replace: bool = False,
    precision: str = "fp32",
    licence: str | None = None,
    store: Path | None = None,
    console: Console | None = None,
) -> float:
    """Export a run; the temperatures are those fitted on its validation recordings.

    :param precision: see `parse_precision`; licence: of the weights.
    :param store: of the samples that INT8 is calibrated with.
    :return: largest difference between ONNX Runtime and PyTorch, in FP32.
    :raises UsageError: `out` is taken, or the run is unusable.
    """
    name = name or out.resolve().name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(f"{name!r} cannot name a bundle: use letters, digits, '.', '_' and '-'")
    taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if taken and not (replace and (out / "bundle.json").is_file()):
        hint = "--replace replaces a bundle" if not replace else "it is no bundle, so it is not replaced"
        raise UsageError(f"{out} exists: {hint}")
    model, config, labels, about = load_model(run_folder)
    temperature = about["temperature"]
    precisions = parse_precision(precision, config.modalities)
    fresh = out.with_name(f".{out.name}.new") if taken else out
    if taken:
        shutil.rmtree(fresh, ignore_errors=True)
    runs = lineage(run_folder, config)
    licence = licence or (OUR_LICENCE if all(from_scratch(run.config) for run in runs) else NO_LICENCE)
    with whole_folder(fresh) as folder:
        worst = export_bundle(folder, name, model, config, labels, temperature, licence)
        samples: Samples = {}
        calibrated = {m: spec for m, spec in model.specs.items() if precisions.get(m) == "int8"}
        if calibrated:
            validation = open_recordings(
                open_source(config), "val", store or default_store(), console=console or Console(quiet=True)
            )
            samples = calibration_samples(validation, calibrated, model.contexts)
        reached = reduce_bundle(folder, precisions, samples)
        for graph in sorted(set(precisions) - set(reached)):
            (console or Console(quiet=True)).print(f"{graph} has nothing to quantise: it stays in FP32")
        size_mb = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        curves = {run.title: run.folder / METRICS for run in runs if (run.folder / METRICS).is_file()}
        if curves:
            plot_training(curves, folder / PICTURE)
        picture = PICTURE if curves else ""
        card = model_card(name, config, labels, about, temperature, size_mb, licence, runs, picture, reached)
        (folder / "README.md").write_text(card)
    if taken:
        old = out.with_name(f".{out.name}.old")
        shutil.rmtree(old, ignore_errors=True)  # of an export that was interrupted here
        os.replace(out, old)
        os.replace(fresh, out)
        shutil.rmtree(old)
    return worst
