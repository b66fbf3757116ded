# SPDX-License-Identifier: Apache-2.0
"""Every execution provider that is here, with the bundle's graphs as they are, in FP32 and in FP16: cost of each graph,
of a frame and of the window encoded again, and how far the logits are from the CPU's in FP32.

A provider that does not prove itself, by the manifest's own check, is not measured, and the reason is said.
"""

from __future__ import annotations

import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from karmma_benchmarks.feed import Feed
from karmma_benchmarks.settings import Report, Settings, Table, in_fp32, take_turns
from karmma_benchmarks.ways import Again, Streaming, Way, frame_step, graph_steps
from karmma_ros.bundle import Bundle
from karmma_ros.errors import BundleError, EngineError
from karmma_ros.inference.providers import available
from karmma_ros.recognizer import Recognizer
from karmma_ros.runtime import FUSION, Engine

__all__ = ["run"]

AS_IS, FP32, FP16 = "as exported", "FP32", "FP16"
FRAME, AGAIN = "a frame", "window encoded again"
STREAMED = ("video", "flow", "audio")  # what the feed can give


def run(settings: Settings) -> Report:
    """Measures."""
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, Progress(console=settings.console, transient=True) as progress:
        bundles = {AS_IS: settings.bundle}
        exact = in_fp32(settings.bundle)
        if exact and exact is not settings.bundle:
            bundles[FP32] = exact
        if missing := [name for name in ("torch", "onnx") if find_spec(name) is None]:
            skipped[FP16] = f"needs {missing[0]} (training extra)"
        elif not exact:
            skipped[FP16] = "only a bundle in FP32 is converted"
        else:
            try:
                from karmma_training.bundle.precision import reduced_copy

                bundles[FP16] = reduced_copy(exact, Path(folder) / "fp16", "fp16", {})
            except (BundleError, EngineError) as error:
                skipped[FP16] = str(error)
        expected = Engine(exact or settings.bundle, "cpu", settings.threads).check_logits()
        for provider in available():
            for precision, bundle in bundles.items():
                begun = time.perf_counter()
                try:
                    engine = Engine(bundle, provider, settings.threads)
                    start_s = time.perf_counter() - begun
                    logits = engine.check_logits()
                    times = _times(settings, engine, progress, f"{provider}, {precision}")
                except (BundleError, EngineError) as error:
                    skipped[f"{provider}, {precision}"] = str(error)
                    continue
                row = {
                    "provider": provider,
                    "precision": precision,
                    "start_s": round(start_s, 2),
                    "off_by": max(float(np.abs(logits[head] - expected[head]).max()) for head in expected),
                }
                rows.append(row | times)
    return Report({"by_provider": rows}, [_table(rows, settings.bundle)] if rows else [], skipped)


def _times(settings: Settings, engine: Engine, progress: Progress, what: str) -> dict[str, Any]:
    """{graphs_ms, frame_ms, again_ms}; the last two only of what the feed can give."""
    bundle = engine.bundle
    steps = graph_steps(engine)
    rounds, count = (3, 5) if settings.quick else (30, 30)
    for step in steps.values():  # a GPU's first runs load kernels
        for index in range(count):
            step(index)
    times: dict[str, Any] = {"graphs_ms": take_turns(steps, rounds, count, progress, what)}
    if any(name not in STREAMED or (name != "audio" and spec.context > 1) for name, spec in bundle.modalities.items()):
        return times
    feed = Feed(bundle)
    recognizer = Recognizer(bundle, providers=",".join(engine.providers), threads=settings.threads)
    ways: dict[str, Way] = {
        FRAME: Streaming(feed, recognizer, tuple(bundle.modalities)),
        AGAIN: Again(feed, engine),
    }
    spent = take_turns(
        {name: frame_step(way, bundle.window_s) for name, way in ways.items()}, rounds, count, progress, what
    )
    return times | {"frame_ms": spent[FRAME], "again_ms": spent[AGAIN]}


def _table(rows: list[dict[str, Any]], bundle: Bundle) -> Table:
    graphs = [*bundle.modalities, FUSION]
    cells = [
        [
            f"{row['provider']}, {row['precision']}",
            *(f"{row['graphs_ms'][name]:.2f}" for name in graphs),
            *(f"{row[key]:.2f}" if key in row else "-" for key in ("frame_ms", "again_ms")),
            f"{row['start_s']:.1f}",
            f"{row['off_by']:.2g}",
        ]
        for row in rows
    ]
    headings = ["provider, graphs", *(f"{name} [ms]" for name in graphs), f"{FRAME} [ms]", f"{AGAIN} [ms]"]
    return Table(
        "a run of each graph, a frame with all its sensors, and the start",
        [*headings, "start [s]", "logits off by"],
        cells,
    )
