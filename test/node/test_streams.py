# SPDX-License-Identifier: Apache-2.0
"""A running node over DDS: what it publishes for which frames, at which rate, while sensors come and go.

One node serves all tests of this file; each waits for the sensors it needs. Accuracy is not asserted: the toy bundle's
weights are random.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from node.harness import RATE, Played, Received, Robot, assert_increasing, calmly, node_and_robot, picture, robot, value
from toy_bundle import ACTIONS, NOUNS, VERBS, make_toy_bundle

from karmma_msgs.msg import ActionPrediction

PERIOD_NS = 10**9 // RATE


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, ros_env: dict[str, str]) -> Iterator[Robot]:
    folder = tmp_path_factory.mktemp("streams")
    with node_and_robot(folder / "node.log", ros_env, bundle=make_toy_bundle(folder / "toy")) as (_, made):
        made.wait_matched()
        yield made


@pytest.fixture
def live(running: Robot) -> Iterator[Robot]:
    """The node with all its sensors delivering, and every sensor OK."""
    running.play(0.4)
    running.forget()
    yield running
    assert_increasing(running.predictions)


def assert_full_rate(robot: Robot, played: Played) -> list[Received]:
    """99 to 101 % of the predictions that were due while playing (and one for the edges)."""
    heard = robot.heard(played.start_s, played.end_s)
    due = RATE * (played.end_s - played.start_s)
    assert 0.99 * due - 1 <= len(heard) <= 1.01 * due + 1
    return heard


def test_every_frame_triggers_one_prediction_with_its_own_header(live: Robot) -> None:
    played = live.play_calmly(2)
    heard = assert_full_rate(live, played)
    live.wait("the last frame's prediction", lambda: live.predictions[-1].stamp_ns >= played.frames[-1])
    by_camera = [p.stamp_ns for p in live.predictions if p.camera and p.stamp_ns >= played.start_ns]
    # A machine that stumbles may lose a frame or two on the way; what comes is exact.
    assert set(by_camera) <= set(played.frames)
    assert len(by_camera) >= 0.95 * len(played.frames)
    for prediction in heard[5:]:
        message = prediction.message
        assert message.header.frame_id == "camera"
        assert message.status == ActionPrediction.OK
        assert message.bundle == "toy"
        assert 0 < message.processing_time <= message.latency < 0.5 or not prediction.camera
        assert [m.name for m in message.modalities] == ["video", "flow", "audio"]
        assert sum(label.score for label in message.verbs) == pytest.approx(1, abs=1e-4)
        assert [label.score for label in message.actions] == sorted((a.score for a in message.actions), reverse=True)
        assert len(message.actions) == len(ACTIONS)
    assert 0.9 < heard[-1].message.coverage <= 1  # the window is full after its second


def test_labels_are_there_for_late_subscribers(live: Robot) -> None:
    labels = live.wait("labels", lambda: live.labels[-1] if live.labels else latest_labels())
    assert tuple(labels.verbs) == VERBS
    assert tuple(labels.nouns) == NOUNS
    assert [tuple(pair) for pair in zip(labels.action_verb, labels.action_noun, strict=True)] == list(ACTIONS)


def latest_labels():  # type: ignore[no-untyped-def]
    """Labels as a robot hears them that subscribes only now."""
    with robot() as late:
        return late.wait("latched labels", lambda: late.labels[-1] if late.labels else None)


def test_a_changed_frame_changes_its_own_prediction(live: Robot) -> None:
    other = np.zeros((48, 64, 3), np.uint8)
    other[:, :32] = (255, 0, 0)
    odd = 75
    played = live.play_calmly(3, flow=False, audio=False, pictures=lambda i: other if i == odd else picture(90, i))
    by_stamp = {p.stamp_ns: p for p in live.predictions if p.camera}
    before, changed = (by_stamp[played.start_ns + index * 10**9 // RATE].scores() for index in (odd - 1, odd))
    noise = [by_stamp[s].scores() for s in played.frames[odd - 15 : odd] if s in by_stamp]
    usual = max(abs(a["pour"] - b["pour"]) for a in noise for b in noise)
    difference = max(abs(changed[verb] - before[verb]) for verb in VERBS)
    assert difference > 10 * usual
    assert difference > 1e-4


def test_fusion_runs_once_for_each_prediction(live: Robot) -> None:
    live.play(1)
    status = live.wait_status("diagnostics", "action_node", lambda s: value(s, "fusion_runs") is not None)
    names = ("fusion_runs", "video_runs", "predictions", "status_no_input")
    counts = {name: int(value(status, name) or 0) for name in names}
    assert counts["predictions"] > 30
    # One may be under way while the counts are read.
    assert 0 <= counts["fusion_runs"] - (counts["predictions"] - counts["status_no_input"]) <= 1
    assert counts["video_runs"] > 20


def test_without_a_camera_the_rate_holds(live: Robot) -> None:
    played = live.play_calmly(3, video=False)
    heard = assert_full_rate(live, played)
    late = [p for p in heard if p.at_s > played.start_s + 0.2]
    assert not any(p.camera for p in late)
    assert late[-1].state("video") == "STALE"
    steps = np.diff([p.stamp_ns for p in late])
    assert np.all(np.abs(steps / PERIOD_NS - 1) < 0.05) or np.mean(steps) == pytest.approx(PERIOD_NS, rel=0.01)
    assert all(p.message.latency < 0.1 for p in late[:-1])


def test_with_half_of_the_frames_lost_at_random_the_rate_holds(live: Robot) -> None:
    random_generator = random.Random(3)
    played = live.play_calmly(4, video=lambda _: random_generator.random() < 0.5)
    heard = assert_full_rate(live, played)
    share = sum(p.camera for p in heard) / len(heard)
    assert 0.35 < share < 0.65
    assert {p.stamp_ns for p in heard if p.camera and p.stamp_ns >= played.start_ns} <= set(played.frames)


@pytest.mark.parametrize("modality", ["video", "flow", "audio"])
def test_a_sensor_dies_and_comes_back(live: Robot, modality: str) -> None:
    gone, back = calmly(lambda: [live.play(0.8, **{modality: False}), live.play(0.8)])  # type: ignore[arg-type]
    states = [p.state(modality) for p in live.heard(gone.start_s, gone.end_s)]
    assert states[0] == "OK"
    assert states[-1] == "STALE"
    states = [p.state(modality) for p in live.heard(back.start_s, back.end_s)]
    assert states[0] == "STALE"
    assert states[-1] == "OK"
    for other in {"video", "audio"} - {modality}:
        assert all(p.state(other) == "OK" for p in live.heard(gone.start_s + 0.1, back.end_s))
    assert len(live.heard(gone.start_s, back.end_s)) >= 0.97 * RATE * 1.6
    assert live.heard(back.start_s, back.end_s)[-1].modality(modality).coverage > 0.4


def test_a_covered_camera_and_a_muted_microphone_are_missing_while_their_messages_go_on(live: Robot) -> None:
    live.play(0.5)
    black = np.zeros((48, 64, 3), np.uint8)
    covered, well = calmly(lambda: [live.play(1.0, pictures=lambda _: black, level=0.0), live.play(1.0)])
    *before, last = live.heard(covered.start_s, covered.end_s)[-5:]
    assert any(p.camera for p in [*before, last]), "its frames still trigger, with their own stamps"
    assert last.state("video") == "OCCLUDED"
    assert last.state("audio") == "MUTED"
    assert last.modality("video").rate > 20
    assert last.modality("video").coverage < 0.1
    back = live.heard(well.start_s, well.end_s)[-1]
    assert (back.state("video"), back.state("audio")) == ("OK", "OK")
    assert back.modality("video").coverage > 0.6
    assert len(live.heard(covered.start_s, well.end_s)) >= 0.97 * RATE * 2


def test_a_sensor_that_is_not_there_makes_the_node_cheaper(live: Robot) -> None:
    def runs() -> int:
        status = live.wait_status("diagnostics", "action_node", lambda s: True)
        return int(value(status, "flow_runs") or 0)

    live.play(0.3, flow=False)
    before = runs()
    live.play(1.0, flow=False)
    assert runs() == before


def test_flow_does_not_bridge_a_time_without_camera(live: Robot) -> None:
    live.play_calmly(1.3, video=False)  # the fields go on, as a careless producer's would
    prediction = live.wait_prediction("a prediction", lambda p: True)
    assert prediction.state("flow") in ("OK", "STALE")
    assert prediction.modality("flow").coverage < 0.2


def test_with_nothing_to_say_that_is_said(live: Robot) -> None:
    prediction = live.wait_prediction("NO_INPUT", lambda p: p.message.status == ActionPrediction.NO_INPUT)
    message = prediction.message
    assert (message.actions, message.verbs, message.nouns) == ([], [], [])
    assert message.coverage == 0
    assert not prediction.camera
    status = live.wait_status("a warning", "action_node", lambda s: "nothing" in s.message or "no sensor" in s.message)
    assert status.level == b"\x01"


def test_a_sensor_is_disabled_and_enabled_while_running(live: Robot) -> None:
    live.play(0.5)
    assert live.set_parameter("modalities", ["video", "flow"]) == (True, "")
    live.wait("the subscription to go", lambda: live.sounds.get_subscription_count() == 0)
    live.play(0.4)
    prediction = live.wait_prediction("DISABLED", lambda p: p.state("audio") == "DISABLED")
    assert prediction.modality("audio").coverage == 0
    assert live.set_parameter("modalities", ["video", "flow", "audio"]) == (True, "")
    live.wait("the subscription to return", lambda: live.sounds.get_subscription_count() == 1)
    live.play(0.8)
    assert live.predictions[-1].state("audio") == "OK"
    assert live.predictions[-1].modality("audio").coverage > 0.2


def test_settings_change_while_running(live: Robot) -> None:
    assert live.set_parameter("top_k", 2)[0]
    assert live.set_parameter("min_score", 0.99)[0]
    live.play(0.4)
    message = live.predictions[-1].message
    assert len(message.actions) == 2
    assert (message.actions[0].name, message.actions[0].id) == ("unknown", -1)
    assert live.set_parameter("top_k", 5)[0]
    assert live.set_parameter("min_score", 0.0)[0]
    assert live.set_parameter("max_rate", 10.0)[0]
    played = live.play_calmly(2)
    assert 18 <= len(live.heard(played.start_s, played.end_s)) <= 23
    assert live.set_parameter("max_rate", 0.0)[0]


@pytest.mark.parametrize(
    ("name", "wrong", "reason"),
    [
        ("top_k", 0, "top_k"),
        ("modalities", ["video", "smell"], "smell"),
        ("image.rotate", 45, "image.rotate"),
        ("autostart", False, "read-only"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_reason(live: Robot, name: str, wrong: object, reason: str) -> None:
    accepted, text = live.set_parameter(name, wrong)
    assert not accepted
    assert reason in text


def test_bad_frames_are_counted_and_do_no_harm(live: Robot) -> None:
    before = live.wait_prediction("a prediction", lambda p: True).modality("video").rejected
    black = np.zeros((48, 64, 3), np.uint8)
    node_now = live.node.get_clock().now
    played = live.play_calmly(
        1, video=False, on_tick=lambda _: live.send_image(node_now().nanoseconds, black, encoding="no such encoding")
    )
    assert 27 <= len(live.heard(played.start_s, played.end_s)) <= 33
    last = live.predictions[-1]
    assert last.state("video") == "CORRUPT"
    assert last.modality("video").rejected - before >= 28
    status = live.wait_status("the cause", "action_node: video", lambda s: bool(value(s, "last_cause")))
    assert status.level == b"\x02"  # CORRUPT, or STALE by now
    assert live.watched is not None
    assert live.watched.output.count("no such encoding") == 1
    live.play(0.4)
    assert live.predictions[-1].state("video") == "OK"


def test_stamps_from_the_future_and_none_at_all_are_refused(live: Robot) -> None:
    def send(index: int) -> None:
        now = live.node.get_clock().now().nanoseconds
        live.send_image(0 if index % 2 else now + 10**9, picture(90, index))

    live.play(0.5, video=False, on_tick=send)
    newest = live.play(0.4).frames[-5:]
    live.wait("a frame's prediction", lambda: any(p.camera and p.stamp_ns in newest for p in live.predictions))
    status = live.wait_status("the causes", "action_node", lambda s: any("future" in pair.key for pair in s.values))
    assert any("no stamp" in pair.key for pair in status.values)
