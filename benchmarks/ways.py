# SPDX-License-Identifier: Apache-2.0
"""Ways to have a prediction for every frame: the same sensors, the same preparation of a sample, another inference.

A sample is decoded and resized once in all of them, when it comes; what differs is what is computed again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from karmma_benchmarks.feed import FPS, Feed
from karmma_ros.recognizer import Recognizer
from karmma_ros.runtime import FUSION, Engine, check_inputs
from karmma_ros.samples import prepare_flow, prepare_image, to_mono

__all__ = ["Again", "Fusing", "Streaming", "Way", "frame_step", "graph_steps", "step_of"]


class Way(Protocol):
    """Something that predicts at every frame."""

    def take(self, index: int) -> None:
        """Takes what the sensors gave with frame `index`."""

    def predict(self, index: int) -> None:
        """Predicts for that frame, which has been taken."""


def frame_step(way: Way, window_s: float) -> Callable[[int], None]:
    """A step that takes and predicts for a frame, numbered from 0 on, of a way whose window has been filled."""
    full = round(FPS * (window_s + 1))
    for index in range(full):
        way.take(index)
    way.predict(full - 1)

    def step(index: int) -> None:
        way.take(full + index)
        way.predict(full + index)

    return step


class Streaming:
    """Ours: every sample is encoded once, when it comes, and the window's tokens are fused."""

    def __init__(self, feed: Feed, recognizer: Recognizer, modalities: Collection[str]) -> None:
        self._feed, self._recognizer = feed, recognizer
        self._modalities = frozenset(modalities)
        recognizer.modalities = self._modalities

    def take(self, index: int) -> None:
        moment, recognizer = self._feed.at(index), self._recognizer
        if "audio" in self._modalities:
            recognizer.push("audio", moment.begin_ns, moment.sound, self._feed.rate)
        if "flow" in self._modalities:
            recognizer.push("flow", moment.stamp_ns, moment.flow)
        if "video" in self._modalities:
            recognizer.push("video", moment.stamp_ns, moment.rgb)

    def predict(self, index: int) -> None:
        self._recognizer.predict(self._feed.at(index).stamp_ns)

    def time_fusion(self) -> list[float]:
        """From now on the seconds of every fusion are appended here: beside all else that a frame costs it is slower
        than again and again alone."""
        spent: list[float] = []
        engine, fuse = self._recognizer.engine, self._recognizer.engine.fuse

        def timed(*args: Any) -> Any:
            begun = time.perf_counter()
            outputs = fuse(*args)
            spent.append(time.perf_counter() - begun)
            return outputs

        engine.fuse = timed  # type: ignore[assignment, method-assign]
        return spent


def step_of(spacing_s: float) -> int:
    """Frames from one slot to the next."""
    return max(1, round(spacing_s * FPS))


class Again:
    """Every sample of the window is encoded again for every prediction, all of a modality as one batch."""

    def __init__(self, feed: Feed, engine: Engine) -> None:
        self._feed, self._engine = feed, engine
        self._specs = engine.bundle.modalities
        self._held: dict[str, deque[npt.NDArray[Any]]] = {
            name: deque(maxlen=spec.slots * step_of(spec.spacing_s))
            for name, spec in self._specs.items()
            if name != "audio"
        }
        if "audio" in self._specs:
            spec = self._specs["audio"]
            self._spacing = round(spec.spacing_s * spec.rate)
            self._sound = np.zeros(spec.context + spec.slots * self._spacing, np.float32)

    def take(self, index: int) -> None:
        moment = self._feed.at(index)
        for name, spec in self._specs.items():
            if name == "video":
                self._held[name].appendleft(prepare_image(moment.rgb, spec.input.size)[np.newaxis])
            elif name == "flow":
                self._held[name].appendleft(prepare_flow(moment.flow, spec.input.size)[np.newaxis])
            else:
                mono = to_mono(moment.sound)
                self._sound = np.roll(self._sound, -len(mono))
                self._sound[-len(mono) :] = mono

    def predict(self, index: int) -> None:
        self.infer({name: self.batch(name) for name in self._specs})

    def batch(self, name: str) -> npt.NDArray[Any]:
        """(slots held, *input shape), newest first."""
        spec = self._specs[name]
        if name == "audio":
            ends = len(self._sound) - self._spacing * np.arange(spec.slots)
            return np.stack([self._sound[end - spec.context : end] for end in ends])
        return np.stack(list(self._held[name])[:: step_of(spec.spacing_s)])

    def infer(self, batches: dict[str, npt.NDArray[Any]]) -> None:
        """Samples to logits."""
        tokens, present = {}, {}
        for name, batch in batches.items():
            spec = self._specs[name]
            window = np.zeros((spec.slots, spec.tokens, spec.dim), np.float32)
            window[: len(batch)] = self._engine.encode(name, batch)
            there = np.arange(spec.slots) < len(batch)
            tokens[name] = window.reshape(1, -1, spec.dim)
            present[name] = np.repeat(there, spec.tokens)[np.newaxis]
        self._engine.fuse(tokens, present)


class Fusing:
    """Fusion alone, of a full window."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        rng = np.random.default_rng(0)
        shapes = {name: (1, s.slots * s.tokens, s.dim) for name, s in engine.bundle.modalities.items()}
        self._tokens = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        self._present = {name: np.ones(shape[:2], np.bool_) for name, shape in shapes.items()}

    def predict(self, index: int) -> None:
        self._engine.fuse(self._tokens, self._present)


def graph_steps(engine: Engine) -> dict[str, Callable[[int], Any]]:
    """{graph: a step that runs it}: an extractor on one sample, fusion on one window."""

    def encode(name: str, batch: npt.NDArray[Any]) -> Callable[[int], Any]:
        return lambda _: engine.encode(name, batch)

    inputs = check_inputs(engine.bundle.modalities, engine.bundle.check.seed)
    return {name: encode(name, batch) for name, batch in inputs.items()} | {FUSION: Fusing(engine).predict}
