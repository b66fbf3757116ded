# SPDX-License-Identifier: Apache-2.0
"""What leaves the core as a message says what the core said, field by field, after a trip through the wire format."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="there is no ROS 2 on this machine")
pytest.importorskip("karmma_msgs", reason="karmma_msgs has not been built")

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message

from karmma_msgs.msg import ActionEvent, ActionPrediction, Labels, ModalityStatus, ScoredLabel
from karmma_ros import recognizer
from karmma_ros.errors import KarmmaError
from karmma_ros.events import Event, EventType
from karmma_ros.health import SensorState, SensorStatus
from karmma_ros.messages import event_to_msg, labels_to_msg, prediction_to_msg, stamp_to_msg, stamp_to_ns, status_to_msg

MESSAGES = Path(__file__).parents[2] / "karmma_msgs" / "msg"


def status(state: SensorState, **fields: object) -> SensorStatus:
    made = {"age_s": 0.5, "rate_hz": 30.0, "received": 9, "skipped": 2, "rejected": 1, "last_cause": ""}
    return SensorStatus(state=state, **(made | fields))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Record:
    prediction: recognizer.Prediction
    trigger: int = ActionPrediction.TIMER
    stamp_ns: int = 1_700_000_000_123_456_789
    frame_id: str = "head_camera"
    latency_s: float = 0.25
    processing_s: float = 0.125
    statuses: dict[str, SensorStatus] = field(
        default_factory=lambda: {
            "video": status(SensorState.OK),
            "audio": status(SensorState.WAITING, age_s=float("inf")),
        }
    )


def prediction(**fields: object) -> recognizer.Prediction:
    label = recognizer.ScoredLabel
    made = {
        "stamp_ns": 5,
        "status": recognizer.Status.OK,
        "actions": (label(3, "cut tomato", 0.75), label(1, "cut bread", 0.25)),
        "verbs": (label(2, "cut", 1.0),),
        "nouns": (label(-1, "unknown", 0.5),),
        "coverage": 0.5,
        "coverages": {"video": 1.0, "audio": 0.0},
        "logits": {},
        "processing_s": 0.001,
    }
    return recognizer.Prediction(**(made | fields))  # type: ignore[arg-type]


def test_a_prediction_says_everything() -> None:
    message = prediction_to_msg(Record(prediction()), "tabletop")
    message = deserialize_message(serialize_message(message), ActionPrediction)
    assert message.header.frame_id == "head_camera"
    assert stamp_to_ns(message.header.stamp) == 1_700_000_000_123_456_789
    assert (message.status, message.trigger) == (ActionPrediction.OK, ActionPrediction.TIMER)
    assert message.actions == [
        ScoredLabel(id=3, name="cut tomato", score=0.75),
        ScoredLabel(id=1, name="cut bread", score=0.25),
    ]
    assert message.verbs == [ScoredLabel(id=2, name="cut", score=1.0)]
    assert message.nouns == [ScoredLabel(id=-1, name="unknown", score=0.5)]
    assert (message.latency, message.processing_time, message.coverage) == (0.25, 0.125, 0.5)
    assert message.bundle == "tabletop"
    video, audio = message.modalities
    assert (video.name, video.state, video.age, video.rate, video.coverage) == ("video", ModalityStatus.OK, 0.5, 30, 1)
    assert (video.received, video.skipped, video.rejected) == (9, 2, 1)
    assert (audio.name, audio.state, audio.age, audio.coverage) == ("audio", ModalityStatus.WAITING, -1.0, 0.0)


@pytest.mark.parametrize("outcome", [recognizer.Status.NO_INPUT, recognizer.Status.FAILED])
def test_nothing_to_say_is_said(outcome: recognizer.Status) -> None:
    message = prediction_to_msg(Record(prediction(status=outcome, actions=(), verbs=(), nouns=())), "tabletop")
    assert message.status == getattr(ActionPrediction, outcome.name)
    assert not message.actions
    assert not message.verbs
    assert not message.nouns
    assert len(message.modalities) == 2


def test_counters_that_have_run_over_stay_at_the_end() -> None:
    assert status_to_msg("video", status(SensorState.OK, received=2**32 + 5), 0.0).received == 2**32 - 1


def test_constants_are_the_cores() -> None:
    assert {state.name: int(state) for state in SensorState} == constants(ModalityStatus, "ModalityStatus")
    of_prediction = constants(ActionPrediction, "ActionPrediction")
    assert {s.name: int(s) for s in recognizer.Status} == {s.name: of_prediction[s.name] for s in recognizer.Status}
    assert {t.name: int(t) for t in EventType} == constants(ActionEvent, "ActionEvent")


def constants(message: type, name: str) -> dict[str, int]:
    lines = (MESSAGES / f"{name}.msg").read_text().splitlines()
    names = [line.split()[1].split("=")[0] for line in lines if "=" in line.split("#")[0]]
    return {constant: getattr(message, constant) for constant in names}


def test_labels_index_each_other() -> None:
    manifest = SimpleNamespace(
        name="tabletop",
        heads={"verb": ("idle", "cut"), "noun": ("none", "bread", "tomato")},
        actions=((0, 0), (1, 2), (1, 1)),
        action_names=("idle", "cut tomato", "cut bread"),
    )
    message = deserialize_message(serialize_message(labels_to_msg(manifest)), Labels)  # type: ignore[arg-type]
    assert message.bundle == "tabletop"
    assert message.verbs == ["idle", "cut"]
    assert message.nouns == ["none", "bread", "tomato"]
    assert message.actions == ["idle", "cut tomato", "cut bread"]
    assert message.action_verb.tolist() == [0, 1, 1]
    assert message.action_noun.tolist() == [0, 2, 1]


def event(action: int, **fields: object) -> Event:
    made = {"type": EventType.START, "event_id": 7, "scores": np.array([0.1, 0.6, 0.3]), "decided_ns": 5_000_000_001}
    return Event(action=action, start_ns=4_000_000_000, **(made | fields))  # type: ignore[arg-type]


def test_an_event_says_what_when_and_how_sure() -> None:
    manifest = SimpleNamespace(
        heads={"verb": ("idle", "cut"), "noun": ("none", "bread", "tomato")},
        actions=((0, 0), (1, 2), (1, 1)),
        action_names=("idle", "cut tomato", "cut bread"),
    )
    message = event_to_msg(event(1), manifest, "head_camera")  # type: ignore[arg-type]
    message = deserialize_message(serialize_message(message), ActionEvent)
    assert (message.type, message.event_id, message.header.frame_id) == (ActionEvent.START, 7, "head_camera")
    assert [stamp_to_ns(t) for t in (message.header.stamp, message.start, message.end)] == [5_000_000_001, 4 * 10**9, 0]
    assert (message.action.id, message.action.name, message.action.score) == (1, "cut tomato", pytest.approx(0.6))
    assert (message.verb.id, message.verb.name, message.verb.score) == (1, "cut", pytest.approx(0.9))
    assert (message.noun.id, message.noun.name, message.noun.score) == (2, "tomato", pytest.approx(0.6))
    ended = event_to_msg(event(2, type=EventType.END, end_ns=4_500_000_000), manifest, "")  # type: ignore[arg-type]
    assert (ended.type, stamp_to_ns(ended.end)) == (ActionEvent.END, 4_500_000_000)


def test_an_event_of_a_single_head_has_neither_verb_nor_noun() -> None:
    manifest = SimpleNamespace(heads={"action": ("a", "b", "c")}, actions=(), action_names=("a", "b", "c"))
    message = event_to_msg(event(1), manifest, "")  # type: ignore[arg-type]
    assert message.action.name == "b"
    assert [(label.id, label.name) for label in (message.verb, message.noun)] == [(-1, "")] * 2


def test_labels_of_a_single_head() -> None:
    manifest = SimpleNamespace(name="b", heads={"action": ("a", "b")}, actions=(), action_names=("a", "b"))
    message = labels_to_msg(manifest)  # type: ignore[arg-type]
    assert message.actions == ["a", "b"]
    assert message.action_verb.tolist() == message.action_noun.tolist() == [-1, -1]
    assert not message.verbs


@pytest.mark.parametrize("ns", [0, 1, 999_999_999, 1_000_000_000, 1_700_000_000_000_000_001, -1])
def test_stamps_survive(ns: int) -> None:
    stamp = stamp_to_msg(ns)
    assert isinstance(stamp, Time)
    assert stamp_to_ns(stamp) == ns


def test_stamps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(KarmmaError, match="does not fit"):
        stamp_to_msg(2**63 - 1)


def test_every_field_has_its_meaning_beside_it() -> None:
    for path in sorted(MESSAGES.glob("*.msg")):
        for line in path.read_text().splitlines():
            if line and not line.startswith("#"):
                assert line.partition("#")[2].strip(), f"{path.name}: {line}"
