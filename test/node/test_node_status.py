# SPDX-License-Identifier: Apache-2.0
"""What /diagnostics says of the node, and when; above all if no prediction came: slow camera, or halted time."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from node.bench import Bench, now_ns
from node.harness import node_and_robot, ns_of, picture, time_of, value
from rosgraph_msgs.msg import Clock
from toy_bundle import make_toy_bundle

from karmma_ros.health import SensorState, SensorStatus
from karmma_ros.nodes.diagnostics import node_status
from karmma_ros.nodes.worker import Statistics
from karmma_ros.recognizer import Recognizer


def said(now: Statistics, before: Statistics) -> tuple[bytes, str]:
    status = node_status("action_node", state="active", fault="", facts={}, now=now, before=before, simulated_time=True)
    return status.level, status.message


def after(period_s: float, *, video_s: float, audio_s: float, rate_hz: float = 0.0, predictions: int = 9) -> Statistics:
    """Statistics with `predictions` so far; the sensors' last samples came so long ago."""
    state = SensorState.OK if rate_hz else SensorState.STALE
    statuses = {
        "video": SensorStatus(state, video_s, rate_hz, 9, 0, 0, ""),
        "audio": SensorStatus(SensorState.OK, audio_s, 50.0, 9, 0, 0, ""),
    }
    return Statistics({"predictions": predictions}, (), period_s, {}, 0, "", statuses, {}, {}, 0)


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


def test_on_wall_time_no_prediction_means_a_machine_that_is_too_slow() -> None:
    now = after(1 / 30, video_s=0.1, audio_s=0.1, rate_hz=30.0)
    status = node_status("n", state="active", fault="", facts={}, now=now, before=now, simulated_time=False)
    assert (status.level, status.message) == (
        b"\x01",
        "no prediction for 1 s: this machine is too slow for the bundle",
    )


def test_counts_that_begin_afresh_are_no_standstill() -> None:
    """The clock has jumped back: a hundred predictions before, nine since."""
    before, now = (after(1 / 30, video_s=0.01, audio_s=0.01, rate_hz=30.0, predictions=n) for n in (100, 9))
    assert said(now, before) == (b"\x00", "active")


def test_inference_that_fails_is_an_error_with_its_text() -> None:
    """Whatever else there is to say; with the next report, in which nothing failed, it is over."""
    well = after(1 / 30, video_s=0.01, audio_s=0.01, rate_hz=30.0)
    failed = replace(well, failures=3, last_failure="fusion: CUDA error 700")
    assert said(failed, well) == (b"\x02", "failed 3 times: fusion: CUDA error 700")
    standing = after(1 / 30, video_s=0.9, audio_s=0.9, rate_hz=30.0, predictions=0)
    assert said(replace(standing, failures=1, last_failure="flow: lost"), standing)[0] == b"\x02"
    assert said(replace(well, counts={"predictions": 39}), failed) == (b"\x00", "active")


def test_the_rate_is_that_of_predictions_since_the_report_before() -> None:
    before, now = (after(1 / 30, video_s=0.01, audio_s=0.01, rate_hz=30.0, predictions=n) for n in (100, 129))

    def rate(now: Statistics, before: Statistics | None) -> str | None:
        return value(
            node_status("action_node", state="active", fault="", facts={}, now=now, before=before, simulated_time=True),
            "rate_hz",
        )

    assert rate(now, before) == "29.0"
    assert rate(now, now) == "0.0"
    assert rate(now, None) is None, "not known yet"
    assert rate(before, now) is None, "the clock has jumped back"


def test_frames_that_this_machine_had_no_time_for_are_counted_and_a_warning() -> None:
    well = after(1 / 30, video_s=0.01, audio_s=0.01, rate_hz=30.0, predictions=100)
    camera = well.statuses["video"]
    slow = replace(
        well,
        counts={"predictions": 110, "skipped_predictions": 2},
        statuses=well.statuses | {"video": replace(camera, skipped=5)},  # type: ignore[operator]
    )
    status = node_status("action_node", state="active", fault="", facts={}, now=slow, before=well, simulated_time=True)
    assert (status.level, status.message) == (b"\x01", "too slow: 7 frames skipped")
    assert value(status, "skipped") == "7"
    assert said(slow, slow) == (b"\x01", "no predictions: the clock stands still or has not started")
    assert said(replace(slow, counts=slow.counts | {"predictions": 140}), slow) == (b"\x00", "active")  # type: ignore[operator]


def test_reports_come_once_a_second_with_the_time_of_the_nodes_clock(
    tmp_path: Path, ros_env: dict[str, str], toy: Path
) -> None:
    """Once a second of steady time, whatever simulated time does: here it goes at a tenth of its speed, long ago."""
    begin_ns = 1_000_000_000_000
    with node_and_robot(tmp_path / "log", ros_env, bundle=toy, use_sim_time=True) as (_, r):
        heard: list[tuple[float, DiagnosticArray]] = []
        r.node.create_subscription(DiagnosticArray, "/diagnostics", lambda m: r._keep(heard, (time.monotonic(), m)), 10)
        r.wait("subscribers", lambda: r.images.get_subscription_count() and r.clock.get_subscription_count())
        begun_s = time.monotonic()
        ticks: list[tuple[float, int]] = []  # of the clock: steady time, what it said

        def simulate() -> bool:
            now_s = time.monotonic()
            now_ns = begin_ns + round((now_s - begun_s) * 1e8)
            ticks.append((now_s, now_ns))
            r.clock.publish(Clock(clock=time_of(now_ns)))
            r.send_image(now_ns, picture(50, now_ns // 10**6))
            return len([m for _, m in heard if ns_of(m.header.stamp) >= begin_ns]) >= 4

        r.wait("four reports", simulate)
    reports = [(at_s, report) for at_s, report in heard if ns_of(report.header.stamp) >= begin_ns]
    for at_s, report in reports:
        said_ns = max(ns for s, ns in ticks if s <= at_s)  # where this machine stumbles, the clock does too
        assert said_ns - 50_000_000 <= ns_of(report.header.stamp) <= said_ns
    assert 0.7 < (reports[-1][0] - reports[0][0]) / (len(reports) - 1) < 1.5
    status = next(s for s in reports[-1][1].status if s.name == "action_node")
    keys = {pair.key for pair in status.values}
    assert keys >= {"rate_hz", "latency_ms_p50", "latency_ms_p99", "providers", "bundle", "skipped"}
    assert (value(status, "providers"), value(status, "bundle")) == ("cpu", "toy")
    assert float(value(status, "rate_hz") or 0) > 5
    assert {s.name for s in reports[-1][1].status} >= {f"action_node: {name}" for name in ("video", "flow", "audio")}


def test_nodes_of_several_robots_have_names_of_their_own(tmp_path: Path, ros_env: dict[str, str]) -> None:
    bundle = make_toy_bundle(tmp_path / "toy")
    with node_and_robot(tmp_path / "log", ros_env, namespace="/robot1", bundle=bundle) as (_, r):
        r.wait_status("its own", "robot1/action_node", lambda s: value(s, "bundle") == "toy")
        r.wait_status("a sensor's", "robot1/action_node: video", lambda s: True)
        assert not any(s.name.startswith("action_node") for report in r.diagnostics for s in report.status)
