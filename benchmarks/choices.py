# SPDX-License-Identifier: Apache-2.0
"""What the node could have been built with instead: other executors, more threads, graphs run on bound buffers,
extractors that run at the same time, graphs optimised ahead of time.

The first two over DDS, by what the listener hears and what the node's process uses; the variants take turns.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
from rich.progress import Progress

from karmma_benchmarks.dds import NODE, USUAL, core_s, measure, node_parameters
from karmma_benchmarks.settings import Report, Settings, Table, take_turns
from karmma_ros.inference.session import FUSION, open_session, session_options
from karmma_ros.processes import node_arguments
from karmma_ros.runtime import Engine, check_inputs

__all__ = ["EXECUTORS", "bound", "run"]

EXECUTORS = ("single", "multi", "events")  # rclpy's; ours first


_Feed = Mapping[str, npt.NDArray[Any]]


class Variant(NamedTuple):
    """One way to run the node."""

    executor: str
    threads: int  # of a graph's run

    def __str__(self) -> str:
        return f"{self.executor} executor, {self.threads} thread{'s' * (self.threads > 1)}"


VARIANTS = [Variant(executor, 1) for executor in EXECUTORS] + [Variant(EXECUTORS[0], 2)]
_SHOWN = ("p50", "p95", "p99")


def run(settings: Settings) -> Report:
    """Measures."""
    settings = replace(settings, providers="cpu")  # all that is compared is
    if "video" not in settings.bundle.modalities:
        return Report({}, [], {"choices": "needs a bundle that takes video"})
    variants = [VARIANTS[0], VARIANTS[2]] if settings.quick else VARIANTS
    rounds, seconds = (1, 5.0) if settings.quick else (3, 30.0)
    measured: dict[str, list[dict[str, Any]]] = {str(variant): [] for variant in variants}
    with Progress(console=settings.console, transient=True) as progress:
        core = core_s(settings, USUAL, 3.0)
        for variant in progress.track(variants * rounds, description="executors and threads"):
            row = measure(settings, USUAL, seconds, core, _arguments(settings, variant))
            measured[str(variant)].append(row)
        rounds = 5 if settings.quick else 100
        runs_ms = take_turns(_runs(settings), rounds, 10, progress, "ways to run a graph")
        with ThreadPoolExecutor(len(settings.bundle.modalities)) as pool:
            together_ms = take_turns(_extractors(settings, pool), rounds, 10, progress, "ways to run all extractors")
        with tempfile.TemporaryDirectory() as folder:
            openings_ms = take_turns(_openings(settings, Path(folder)), max(5, rounds // 5), 1, progress, "starts")
    nodes = {name: _median(rows) for name, rows in measured.items()}
    data = {"nodes": nodes, "runs_ms": runs_ms, "extractors_ms": together_ms, "openings_ms": openings_ms}
    return Report({"camera": str(USUAL), **data}, _tables(nodes, runs_ms, together_ms, openings_ms))


def _arguments(settings: Settings, variant: Variant) -> list[str]:
    parameters = node_parameters(settings, USUAL) | {"threads": variant.threads}
    _, _, *rest = node_arguments(NODE, parameters)
    return ["-m", "karmma_benchmarks.node_with_executor", variant.executor, *rest]


def _median(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of the rounds' figures the middle one; of lost frames the sum."""
    median = {key: round(statistics.median(row["latency_ms"][key] for row in rows), 2) for key in _SHOWN}
    share = round(statistics.median(row["node_cpu_share"] for row in rows), 3)
    return median | {"lost": sum(row["lost"] for row in rows), "node_cpu_share": share}


def _runs(settings: Settings) -> dict[str, Callable[[int], Any]]:
    """Each graph, run as it is and on buffers that were bound once."""
    bundle = settings.bundle
    samples = check_inputs(bundle.modalities, 0)
    window: dict[str, npt.NDArray[Any]] = {}
    steps: dict[str, Callable[[int], Any]] = {}
    for name, spec in bundle.modalities.items():
        window[f"{name}_tokens"] = np.zeros((1, spec.slots * spec.tokens, spec.dim), np.float32)
        window[f"{name}_present"] = np.ones((1, spec.slots * spec.tokens), np.bool_)
    for graph in (*bundle.modalities, FUSION):
        session = open_session(bundle, graph, ("cpu",), settings.threads)
        feed = window if graph == FUSION else {"input": samples[graph]}
        outputs = [node.name for node in session.get_outputs()]
        steps[graph] = _fed(partial(session.run, outputs), feed)
        steps[f"{graph}, bound"] = _fed(bound(session, outputs, feed), feed)
    return steps


