# SPDX-License-Identifier: Apache-2.0
"""Predictions become actions that start and end."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karmma_ros.events import Event, EventDetector, EventSettings, EventType

ACTIONS = ("idle", "pour mug", "cut apple")
VERBS = ("idle", "pour", "cut")
IDLE, POUR, CUT = range(3)
RATE = 30
PLAIN = EventSettings(smoothing_s=0.2, start_score=0.5, end_score=0.25, min_duration_s=0.5, gap_s=1.0)


def sure(action: int, score: float = 0.9) -> np.ndarray:
    scores = np.full(3, (1 - score) / 2)
    scores[action] = score
    return scores


def ns(t_s: float) -> int:
    return round(t_s * 1e9)


def play(*parts: tuple[float, np.ndarray | None], to: EventDetector | None = None, rate: float = RATE) -> list[Event]:
    """Events of a stream that says each scores for so many seconds."""
    detector = to or detect()
    events: list[Event] = []
    index = 0
    for seconds, scores in parts:
        for _ in range(round(seconds * rate)):
            events += detector.push(ns(10 + index / rate), scores)
            index += 1
    return events


def detect(settings: EventSettings = PLAIN) -> EventDetector:
    return EventDetector(ACTIONS, VERBS, settings)


def said(events: list[Event]) -> list[tuple[str, int]]:
    return [(event.type.name, event.action) for event in events]


def test_an_action_starts_once_it_has_lasted_and_ends_when_it_is_over() -> None:
    start, end = play((2, sure(IDLE)), (3, sure(POUR)), (2, sure(IDLE)))
    assert (start.type, start.action, end.type, end.action) == (EventType.START, POUR, EventType.END, POUR)
    assert start.event_id == end.event_id == 0
    assert start.end_ns == 0
    assert start.start_ns == end.start_ns == ns(12), "the average is later than the action: its start is not"
    assert start.decided_ns == pytest.approx(ns(12.5), abs=ns(1 / RATE))
    assert end.end_ns == pytest.approx(ns(15), abs=ns(1 / RATE) + 1)
    assert end.decided_ns > end.end_ns
    assert start.scores[POUR] > 0.5 > 0.25 > end.scores[POUR]


def test_one_action_ends_where_the_next_begins() -> None:
    events = play((2, sure(POUR)), (3, sure(CUT)), (2, sure(IDLE)))
    assert said(events) == [("START", POUR), ("END", POUR), ("START", CUT), ("END", CUT)]
    first, ended, second, _ = events
    assert ended.decided_ns < second.decided_ns, "it is over before the next has lasted"
    assert first.end_ns == 0
    assert ended.end_ns <= second.start_ns == ns(12)
    assert [e.event_id for e in events] == [0, 0, 1, 1]


def test_a_lasting_successor_ends_an_action_whatever_its_score() -> None:
    events = play((2, sure(POUR)), (3, sure(CUT)), to=detect(replace(PLAIN, end_score=0.0)))
    assert said(events) == [("START", POUR), ("END", POUR), ("START", CUT)]
    assert events[1].decided_ns == events[2].decided_ns == events[2].start_ns + ns(0.5)


def test_what_does_not_last_is_not_said() -> None:
    assert play((2, sure(IDLE)), (0.4, sure(POUR)), (2, sure(IDLE))) == []


def test_flicker_neither_ends_an_action_nor_starts_another() -> None:
    flicker = [(0.1, sure(CUT)), (0.2, sure(POUR))] * 10
    assert said(play((2, sure(POUR)), *flicker, (1, sure(POUR)))) == [("START", POUR)]


def test_a_score_between_the_thresholds_starts_nothing_and_ends_nothing() -> None:
    between = sure(POUR, 0.4)
    assert play((3, between)) == []
    assert said(play((2, sure(POUR)), (5, between))) == [("START", POUR)]


def test_idle_is_no_action_and_one_may_say_what_is_idle() -> None:
    assert play((5, sure(IDLE))) == []
    assert play((5, sure(CUT)), to=detect(replace(PLAIN, idle=("idle", "cut apple")))) == []
    assert play((5, sure(CUT)), to=detect(replace(PLAIN, idle=("cut",)))) == []
    assert said(play((5, sure(IDLE)), to=detect(replace(PLAIN, idle=())))) == [("START", IDLE)]


def test_an_action_that_is_declared_idle_ends() -> None:
    detector = detect()
    play((2, sure(POUR)), to=detector)
    detector.settings = replace(PLAIN, idle=("pour",))
    assert said(detector.push(ns(12), sure(POUR))) == [("END", POUR)]


def test_silence_ends_an_action_with_its_last_prediction() -> None:
    start, end = play((2, sure(POUR)), (3, None))
    assert end.type is EventType.END
    assert end.end_ns == end.decided_ns == ns(12 - 1 / RATE)
    assert start.start_ns == ns(10)


def test_a_shorter_silence_does_not() -> None:
    assert said(play((2, sure(POUR)), (0.8, None), (1, sure(POUR)))) == [("START", POUR)]


def test_what_follows_a_silence_begins_after_it() -> None:
    events = play((2, sure(POUR)), (3, None), (2, sure(POUR)))
    assert said(events) == [("START", POUR), ("END", POUR), ("START", POUR)]
    assert events[-1].start_ns == ns(15)


def test_a_stream_that_starts_again_ends_what_was_going_on() -> None:
    detector = detect()
    play((2, sure(POUR)), to=detector)
    events = play((2, sure(POUR)), to=detector)
    assert said(events) == [("END", POUR), ("START", POUR)]
    assert events[0].end_ns == ns(12 - 1 / RATE)
    assert [e.event_id for e in events] == [0, 1]


def test_closing_ends_what_is_going_on_once() -> None:
    detector = detect()
    play((2, sure(POUR)), to=detector)
    assert said(detector.close()) == [("END", POUR)]
    assert detector.close() == []
    assert detector.running is None


def test_after_a_reset_ids_start_anew_and_nothing_is_going_on() -> None:
    detector = detect()
    play((2, sure(POUR)), to=detector)
    detector.reset()
    (start,) = play((2, sure(CUT)), to=detector)
    assert (start.event_id, start.action) == (0, CUT)


@pytest.mark.parametrize("rate", [5, 15, 60, 120])
def test_the_rate_of_predictions_changes_nothing_but_the_grain(rate: int) -> None:
    start, end = play((2, sure(IDLE)), (3, sure(POUR)), (2, sure(IDLE)), rate=rate)
    assert start.start_ns == pytest.approx(ns(12), abs=ns(1 / rate) + 1)
    assert start.decided_ns == pytest.approx(ns(12.5), abs=ns(1 / rate) + 1)
    assert end.end_ns == pytest.approx(ns(15), abs=ns(1 / rate) + 1)
    assert end.decided_ns == pytest.approx(ns(15.3), abs=ns(0.1 + 1 / rate))


def test_without_smoothing_and_minimum_every_prediction_counts() -> None:
    bare = EventSettings(smoothing_s=0.0, start_score=0.5, end_score=0.5, min_duration_s=0.0)
    events = play((1 / RATE, sure(POUR)), (1 / RATE, sure(CUT)), (1 / RATE, sure(IDLE)), to=detect(bare))
    assert said(events) == [("START", POUR), ("END", POUR), ("START", CUT), ("END", CUT)]


def runner_up(seconds: float) -> list[tuple[float, np.ndarray]]:
    """Idle and pour take turns at being the best; cut is the best on average, and of no prediction."""
    turns = [(1 / RATE, np.array([0.56, 0.02, 0.42])), (1 / RATE, np.array([0.02, 0.56, 0.42]))]
    return turns * round(seconds * RATE / 2)


LOW = replace(PLAIN, start_score=0.3)


def test_an_action_that_is_the_best_on_average_only_begins_with_its_lead() -> None:
    start, end = play(*runner_up(3), (2, sure(IDLE)), to=detect(LOW))
    assert (start.type, start.action, end.type, end.action) == (EventType.START, CUT, EventType.END, CUT)
    assert ns(10) < start.start_ns < ns(10.2), "the first of the two leads until the second has had its turn"
    assert start.decided_ns == pytest.approx(start.start_ns + ns(0.5), abs=ns(1 / RATE))
    assert ns(13 - 2 / RATE) <= end.end_ns < ns(13.2), "it was never the best: it ends with its lead"


def test_such_an_action_does_not_reach_back_to_an_earlier_one() -> None:
    between = 3.0
    events = play((2, sure(CUT)), (between, sure(IDLE)), *runner_up(2), to=detect(LOW))
    assert said(events) == [("START", CUT), ("END", CUT), ("START", CUT)]
    assert events[2].start_ns > ns(12 + between)
    events = play((2, sure(CUT)), (between, None), *runner_up(2), to=detect(LOW))
    assert said(events) == [("START", CUT), ("END", CUT), ("START", CUT)]
    assert events[2].start_ns > ns(12 + between)


def test_with_low_scores_being_the_best_now_and_then_does_not_keep_an_action_from_starting() -> None:
    now_and_then = [*runner_up(0.4), (1 / RATE, sure(CUT, 0.44))]
    (start,) = play(*now_and_then * 5, to=detect(LOW))
    assert (start.action, start.start_ns) == (CUT, pytest.approx(ns(10.1), abs=ns(0.1)))


def test_low_scores_before_a_silence_say_nothing_about_those_after_it() -> None:
    events = play((2, sure(CUT, 0.42)), (3, None), (2, sure(CUT, 0.42)), to=detect(LOW))
    assert said(events) == [("START", CUT), ("END", CUT), ("START", CUT)]
    assert events[2].start_ns == ns(15)


def test_with_high_scores_an_action_begins_where_it_became_the_best_again() -> None:
    beaten = (0.3, np.array([0.51, 0.49, 0.0]))
    (start,) = play((1, sure(POUR)), beaten, (2, sure(POUR)), to=detect(replace(PLAIN, min_duration_s=1.5)))
    assert start.start_ns == ns(11.3)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.99, 1.0, 2.0])
def test_predictions_may_be_further_apart_than_the_gap(rate: float) -> None:
    start, end = play((10 / rate, sure(IDLE)), (10 / rate, sure(POUR)), (10 / rate, sure(IDLE)), rate=rate)
    assert (start.type, start.action, end.type, end.action) == (EventType.START, POUR, EventType.END, POUR)
    assert start.start_ns == pytest.approx(ns(10 + 10 / rate), abs=2)
    assert end.end_ns == pytest.approx(ns(10 + 19 / rate), abs=2)


def test_at_a_slow_rate_a_lost_prediction_ends_nothing_and_silence_still_does() -> None:
    detector, lost = detect(), 7
    events = [e for t in range(15) if t != lost for e in detector.push(ns(10 + t), sure(POUR))]
    assert said(events) == [("START", POUR)]
    assert detector.push(ns(26.4), None) == []
    (end,) = detector.push(ns(26.6), None)
    assert (end.type, end.end_ns) == (EventType.END, ns(24))


def test_an_outage_does_not_make_the_gap_longer() -> None:
    detector = detect(replace(PLAIN, min_duration_s=0.0))
    play((1, sure(POUR)), (30, None), (0.1, sure(POUR)), to=detector)
    assert said(detector.push(ns(42.2), None)) == [("END", POUR)]


def test_a_rate_that_falls_is_learned() -> None:
    detector = detect()
    play((2, sure(POUR)), to=detector)
    events = [e for t in range(20) for e in detector.push(ns(13 + 2 * t), sure(CUT))]
    assert said(events) == [("END", POUR), ("START", CUT)]


NEAR = [np.array(scores) for scores in ((0.45, 0.15, 0.4), (0.15, 0.45, 0.4), (0.4, 0.15, 0.45), (0.15, 0.4, 0.45))]


def shares(*scores: float) -> np.ndarray:
    return np.array(scores) / sum(scores)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 300) | st.integers(1, 3_000),
            st.sampled_from(NEAR) | st.builds(shares, *[st.floats(0.01, 1)] * 3) | st.none(),
        ),
        max_size=100,
    ),
    st.floats(0, 0.6),
    st.floats(0, 0.6),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_whatever_the_scores_and_thresholds_actions_lie_within_the_stream_and_follow_each_other(
    steps: list[tuple[int, np.ndarray | None]],
    start_score: float,
    end_score: float,
    smoothing_s: float,
    min_duration_s: float,
) -> None:
    detector = detect(EventSettings(smoothing_s, start_score, end_score, min_duration_s))
    t_ns, events, stamps = ns(1_000), [], []
    for milliseconds, scores in steps:
        t_ns += milliseconds * 1_000_000
        events += detector.push(t_ns, scores)
        stamps += [] if scores is None else [t_ns]
    events += detector.close()
    free_ns = stamps[0] if stamps else 0
    assert [e.type for e in events] == [EventType.START, EventType.END] * (len(events) // 2)
    for start, end in zip(events[::2], events[1::2], strict=True):
        assert start.event_id == end.event_id
        assert start.action == end.action != IDLE
        assert free_ns <= start.start_ns == end.start_ns <= end.end_ns <= end.decided_ns
        assert start.start_ns in stamps
        assert end.end_ns in stamps
        assert start.decided_ns - start.start_ns >= ns(min_duration_s)
        assert start.scores[start.action] >= start_score
        free_ns = end.end_ns


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-200, 2_000), st.sampled_from([None, 0, 1, 2]), st.floats(0.2, 1.0)), max_size=150),
    st.floats(0, 2),
    st.floats(0, 2),
)
def test_whatever_comes_actions_are_whole_and_in_order(
    steps: list[tuple[int, int | None, float]], smoothing_s: float, min_duration_s: float
) -> None:
    detector = detect(EventSettings(smoothing_s=smoothing_s, min_duration_s=min_duration_s))
    t_ns, events = ns(1_000), []  # 150 steps back of 0.2 s stay above 900 s
    for milliseconds, action, score in steps:
        t_ns += milliseconds * 1_000_000
        events += detector.push(t_ns, None if action is None else sure(action, score))
    events += detector.close()
    assert len(events) % 2 == 0
    pairs = list(zip(events[::2], events[1::2], strict=True))
    for number, (start, end) in enumerate(pairs):
        assert (start.type, end.type) == (EventType.START, EventType.END)
        assert start.event_id == end.event_id == number
        assert start.action == end.action != IDLE
        assert ns(900) < start.start_ns == end.start_ns <= end.end_ns <= end.decided_ns
        assert start.start_ns <= start.decided_ns
        assert start.decided_ns - start.start_ns >= ns(min_duration_s)
    if all(milliseconds > 0 for milliseconds, _, _ in steps):
        for (_, before), (after, _) in pairwise(pairs):
            assert before.end_ns <= after.start_ns
