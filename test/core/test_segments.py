# SPDX-License-Identifier: Apache-2.0
"""Segments said against segments of the truth."""

from __future__ import annotations

import pytest

from karmma_ros.segments import Segment, SegmentScores, score_segments, segments_of_labels

TRUE = [Segment("pour", 0, 10), Segment("cut", 10, 20), Segment("pour", 25, 35)]


def test_the_truth_scores_one() -> None:
    scores = score_segments(TRUE, TRUE, 40)
    assert (scores.f1, scores.found, scores.false_starts) == (1.0, 3, 1), "decided at 0 s, before two of them began"
    decided = [Segment(t.label, t.start_s, t.stop_s, t.start_s + 0.5) for t in TRUE]
    scores = score_segments(decided, TRUE, 40)
    assert (scores.f1, scores.false_starts_per_minute, scores.latencies_s) == (1.0, 0.0, (0.5, 0.5, 0.5))


def test_half_of_the_union_is_enough_and_less_is_not() -> None:
    assert score_segments([Segment("cut", 10, 15, 11)], TRUE, 40).found == 1
    assert score_segments([Segment("cut", 10, 14.9, 11)], TRUE, 40).found == 0
    assert score_segments([Segment("cut", 0, 20.1, 11)], TRUE, 40).found == 0


def test_a_segment_in_pieces_is_found_once_and_the_rest_is_wrong() -> None:
    pieces = [Segment("cut", 10, 16, 10.5), Segment("cut", 17, 20, 17.5)]
    scores = score_segments(pieces, TRUE, 40)
    assert (scores.found, scores.said, scores.true) == (1, 2, 3)
    assert scores.f1 == pytest.approx(2 / 5)
    assert scores.false_starts == 0, "its action was going on, though it had been said before"


def test_a_start_outside_its_action_is_false() -> None:
    said = [Segment("cut", 5, 12, 6), Segment("stir", 12, 14, 12), Segment("pour", 26, 34, 27)]
    scores = score_segments(said, TRUE, 30)
    assert scores.false_starts == 2
    assert scores.false_starts_per_minute == 4
    assert scores.latencies_s == (2,)


def test_scores_of_recordings_add_up() -> None:
    one = score_segments([Segment("cut", 10, 20, 11)], TRUE, 40)
    both = one + score_segments([], [Segment("cut", 0, 5)], 20)
    assert (both.found, both.said, both.true, both.duration_s) == (1, 1, 4, 60)
    assert both.f1 == pytest.approx(2 / 5)
    assert SegmentScores().f1 == 1.0


def test_runs_of_a_label_are_segments_but_for_idle_and_silence() -> None:
    times = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    labels = ["cut", "cut", "idle", None, "pour", "pour"]
    assert segments_of_labels(times, labels, ("idle",), end_s=0.6) == [
        Segment("cut", 0.0, 0.2, 0.0),
        Segment("pour", 0.4, 0.6, 0.4),
    ]
    assert segments_of_labels([], [], end_s=1.0) == []
