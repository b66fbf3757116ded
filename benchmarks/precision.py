# SPDX-License-Identifier: Apache-2.0
"""Graphs in fewer bits: what each saves in size and time, and what it costs in accuracy, for every subset of sensors.

Accuracy: of actions in rendered test scenes; INT8 is calibrated with rendered validation scenes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from rich.progress import Progress

from karmma_benchmarks.feed import Feed
from karmma_benchmarks.settings import Report, Settings, Table, in_fp32, take_turns
from karmma_benchmarks.ways import Streaming, frame_step, graph_steps
from karmma_ros.bundle import Bundle
from karmma_ros.recognizer import Recognizer
from karmma_ros.runtime import FUSION, Engine
from karmma_training.bundle.precision import calibration_samples, reduced_copy
from karmma_training.data.labels import Labels
from karmma_training.datasets.source import open_recordings, open_source
from karmma_training.datasets.tabletop import TabletopSource
from karmma_training.evaluation.bundle_predictor import BundlePredictor, bundle_config, bundle_contexts
from karmma_training.evaluation.patterns import initials
from karmma_training.evaluation.report import evaluate

__all__ = ["run"]

EXACT = "FP32"
WHOLE = (EXACT, "FP16", "INT8")  # variants with all graphs alike
ALLOWED = 0.005  # of the mean accuracy over the subsets: what fewer bits may cost


def run(settings: Settings) -> Report:
    """Measures, on the CPU."""
    bundle = in_fp32(settings.bundle)
    if bundle is None:
        return Report({}, [], {"precision": "needs a bundle in FP32: fewer bits are made from it"})
    config = bundle_config(bundle)
    config.data.source, config.data.recording_s = TabletopSource.name, 30.0
    source = open_source(config)
    if source.labels().to_json() != Labels.of_bundle(bundle).to_json():
        return Report({}, [], {"precision": "needs a bundle that knows the actions of rendered scenes"})
    minutes = 0.5 if settings.quick else 10.0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        recordings = {
            split: open_recordings(source, split, root / "store", minutes=minutes, console=settings.console)
            for split in ("val", "test")
        }
        samples = calibration_samples(recordings["val"], bundle.slot_specs(), bundle_contexts(bundle))
        variants: dict[str, Bundle] = {EXACT: bundle}
        for name, wanted in _wanted(bundle, settings.quick).items():
            variants[name] = reduced_copy(bundle, root / name, wanted, samples)
        rows = {name: _facts(variant) for name, variant in variants.items()}
        for name, variant in variants.items():
            predictor = BundlePredictor(variant, settings.threads, "cpu")
            every = 30 if settings.quick else 7
            found = evaluate(predictor, recordings["test"], every=every, seed=0, console=settings.console, losses=False)
            rows[name]["subsets"] = {subset: scores["action"] for subset, scores in found["subsets"].items()}
            rows[name]["mean"] = mean(rows[name]["subsets"].values())
        for name, ms in _frames(settings, bundle, variants).items():
            rows[name]["frame_ms"] = ms
        for name, times in _graphs(settings, {name: variants[name] for name in WHOLE}).items():
            rows[name]["graphs_ms"] = times
    fit = [name for name, row in rows.items() if row["mean"] >= rows[EXACT]["mean"] - ALLOWED]
    best = min(fit, key=lambda name: rows[name]["frame_ms"])
    data = {"variants": rows, "fastest_within_half_a_point": best, "windows": found["windows"], "minutes": minutes}
    return Report(data, [_table(rows, found["windows"], best), _by_graph(rows)])


def _wanted(bundle: Bundle, quick: bool) -> dict[str, str]:
    """{name: as for `karmma export --precision`}"""
    fewer = [bits for bits in WHOLE if bits != EXACT]
    graphs = [] if quick else [*bundle.modalities, FUSION]
    whole = {bits: bits.lower() for bits in fewer}
    return whole | {f"{bits} {graph}": f"{graph}={bits.lower()}" for bits in fewer for graph in graphs}


def _facts(variant: Bundle) -> dict[str, Any]:
    specs = {**variant.modalities, FUSION: variant.fusion}
    sizes = {name: (variant.folder / spec.graph).stat().st_size for name, spec in specs.items()}
    return {
        "precisions": {name: spec.precision for name, spec in specs.items()},
        "bytes": sizes,
        "megabytes": round(sum(sizes.values()) / 1e6, 2),
    }


def _frames(settings: Settings, bundle: Bundle, variants: Mapping[str, Bundle]) -> dict[str, float]:
    """{variant: ms a frame with all its sensors}; bundle: the one that they are made from."""
    feed = Feed(bundle)
    steps = {}
    for name, variant in variants.items():
        recognizer = Recognizer(variant, providers="cpu", threads=settings.threads)
        steps[name] = frame_step(Streaming(feed, recognizer, tuple(variant.modalities)), variant.window_s)
    rounds, count = (3, 5) if settings.quick else (30, 30)
    with Progress(console=settings.console, transient=True) as progress:
        return take_turns(steps, rounds, count, progress, "frames")


def _graphs(settings: Settings, variants: Mapping[str, Bundle]) -> dict[str, dict[str, float]]:
    """{variant: {graph: ms a run}}"""
    steps: dict[str, Callable[[int], Any]] = {}
    for name, variant in variants.items():
        of_graphs = graph_steps(Engine(variant, "cpu", settings.threads))
        steps |= {f"{name} {graph}": step for graph, step in of_graphs.items()}
    rounds, count = (3, 5) if settings.quick else (30, 30)
    with Progress(console=settings.console, transient=True) as progress:
        spent = take_turns(steps, rounds, count, progress, "graphs")
    return {
        name: {graph: spent[f"{name} {graph}"] for graph in (*variant.modalities, FUSION)}
        for name, variant in variants.items()
    }


def _by_graph(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    cells = [
        [name, *(f"{rows[name]['bytes'][graph] / 1e3:.0f} / {ms:.2f}" for graph, ms in rows[name]["graphs_ms"].items())]
        for name in WHOLE
    ]
    return Table("each graph: its size [kB] / a run [ms]", ["all graphs in", *rows[EXACT]["graphs_ms"]], cells)


def _table(rows: Mapping[str, Mapping[str, Any]], windows: int, best: str) -> Table:
    subsets = list(rows[EXACT]["subsets"])
    cells = [
        [
            name,
            f"{row['megabytes']:.2f}",
            f"{row['frame_ms']:.2f}",
            f"{100 * row['mean']:.1f}",
            *(f"{100 * row['subsets'][subset]:.1f}" for subset in subsets),
        ]
        for name, row in rows.items()
    ]
    title = f"graphs in fewer bits, actions right in % ({windows} windows); fastest within half a point: {best}"
    return Table(title, ["graphs", "MB", "a frame [ms]", "mean", *map(initials, subsets)], cells)
