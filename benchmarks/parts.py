# SPDX-License-Identifier: Apache-2.0
"""Where the time of a frame goes: every step from the message to the ranking, alone, on a warm cache."""

from __future__ import annotations

import array
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
from rich.progress import Progress

from karmma_benchmarks.dds import jpeg_of
from karmma_benchmarks.feed import FPS, Feed
from karmma_benchmarks.settings import take_turns
from karmma_benchmarks.ways import Fusing, Streaming
from karmma_ros.content import make_gate
from karmma_ros.decode import compressed_to_rgb, image_to_rgb
from karmma_ros.flow import FlowProducer
from karmma_ros.recognizer import Recognizer
from karmma_ros.runtime import check_inputs
from karmma_ros.samples import prepare_flow, prepare_image

__all__ = ["parts"]

MOMENTS = 10  # that the steps go through, over and over


def parts(feed: Feed, recognizer: Recognizer, rounds: int, progress: Progress) -> dict[str, float]:
    """{step: ms}."""
    return take_turns(_steps(feed, recognizer), rounds, MOMENTS, progress, "parts")


Step = Callable[[int], Any]


def _each(values: Sequence[Any], act: Callable[[Any], Any]) -> Step:
    return lambda index: act(values[index % MOMENTS])


def _stamped(values: Sequence[Any], act: Callable[[int, Any], Any]) -> Step:
    """With stamps that go on for ever, as a camera's."""
    numbers = count()
    return lambda index: act(next(numbers) * 10**9 // FPS, values[index % MOMENTS])


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
    moments = [feed.at(index) for index in range(MOMENTS)]
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
        elif name == "audio":
            steps["audio: content gate"] = _gate(name, [m.sound[:, np.newaxis] for m in moments], feed.rate)
        steps[f"{name}: extractor"] = _each([inputs[name]] * MOMENTS, partial(engine.encode, name))
    streaming, last = Streaming(feed, recognizer, modalities), round(FPS * (recognizer.bundle.window_s + 1))
    for index in range(last + 1):
        streaming.take(index)
    steps["fusion"] = Fusing(engine).predict
    steps["window, fusion and ranking"] = lambda _: streaming.predict(last)
    return steps
