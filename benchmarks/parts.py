# SPDX-License-Identifier: Apache-2.0
"""Where the time of a frame goes: every step from the message to the ranking, alone, on a warm cache."""

from __future__ import annotations

import array
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
from rich.progress import Progress

from karmma_benchmarks.dds import jpeg_of
from karmma_benchmarks.feed import FPS, Feed
from karmma_ros.content import make_gate
from karmma_ros.decode import compressed_to_rgb, image_to_rgb
from karmma_ros.flow import FlowProducer
from karmma_ros.recognizer import Recognizer
from karmma_ros.runtime import check_inputs
from karmma_ros.samples import prepare_flow, prepare_image

__all__ = ["parts"]


def parts(feed: Feed, recognizer: Recognizer, rounds: int, progress: Progress) -> dict[str, float]:
    """{step: ms}, the median of the rounds; a round is ten times each step."""
    steps = _steps(feed, recognizer)
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for _ in progress.track(range(rounds), description="parts"):
        for name, step in steps.items():
            begun = time.perf_counter()
            for index in range(10):
                step(index)
            spent[name].append((time.perf_counter() - begun) / 10)
    return {name: round(1e3 * statistics.median(values), 4) for name, values in spent.items()}


Step = Callable[[int], Any]


def _each(values: Sequence[Any], act: Callable[[Any], Any]) -> Step:
    return lambda index: act(values[index])


def _stamped(values: Sequence[Any], act: Callable[[int, Any], Any]) -> Step:
    """With stamps that go on for ever, as a camera's."""
    numbers = count()
    return lambda index: act(next(numbers) * 10**9 // FPS, values[index])


def _gate(modality: str, values: Sequence[Any], rate: int = 0) -> Step:
    gate = make_gate(modality)
    return _stamped(values, lambda stamp_ns, value: gate.judge(stamp_ns, value, rate))


def _steps(feed: Feed, recognizer: Recognizer) -> dict[str, Step]:
    modalities, engine = recognizer.bundle.modalities, recognizer.engine
    height, width = feed.frames[0].shape[:2]
    raw = SimpleNamespace(
        height=height,
        width=width,
        step=3 * width,
        encoding="rgb8",
        is_bigendian=0,
        data=array.array("B", feed.frames[0].tobytes()),
    )
    coded = jpeg_of(feed.frames[0])
    moments = [feed.at(index) for index in range(10)]
    steps: dict[str, Step] = {
        "image message, rgb8: a view": lambda _: image_to_rgb(raw),
        "image message, JPEG: decoding": lambda _: compressed_to_rgb(coded),
    }
    inputs = check_inputs(modalities, 0)
    images, fields = [m.rgb for m in moments], [m.flow for m in moments]
    for name, spec in modalities.items():
        if name == "video":
            steps["video: content gate"] = _gate(name, images)
            steps["video: resizing"] = _each(images, partial(prepare_image, size=spec.input.size))
        elif name == "flow":
            if spec.producer is not None:
                producer = FlowProducer(spec.producer.size, spec.producer.preset)
                steps["flow: computing it (flow_node, or inside)"] = _stamped(images, producer.push)
            steps["flow: content gate"] = _gate(name, fields)
            steps["flow: resizing"] = _each(fields, partial(prepare_flow, size=spec.input.size))
        else:
            steps["audio: content gate"] = _gate(name, [m.sound[:, np.newaxis] for m in moments], feed.rate)
        steps[f"{name}: extractor"] = _each([inputs[name]] * 10, partial(engine.encode, name))
    fill = round(FPS * (recognizer.bundle.window_s + 1))
    for index in range(fill):
        moment = feed.at(index)
        for name, value in (("video", moment.rgb), ("flow", moment.flow)):
            if name in modalities:
                recognizer.push(name, moment.stamp_ns, value)
        if "audio" in modalities:
            recognizer.push("audio", moment.begin_ns, moment.sound, feed.rate)
    last_ns = feed.at(fill - 1).stamp_ns
    tokens = {m: np.zeros((1, s.slots * s.tokens, s.dim), np.float32) for m, s in modalities.items()}
    present = {m: np.ones(value.shape[:2], np.bool_) for m, value in tokens.items()}
    steps["fusion"] = lambda _: engine.fuse(tokens, present)
    steps["window, fusion and ranking"] = lambda _: recognizer.predict(last_ns)
    return steps