def _extractors(settings: Settings, pool: Executor) -> dict[str, Callable[[int], Any]]:
    """One new sample of every modality, encoded in turn and at the same time."""
    engine = Engine(settings.bundle, "cpu", settings.threads)
    samples = list(check_inputs(settings.bundle.modalities, 0).items())

    def encode(sample: tuple[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        return engine.encode(*sample)

    return {
        "in turn": lambda _: [encode(sample) for sample in samples],
        "at the same time": lambda _: list(pool.map(encode, samples)),
    }


def _openings(settings: Settings, folder: Path) -> dict[str, Callable[[int], Any]]:
    """All graphs made ready to run: as they are, and as ONNX Runtime had optimised and saved them before."""
    bundle = settings.bundle
    graphs = (*bundle.modalities, FUSION)
    plain = [folder / f"{graph}.plain.onnx" for graph in graphs]
    saved = [folder / f"{graph}.onnx" for graph in graphs]
    for graph, before, after in zip(graphs, plain, saved, strict=True):
        before.write_bytes(bundle.read_graph(bundle.fusion if graph == FUSION else bundle.modalities[graph]))
        options = session_options(settings.threads)
        options.optimized_model_filepath = str(after)
        _opened([before], options)
    usual, done = session_options(settings.threads), session_options(settings.threads)
    done.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return {
        "as they are": lambda _: _opened(plain, usual),
        "optimised ahead of time": lambda _: _opened(saved, done),
    }


def _opened(paths: Sequence[Path], options: onnxruntime.SessionOptions) -> list[onnxruntime.InferenceSession]:
    return [onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]) for path in paths]


def _fed(run_graph: Callable[[_Feed], Any], feed: _Feed) -> Callable[[int], Any]:
    return lambda _: run_graph(feed)


def bound(
    session: onnxruntime.InferenceSession, outputs: Sequence[str], example: _Feed
) -> Callable[[_Feed], list[npt.NDArray[Any]]]:
    """Runs a graph on buffers that its session knows: inputs are copied into them, outputs are views of them.

    :param example: inputs of the shapes and types to come.
    """
    binding = session.io_binding()
    inputs = {name: onnxruntime.OrtValue.ortvalue_from_numpy(value) for name, value in example.items()}
    results = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in session.run(outputs, example)]
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, value)
    for name, value in zip(outputs, results, strict=True):
        binding.bind_ortvalue_output(name, value)

    def run_graph(feed: _Feed) -> list[npt.NDArray[Any]]:
        for name, value in inputs.items():
            value.update_inplace(feed[name])
        session.run_with_iobinding(binding)
        return [value.numpy() for value in results]

    return run_graph


def _tables(
    nodes: Mapping[str, Mapping[str, float]],
    runs_ms: Mapping[str, float],
    extractors_ms: Mapping[str, float],
    openings_ms: Mapping[str, float],
) -> list[Table]:
    rows = [
        [name, *(f"{row[key]:.1f}" for key in _SHOWN), f"{row['lost']}", f"{100 * row['node_cpu_share']:.0f} %"]
        for name, row in nodes.items()
    ]
    graphs = [name for name in runs_ms if f"{name}, bound" in runs_ms]
    bound = [[name, f"{runs_ms[name]:.3f}", f"{runs_ms[f'{name}, bound']:.3f}"] for name in graphs]
    return [
        Table("image stamped to prediction heard [ms]", ["node", *_SHOWN, "lost", "of one core"], rows),
        Table("one run of a graph [ms]", ["graph", "as it is", "buffers bound"], bound),
        Table("one sample of every modality encoded", ["how", "ms"], _plain(extractors_ms)),
        Table("all graphs made ready to run", ["how", "ms"], _plain(openings_ms)),
    ]


def _plain(values: Mapping[str, float]) -> list[list[str]]:
    return [[name, f"{ms:.3f}"] for name, ms in values.items()]
