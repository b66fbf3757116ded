# SPDX-License-Identifier: Apache-2.0
"""Tokens kept in the window say what encoding the whole window again says, whatever the sensors lose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from toy_bundle import make_toy_bundle

from karmma_ros.bundle import load_bundle
from karmma_ros.recognizer import Recognizer, Status
from karmma_ros.runtime import Engine
from karmma_ros.samples import prepare_flow, prepare_image

T0 = 1_700_000_000_000_000_000
RATE = 16_000
FPS = 30
SHIPPED = Path(__file__).parents[2] / "models" / "tabletop-fp32"


class Sample(NamedTuple):
    """A picture or a flow field (an index into a pool), or a chunk of sound (the index of its first sample)."""

    arrives_ns: int
    modality: str
    stamp_ns: int
    index: int
    count: int = 0


def sensors(seconds: float, rng: np.random.Generator) -> list[Sample]:
    """What arrives, in order: stamps jitter, every sensor loses samples one by one and is away for a while."""
    arrived = []
    for i in range(round(seconds * FPS)):
        stamp = T0 + i * 10**9 // FPS + int(rng.integers(-4_000_000, 4_000_001))
        away = 0.2 * seconds < i / FPS < 0.3 * seconds
        for modality, late_ms in (("flow", 9), ("video", 4)):
            if not away and rng.random() > 0.25:
                delay = int(rng.integers(0, late_ms * 1_000_000))
                arrived.append(Sample(stamp + delay, modality, stamp, i))
    start = 0
    while start < seconds * RATE:
        count = int(rng.integers(400, 3200))  # a lost chunk under 20 ms would be taken for a stamp that jitters
        away = 0.6 * seconds < start / RATE < 0.7 * seconds
        if not away and rng.random() > 0.08:
            end = T0 + (start + count) * 10**9 // RATE
            arrived.append(Sample(end, "audio", T0 + start * 10**9 // RATE, start, count))
        start += count
    return sorted(arrived)


class Recomputing:
    """The window of one moment from the raw samples that have arrived, by the rule's words and without any cache."""

    def __init__(
        self, engine: Engine, pictures: npt.NDArray[np.uint8], fields: npt.NDArray[np.float32], sound: npt.NDArray
    ) -> None:
        self.engine = engine
        self.pictures, self.fields, self.sound = pictures, fields, sound
        self.seen: dict[str, list[Sample]] = {"video": [], "flow": []}
        self.heard = np.zeros(len(sound), dtype=bool)
        self.heard_until = 0

    def take(self, sample: Sample) -> None:
        if sample.modality == "audio":
            self.heard[sample.index : sample.index + sample.count] = True
            self.heard_until = sample.index + sample.count
        else:
            self.seen[sample.modality].append(sample)

    def logits(self, t_ns: int) -> dict[str, npt.NDArray[np.float32]] | None:
        tokens, present = {}, {}
        for name, spec in self.engine.bundle.modalities.items():
            values = np.full((spec.slots, spec.tokens, spec.dim), np.nan, dtype=np.float32)
            there = np.zeros((spec.slots, spec.tokens), dtype=bool)
            for slot in range(spec.slots):
                centre = t_ns - round(spec.delay_s * 1e9) - slot * round(spec.spacing_s * 1e9)
                raw = self.nearest(name, centre, t_ns)
                if raw is not None:
                    values[slot] = self.engine.encode(name, raw[np.newaxis])[0]
                    there[slot] = True
            tokens[name] = values.reshape(1, -1, spec.dim)
            present[name] = there.reshape(1, -1)
        if not any(there.any() for there in present.values()):
            return None
        return {head: values[0] for head, values in self.engine.fuse(tokens, present).items()}

    def nearest(self, name: str, centre: int, t_ns: int) -> npt.NDArray | None:
        """The raw sample that belongs to a slot, as its graph takes it; of two equally near the newer."""
        spec = self.engine.bundle.modalities[name]
        half = round(spec.spacing_s * 1e9) / 2
        best = None
        for stamp, raw in self.candidates(name, centre):
            fits = centre - half < stamp <= centre + half and stamp <= t_ns
            if fits and (best is None or abs(stamp - centre) <= abs(best[0] - centre)):
                best = (stamp, raw)
        if best is None:
            return None
        if name == "audio":
            return self.sound[best[1] - spec.context : best[1]]
        return np.stack([self.prepared(name, index) for index in self.clip(name, best[0])])

    def prepared(self, name: str, index: int) -> npt.NDArray:
        size = self.engine.bundle.modalities[name].input.size
        if name == "video":
            return prepare_image(self.pictures[index % len(self.pictures)], size)
        return prepare_flow(self.fields[index % len(self.fields)], size)

    def clip(self, name: str, newest: int) -> list[int]:
        """What the extractor sees that ends at a stamp; of two frames equally near, the newer."""
        spec = self.engine.bundle.modalities[name]
        step = round(spec.context_step_s * 1e9)
        if spec.context == 1:
            return [s.index for s in self.seen[name] if s.stamp_ns == newest]
        there = [s for s in self.seen[name] if newest - spec.context * step < s.stamp_ns <= newest]
        wanted = [newest - step * back for back in range(spec.context - 1, -1, -1)]
        return [min(there, key=lambda s: (abs(s.stamp_ns - w), -s.stamp_ns)).index for w in wanted]

    def candidates(self, name: str, centre: int) -> Iterator[tuple[int, int]]:
        """(stamp, index) in order of time, of samples near a slot."""
        if name != "audio":
            yield from sorted((s.stamp_ns, s.index) for s in self.seen[name] if abs(s.stamp_ns - centre) < 10**9)
            return
        spec = self.engine.bundle.modalities[name]
        spacing = round(spec.spacing_s * 1e9)
        for grid in range(centre // spacing - 1, centre // spacing + 3):
            end = round((grid * spacing - T0) * RATE / 10**9)
            if spec.context <= end <= self.heard_until and self.heard[end - spec.context : end].all():
                yield grid * spacing, end


@pytest.mark.parametrize("bundle", ["toy", "toy clips", pytest.param("shipped", marks=pytest.mark.full)])
def test_streaming_equals_recomputing(tmp_path: Path, bundle: str) -> None:
    clip = 4 if bundle == "toy clips" else 1
    folder = SHIPPED if bundle == "shipped" else make_toy_bundle(tmp_path / "toy", window_s=0.5, clip=clip)
    rng = np.random.default_rng(4)
    pictures = rng.integers(0, 256, (97, 36, 48, 3), dtype=np.uint8)
    fields = rng.standard_normal((97, 36, 48, 2)).astype(np.float32)
    sound = (0.2 * rng.standard_normal(60 * RATE + 4000)).astype(np.float32)
    streaming = Recognizer(folder, providers="cpu")
    recomputing = Recomputing(Engine(load_bundle(folder), "cpu"), pictures, fields, sound)
    worst, compared, partial = 0.0, 0, 0
    arrived = sensors(60.0, rng)
    for i in range(60 * FPS):
        t_ns = T0 + i * 10**9 // FPS + 4_000_000
        while arrived and arrived[0].arrives_ns <= t_ns:
            sample = arrived.pop(0)
            recomputing.take(sample)
            if sample.modality == "audio":
                streaming.push("audio", sample.stamp_ns, sound[sample.index : sample.index + sample.count], RATE)
            else:
                pool = pictures if sample.modality == "video" else fields
                streaming.push(sample.modality, sample.stamp_ns, pool[sample.index % len(pool)])
        said, expected = streaming.predict(t_ns), recomputing.logits(t_ns)
        assert (said.status is Status.OK) == (expected is not None)
        if expected is None:
            continue
        compared += 1
        partial += said.coverage < 0.9
        worst = max(worst, *(float(np.abs(said.logits[head] - expected[head]).max()) for head in expected))
    print(f"{compared} moments, {partial} of them with a tenth of the window missing, worst difference {worst:.2e}")
    assert compared > 1750
    assert partial > 200, "sensors lost something"
    assert worst < 1e-4
