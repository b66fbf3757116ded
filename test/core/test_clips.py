# SPDX-License-Identifier: Apache-2.0
"""Clips hold the same frames while they arrive one by one as in a whole recording, and nothing that was erased."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karmma_ros.clips import OVERSAMPLING, ClipBuffer, clip_positions

STEP = 100


def sample(number: int) -> np.ndarray:
    return np.array([number], np.int64)


@given(
    st.lists(st.integers(1, 450), min_size=1, max_size=60),
    st.integers(2, 5),
)
@settings(max_examples=300, deadline=None)
def test_as_they_arrive_clips_are_those_of_the_recording(gaps: list[int], count: int) -> None:
    stamps = np.cumsum(gaps).astype(np.int64)
    buffer = ClipBuffer(count, STEP)
    for k, stamp in enumerate(stamps.tolist()):
        if (stamps > stamp - count * STEP)[: k + 1].sum() > OVERSAMPLING * count:
            return  # more frames than are kept
        expected = clip_positions(stamps, np.array([k]), count, STEP)[0]
        assert buffer.push(stamp, sample(k))[:, 0].tolist() == expected.tolist()


@given(st.lists(st.integers(1, 450), min_size=1, max_size=60), st.integers(2, 5))
@settings(max_examples=300, deadline=None)
def test_frames_are_the_nearest_within_the_clips_time(gaps: list[int], count: int) -> None:
    stamps = np.cumsum(gaps).astype(np.int64)
    for newest, clip in enumerate(clip_positions(stamps, np.arange(len(stamps)), count, STEP)):
        end = stamps[newest]
        allowed = [k for k in range(newest + 1) if stamps[k] > end - count * STEP]
        for i, k in enumerate(clip):
            wanted = end - (count - 1 - i) * STEP
            assert k in allowed
            assert abs(stamps[k] - wanted) == min(abs(stamps[a] - wanted) for a in allowed)
        assert clip[-1] == newest


def test_after_a_pause_the_first_frame_stands_for_what_lies_before() -> None:
    buffer = ClipBuffer(3, STEP)
    for number, stamp in enumerate((0, 100, 200)):
        buffer.push(stamp, sample(number))
    assert buffer.push(1000, sample(3))[:, 0].tolist() == [3, 3, 3]
    assert len(buffer) == 1
    assert buffer.push(1100, sample(4))[:, 0].tolist() == [3, 3, 4]


def test_a_late_frame_takes_its_place() -> None:
    buffer = ClipBuffer(3, STEP)
    for number, stamp in enumerate((50, 200, 300)):
        buffer.push(stamp, sample(number))
    assert buffer.push(100, sample(9))[:, 0].tolist() == [0, 0, 9], "it ends a clip of its own, without newer frames"
    assert buffer.push(300, sample(7))[:, 0].tolist() == [9, 1, 7], "and the same stamp again replaces"


def test_what_is_erased_is_overwritten() -> None:
    buffer = ClipBuffer(4, STEP)
    kept = [np.full((2, 2), 7, np.uint8) for _ in range(4)]
    clips = [buffer.push(number * STEP, array) for number, array in enumerate(kept)]
    assert buffer.evict(200) == 2
    assert [int(array.max()) for array in kept] == [7, 7, 0, 0]
    assert buffer.push(400, np.full((2, 2), 5, np.uint8))[:, 0, 0].tolist() == [7, 7, 5, 5]
    buffer.clear()
    assert [int(array.max()) for array in kept] == [0, 0, 0, 0]
    assert len(buffer) == 0
    assert clips[3].max() == 7, "clips are copies"


def test_a_fast_camera_does_not_fill_the_memory() -> None:
    buffer = ClipBuffer(4, 10**9)
    for number in range(1000):
        buffer.push(number, sample(number))
    assert len(buffer) == OVERSAMPLING * 4


@pytest.mark.parametrize("count", [1, 4])
def test_a_clip_ends_with_the_frame_asked_for(count: int) -> None:
    stamps = np.array([0, 100, 100, 200], np.int64)
    assert clip_positions(stamps, np.array([1, 2]), count, STEP)[:, -1].tolist() == [1, 2]
