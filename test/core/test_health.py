# SPDX-License-Identifier: Apache-2.0
"""Sensor states, by when samples arrive; and the camera's period."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from karmma_ros.health import SensorHealth, SensorState
from karmma_ros.period import PeriodEstimator


def feed(health: SensorHealth, start_s: float, interval_s: float, count: int) -> float:
    """`count` usable samples from `start_s` on; returns the time of the last."""
    for i in range(count):
        health.received(start_s + i * interval_s)
    return start_s + (count - 1) * interval_s


def test_it_waits_until_the_first_usable_sample() -> None:
    health = SensorHealth()
    assert health.state(1000.0) is SensorState.WAITING
    assert health.status(1000.0).age_s == math.inf
    assert health.received(1001.0) is SensorState.OK
    assert health.status(1001.5).age_s == pytest.approx(0.5)


def test_a_camera_is_stale_a_tenth_of_a_second_after_its_last_frame() -> None:
    health = SensorHealth()
    last = feed(health, 5.0, 1 / 30, 30)
    assert health.state(last + 0.099) is SensorState.OK
    assert health.state(last + 0.101) is SensorState.STALE


def test_samples_that_nobody_looked_at_only_show_that_the_sensor_lives() -> None:
    """An overloaded machine looks at every third frame, and all of those are broken."""
    health = SensorHealth()
    feed(health, 0.0, 1 / 30, 30)
    for i in range(30, 120):
        (health.rejected if i % 3 == 0 else lambda now_s, cause: health.passed_over(now_s))(i / 30, "broken")
    status = health.status(4.0)
    assert status.state is SensorState.CORRUPT
    assert (status.received, status.skipped, status.rejected) == (90, 60, 30)
    assert status.age_s > 2.5, "since it is CORRUPT, none is usable"


def test_samples_that_nobody_looked_at_do_not_say_that_the_content_is_right() -> None:
    health = SensorHealth()
    health.received(0.0, SensorState.OCCLUDED)
    health.passed_over(0.03)
    assert health.state(0.05) is SensorState.OCCLUDED
    health.received(0.06)
    health.passed_over(0.09)
    assert health.state(0.1) is SensorState.OK
    assert health.status(0.1).age_s == pytest.approx(0.01)


def test_nothing_is_counted_of_a_sensor_that_is_off() -> None:
    health = SensorHealth(enabled=False)
    health.passed_over(0.0)
    assert (health.status(0.0).received, health.status(0.0).skipped) == (0, 0)


def test_a_slow_sensor_does_not_flap() -> None:
    health = SensorHealth()
    states = set()
    for i in range(60):
        health.received(float(i))
        states |= {health.state(i + f) for f in (0.0, 0.5, 0.999)}
    assert states == {SensorState.OK}
    assert health.state(59 + 2.9) is SensorState.OK
    assert health.state(59 + 3.1) is SensorState.STALE


def test_half_of_the_frames_lost_at_random_is_not_a_dead_camera() -> None:
    rng = np.random.default_rng(0)
    health = SensorHealth()
    stale = 0
    for i in range(30 * 60):
        if rng.random() < 0.5:
            health.received(i / 30)
        stale += health.state(i / 30 + 0.03) is SensorState.STALE
    assert stale <= 30  # a second of the minute


def test_chunks_that_come_in_clumps_are_not_a_dead_microphone() -> None:
    health = SensorHealth()
    states = set()
    for i in range(100):
        for k in range(8):
            health.received(i * 0.16 + k * 1e-4)
        states.add(health.state(i * 0.16 + 0.159))
    assert states == {SensorState.OK}


def test_it_recovers_after_three_samples_in_a_row() -> None:
    health = SensorHealth()
    last = feed(health, 0.0, 1 / 30, 30)
    back = last + 2.0
    assert health.received(back) is SensorState.STALE
    assert health.received(back + 1 / 30) is SensorState.STALE
    assert health.received(back + 2 / 30) is SensorState.OK


def test_samples_each_later_than_the_timeout_do_not_recover_it_until_the_interval_is_learned() -> None:
    health = SensorHealth()
    last = feed(health, 0.0, 1 / 30, 30)
    states = [health.received(last + i) for i in range(1, 40)]
    assert states[:3] == [SensorState.STALE] * 3
    assert states[-1] is SensorState.OK
    changes = sum(a is not b for a, b in pairwise(states))
    assert changes == 1


def test_two_outages_do_not_stretch_the_timeout() -> None:
    health = SensorHealth()
    last = feed(health, 0.0, 1 / 30, 30)
    last = feed(health, last + 20.0, 1 / 30, 10)
    last = feed(health, last + 20.0, 1 / 30, 10)
    assert health.state(last) is SensorState.OK
    assert health.timeout_s == pytest.approx(0.1)


def test_rubbish_is_corrupt_not_stale_and_good_samples_end_it() -> None:
    health = SensorHealth()
    last = feed(health, 0.0, 0.1, 10)
    assert [health.rejected(last + 0.1 * i, "bad step") for i in (1, 2, 3)] == [
        SensorState.OK,
        SensorState.OK,
        SensorState.CORRUPT,
    ]
    assert [health.received(last + 0.3 + 0.1 * i) for i in (1, 2, 3)] == [
        SensorState.CORRUPT,
        SensorState.CORRUPT,
        SensorState.OK,
    ]
    status = health.status(last + 0.6)
    assert (status.received, status.rejected, status.last_cause) == (13, 3, "bad step")


def test_a_sensor_that_only_ever_sends_rubbish_is_corrupt() -> None:
    health = SensorHealth()
    for i in range(3):
        health.rejected(i * 0.1, "encoding")
    assert health.state(0.25) is SensorState.CORRUPT
    assert health.state(10.0) is SensorState.STALE


def test_single_bad_samples_do_no_harm() -> None:
    health = SensorHealth()
    states = set()
    for i in range(100):
        states.add(health.rejected(i * 0.1, "x") if i % 3 == 2 else health.received(i * 0.1))
    assert states == {SensorState.OK}


def test_disabled_says_so_counts_nothing_and_starts_afresh() -> None:
    health = SensorHealth()
    last = feed(health, 0.0, 0.1, 10)
    health.enabled = False
    assert health.received(last + 0.1) is SensorState.DISABLED
    assert health.rejected(last + 0.2, "x") is SensorState.DISABLED
    assert health.status(last + 0.2).received == 10
    health.enabled = True
    assert health.state(last + 0.3) is SensorState.WAITING
    assert health.received(last + 0.4) is SensorState.OK


def test_the_rate_is_that_of_the_arrivals_and_zero_when_stale() -> None:
    health = SensorHealth()
    last = feed(health, 0.0, 0.04, 50)
    assert health.status(last).rate_hz == pytest.approx(25.0)
    assert health.status(last + 5.0).rate_hz == 0.0
    last = feed(health, last + 5.0, 0.04, 5)
    assert health.status(last).rate_hz == pytest.approx(25.0)


def test_the_timeout_of_a_very_fast_sensor_is_learned_too() -> None:
    health = SensorHealth()
    last = feed(health, 0.0, 0.002, 200)
    assert health.state(last + 0.11) is SensorState.STALE


def test_skipped_samples_are_counted_and_a_reset_forgets() -> None:
    health = SensorHealth()
    feed(health, 0.0, 0.1, 10)
    health.skipped()
    health.skipped(4)
    assert health.status(1.0).skipped == 5
    health.reset()
    status = health.status(1.0)
    assert (status.state, status.received, status.skipped, status.rate_hz) == (SensorState.WAITING, 0, 0, 0.0)


def test_the_limits_are_parameters() -> None:
    health = SensorHealth(min_timeout_s=1.0, timeout_intervals=5.0, recovery_samples=1, corrupt_after=1)
    last = feed(health, 0.0, 0.5, 10)
    assert health.state(last + 2.4) is SensorState.OK
    assert health.state(last + 2.6) is SensorState.STALE
    assert health.received(last + 3.0) is SensorState.OK
    assert health.rejected(last + 3.1, "x") is SensorState.CORRUPT
    with pytest.raises(ValueError, match="at least 1"):
        SensorHealth(recovery_samples=0)
    with pytest.raises(ValueError, match="positive"):
        SensorHealth(min_timeout_s=0.0)


def arrivals(estimator: PeriodEstimator, interval_s: float, count: int, start_s: float = 0.0) -> None:
    for i in range(count):
        estimator.arrived(start_s + i * interval_s)


def test_the_period_is_thirty_hertz_until_it_is_known() -> None:
    estimator = PeriodEstimator()
    arrivals(estimator, 0.2, 5)
    assert estimator.period_s == pytest.approx(1 / 30)
    arrivals(estimator, 0.2, 1, start_s=1.0)
    assert estimator.period_s == pytest.approx(0.2)


def test_lost_frames_and_an_outage_do_not_change_the_period() -> None:
    rng = np.random.default_rng(3)
    estimator = PeriodEstimator()
    for i in range(300):
        if rng.random() < 0.6 and not 100 < i < 250:
            estimator.arrived(i / 25 + rng.normal(0, 0.001))
    assert estimator.period_s == pytest.approx(1 / 25, rel=0.1)


def test_frames_in_a_clump_do_not_make_the_period_vanish() -> None:
    estimator = PeriodEstimator()
    arrivals(estimator, 1e-5, 40)
    assert estimator.period_s == pytest.approx(1 / 240)


def test_a_stopped_steady_clock_teaches_nothing() -> None:
    estimator = PeriodEstimator()
    for _ in range(40):
        estimator.arrived(7.0)
    assert estimator.period_s == pytest.approx(1 / 30)
