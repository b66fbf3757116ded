# SPDX-License-Identifier: Apache-2.0
"""The worker where something lapses and goes on: clocks, extractors, sound with gaps, a view that is turned, time."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from node.bench import STEP_NS, Bench, now_ns, settings
from node.harness import PATIENCE_S, picture
from toy_bundle import make_toy_bundle

from karmma_ros.errors import EngineError
from karmma_ros.recognizer import Recognizer, Status

# No sensor is silent, nor its frame late, when this machine stumbles.
CALM = {"stale_min_timeout": 60.0, "rate": 0.1}
calm = pytest.mark.parametrize("bench", [CALM], indirect=True)


@calm
def test_a_clock_that_was_set_back_starts_everything_afresh(bench: Bench) -> None:
    """As by NTP: no message of rclpy's tells of it."""
    back_ns = 0
    bench.worker._clock = lambda: time.time_ns() - back_ns
    start = now_ns() - 3_000_000_000
    for index in range(20):
        before = bench.frame(start + index * STEP_NS)
    assert before.prediction.coverages["video"] > 0.5
    back_ns = 2_000_000_000
    after = bench.frame(start + 20 * STEP_NS - back_ns)
    assert after.prediction.status is Status.OK
    assert round(30 * after.prediction.coverages["video"]) == 1, "nothing of the time before"
    assert [line for line in bench.warnings if "set back" in line]


@calm
def test_an_extractor_that_always_fails_is_said_in_every_prediction(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in those for which it did not run; until it runs again, or its sensor is gone."""
    engine, lost = bench.recognizer.engine, True
    encode = engine.encode

    def fail(modality: str, batch: Any) -> Any:
        if modality == "audio" and lost:
            raise EngineError("the device is lost")
        return encode(modality, batch)

    monkeypatch.setattr(engine, "encode", fail)
    start = now_ns() - 4_000_000_000
    tone = np.sin(np.arange(1600) / 6).astype(np.float32)

    def play(first: int, count: int) -> list[Status]:
        said = []
        for index in range(first, first + count):
            said.append(bench.frame(start + index * STEP_NS).prediction.status)
            if index % 3 == 0:  # heard, and its tokens made, before the next frame
                bench.sound(start + index * STEP_NS, tone)
        return said

    said = play(0, 30)
    failing = said.index(Status.FAILED)
    assert set(said[failing:]) == {Status.FAILED}
    lost = False
    assert set(play(30, 15)[6:]) == {Status.OK}
    lost = True
    assert Status.FAILED in play(45, 15)
    bench.worker.configure(settings(modalities=("video", "flow"), **CALM))
    assert set(play(60, 3)) == {Status.OK}, "of a sensor that is not used it does not matter"


@calm
def test_gaps_in_sound_are_counted_and_a_sensor_that_hardly_counts_is_told(bench: Bench) -> None:
    """A driver that stamps every other chunk 30 ms late: all of it arrives, the state is OK, and nothing is heard."""
    start = now_ns() - 8_000_000_000
    tone = np.sin(np.arange(1600) / 6).astype(np.float32)
    for index in range(200):
        stamp = start + index * STEP_NS
        if index % 3 == 0:
            bench.sound(stamp + 30_000_000 * (index % 2), tone)
        bench.frame(stamp)
    stamp += STEP_NS
    while bench.frame(stamp).statuses["audio"].received < 67:
        stamp += STEP_NS
    statistics = bench.worker.statistics()
    assert statistics.statuses["audio"].state.name == "OK"
    assert 30 <= statistics.gaps <= 34
    assert statistics.coverages["audio"] < 0.25 < 0.6 < statistics.coverages["video"]


@calm
def test_a_view_that_is_turned_is_not_mixed_with_the_one_before(bench: Bench) -> None:
    start = now_ns() - 2_000_000_000
    for index in range(20):
        before = bench.frame(start + index * STEP_NS)
    assert before.prediction.coverages["video"] > 0.5
    bench.worker.configure(settings(image_rotate=180, **CALM))
    after = bench.frame(start + 20 * STEP_NS)
    assert round(30 * after.prediction.coverages["video"]) == 1


def test_the_clips_of_a_slow_machine_hold_the_frames_that_it_skips(tmp_path: Path) -> None:
    folder = make_toy_bundle(tmp_path / "toy", modalities=("video",), clip=4)
    pictures = [picture(20 * index, index, height=24, width=32) for index in range(9)]
    start = now_ns() - 2_000_000_000

    def recorded(recognizer: Recognizer, seen: list[np.ndarray]) -> Any:
        encode = recognizer.engine.encode

        def record(modality: str, batch: np.ndarray) -> Any:
            seen.append(batch[0].copy())
            return encode(modality, batch)

        recognizer.engine.encode = record  # type: ignore[method-assign]
        return record

    expected: list[np.ndarray] = []
    fast = Recognizer(folder, providers="cpu")
    recorded(fast, expected)
    for index, shown in enumerate(pictures):
        fast.push("video", start + index * STEP_NS, shown)

    seen: list[np.ndarray] = []
    bench = Bench(Recognizer(folder, providers="cpu"), **CALM)
    try:
        record = recorded(bench.recognizer, seen)
        busy, go_on = threading.Event(), threading.Event()

        def slow(modality: str, batch: np.ndarray) -> Any:
            busy.set()
            assert go_on.wait(PATIENCE_S)
            return record(modality, batch)

        bench.recognizer.engine.encode = slow  # type: ignore[method-assign]
        bench.send_frame(start, pictures[0])
        assert busy.wait(PATIENCE_S)
        for index in range(1, 9):
            bench.send_frame(start + index * STEP_NS, pictures[index])
        go_on.set()
        last = bench.wait("the newest frame's prediction", lambda o: o.stamp_ns == start + 8 * STEP_NS)
    finally:
        bench.worker.stop()
    assert len(seen) == 2, "the first frame, and the newest of those that came meanwhile"
    assert len({frame.tobytes() for frame in seen[-1]}) == 4
    np.testing.assert_array_equal(seen[-1], expected[-1])
    assert (last.statuses["video"].received, last.statuses["video"].skipped) == (9, 7)
