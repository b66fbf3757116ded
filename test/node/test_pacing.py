# SPDX-License-Identifier: Apache-2.0
"""The timing rules against simulated cameras: jitter, losses, dead sensors, odd stamps, paused clocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest

from karmma_ros.pacing import CameraPeriod, Pacer

P = 1 / 30
EPOCH_NS = 1_700_000_000_000_000_000


def ns(seconds: float) -> int:
    return EPOCH_NS + round(seconds * 1e9)


@dataclass
class Run:
    """What a simulated node published: (stamp [s], trigger, steady time [s])."""

    published: list[tuple[float, str, float]] = field(default_factory=list)
    skipped: int = 0
    restarts: int = 0

    @property
    def stamps(self) -> list[float]:
        return [stamp for stamp, _, _ in self.published]

    def count(self, start_s: float, end_s: float, trigger: str | None = None) -> int:
        return sum(start_s <= at < end_s and trigger in (None, by) for _, by, at in self.published)


def simulate(
    pacer: Pacer,
    arrivals: list[tuple[float, float, str]],
    until_s: float,
    *,
    work_s: float = 0.0,
    clock_s=None,
    tick_s: float = 0.0,
) -> Run:
    """A node with one worker: arrivals are (steady time, stamp, source) in seconds.

    :param work_s: how long a prediction takes.
    :param clock_s: the node's clock as a function of steady time; steady time itself by default.
    :param tick_s: the node's clock only changes at multiples of this, and wakes the worker then.
    """
    run = Run()
    queue = sorted(arrivals)
    now, at = 0.0, 0
    frame: float | None = None

    def clock_ns() -> int:
        moment = now if not tick_s else np.floor(now / tick_s + 1e-9) * tick_s
        return ns(moment if clock_s is None else clock_s(moment))

    def deliver() -> None:
        nonlocal at, frame
        while at < len(queue) and queue[at][0] <= now:
            arrived, stamp, source = queue[at]
            at += 1
            run.restarts += pacer.arrived(source, ns(stamp), arrived, clock_ns())
            if source == "video":
                run.skipped += frame is not None
                frame = stamp

    while now < until_s:
        deliver()
        if frame is not None:
            stamp, frame = frame, None
            if pacer.triggers(ns(stamp)):
                now += work_s
                run.published.append((stamp, "camera", now))
            continue
        due = pacer.poll(now, clock_ns())
        if due:
            now = max(now + work_s, now)
            run.skipped += due.skipped
            run.published.append(((due.stamp_ns - EPOCH_NS) * 1e-9, "timer", now))
            continue
        wait = pacer.wait_s(now, clock_ns())
        wake = [until_s]
        if at < len(queue):
            wake.append(queue[at][0])
        if wait is not None:
            wake.append(now + max(wait, 1e-6))
        if tick_s:
            wake.append((np.floor(now / tick_s + 1e-9) + 1) * tick_s)
        now = min(wake)
    return run


def camera(
    start_s: float, end_s: float, *, seed: int = 0, keep: float = 1.0, jitter_s: float = 0.0, rate: float = 30.0
) -> list[tuple[float, float, str]]:
    """Frames stamped on a grid (0.3 ms of noise), lost at random, that arrive 5 ms later plus exponential jitter."""
    rng = np.random.default_rng(seed)
    frames = []
    for index in range(int(np.ceil(start_s * rate)), int(end_s * rate)):
        stamp = index / rate + rng.normal(0, 0.0003)
        arrived = stamp + 0.005 + rng.exponential(jitter_s)
        if rng.random() < keep:
            frames.append((arrived, stamp, "video"))
    return frames


def assert_increasing(run: Run) -> None:
    assert all(b > a for a, b in pairwise(run.stamps))


def test_every_frame_triggers_and_the_timer_is_silent() -> None:
    frames = camera(0, 10, jitter_s=0.002)
    run = simulate(Pacer(), frames, 10)
    assert run.count(0, 10, "timer") <= 1  # before the first frame
    assert [stamp for stamp, by, _ in run.published if by == "camera"] == pytest.approx([s for _, s, _ in frames])


@pytest.mark.parametrize("jitter_s", [0.0, 0.001, 0.004])
@pytest.mark.parametrize("seed", range(8))
def test_half_of_the_frames_lost_at_random_keeps_the_rate(jitter_s: float, seed: int) -> None:
    frames = camera(0, 3, seed=seed, jitter_s=jitter_s) + camera(3, 33, seed=seed, keep=0.5, jitter_s=jitter_s)
    run = simulate(Pacer(), frames, 33)
    assert run.count(3, 33) == pytest.approx(900, rel=0.01)
    assert_increasing(run)
    assert run.count(3, 33, "camera") == pytest.approx(450, rel=0.15)


def test_every_other_frame_lost_from_the_start_of_a_phase_is_filled_while_the_period_is_remembered() -> None:
    frames = camera(0, 3) + [f for i, f in enumerate(camera(3, 4)) if i % 2]
    run = simulate(Pacer(), frames, 4)
    assert run.count(3, 4) == pytest.approx(30, abs=1)


@pytest.mark.parametrize("jitter_s", [0.0, 0.002, 0.005])
@pytest.mark.parametrize("seed", range(4))
def test_a_dead_camera_does_not_change_the_rate(jitter_s: float, seed: int) -> None:
    frames = camera(0, 4, seed=seed, jitter_s=jitter_s) + camera(12, 16, seed=seed + 100, jitter_s=jitter_s)
    run = simulate(Pacer(), frames, 16)
    severe = jitter_s >= 0.005  # one frame in thirty is more than half a period late
    assert run.count(4, 12) == pytest.approx(240, rel=0.02 if severe else 0.01)
    assert run.count(0, 16) == pytest.approx(480, rel=0.02 if severe else 0.01)
    assert run.count(4.1, 12, "camera") == 0
    assert run.count(12.1, 16, "camera") == pytest.approx(117, abs=8 if severe else 2)
    assert_increasing(run)


def test_the_first_timer_prediction_comes_after_one_and_a_half_periods_for_the_next_moment() -> None:
    frames = camera(0, 2)
    run = simulate(Pacer(), frames, 2.2)
    arrived, stamp, _ = frames[-1]
    timer = [(s, at) for s, by, at in run.published if by == "timer" and at > arrived]
    assert timer[0][0] == pytest.approx(stamp + P, abs=3e-4)
    assert timer[0][1] == pytest.approx(arrived + 1.5 * P, abs=5e-4)
    assert timer[1][1] - timer[0][1] == pytest.approx(P, abs=3e-4)


def test_a_late_frame_is_not_predicted_twice_and_the_next_one_triggers() -> None:
    frames = camera(0, 3)
    arrived, stamp, source = frames[60]
    frames[60] = (arrived + 0.8 * P, stamp, source)  # the timer had its turn at half a period of lateness
    run = simulate(Pacer(), frames, 3)
    assert not any(by == "camera" and s == pytest.approx(stamp) for s, by, _ in run.published)
    assert any(by == "camera" and s == pytest.approx(frames[61][1]) for s, by, _ in run.published)
    assert run.count(1, 3) == pytest.approx(60, abs=1)
    assert_increasing(run)


def test_frames_that_became_later_for_good_trigger_again() -> None:
    frames = [(a + (0.6 * P if a > 2 else 0), s, source) for a, s, source in camera(0, 5)]
    run = simulate(Pacer(), frames, 5)
    assert run.count(2.2, 5, "timer") == 0


def test_one_stamp_that_ran_ahead_silences_the_timer_only_until_the_camera_is_there() -> None:
    frames = camera(0, 6)
    frames[60] = (frames[60][0], frames[60][1] + 0.4, "video")
    run = simulate(Pacer(), frames, 6)
    assert_increasing(run)
    assert run.count(3, 6, "camera") == pytest.approx(90, abs=1)


def test_unusable_frames_leave_the_timer_running() -> None:
    pacer, due = Pacer(), 0
    for index in range(300):  # decoding fails: the frames arrive but never ask to trigger
        now = index * P
        pacer.arrived("video", ns(now), now)
        due += pacer.poll(now, 0) is not None
        due += pacer.poll(now + 0.6 * P, 0) is not None
    assert due == pytest.approx(300, abs=2)


def test_a_camera_that_repeats_one_stamp_leaves_the_timer_running() -> None:
    frames = camera(0, 2) + [(a, 2.0, "video") for a, _, _ in camera(2, 6)]
    run = simulate(Pacer(), frames, 6)
    assert run.count(2.2, 6) == pytest.approx(114, abs=2)
    assert_increasing(run)


def test_without_a_camera_the_first_sensor_sets_the_time_at_thirty_hertz() -> None:
    chunks = [(i * 0.05 + 0.01, i * 0.05 - 86400 * 3, "audio") for i in range(200)]
    run = simulate(Pacer(), chunks, 10)
    assert run.count(0, 10) == pytest.approx(300, abs=2)
    late = [at - (stamp + 86400 * 3) for stamp, _, at in run.published if at > 1]
    assert min(late) > 0
    assert max(late) < 0.05


def test_without_any_sensor_the_nodes_clock_does() -> None:
    run = simulate(Pacer(), [], 5)
    assert run.count(0, 5) == pytest.approx(150, abs=2)
    assert [s for s, _, _ in run.published] == pytest.approx([at - 0.5 * P for _, _, at in run.published], abs=0.001)


def test_days_old_frames_trigger_although_the_timer_has_begun_with_the_present() -> None:
    frames = [(a, s - 86400 * 3, source) for a, s, source in camera(2, 6)]
    run = simulate(Pacer(), frames, 6)
    assert run.restarts == 1
    assert run.count(2.1, 6, "camera") == pytest.approx(117, abs=2)


def test_a_recording_that_starts_again_starts_again() -> None:
    frames = camera(0, 8) + [(a, s - 8, source) for a, s, source in camera(8, 12)]
    run = simulate(Pacer(), frames, 12)
    assert run.restarts == 1
    assert run.count(9, 12, "camera") == pytest.approx(90, abs=2)


def test_one_sensor_with_a_wrong_clock_does_not_disturb_the_camera() -> None:
    chunks = [(i * 0.01, i * 0.01 - 1000, "audio") for i in range(1000)]
    run = simulate(Pacer(), camera(0, 10) + chunks, 10)
    assert run.count(0.5, 10, "camera") == pytest.approx(285, abs=1)
    assert_increasing(Run(published=[p for p in run.published if p[2] > 0.5]))


def test_a_slow_worker_never_falls_behind_with_frames() -> None:
    run = simulate(Pacer(), camera(0, 10), 10, work_s=0.1)
    age = [at - stamp for stamp, _, at in run.published]
    assert max(age) < 0.1 + 0.1
    assert run.skipped > 150
    assert_increasing(run)


def test_a_slow_worker_never_falls_behind_with_the_timer() -> None:
    run = simulate(Pacer(), camera(0, 2), 12, work_s=0.1)
    age = [at - stamp for stamp, by, at in run.published if by == "timer"]
    assert max(age) < (Pacer.CATCH_UP + 1.5) * P + 0.1 + 0.05
    assert run.skipped > 150
    assert_increasing(run)


def test_a_hiccup_of_the_machine_is_caught_up_by_the_timer() -> None:
    pacer = Pacer()
    pacer.arrived("audio", ns(0), 0.0)
    assert pacer.poll(0.11, 0) is not None
    assert pacer.poll(0.11, 0) is not None
    assert pacer.poll(0.11, 0) is None


@pytest.mark.parametrize(("limit", "expected"), [(10.0, 10.0), (20.0, 20.0), (25.0, 25.0), (30.0, 30.0), (60.0, 30.0)])
def test_max_rate_holds_on_average_with_and_without_the_camera(limit: float, expected: float) -> None:
    run = simulate(Pacer(max_rate_hz=limit), camera(0, 20, jitter_s=0.001), 30)
    assert run.count(5, 20, "camera") / 15 == pytest.approx(expected, rel=0.03)
    assert run.count(5, 20, "timer") == 0
    assert run.count(20, 30) / 10 == pytest.approx(expected, rel=0.03)
    assert_increasing(run)


def test_rate_overrides_the_period_of_the_timer() -> None:
    run = simulate(Pacer(rate_hz=10), camera(0, 3), 13)
    assert run.count(3, 13) == pytest.approx(100, abs=2)


def test_a_slow_camera_is_followed() -> None:
    run = simulate(Pacer(), camera(0, 10, rate=5) + camera(10, 10.01, rate=5), 20)
    assert run.count(3, 10) == pytest.approx(35, abs=1)
    assert run.count(10, 20) == pytest.approx(50, abs=1)


@pytest.mark.parametrize("tick_s", [0.001, 0.025, 0.1])
def test_the_timer_is_silent_while_simulated_time_stands_still(tick_s: float) -> None:
    def clock(now: float) -> float:
        return now if now < 4 else max(4.0, now - 10)  # paused from 4 to 14

    chunks = [(i * 0.05, i * 0.05, "audio") for i in range(80)]
    run = simulate(Pacer(follow_clock=True), camera(0, 2) + chunks, 18, clock_s=clock, tick_s=tick_s)
    assert run.count(2.2, 4) == pytest.approx(54, abs=4)
    assert run.count(4.1, 14) == 0
    assert run.count(14.2, 18) == pytest.approx(114, abs=4)
    assert_increasing(run)


@pytest.mark.parametrize("sensor", ["audio", "video"])
def test_a_sample_before_the_first_tick_of_simulated_time_does_not_free_the_timer_of_it(sensor: str) -> None:
    samples = [(i * 0.1, i * 0.1, sensor) for i in range(20)]

    def clock(now: float) -> float:  # unknown at first, as with ros2 bag play; paused from 2 s on
        return -EPOCH_NS * 1e-9 - 1 if now < 0.005 else min(now, 2.0)

    run = simulate(Pacer(rate_hz=10, follow_clock=True), samples, 6, clock_s=clock, tick_s=0.005)
    assert run.count(0.5, 2) == pytest.approx(15, abs=1)
    assert run.count(2.2, 6) == 0


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_simulated_time_may_run_slower_or_faster(speed: float) -> None:
    frames = [(a / speed, s, source) for a, s, source in camera(0, 4) + camera(4, 24, keep=0.5)]
    run = simulate(Pacer(follow_clock=True), frames, 24 / speed, clock_s=lambda now: now * speed, tick_s=0.01)
    assert run.count(4 / speed, 24 / speed) == pytest.approx(600, rel=0.02)
    assert_increasing(run)


def test_before_the_first_tick_of_simulated_time_there_is_nothing_to_time() -> None:
    pacer = Pacer(follow_clock=True)
    assert pacer.poll(5.0, 0) is None
    assert pacer.wait_s(5.0, 0) is None


@pytest.mark.parametrize("seed", range(5))
def test_the_period_survives_losses_and_jitter(seed: int) -> None:
    period, worst = CameraPeriod(), 0.0
    for index, (arrived, _, _) in enumerate(camera(0, 100, seed=seed, keep=0.5, jitter_s=0.003)):
        period.arrived(arrived)
        if index > 60:
            worst = max(worst, abs(period.period_s / P - 1))
    assert worst < 0.05


def test_the_period_follows_a_camera_that_changes_its_rate() -> None:
    period = CameraPeriod()
    for arrived, _, _ in camera(0, 4) + camera(4, 10, rate=15):
        period.arrived(arrived)
    assert period.period_s == pytest.approx(1 / 15, rel=0.01)
    for arrived, _, _ in camera(10, 14, rate=60):
        period.arrived(arrived)
    assert period.period_s == pytest.approx(1 / 60, rel=0.01)


@pytest.mark.parametrize(("first", "then"), [(1, 120), (120, 1), (30, 60), (60, 24), (5, 90), (90, 12)])
def test_any_rate_from_1_to_120_hz_may_change_to_any_other(first: int, then: int) -> None:
    change = max(10.0, 12 / first)
    settled = change + max(2.0, 31 / then)  # the period is learned from the last 30 intervals
    end = settled + 10
    run = simulate(Pacer(), camera(0, change, rate=first) + camera(change, end, rate=then), end + 10)
    assert run.count(change - 5, change) == pytest.approx(5 * first, abs=1)
    assert run.count(settled, end) == pytest.approx(10 * then, rel=0.02, abs=1)
    assert run.count(settled, end, "timer") <= 1
    # The camera dies: the timer goes on at its last rate.
    assert run.count(end + 1, end + 10, "timer") == pytest.approx(9 * then, rel=0.05, abs=1)
    assert_increasing(run)


@pytest.mark.parametrize("follow_clock", [False, True])
def test_a_clock_that_jumps_forward_is_followed_from_the_first_frame(follow_clock: bool) -> None:
    def clock(now: float) -> float:
        return now if now < 5 else now + 60

    frames = camera(0, 5) + [(a, s + 60, source) for a, s, source in camera(5, 10)]
    run = simulate(Pacer(follow_clock=follow_clock), frames, 10, clock_s=clock)
    assert run.count(0, 10) == pytest.approx(300, abs=3), "neither a gap nor a burst for the minute that never was"
    first = next(stamp for stamp, _, at in run.published if at >= 5.05)
    assert first > 64
    assert_increasing(run)


def test_sensors_that_lag_or_drift_do_not_move_the_camera() -> None:
    sound = [(i * 0.05, i * 0.05 * 1.001 - 0.4, "audio") for i in range(400)]
    run = simulate(Pacer(), camera(0, 10) + camera(12, 20) + sound, 20)
    assert run.count(1, 10, "camera") == pytest.approx(270, abs=1)
    assert run.count(10.2, 12, "timer") == pytest.approx(54, abs=2)
    assert run.count(12.2, 20, "camera") == pytest.approx(234, abs=2)
    assert_increasing(run)


def test_a_camera_that_floods_is_predicted_once_a_frame_and_so_is_what_it_leaves_out() -> None:
    flood = [(a + 0.002 * k, s, source) for a, s, source in camera(5, 10) for k in range(10)]
    run = simulate(Pacer(), camera(0, 5) + flood, 15)
    assert run.count(5, 15) == pytest.approx(300, abs=4)
    assert run.count(10.1, 15, "timer") == pytest.approx(147, abs=4)
    assert_increasing(run)


def test_frames_that_arrive_in_clumps_are_predicted_at_their_own_rate() -> None:
    clumps = [(np.ceil(a * 5) / 5 + 1e-4 * i, s, source) for i, (a, s, source) in enumerate(camera(5, 15))]
    run = simulate(Pacer(), camera(0, 5) + clumps, 20)
    assert run.count(6, 15) == pytest.approx(270, abs=8)
    assert run.count(15.5, 20, "timer") == pytest.approx(135, abs=4)
    assert_increasing(run)


def test_frames_in_the_wrong_order_keep_the_rate() -> None:
    frames = camera(5, 15)
    for i in range(0, len(frames) - 1, 2):  # the earlier of two comes right after the later
        (_, early, source), (late, stamp, _) = frames[i], frames[i + 1]
        frames[i], frames[i + 1] = (late, stamp, source), (late + 0.001, early, source)
    run = simulate(Pacer(), camera(0, 5) + frames, 20)
    assert run.count(6, 15) == pytest.approx(270, abs=8)
    assert run.count(15.5, 20, "timer") == pytest.approx(135, abs=4)
    assert_increasing(run)


@pytest.mark.parametrize("limits", [{"rate_hz": 2.0}, {"max_rate_hz": 2.0}])
def test_the_cameras_period_is_known_whatever_is_due(limits: dict[str, float]) -> None:
    pacer = Pacer(**limits)
    for number in range(40):
        pacer.arrived("video", number * 33_333_333, number / 30)
    assert pacer.camera_s == pytest.approx(1 / 30, rel=0.01)
    assert pacer.period_s == pytest.approx(0.5)


def test_stamps_that_fall_back_by_two_seconds_are_followed() -> None:
    """A camera whose machine had its clock set: three frames over half a second say so."""
    after = [(arrived, stamp - 2.0, source) for arrived, stamp, source in camera(8, 14)]
    run = simulate(Pacer(), camera(0, 8) + after, 14)
    assert run.restarts == 1
    assert run.count(8.6, 14) > 150, "30 a second again"


def test_a_short_recording_played_again_and_again_is_predicted_every_time() -> None:
    arrivals = [(arrived + 2.5 * turn, stamp, source) for turn in range(8) for arrived, stamp, source in camera(0, 2.5)]
    run = simulate(Pacer(), arrivals, 20)
    assert run.restarts == 7
    assert run.count(0, 20) > 0.75 * 600


@pytest.mark.parametrize("step_s", [0.8, -0.8])
def test_without_a_camera_the_moment_follows_the_stamps_of_the_sound(step_s: float) -> None:
    """Its clock is set by less than a jump: t must not stay that far from it for ever."""
    sound = [(t + 0.1, t + (step_s if t >= 5 else 0.0), "audio") for t in np.arange(0.0, 40.0, 0.1)]
    run = simulate(Pacer(), sound, 40)
    assert run.restarts == 0
    late = [stamp - at for stamp, _, at in run.published if at > 38]
    before = [stamp - at for stamp, _, at in run.published if 3 < at < 5]
    assert abs(np.median(late) - np.median(before) - step_s) < Pacer.SLEW_FREE_S + 0.1
    assert all(b > a for a, b in pairwise(run.stamps))
    assert run.count(10, 40) == pytest.approx(900, abs=30)
