# SPDX-License-Identifier: Apache-2.0
"""What a prediction costs: streaming against encoding the window again, windows of 1 to 8 s, all subsets of sensors.

All ways take turns, some frames each, so that whatever else the machine does hits all of them.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.progress import Progress

from karmma_benchmarks.feed import Feed
from karmma_benchmarks.parts import parts
from karmma_benchmarks.settings import Report, Settings, Table, median_ms, take_turns
from karmma_benchmarks.ways import Again, Streaming, Way, frame_step
from karmma_ros.bundle import Bundle
from karmma_ros.manifest import ModalitySpec
from karmma_ros.recognizer import Recognizer
from karmma_ros.runtime import Engine

__all__ = ["run"]

WINDOWS_S = (1.0, 2.0, 4.0, 8.0)
STREAMING = "streaming (ours)"
AGAIN = "the window encoded again"
TORCH = "the window encoded again, PyTorch in FP32"
CLIP = "the paper's clip student, PyTorch in FP32"
OTHER_WINDOWS = "other windows"


def run(settings: Settings) -> Report:
    """Measures."""
    bundle = settings.bundle
    others = [name for name, spec in bundle.modalities.items() if not _is_streamed(spec)]
    if others:
        return Report(
            {}, [], {"cost": f"needs a bundle of single frames, fields and sound, but its {others[0]} is not"}
        )
    with tempfile.TemporaryDirectory() as folder, Progress(console=settings.console, transient=True) as progress:
        bench = _Bench(settings, progress, Path(folder))
        ways_ms = bench.ways()
        windows = bench.windows()
        sensors_ms = bench.sensors()
        recognizer = Recognizer(bundle, providers=bench.providers, threads=settings.threads)
        parts_ms = parts(bench.feed, recognizer, 5 if settings.quick else 50, progress)
    data = {"ways_ms": ways_ms, "windows": windows, "sensors_ms": sensors_ms, "parts_ms": parts_ms}
    return Report(data, _tables(data, bundle), bench.skipped)


def _is_streamed(spec: ModalitySpec) -> bool:
    """Whether `Again` knows how to encode its window again."""
    return spec.name == "audio" or (spec.name in ("video", "flow") and spec.context == 1)


class _Bench:
    def __init__(self, settings: Settings, progress: Progress, folder: Path) -> None:
        self.bundle, self.threads, self.quick = settings.bundle, settings.threads, settings.quick
        self.providers = ",".join(Engine(self.bundle, settings.providers, self.threads).providers)  # one for all rows
        self.progress, self.folder = progress, folder
        self.feed = Feed(self.bundle)
        self.rounds, self.frames = (2, 6) if self.quick else (20, 30)
        self.skipped: dict[str, str] = {}
        missing = [name for name in ("torch", "onnxscript") if find_spec(name) is None]
        self.torch = not missing
        if "tensorrt" in self.providers:
            self.skipped[OTHER_WINDOWS] = "TensorRT has engines of this bundle alone"
        if missing:
            self.skipped |= dict.fromkeys((TORCH, CLIP, OTHER_WINDOWS), f"needs {missing[0]} (training extra)")
        elif not self._is_of_its_preset():
            self.torch = False
            why = f"this bundle's networks are not those of a preset (it says {self.bundle.preset})"
            self.skipped |= dict.fromkeys((TORCH, CLIP, OTHER_WINDOWS), why)

    def _is_of_its_preset(self) -> bool:
        from karmma_benchmarks.torch_ways import is_of_its_preset

        return is_of_its_preset(self.bundle)

    def streaming(self, bundle: Bundle, modalities: tuple[str, ...] | None = None) -> Streaming:
        recognizer = Recognizer(bundle, providers=self.providers, threads=self.threads)
        return Streaming(self.feed, recognizer, modalities or tuple(bundle.modalities))

    def again(self, bundle: Bundle) -> Again:
        return Again(self.feed, Engine(bundle, self.providers, self.threads))

    def ways(self) -> dict[str, float]:
        """{way: ms}."""
        ways: dict[str, Way] = {STREAMING: self.streaming(self.bundle), AGAIN: self.again(self.bundle)}
        slow: dict[str, Way] = {}
        if self.torch:
            from karmma_benchmarks import torch_ways

            torch_ways.set_threads(self.threads)
            ways[TORCH] = torch_ways.AgainInTorch(self.feed, Engine(self.bundle, "cpu", self.threads))
            if self.quick:
                self.skipped[CLIP] = "takes seconds a prediction: not in a quick run"
            elif find_spec("torchvision") is None:
                self.skipped[CLIP] = "needs torchvision (backbones extra)"
            else:
                slow[CLIP] = torch_ways.ClipStudent(self.feed, self.bundle)
        return self.turns(ways, "ways") | self.turns(slow, "the clip student", rounds=3, frames=1)

    def windows(self) -> list[dict[str, float]]:
        """A row per length of the window."""
        bundles = {self.bundle.window_s: self.bundle}
        if self.torch and OTHER_WINDOWS not in self.skipped:
            from karmma_benchmarks.torch_ways import untrained_bundle

            lengths = [w for w in ((4.0,) if self.quick else WINDOWS_S) if w != self.bundle.window_s]
            for window_s in self.progress.track(lengths, description="bundles with other windows"):
                bundles[window_s] = untrained_bundle(self.bundle, window_s, self.folder)
        streams = {f"{w:g}": self.streaming(b) for w, b in bundles.items()}
        spent = {key: way.time_fusion() for key, way in streams.items()}
        streaming = self.turns(streams, "windows, streaming")
        fusion = {key: self._of_rounds(seconds[-self.rounds * self.frames :]) for key, seconds in spent.items()}
        again = self.turns({f"{w:g}": self.again(b) for w, b in bundles.items()}, "windows, encoded again")
        return [
            {"window_s": w, "streaming_ms": streaming[key], "fusion_ms": fusion[key], "again_ms": again[key]}
            for w, key in sorted((w, f"{w:g}") for w in bundles)
        ]

    def sensors(self) -> dict[str, float]:
        """{modalities: ms}, for every subset."""
        names = list(self.bundle.modalities)
        subsets = [chosen for size in range(len(names), 0, -1) for chosen in combinations(names, size)]
        return self.turns({"+".join(chosen): self.streaming(self.bundle, chosen) for chosen in subsets}, "sensors")

    def _of_rounds(self, seconds: Sequence[float]) -> float:
        """Milliseconds, taken together as in `turns`."""
        rounds = [seconds[i : i + self.frames] for i in range(0, len(seconds), self.frames)]
        return median_ms(map(statistics.fmean, rounds))

    def turns(self, ways: Mapping[str, Way], what: str, rounds: int = 0, frames: int = 0) -> dict[str, float]:
        """{way: ms a frame}: the mean of the frames of a round, and of the rounds the median."""
        steps = {name: frame_step(way, max(WINDOWS_S)) for name, way in ways.items()}
        return take_turns(steps, rounds or self.rounds, frames or self.frames, self.progress, what)


def _tables(data: dict[str, Any], bundle: Bundle) -> list[Table]:
    ours = data["ways_ms"][STREAMING]
    ways = [[name, f"{ms:.2f}", f"{ms / ours:.1f}"] for name, ms in data["ways_ms"].items()]
    windows = [
        [
            f"{row['window_s']:g} s",
            *(f"{row[key]:.2f}" for key in ("streaming_ms", "fusion_ms", "again_ms")),
            f"{row['again_ms'] / row['streaming_ms']:.1f}",
        ]
        for row in data["windows"]
    ]
    sensors = [[name, f"{ms:.2f}", f"{ms / ours:.2f}"] for name, ms in data["sensors_ms"].items()]
    return [
        Table(f"a prediction with a window of {bundle.window_s:g} s", ["way", "ms", "times ours"], ways),
        Table(
            "a prediction by window",
            ["window", "streaming [ms]", "of it fusion [ms]", "encoded again [ms]", "times ours"],
            windows,
        ),
        Table("a prediction by sensors", ["sensors", "ms", "of all sensors' cost"], sensors),
        Table("where it goes", ["step", "ms"], [[name, f"{ms:.3f}"] for name, ms in data["parts_ms"].items()]),
    ]
