# SPDX-License-Identifier: Apache-2.0
"""Stamps of chunks: evenly spaced, true to the measured times, and a gap wherever samples are missing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karmma_ros.microphones.stamping import ChunkClock

RATE, SAMPLES = 16_000, 320
CHUNK_NS = SAMPLES * 10**9 // RATE
BEGIN_NS = 1_700_000_000_000_000_000


@given(seed=st.integers(0, 2**32 - 1), jitter_ms=st.floats(0, 5), drift_ppm=st.floats(-200, 200))
def test_stamps_follow_a_drifting_clock_through_its_jitter(seed: int, jitter_ms: float, drift_ppm: float) -> None:
    rng = np.random.default_rng(seed)
    clock = ChunkClock(RATE)
    true_ns = BEGIN_NS + np.round(np.arange(500) * CHUNK_NS * (1 + drift_ppm * 1e-6)).astype(np.int64)
    measured_ns = true_ns + np.round(rng.normal(0, jitter_ms * 1e6, 500).clip(-9e6, 9e6)).astype(np.int64)
    stamps = [clock.stamp(int(ns), SAMPLES) for ns in measured_ns]
    errors_ms = (np.array(stamps[150:]) - true_ns[150:]) / 1e6
    assert np.abs(errors_ms).max() < 0.3 * jitter_ms + 0.5  # drift: 200 ppm of 2 s
    steps_ns = np.diff(stamps[150:])
    assert np.abs(steps_ns - CHUNK_NS).max() < 0.2e6 + 0.02 * jitter_ms * 1e6 * 4
    assert clock.jumps == 0


def test_the_first_times_are_averaged() -> None:
    """A driver whose very first time is off by 10 ms shifts the stamps of 0.2 s later by a tenth of that."""
    clock = ChunkClock(RATE)
    clock.stamp(BEGIN_NS + 10_000_000, SAMPLES)
    stamps = [clock.stamp(BEGIN_NS + i * CHUNK_NS, SAMPLES) for i in range(1, 11)]
    assert abs(stamps[-1] - (BEGIN_NS + 10 * CHUNK_NS)) < 1_500_000


@pytest.mark.parametrize("missing", [1, 5, 50])
def test_lost_samples_are_a_gap_at_once(missing: int) -> None:
    clock = ChunkClock(RATE)
    for i in range(200):
        clock.stamp(BEGIN_NS + i * CHUNK_NS, SAMPLES)
    after = [clock.stamp(BEGIN_NS + (i + missing) * CHUNK_NS, SAMPLES, lost=i == 200) for i in range(200, 210)]
    assert after == [BEGIN_NS + (i + missing) * CHUNK_NS for i in range(200, 210)]
    assert clock.jumps == 0


def test_after_a_loss_nothing_overlaps_what_came_before() -> None:
    clock = ChunkClock(RATE)
    clock.stamp(BEGIN_NS, SAMPLES)
    assert clock.stamp(BEGIN_NS + CHUNK_NS - 8_000_000, SAMPLES, lost=True) == BEGIN_NS + CHUNK_NS


def test_a_time_that_is_far_off_once_moves_nothing() -> None:
    clock = ChunkClock(RATE)
    stamps = [clock.stamp(BEGIN_NS + i * CHUNK_NS + (300_000_000 if i == 30 else 0), SAMPLES) for i in range(60)]
    assert all(b - a == CHUNK_NS for a, b in pairwise(stamps))
    assert clock.jumps == 0


def test_a_driver_that_catches_up_is_not_asked_for_the_time() -> None:
    """After a delay, PulseAudio's times are wrong by half a chunk until it has caught up."""
    clock = ChunkClock(RATE)
    stamps = [
        clock.stamp(BEGIN_NS + i * CHUNK_NS - (50_000_000 if 30 < i < 55 else 0), SAMPLES, hurried=30 < i < 55)
        for i in range(90)
    ]
    assert all(b - a == CHUNK_NS for a, b in pairwise(stamps))
    assert clock.jumps == 0


@pytest.mark.parametrize("jump_s", [-3600.0, -0.05, 0.05, 3600.0])
def test_a_clock_that_is_set_is_followed(jump_s: float) -> None:
    clock = ChunkClock(RATE)
    times = [BEGIN_NS + i * CHUNK_NS + (round(jump_s * 1e9) if i >= 30 else 0) for i in range(60)]
    stamps = [clock.stamp(ns, SAMPLES) for ns in times]
    assert stamps[35:] == times[35:]
    assert clock.jumps == 1
