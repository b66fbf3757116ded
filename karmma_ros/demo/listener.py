# SPDX-License-Identifier: Apache-2.0
"""The demo's ear: a ROS node that records what the action node publishes, and asks it whether it is active."""

from __future__ import annotations

from typing import Any

from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy

from karmma_msgs.msg import ActionPrediction
from karmma_ros.health import SensorState
from karmma_ros.nodes.state_question import StateQuestion
from karmma_ros.records import PredictionRecord, Scored, SensorRecord

__all__ = ["Listener", "to_record"]

_NS = 1_000_000_000
_STATUS = {ActionPrediction.OK: "OK", ActionPrediction.NO_INPUT: "NO_INPUT", ActionPrediction.FAILED: "FAILED"}
_TRIGGER = {ActionPrediction.CAMERA: "CAMERA", ActionPrediction.TIMER: "TIMER"}


class Listener:
    """Listens to the node named `node`; use within `rclpy.init()`.

    `records`: the predictions about [start, start + seconds), in the order of their arrival; empty before `begin`.
    """

    def __init__(self, node: str) -> None:
        self._node = Node("demo_listener")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        # Deep and reliable: a slow terminal must not cost a record.
        profile = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=500, reliability=ReliabilityPolicy.RELIABLE)
        self._subscription = self._node.create_subscription(
            ActionPrediction, f"/{node}/actions", self._on_prediction, profile
        )
        client = self._node.create_client(GetState, f"/{node}/get_state")
        self._question = StateQuestion(client, GetState.Request, State.PRIMARY_STATE_UNKNOWN)
        self._start_ns: int | None = None
        self._end_ns = 0
        self.records: list[PredictionRecord] = []

    def spin(self, timeout_s: float) -> None:
        """Handles what has arrived, waiting up to `timeout_s` for it."""
        self._executor.spin_once(timeout_sec=timeout_s)

    def ready(self) -> bool:
        """Whether the node is active and its predictions reach us; call again after spinning."""
        active = self._question.ask() == State.PRIMARY_STATE_ACTIVE
        return active and self._node.count_publishers(self._subscription.topic_name) > 0

    def begin(self, start_ns: int, seconds: float) -> None:
        """Records from here on what is about [start_ns, start_ns + seconds)."""
        self._start_ns, self._end_ns = start_ns, start_ns + round(seconds * _NS)

    def _on_prediction(self, message: ActionPrediction) -> None:
        stamp_ns = message.header.stamp.sec * _NS + message.header.stamp.nanosec
        if self._start_ns is not None and self._start_ns <= stamp_ns < self._end_ns:
            self.records.append(to_record(message, self._start_ns))

    def destroy(self) -> None:
        """Takes the listener off the network."""
        self._executor.shutdown()
        self._node.destroy_node()


def to_record(message: ActionPrediction, start_ns: int) -> PredictionRecord:
    """The record of a message; `t_s` counts from `start_ns`."""
    stamp_ns = message.header.stamp.sec * _NS + message.header.stamp.nanosec
    return PredictionRecord(
        stamp_ns=stamp_ns,
        t_s=(stamp_ns - start_ns) / _NS,
        status=_STATUS.get(message.status, str(message.status)),
        trigger=_TRIGGER.get(message.trigger, str(message.trigger)),
        bundle=message.bundle,
        actions=_scored(message.actions),
        verbs=_scored(message.verbs),
        nouns=_scored(message.nouns),
        coverage=message.coverage,
        processing_ms=message.processing_time * 1e3,
        latency_ms=message.latency * 1e3,
        sensors={
            status.name: SensorRecord(
                state=SensorState(status.state).name,
                coverage=status.coverage,
                age_s=status.age if status.age >= 0 else None,
                rate_hz=status.rate,
                received=status.received,
                skipped=status.skipped,
                rejected=status.rejected,
            )
            for status in message.modalities
        },
    )


def _scored(labels: Any) -> tuple[Scored, ...]:
    return tuple(Scored(label.id, label.name, label.score) for label in labels)
