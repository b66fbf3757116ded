# SPDX-License-Identifier: Apache-2.0
"""Sensors that go on sending but have nothing to say: what the worker does with their tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from node.bench import STEP_NS, Bench, now_ns, settings

from karmma_ros.health import SensorState
from karmma_ros.recognizer import Recognizer, Status
from karmma_ros.tabletop.failures import garbage_flow

BLACK = np.zeros((24, 32, 3), np.uint8)


@pytest.fixture
def bench(toy: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A worker on a bench, for which no sensor is silent, nor its frame late, when this machine stumbles: gates alone
    are tried."""
    made = Bench(Recognizer(toy), **{"stale_min_timeout": 60.0, "rate": 0.1} | getattr(request, "param", {}))
    yield made
    made.worker.stop()


def frames(bench: Bench, start_ns: int, count: int, rgb: np.ndarray | None = None, *, flow: bool = False) -> int:
    """Sends frames, each after the last was predicted, with fields that vary a little; returns the stamp after them."""
    for index in range(count):
        stamp = start_ns + index * STEP_NS
        if flow:  # the worker takes it in the pass of the frame
            bench.flow(stamp, 16.0 + index % 5)
        bench.send_frame(stamp, rgb)
        bench.wait("its prediction", lambda o, stamp=stamp: o.stamp_ns == stamp)  # type: ignore[misc]
    return start_ns + count * STEP_NS


def test_a_covered_camera_loses_its_tokens_back_to_when_it_was_covered(bench: Bench) -> None:
    covered = frames(bench, now_ns() - 2_000_000_000, 20)
    stop = frames(bench, covered, 12, BLACK)
    outcome = bench.wait("OCCLUDED", lambda o: o.statuses["video"].state is SensorState.OCCLUDED)
    assert outcome.stamp_ns - covered <= 8 * STEP_NS
    last = bench.frame(stop)
    # The toy's window is 1 s, of which the last 13 frames were black.
    assert 15 <= round(30 * last.prediction.coverages["video"]) <= 18
    assert len([line for line in bench.warnings if "lens" in line]) == 1
    frames(bench, stop + STEP_NS, 12)
    well = bench.wait("OK", lambda o: o.stamp_ns > stop and o.statuses["video"].state is SensorState.OK)
    assert 5 * STEP_NS <= well.stamp_ns - stop <= 9 * STEP_NS


def test_flow_computed_from_a_covered_camera_goes_with_it(bench: Bench) -> None:
    covered = frames(bench, now_ns() - 2_000_000_000, 20, flow=True)
    stop = frames(bench, covered, 12, BLACK, flow=True)
    last = bench.frame(stop)
    assert last.statuses["flow"].state is SensorState.OK
    assert 14 <= round(30 * last.prediction.coverages["flow"]) <= 18


@pytest.mark.parametrize("bench", [{"flow_source": "independent"}], indirect=True)
def test_flow_of_a_sensor_of_its_own_stays(bench: Bench) -> None:
    covered = frames(bench, now_ns() - 2_000_000_000, 20, flow=True)
    stop = frames(bench, covered, 12, BLACK, flow=True)
    assert bench.frame(stop).prediction.coverages["flow"] > 0.9


def test_a_frozen_camera_is_a_missing_one(bench: Bench) -> None:
    start = frames(bench, now_ns() - 4_000_000_000, 3)
    still = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    stop = frames(bench, start, 40, still)
    last = bench.frame(stop)
    assert last.statuses["video"].state is SensorState.FROZEN
    assert last.prediction.coverages["video"] < 0.1


@pytest.mark.parametrize("bench", [{"occluded_enabled": False, "frozen_enabled": False}], indirect=True)
def test_with_its_gates_off_a_black_camera_is_believed(bench: Bench) -> None:
    stop = frames(bench, now_ns() - 2_000_000_000, 35, BLACK)
    last = bench.frame(stop)
    assert last.statuses["video"].state is SensorState.OK
    assert last.prediction.coverages["video"] > 0.9


def test_a_gate_is_switched_off_while_it_holds(bench: Bench) -> None:
    stop = frames(bench, now_ns() - 2_000_000_000, 12, BLACK)
    assert bench.wait("OCCLUDED", lambda o: o.statuses["video"].state is SensorState.OCCLUDED)
    bench.worker.configure(settings(occluded_enabled=False, frozen_enabled=False))
    bench.send_frame(stop, BLACK)
    outcome = bench.wait("its prediction", lambda o: o.stamp_ns == stop)
    assert outcome.statuses["video"].state is SensorState.OK


@pytest.mark.parametrize(("kind", "state"), [("noise", SensorState.CORRUPT), ("zeros", SensorState.FROZEN)])
def test_flow_that_says_nothing_is_missing_and_is_believed_again(bench: Bench, kind: str, state: SensorState) -> None:
    rng = np.random.default_rng(0)

    def play(start_ns: int, count: int, kind: str = "") -> int:
        for index in range(count):
            stamp = start_ns + index * STEP_NS
            if kind:
                bench.send_flow(stamp, garbage_flow(kind, (32, 24), rng) * 32)  # in pixels per second
            else:
                bench.flow(stamp, 16.0 + index % 5)
            bench.frame(stamp)
        return start_ns + count * STEP_NS

    broken = play(now_ns() - 5_000_000_000, 20)
    stop = play(broken, 45, kind)
    last = bench.frame(stop)
    assert last.statuses["flow"].state is state
    assert last.prediction.coverages["flow"] == 0, "what it said before is over, what it says now does not count"
    assert last.prediction.status is Status.OK
    assert play(stop + STEP_NS, 20)
    last = bench.outcomes[-1]
    assert last.statuses["flow"].state is SensorState.OK
    assert last.prediction.coverages["flow"] > 0.3


@pytest.mark.parametrize("bench", [{"rate": 0.0}], indirect=True)  # what was heard is known by the timer's predictions
def test_a_muted_microphone_is_a_missing_one_and_is_heard_again(bench: Bench) -> None:
    rng = np.random.default_rng(0)
    start = now_ns() - 4_000_000_000

    def hear(begin_ns: int, chunks: int, level: float) -> int:
        for index in range(chunks):
            before = bench.worker.statistics().statuses["audio"].received
            bench.sound(begin_ns + index * 100_000_000, (level * rng.normal(size=1600)).astype(np.float32))
            bench.wait_taken("audio", before + 1)
        return begin_ns + chunks * 100_000_000

    muted = hear(start, 12, 0.1)
    assert bench.frame(muted).prediction.coverages["audio"] > 0.8
    stop = hear(muted, 12, 0.0)
    last = bench.frame(stop)
    assert last.statuses["audio"].state is SensorState.MUTED
    assert last.prediction.coverages["audio"] == 0
    again = hear(stop, 12, 0.1)
    last = bench.frame(again)
    assert last.statuses["audio"].state is SensorState.OK
    assert last.prediction.coverages["audio"] > 0.5


def test_a_clock_that_jumps_back_is_judged_afresh(bench: Bench) -> None:
    now = now_ns()
    frames(bench, now - 2_000_000_000, 12, BLACK)
    bench.worker.restart()
    stop = frames(bench, now - 600_000_000_000, 5)
    assert bench.frame(stop).statuses["video"].state is SensorState.OK
