# SPDX-License-Identifier: Apache-2.0
"""The actions of a recording, as a file tells them."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from karmma_ros.event_log import EventLog, LoggedAction, write_actions

BUNDLE = SimpleNamespace(
    heads={"verb": ("idle", "cut"), "noun": ("none", "bread")},
    actions=((0, 0), (1, 1)),
    action_names=("idle", "cut bread"),
)
IDLE, CUT = np.array([0.9, 0.1]), np.array([0.1, 0.9])
ORIGIN_NS = 1_700_000_000_000_000_000


def watched(*parts: tuple[float, np.ndarray | None], rate: float = 30) -> list[LoggedAction]:
    log = EventLog(BUNDLE, origin_ns=ORIGIN_NS)  # type: ignore[arg-type]
    index = 0
    for seconds, scores in parts:
        for _ in range(round(seconds * rate)):
            log.take(ORIGIN_NS + round(index * 1e9 / rate), scores)
            index += 1
    log.close()
    return log.actions


def test_an_action_has_its_times_from_the_start_of_the_recording() -> None:
    (action,) = watched((2, IDLE), (3, CUT), (2, IDLE))
    assert (action.event_id, action.action, action.start_s) == (0, "cut bread", 2.0)
    assert action.stop_s == pytest.approx(5.0, abs=0.04)
    assert 2.5 <= action.decided_s < 2.6
    assert 0.5 < action.score < 0.9


def test_what_is_going_on_at_the_end_ends_with_it() -> None:
    (action,) = watched((1, IDLE), (2, CUT))
    assert action.stop_s == pytest.approx(3 - 1 / 30, abs=1e-3)
    assert watched((1, None)) == []


def test_a_slow_camera_has_its_actions_too() -> None:
    (action,) = watched((20, IDLE), (30, CUT), (20, IDLE), rate=0.8)
    assert (action.start_s, action.stop_s) == (20.0, pytest.approx(50 - 1 / 0.8))


def test_actions_are_written_as_a_table(tmp_path: Path) -> None:
    actions = watched((2, CUT), (1, IDLE), (2, CUT))
    write_actions(tmp_path / "events.csv", actions)
    with (tmp_path / "events.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["action"] for row in rows] == ["cut bread", "cut bread"]
    assert [float(row["start_s"]) for row in rows] == [action.start_s for action in actions]
    write_actions(tmp_path / "none.csv", [])
    assert (tmp_path / "none.csv").read_text() == "event_id,action,start_s,stop_s,decided_s,score\n"
