# SPDX-License-Identifier: Apache-2.0
"""The worker where something lapses and goes on: clocks, extractors, sound with gaps, a view that is turned, time."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import wait_until
from node.bench import STEP_NS, Bench, now_ns, settings
from node.harness import PATIENCE_S, picture
from toy_bundle import make_toy_bundle

from karmma_ros.errors import EngineError
from karmma_ros.health import SensorState
from karmma_ros.nodes.worker import CAMERA, TIMER, Outcome
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


class TwoClocks:
    """A microphone by the node's clock and a camera by one of its own that runs faster or slower, at 10 Hz each."""

    STEP_NS = 100_000_000

    def __init__(self, bundle: Path, drift: float) -> None:
        self.drift = drift
        self.now_ns = self._right_ns = time.time_ns()
        self.sent = 0
        self.bench = Bench(Recognizer(bundle), clock=lambda: self.now_ns, stale_min_timeout=60.0)

    @property
    def ahead_ns(self) -> int:
        """By which the camera's clock is ahead."""
        return round(self.drift * (self.now_ns - self._right_ns))

    def set_right(self) -> None:
        """Sets the camera's clock by the node's."""
        self.drift, self._right_ns = 0.0, self.now_ns

    def send(self) -> int:
        """A tenth of a second passes, with sound and a frame at its end; gives the frame's stamp."""
        begun_ns, self.now_ns = self.now_ns, self.now_ns + self.STEP_NS
        self.bench.sound(begun_ns, np.sin(np.arange(1600) / 6).astype(np.float32))
        stamp_ns = self.now_ns + self.ahead_ns
        self.bench.send_frame(stamp_ns)
        self.sent += 1
        return stamp_ns

    def frame(self) -> Outcome:
        """As `send`; gives the frame's prediction."""
        stamp_ns = self.send()
        return self.bench.wait("its prediction", lambda o: o.trigger == CAMERA and o.stamp_ns == stamp_ns)

    def step(self) -> None:
        """As `send`, where the frame may not be predicted: waits until the worker has seen what was sent."""
        self.send()
        self.bench.worker.tick()
        wait_until(lambda: self._taken("video") == self._taken("audio") == self.sent, PATIENCE_S)

    def _taken(self, sensor: str) -> int:
        status = self.bench.worker.statistics().statuses[sensor]
        return status.received + status.rejected


def test_a_camera_whose_clock_runs_fast_counts_until_it_is_too_far_ahead_and_once_it_is_set_right(toy: Path) -> None:
    clocks = TwoClocks(toy, 0.02)
    bench = clocks.bench
    try:
        while clocks.ahead_ns + 2_000_000 <= 500_000_000:  # 25 s
            last = clocks.frame()
            assert last.statuses["video"].state is SensorState.OK
        assert 0.3 <= last.prediction.coverages["audio"] <= 0.6, "half a second of its window is yet to come"

        for _ in range(20):
            clocks.step()
        refused = bench.wait("CORRUPT", lambda o: o.statuses["video"].state is SensorState.CORRUPT)
        assert refused.statuses["video"].last_cause == "stamp in the future"
        assert len([line for line in bench.warnings if "synchronise the machines' clocks" in line]) == 1
        by_timer = last.stamp_ns + 15 * clocks.STEP_NS
        alone = bench.wait("the timer, at the camera's rate", lambda o: o.trigger == TIMER and o.stamp_ns >= by_timer)
        assert alone.prediction.status is Status.OK, "from the sound"

        clocks.set_right()
        begun_ns, begun = clocks.now_ns, len(bench.outcomes)
        for _ in range(10):
            clocks.step()
        well = bench.wait("a frame's prediction", lambda o: o.trigger == CAMERA and o.stamp_ns > begun_ns)
        assert well.stamp_ns - begun_ns <= 700_000_000, "no longer than the stamps published were ahead"
        assert well.statuses["video"].state is SensorState.OK
        assert all(o.trigger == CAMERA for o in bench.outcomes[begun + 1 :]), "the timer waits for the camera"
        stamps = [o.stamp_ns for o in bench.outcomes]
        assert stamps == sorted(set(stamps))
    finally:
        bench.worker.stop()


def test_a_camera_whose_clock_runs_slow_is_followed_and_the_others_count_while_they_are_kept(toy: Path) -> None:
    clocks = TwoClocks(toy, -0.02)
    bench = clocks.bench
    try:
        while clocks.ahead_ns > -500_000_000:
            last = clocks.frame()
        assert last.prediction.coverages["audio"] >= 0.9
        lags_s = bench.worker.statistics().lags_s
        assert lags_s["video"] - lags_s["audio"] == pytest.approx(0.5, abs=0.05), "for /diagnostics to warn of"
        while clocks.ahead_ns > -2_500_000_000:  # more than the window and a second
            last = clocks.frame()
        assert last.prediction.coverages["audio"] == 0
        assert last.prediction.status is Status.OK, "from the camera"
        assert {o.trigger for o in bench.outcomes[10:]} == {CAMERA}
        assert last.statuses["video"].rejected == 0
        assert not bench.warnings, "a drift is no jump"
    finally:
        bench.worker.stop()
