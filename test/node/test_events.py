# SPDX-License-Identifier: Apache-2.0
"""Events over DDS: actions start and end beside the predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lifecycle_msgs.msg import Transition
from node.harness import Robot, node_and_robot, ns_of, picture
from toy_bundle import make_toy_bundle

from karmma_msgs.msg import ActionEvent

# Whatever the random weights say becomes an action soon.
EAGER: dict[str, Any] = {
    "events__start_score": 0.01,
    "events__end_score": 0.0,
    "events__min_duration": 0.3,
    "events__smoothing": 0.0,
    "events__gap": 0.5,
    "events__idle": "[none_of_them]",
}


def play(r: Robot, duration_s: float, **how: Any) -> None:
    """A camera that looks at one thing."""
    r.play(duration_s, flow=False, audio=False, pictures=lambda index: picture(120, index), **how)


def started(r: Robot, count: int) -> ActionEvent:
    starts = r.wait(f"START {count}", lambda: [e for e in r.events if e.type == ActionEvent.START][count - 1 :])
    return starts[0]


def ended(r: Robot, start: ActionEvent) -> ActionEvent:
    return r.wait("its END", lambda: next((e for e in r.events if (e.type, e.event_id) == (1, start.event_id)), None))


def test_an_action_starts_and_ends_with_the_predictions(tmp_path: Path, ros_env: dict[str, str]) -> None:
    bundle = make_toy_bundle(tmp_path / "toy")
    with node_and_robot(tmp_path / "log", ros_env, bundle=bundle, **EAGER) as (_, r):
        r.wait_matched()
        play(r, 1.5)
        start = started(r, 1)
        said = [p for p in r.predictions if p.stamp_ns == ns_of(start.header.stamp)]
        assert len(said) == 1, "an event is decided by a prediction and carries its stamp"
        assert start.header.frame_id == said[0].message.header.frame_id == "camera"
        assert start.event_id == 0
        assert ns_of(start.end) == 0
        assert ns_of(start.header.stamp) - ns_of(start.start) >= 300_000_000
        message = said[0].message
        assert (start.action.id, start.action.name) == (message.actions[0].id, message.actions[0].name)
        assert start.verb.name in start.action.name
        assert start.verb.score >= start.action.score - 1e-6 <= start.noun.score

        end = ended(r, start)  # nothing is sent any more: the window runs empty, and the gap after it
        assert (end.action.id, end.start) == (start.action.id, start.start)
        last_ns = max(p.stamp_ns for p in r.predictions if p.message.actions)
        assert ns_of(start.start) < ns_of(end.end) <= last_ns


def test_whoever_interrupts_the_node_hears_what_was_going_on_end(tmp_path: Path, ros_env: dict[str, str]) -> None:
    bundle = make_toy_bundle(tmp_path / "toy")
    with node_and_robot(tmp_path / "log", ros_env, bundle=bundle, **EAGER | {"events__gap": 60.0}) as (process, r):
        r.wait_matched()
        play(r, 1.0)
        start = started(r, 1)
        assert process.end() == 0
        ended(r, start)


def test_events_follow_their_parameters_while_running(tmp_path: Path, ros_env: dict[str, str]) -> None:
    bundle = make_toy_bundle(tmp_path / "toy")
    with node_and_robot(tmp_path / "log", ros_env, bundle=bundle, **EAGER) as (_, r):
        r.wait_matched()
        idle: list[str] = []

        def on_tick(index: int) -> None:
            for event in list(r.events):
                if event.type == ActionEvent.START and event.action.name not in idle:
                    idle.append(event.action.name)
                    assert r.set_parameter("events.idle", list(idle))[0]

        play(r, 2.0, on_tick=on_tick)
        assert idle
        ended(r, started(r, 1))
        assert not r.set_parameter("events.start_score", 1.5)[0]


def test_whoever_stops_the_node_hears_what_was_going_on_end(tmp_path: Path, ros_env: dict[str, str]) -> None:
    bundle = make_toy_bundle(tmp_path / "toy")
    with node_and_robot(tmp_path / "log", ros_env, bundle=bundle, **EAGER | {"events__gap": 60.0}) as (_, r):
        r.wait_matched()
        for _ in range(2):
            r.forget()
            play(r, 1.0)
            start = started(r, 1)
            assert start.event_id == 0, "ids count from activation"
            assert r.change_state(Transition.TRANSITION_DEACTIVATE)
            assert ended(r, start).action.id == start.action.id
            assert r.change_state(Transition.TRANSITION_ACTIVATE)
            r.wait_prediction("a prediction", lambda p: True)
