# SPDX-License-Identifier: Apache-2.0
"""What /diagnostics says of the node when no prediction came since the report before: slow camera, or halted time."""

from __future__ import annotations

from pathlib import Path

import pytest
from node.bench import Bench, now_ns

from karmma_ros.health import SensorState, SensorStatus
from karmma_ros.nodes.diagnostics import node_status
from karmma_ros.nodes.worker import Statistics
from karmma_ros.recognizer import Recognizer


def said(now: Statistics, before: Statistics) -> tuple[bytes, str]:
    status = node_status("action_node", state="active", fault="", facts={}, now=now, before=before)
    return status.level, status.message


def after(period_s: float, *, video_s: float, audio_s: float, rate_hz: float = 0.0, predictions: int = 9) -> Statistics:
    """Statistics with `predictions` so far; the sensors' last samples came so long ago."""
    state = SensorState.OK if rate_hz else SensorState.STALE
    statuses = {
        "video": SensorStatus(state, video_s, rate_hz, 9, 0, 0, ""),
        "audio": SensorStatus(SensorState.OK, audio_s, 50.0, 9, 0, 0, ""),
    }
    return Statistics({"predictions": predictions}, (), period_s, {}, 0, "", statuses, {})


def test_between_two_frames_of_a_slow_camera_the_node_is_well(toy: Path) -> None:
    """A camera every 2 s, on simulated time."""
    stamp_ns = now_ns()
    bench = Bench(Recognizer(toy), clock=lambda: stamp_ns, stale_min_timeout=60.0)
    try:
        for _ in range(8):
            stamp_ns += 2 * 10**9
            bench.frame(stamp_ns)
        before = bench.worker.statistics()
        now = bench.worker.statistics()
    finally:
        bench.worker.stop()
    assert now.period_s == pytest.approx(2.0)
    assert now.counts["predictions"] == before.counts["predictions"]
    assert said(now, before) == (b"\x00", "active")


@pytest.mark.parametrize(
    ("now", "well"),
    [
        (after(1.0, video_s=1.2, audio_s=0.1, rate_hz=1.0), True),
        (after(2.0, video_s=8.0, audio_s=8.0, rate_hz=0.1), True),  # the period is held to 2 s, the camera is not
        (after(2.0, video_s=60.0, audio_s=0.1), True),  # the camera is gone, predictions come every 2 s
        (after(2.0, video_s=5.2, audio_s=5.2), False),  # a recording that is halted
        (after(1 / 30, video_s=1.5, audio_s=1.5, rate_hz=1.0), True),  # a recording played at a thirtieth of its speed
        (after(1 / 30, video_s=0.9, audio_s=0.9, rate_hz=30.0), False),
        (after(0.3, video_s=0.1, audio_s=0.1, rate_hz=3.3), False),
        (after(2.0, video_s=0.1, audio_s=0.1, rate_hz=0.5, predictions=0), False),  # not one since it is active
    ],
)
def test_no_prediction_is_a_warning_once_it_is_longer_than_the_camera_takes(now: Statistics, well: bool) -> None:
    level, message = said(now, now)
    assert level == (b"\x00" if well else b"\x01")
    assert message == ("active" if well else "no predictions: the clock stands still or has not started")


def test_counts_that_begin_afresh_are_no_standstill() -> None:
    """The clock has jumped back: a hundred predictions before, nine since."""
    before, now = (after(1 / 30, video_s=0.01, audio_s=0.01, rate_hz=30.0, predictions=n) for n in (100, 9))
    assert said(now, before) == (b"\x00", "active")
