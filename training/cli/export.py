# SPDX-License-Identifier: Apache-2.0
"""`karmma export`: a run's best weights -> a bundle for the robot; or a bundle in FP32 -> one in fewer bits.

karmma export runs/demo --out models/mine
karmma export runs/demo --out models/small --precision video=int8,fusion=int8
karmma export models/mine --out models/small --precision int8 --data mine.csv
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from karmma_ros.bundle import find_bundle, load_bundle
from karmma_ros.console import make_console
from karmma_ros.errors import BundleError, UsageError
from karmma_ros.window import SlotSpec
from karmma_training.bundle.export import NO_LICENCE, OUR_LICENCE, export_bundle
from karmma_training.bundle.lineage import from_scratch, lineage
from karmma_training.bundle.model_card import model_card, reduced_card
from karmma_training.bundle.place import bundle_name, new_bundle
from karmma_training.bundle.precision import (
    Samples,
    calibration_samples,
    copy_graphs,
    megabytes,
    parse_precision,
    reduce_bundle,
)
from karmma_training.checkpoint import load_model
from karmma_training.config import Config
from karmma_training.data.recording import Context
from karmma_training.data.store import default_store
from karmma_training.datasets.source import DATA_FORMS, open_recordings, open_source
from karmma_training.evaluation.bundle_predictor import bundle_config, bundle_contexts
from karmma_training.evaluation.plots import plot_training
from karmma_training.learning.run_log import METRICS

__all__ = ["HELP", "add_arguments", "export", "export_reduced", "run"]

PICTURE, CARD = "training.png", "README.md"

HELP = "Turn a run's best weights into a bundle, verified against PyTorch; or a bundle into one in fewer bits."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `karmma export`."""
    parser.add_argument(
        "source", metavar="RUN|BUNDLE", help="run folder of `karmma train`; or a bundle in FP32, for --precision"
    )
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
        "--data", metavar="DATA", help=f"of a bundle in int8, whose validation split it is calibrated on: {DATA_FORMS}"
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
    if _is_bundle(args.source):
        if args.licence:
            raise UsageError("--licence is of a run's weights: a bundle in fewer bits keeps its own")
        reached = export_reduced(
            args.source,
            args.out,
            args.precision,
            args.data,
            name=args.name,
            replace=args.replace,
            store=args.store,
            console=console,
        )
        console.print(f"{args.out}: {', '.join(f'{graph} in {bits.upper()}' for graph, bits in reached.items())}")
        return 0
    if args.data:
        raise UsageError("--data is of a bundle: a run is calibrated on its own validation split")
    worst = export(
        Path(args.source),
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
    name = bundle_name(name, out)
    console = console or Console(quiet=True)
    with new_bundle(out, replace=replace) as folder:
        model, config, labels, about = load_model(run_folder)
        temperature = about["temperature"]
        precisions = parse_precision(precision, config.modalities)
        runs = lineage(run_folder, config)
        licence = licence or (OUR_LICENCE if all(map(from_scratch, runs)) else NO_LICENCE)
        worst = export_bundle(folder, name, model, config, labels, temperature, licence)
        samples = _samples(precisions, model.specs, model.contexts, config, store, console)
        reached = _reduce(folder, precisions, samples, console)
        curves = {run.title: run.folder / METRICS for run in runs if (run.folder / METRICS).is_file()}
        if curves:
            plot_training(curves, folder / PICTURE)
        picture = PICTURE if curves else ""
        card = model_card(name, config, labels, about, temperature, megabytes(folder), licence, runs, picture, reached)
        (folder / CARD).write_text(card)
    return worst


def export_reduced(
    bundle: str,
    out: Path,
    precision: str,
    data: str | None = None,
    *,
    name: str | None = None,
    replace: bool = False,
    store: Path | None = None,
    console: Console | None = None,
) -> dict[str, str]:
    """Make a bundle in fewer bits out of one in FP32. Its card says so; what was measured of the other is left out.

    :param precision: see `parse_precision`; data: whose validation split INT8 is calibrated with.
    :return: the precisions reached, by graph.
    :raises UsageError: `out` is taken, the bundle is not in FP32, or precision or data are unusable.
    """
    name = bundle_name(name, out)
    console = console or Console(quiet=True)
    exact = load_bundle(bundle)
    if exact.precisions != {"fp32"}:
        raise UsageError(f"{exact.name} is in fewer bits already: they are made from a bundle in FP32")
    precisions = parse_precision(precision, list(exact.modalities))
    if not precisions:
        raise UsageError("--precision says in how many bits a bundle is to be: fp16, int8, or e.g. video=int8")
    if data is None and any(bits == "int8" and graph in exact.modalities for graph, bits in precisions.items()):
        raise UsageError("int8 is calibrated with samples: say whose with --data")
    config = bundle_config(exact)
    config.data.source = data or config.data.source
    with new_bundle(out, replace=replace) as folder:
        samples = _samples(precisions, exact.slot_specs(), bundle_contexts(exact), config, store, console)
        copy_graphs(exact, folder, name)
        reached = _reduce(folder, precisions, samples, console)
        if not reached:
            raise UsageError(f"{exact.name} has nothing to quantise there: it would be the same bundle")
        if (exact.folder / CARD).is_file():
            card, graphs = (exact.folder / CARD).read_text(), len(exact.modalities) + 1
            card = reduced_card(card, exact.name, name, megabytes(folder), reached, graphs)
            (folder / CARD).write_text(card)
            if (exact.folder / PICTURE).is_file():
                shutil.copy(exact.folder / PICTURE, folder)
    return reached


def _samples(
    precisions: Mapping[str, str],
    specs: Mapping[str, SlotSpec],
    contexts: Mapping[str, Context],
    config: Config,
    store: Path | None,
    console: Console,
) -> Samples:
    """Of the validation split, for the extractors that INT8 has to be calibrated for."""
    calibrated = {m: spec for m, spec in specs.items() if precisions.get(m) == "int8"}
    if not calibrated:
        return {}
    validation = open_recordings(open_source(config), "val", store or default_store(), console=console)
    return calibration_samples(validation, calibrated, contexts)


def _reduce(folder: Path, precisions: Mapping[str, str], samples: Samples, console: Console) -> dict[str, str]:
    reached = reduce_bundle(folder, precisions, samples)
    for graph in sorted(set(precisions) - set(reached)):
        console.print(f"{graph} has nothing to quantise: it stays in FP32")
    return reached


def _is_bundle(source: str) -> bool:
    if (Path(source) / "config.yaml").is_file():
        return False
    try:
        find_bundle(source)
    except BundleError:
        return False
    return True
