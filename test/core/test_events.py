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
