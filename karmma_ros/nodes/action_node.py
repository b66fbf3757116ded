# SPDX-License-Identifier: Apache-2.0
"""The recogniser as a ROS 2 node: camera, flow and sound in, one action prediction per camera period out.

    ros2 run karmma_ros action_node --ros-args -p bundle:=tabletop -r image:=/camera/image_raw

A lifecycle node that starts itself (see `lifecycle`). This file is wiring: what is due when is in `pacing`, the thread
that works in `worker`, each sensor in `sensors`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, JumpThreshold, ROSClock, TimeJump
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

from karmma_msgs.msg import ActionEvent, ActionPrediction, Labels
from karmma_ros.health import SensorState
from karmma_ros.manifest import MODALITIES
from karmma_ros.messages import labels_to_msg, prediction_to_msg
from karmma_ros.nodes import process, qos
from karmma_ros.nodes.audio_types import info_type
from karmma_ros.nodes.computed_flow import ComputedFlow
from karmma_ros.nodes.diagnostics import node_status, sensor_status
from karmma_ros.nodes.events import Events
from karmma_ros.nodes.faults import describe
from karmma_ros.nodes.lifecycle import ManagedNode
from karmma_ros.nodes.parameters import PARAMETERS, Settings
from karmma_ros.nodes.sensor_set import make_sensors
from karmma_ros.nodes.sensors import AudioSensor, DetectionsSensor, FlowSensor, Sensor
from karmma_ros.nodes.vision import VisionOutput
from karmma_ros.nodes.worker import Outcome, Statistics, Worker
from karmma_ros.recognizer import Recognizer

__all__ = ["ActionNode", "main", "run"]


class ActionNode(ManagedNode):
    """The recogniser's topics, clock and diagnostics around a `Worker`."""

    def __init__(self, **kwargs: Any) -> None:
        """:raises UsageError: a parameter given to the node is not valid; the line names it."""
        self._recognizer: Recognizer | None = None
        self._worker: Worker | None = None
        self._events: Events | None = None
        self._sensors: dict[str, Sensor[Any]] = {}
        self._heard: dict[str, Subscription] = {}
        self._outputs: list[Any] = []
        self._unheard = ""  # why a sensor that was added while active cannot be heard
        self._reported: Statistics | None = None
        super().__init__("action_node", PARAMETERS, **kwargs)
        # Any step of simulated time is a jump forward: this is how the worker hears of it without polling.
        self._jumps.append(
            self.get_clock().create_jump_callback(
                JumpThreshold(min_forward=Duration(nanoseconds=1), min_backward=None, on_clock_change=False),
                post_callback=self._clock_ticked,
            )
        )
        self.create_timer(1.0, self._follow_audio, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def make_recognizer(self, settings: Settings) -> Recognizer:
        """Loads the bundle.

        :raises KarmmaError: it cannot be used, or an execution provider cannot.
        """
        return Recognizer(
            settings.bundle,
            providers=settings.providers,
            threads=settings.threads,
            top_k=settings.top_k,
            min_score=settings.min_score,
        )

    # --- life cycle --------------------------------------------------------------------------------------------------

    def _configure(self) -> None:
        settings = Settings.of(self)
        self._recognizer = recognizer = self.make_recognizer(settings)
        for reason in recognizer.engine.passed_over:
            self.get_logger().warning(f"execution provider passed over: {reason}")
        bundle = recognizer.bundle
        # The default names all there are: that a bundle takes no detections, as most, is then nothing to warn of.
        usual = {DetectionsSensor.name} if set(settings.modalities) == set(MODALITIES) else set()
        unused = [name for name in settings.modalities if name not in {*bundle.modalities, *usual}]
        if unused:
            self.get_logger().warning(f"bundle {bundle.name} has no {' and no '.join(unused)}: not used")
        recognizer.modalities = [name for name in bundle.modalities if name in settings.modalities]
        self._sensors = make_sensors(bundle.modalities, settings)
        for sensor in self._sensors.values():
            if sensor.missing and sensor.health.enabled:
                self.get_logger().warning(f"{sensor.name} cannot be heard: {sensor.missing}")
        self._actions = self.create_lifecycle_publisher(
            ActionPrediction, "~/actions", QoSProfile(depth=10), qos_overriding_options=qos.overridable()
        )
        self._outputs.append(self._actions)  # each as soon as it is there: the next may fail
        told = self.create_lifecycle_publisher(
            ActionEvent, "~/events", QoSProfile(depth=50), qos_overriding_options=qos.overridable()
        )
        self._outputs.append(told)
        self._events = Events(bundle, settings.event_settings(), told.publish)
        labels = self.create_publisher(Labels, "~/labels", qos.latched(), qos_overriding_options=qos.overridable())
        self._outputs.append(labels)
        labels.publish(labels_to_msg(bundle))
        self._vision = VisionOutput(self, bundle, self._outputs)
        clock = self.get_clock()
        self._worker = Worker(
            recognizer,
            self._sensors,
            settings,
            follow_clock=self._simulated_time,
            clock=lambda: clock.now().nanoseconds,
            publish=self._publish,
            warn=self.get_logger().warning,
        )
        self.get_logger().info(f"bundle {bundle.name} from {bundle.folder} on {', '.join(recognizer.engine.providers)}")

    def _activate(self) -> None:
        assert self._worker is not None
        assert self._events is not None
        self._reported = None
        settings = Settings.of(self)
        self._listen(settings)
        self._worker.configure(settings)
        self._events.configure(settings.event_settings())
        self._events.restart()
        self._worker.start()

    def _silence(self) -> None:
        if self._worker is not None:
            self._worker.stop()
        if self._events is not None and self.context.ok():
            self._events.close()
        for subscription in self._heard.values():
            self.destroy_subscription(subscription)
        self._heard.clear()
        self._unheard = ""

    def _release(self) -> None:
        self._silence()
        for publisher in self._outputs:
            self.destroy_lifecycle_publisher(publisher)  # knows of ordinary ones too
        self._outputs.clear()
        self._sensors = {}
        self._worker = self._recognizer = self._events = None

    # --- inputs, outputs, clock, parameters --------------------------------------------------------------------------

    def _listen(self, settings: Settings) -> None:
        """Subscribes to the sensors in use, and to no other; to all that it can before it raises."""
        failed: Exception | None = None
        for name, sensor in self._sensors.items():
            if not sensor.subscribes:
                continue
            if name not in settings.modalities:
                self._unhear(name)
            elif name not in self._heard:
                try:
                    self._hear(name, sensor.message_type, sensor.topic, self._receiver(name), sensor.depth)
                    if sensor.info_topic:
                        self._hear(f"{name} info", info_type(), sensor.info_topic, sensor.inform, 1)
                except Exception as error:  # whatever rclpy raises for a parameter qos_overrides.* that makes no sense
                    self._unhear(name)
                    failed = failed or error
        if failed is not None:
            raise failed

    def _listen_anew(self, settings: Settings) -> None:
        """As `_listen`, while active: what cannot be heard is told, and ends nothing."""
        try:
            self._listen(settings)
            self._unheard = ""
        except Exception as error:
            self._unheard = f"cannot subscribe: {describe(error)}"
            self.get_logger().error(self._unheard)

    def _hear(self, name: str, kind: type, topic: str, receive: Callable[[Any], None], depth: int) -> None:
        self._heard[name] = self.create_subscription(
            kind, topic, receive, qos.sensor(depth), qos_overriding_options=qos.overridable()
        )

    def _unhear(self, name: str) -> None:
        for key in (name, f"{name} info"):
            if key in self._heard:
                self.destroy_subscription(self._heard.pop(key))

    def _follow_audio(self) -> None:
        """Sound comes in several types of message: hears the one that is published, if the parameter says auto."""
        audio = self._sensors.get(AudioSensor.name)
        if isinstance(audio, AudioSensor) and AudioSensor.name in self._heard and audio.follow(self._offered(audio)):
            self.get_logger().info(f"hearing {audio.type_name} on {self.resolve_topic_name(audio.topic)}")
            self._unhear(audio.name)
            self._listen_anew(Settings.of(self))

    def _offered(self, sensor: Sensor[Any]) -> set[str]:
        """The types that are published on a sensor's topic."""
        return {end.topic_type for end in self.get_publishers_info_by_topic(self.resolve_topic_name(sensor.topic))}

    def _receiver(self, name: str) -> Callable[[Any], None]:
        worker = self._worker
        assert worker is not None
        return lambda message: worker.receive(name, message)

    def _publish(self, outcome: Outcome) -> None:
        assert self._recognizer is not None
        assert self._events is not None
        try:
            self._actions.publish(prediction_to_msg(outcome, self._recognizer.bundle.name))
            self._events.take(outcome)
            self._vision.publish(outcome)
        except Exception:
            if self.context.ok():  # at shutdown the publisher may go first
                raise

    def _simulated_time(self) -> bool:
        clock = self.get_clock()
        return isinstance(clock, ROSClock) and clock.ros_time_is_active

    def _restart(self) -> None:
        if self._worker is not None:
            self._worker.restart()

    def _clock_ticked(self, jump: TimeJump) -> None:
        if self._worker is not None:
            self._worker.tick()

    def _settings_changed(self) -> None:
        if self._worker is None or self._events is None:
            return
        settings = Settings.of(self)
        if self._lifecycle_state == "active":
            self._listen_anew(settings)
        self._worker.configure(settings)
        self._events.configure(settings.event_settings())

    # --- diagnostics -------------------------------------------------------------------------------------------------

    def _statuses(self) -> list[DiagnosticStatus]:
        state = self._lifecycle_state
        now = self._worker.statistics() if state == "active" and self._worker is not None else None
        facts: dict[str, Any] = {}
        if self._recognizer is not None:
            bundle = self._recognizer.bundle
            providers = ",".join(self._recognizer.engine.providers)
            facts = {"bundle": bundle.name, "folder": bundle.folder, "providers": providers}
        name = self.full_name
        statuses = [
            node_status(
                name,
                state=state,
                fault=self._fault or self._unheard,
                facts=facts,
                now=now,
                before=self._reported,
                simulated_time=self._simulated_time(),
            )
        ]
        lags_s = now.lags_s if now is not None else {}
        for modality, status in now.statuses.items() if now is not None else ():
            assert now is not None
            sensor = self._sensors[modality]
            extra: dict[str, Any] = {}
            if isinstance(sensor, FlowSensor | DetectionsSensor):
                extra["unusable"] = sensor.unusable
            topic = self.resolve_topic_name(sensor.topic)
            silent, made_of = sensor.missing, ""
            if isinstance(sensor, ComputedFlow) and now.statuses["video"].state is not SensorState.OK:
                made_of = "the camera gives no picture to compute it from"
            if isinstance(sensor, AudioSensor):
                extra |= {"type": sensor.type_name, "gaps": now.gaps}
                silent = sensor.unheard(topic, self._offered(sensor))
            behind_s = lags_s[modality] - lags_s["video"] if {modality, "video"} <= lags_s.keys() else 0.0
            if modality in lags_s:
                extra["stamp_lag_s"] = f"{lags_s[modality]:.3f}"
            statuses.append(
                sensor_status(
                    f"{name}: {modality}",
                    topic,
                    status,
                    extra,
                    behind_camera_s=behind_s,
                    coverage=now.coverages[modality],
                    silent=silent,
                    made_of=made_of,
                )
            )
        self._reported = now
        return statuses


def run(make_node: Callable[[], ActionNode], args: Sequence[str] | None = None) -> int:
    """Runs a node until SIGINT, SIGTERM or shutdown; returns the exit status."""
    return process.run(make_node, "action_node", args, start=ActionNode.autostart)


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of `ros2 run karmma_ros action_node`."""
    return run(ActionNode, args)


if __name__ == "__main__":
    sys.exit(main())
