# SPDX-License-Identifier: Apache-2.0
"""A rendered scene in memory, repeated for ever: benchmarks measure what is done with samples, not what makes them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from karmma_ros.flow import FlowProducer
from karmma_ros.manifest import Manifest
from karmma_ros.tabletop.sequence import make_sequence

__all__ = ["FPS", "Feed", "Moment"]

FPS = 30
T0 = 1_700_000_000_000_000_000


class Moment(NamedTuple):
    """What the sensors give with one frame. `begin_ns`: stamp of the chunk's first sample."""

    stamp_ns: int
    rgb: npt.NDArray[np.uint8]  # (H, W, 3)
    flow: npt.NDArray[np.float32]  # (h, w, 2), image widths per second
    begin_ns: int
    sound: npt.NDArray[np.float32]  # (n,) that ended with the frame


class Feed:
    """A scene of some seconds at 30 Hz, with its flow as the bundle wants it and sound at the bundle's rate."""

    def __init__(self, bundle: Manifest, *, seconds: float = 2.0, size: tuple[int, int] = (640, 480)) -> None:
        self.rate = bundle.modalities["audio"].rate if "audio" in bundle.modalities else 16_000
        scene = make_sequence(0, "test", duration_s=seconds, size=size, fps=FPS)
        self.frames = [np.ascontiguousarray(frame, np.uint8) for frame in scene.frames()]
        spec = bundle.modalities["flow"].producer if "flow" in bundle.modalities else None
        producer = FlowProducer(spec.size, spec.preset) if spec else FlowProducer()
        flows = [producer.push(T0 + i * 10**9 // FPS, frame) for i, frame in enumerate(self.frames)]
        self.flows = [flow if flow is not None else flows[1] for flow in flows]
        sound = np.asarray(scene.sound(), np.float32)  # at 16 kHz
        count = round(seconds * self.rate)
        self.sound = np.interp(np.arange(count) / self.rate, np.arange(len(sound)) / 16_000, sound).astype(np.float32)

    def at(self, index: int) -> Moment:
        """The moment of frame `index`, which may be any."""
        number = index % len(self.frames)
        begin, end = (index - 1) * self.rate // FPS, index * self.rate // FPS
        flow = self.flows[number]
        assert flow is not None
        where = np.arange(begin, end) % len(self.sound)
        return Moment(
            T0 + index * 10**9 // FPS, self.frames[number], flow, T0 + begin * 10**9 // self.rate, self.sound[where]
        )
