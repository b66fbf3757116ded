# SPDX-License-Identifier: Apache-2.0
"""What /diagnostics says of a sensor."""

from __future__ import annotations

import math

import numpy as np
import pytest
from node.bench import Bench, now_ns

from karmma_ros.health import SensorState, SensorStatus
from karmma_ros.nodes.diagnostics import _latency, sensor_status


def status(state: SensorState, **changes: object) -> SensorStatus:
    values = {"age_s": 0.1, "rate_hz": 30.0, "received": 9, "skipped": 0, "rejected": 0, "last_cause": "wrong step"}
    return SensorStatus(state=state, **(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "level", "words"),
    [
        (SensorState.OK, b"\x00", "OK"),
        (SensorState.DISABLED, b"\x00", "DISABLED"),
        (SensorState.WAITING, b"\x01", "nothing on /image"),
        (SensorState.STALE, b"\x02", "nothing on /image"),
        (SensorState.OCCLUDED, b"\x01", "lens"),
        (SensorState.FROZEN, b"\x02", "restart the driver"),
        (SensorState.MUTED, b"\x01", "unplugged"),
        (SensorState.CORRUPT, b"\x02", "wrong step"),
    ],
)
def test_every_state_has_its_level_and_says_what_to_do(state: SensorState, level: bytes, words: str) -> None:
    said = sensor_status("action_node: video", "/image", status(state), {})
    assert said.level == level
    assert state.name in said.message
    assert words in said.message


def test_a_driver_that_repeats_itself_is_told_from_one_that_is_silent() -> None:
    said = sensor_status("action_node: video", "/image", status(SensorState.STALE, repeats=True), {})
    assert said.message == "STALE: the same stamp on /image again and again: restart the driver"


def test_latencies_are_milliseconds_of_the_percentiles_that_they_say() -> None:
    latencies = tuple(number / 1000 for number in range(1, 101))  # 1 to 100 ms
    said = _latency(latencies)
    assert {name: float(value) for name, value in said.items()} == pytest.approx(
        {"latency_ms_p50": 50.5, "latency_ms_p95": 95.0, "latency_ms_p99": 99.0, "latency_ms_max": 100.0}, abs=0.1
    )


def test_what_a_sensor_sent_is_among_the_values() -> None:
    sent = status(SensorState.OK, received=9, skipped=2, rejected=1, age_s=0.1, rate_hz=29.987)
    said = sensor_status("action_node: video", "/image", sent, {"transport": "raw"}, coverage=0.92)
    assert {pair.key: pair.value for pair in said.values} == {
        "state": "OK",
        "age_s": "0.100",
        "rate_hz": "29.99",
        "received": "9",
        "skipped": "2",
        "rejected": "1",
        "last_cause": "wrong step",
        "transport": "raw",
        "coverage": "0.92",
    }
    assert said.hardware_id == "/image"
    silent = sensor_status("action_node: video", "/image", status(SensorState.WAITING, age_s=math.inf), {})
    assert "none yet" in [pair.value for pair in silent.values]


def test_a_sensor_that_hardly_counts_is_a_warning_though_it_is_ok() -> None:
    said = sensor_status("action_node: audio", "/audio", status(SensorState.OK), {}, coverage=0.1)
    assert said.level == b"\x01"
    assert "only 10 % of its slots are filled" in said.message
    assert sensor_status("action_node: audio", "/audio", status(SensorState.OK), {}, coverage=0.5).level == b"\x00"
    stale = sensor_status("action_node: audio", "/audio", status(SensorState.STALE), {}, coverage=0.1)
    assert "nothing on /audio" in stale.message


def test_what_is_made_of_a_lost_sensor_is_no_second_error() -> None:
    said = sensor_status("action_node: flow", "/image", status(SensorState.STALE), {}, made_of="the camera is covered")
    assert (said.level, said.message) == (b"\x01", "STALE: the camera is covered")


def test_stamps_far_from_the_cameras_are_a_warning_with_the_parameter_to_set() -> None:
    said = sensor_status("action_node: audio", "/audio", status(SensorState.OK), {}, behind_camera_s=0.8)
    assert said.level == b"\x01"
    assert "lie 0.80 s before the camera's" in said.message
    assert "add +0.80 to audio.stamp_offset" in said.message
    said = sensor_status("action_node: audio", "/audio", status(SensorState.OK), {}, behind_camera_s=-0.8)
    assert "lie 0.80 s after the camera's" in said.message
    assert "add -0.80 to audio.stamp_offset" in said.message
    said = sensor_status("action_node: audio", "/audio", status(SensorState.OK), {}, behind_camera_s=-0.3)
    assert said.level == b"\x00"


def test_the_lag_of_sound_is_counted_from_its_last_sample(bench: Bench) -> None:
    stamp = now_ns()
    bench.send_frame(stamp)
    bench.wait_taken("video", 1)
    bench.sound(stamp - 1_000_000_000, np.full(16_000, 0.1, np.float32))
    bench.wait_taken("audio", 1)
    lags_s = bench.worker.statistics().lags_s
    assert 0 <= lags_s["video"] < 0.5
    assert 0 <= lags_s["audio"] < 0.5
