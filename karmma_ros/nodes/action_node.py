# SPDX-License-Identifier: Apache-2.0
"""The recogniser as a ROS 2 node: camera, flow and sound in, one action prediction per camera period out.

    ros2 run karmma_ros action_node --ros-args -p bundle:=tabletop -r image:=/camera/image_raw

A lifecycle node that starts itself (parameter `autostart`). This file is wiring: what is due when is in `pacing`, the
thread that works in `worker`, each sensor in `sensors`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockChange, JumpThreshold, ROSClock, TimeJump
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from karmma_msgs.msg import ActionPrediction, Labels
from karmma_ros.errors import KarmmaError
from karmma_ros.messages import labels_to_msg, prediction_to_msg
from karmma_ros.nodes import process
from karmma_ros.nodes.declarations import declare, problem
from karmma_ros.nodes.diagnostics import node_status, sensor_status
from karmma_ros.nodes.parameters import PARAMETERS, Settings
from karmma_ros.nodes.sensors import FlowSensor, Sensor, make_sensors
from karmma_ros.nodes.worker import Outcome, Statistics, Worker
from karmma_ros.recognizer import Recognizer

__all__ = ["ActionNode", "main", "run"]

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
_CLOCK_BACK_S = 0.1  # [s] a jump back of the clock that starts everything afresh


class ActionNode(LifecycleNode):
    """Life cycle, parameters, topics and diagnostics around a `Worker`."""

    def __init__(self, **kwargs: Any) -> None:
        """:raises UsageError: a parameter given to the node is not valid; the line names it."""
        super().__init__("action_node", **kwargs)
        self._recognizer: Recognizer | None = None
        self._worker: Worker | None = None
        self._sensors: dict[str, Sensor[Any]] = {}
        self._heard: dict[str, Subscription] = {}
        self._outputs: list[Any] = []
        self._fault = ""  # why the last transition failed, for the diagnostics
        self._reported: Statistics | None = None
        declare(self, PARAMETERS)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._parameters_changed)
        self._refuse_invalid_transitions()
        self._jumps = [
            self.get_clock().create_jump_callback(
                JumpThreshold(min_forward=None, min_backward=Duration(seconds=-_CLOCK_BACK_S)),
                post_callback=self._clock_jumped,
            ),
            # Any step of simulated time is a jump forward: this is how the worker hears of it without polling.
            self.get_clock().create_jump_callback(
                JumpThreshold(min_forward=Duration(nanoseconds=1), min_backward=None, on_clock_change=False),
                post_callback=self._clock_ticked,
            ),
        ]
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady: a robot whose simulated time stands still needs its diagnostics most.
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

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

    def autostart(self) -> None:
        """Configures and activates, if the parameter says so. If it fails the node stays as it is and says why."""
        if not self.get_parameter("autostart").value:
            return
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def _refuse_invalid_transitions(self) -> None:
        """rclpy raises out of its own service callback, and so out of `spin()`, when a transition is not possible."""
        service = next(s for s in self.services if s.srv_name.endswith("change_state"))
        change_state = service.callback

        def answer(request: Any, response: Any) -> Any:
            try:
                return change_state(request, response)
            except Exception as error:  # whatever it is, the caller gets an answer and the node lives
                wanted = request.transition.label or request.transition.id
                self.get_logger().error(f"transition {wanted} refused: {' '.join(str(error).split())}")
                response.success = False
                return response

        service.callback = answer

    def _attempt(self, what: str, action: Callable[[], None]) -> TransitionCallbackReturn:
        """rclpy swallows exceptions of transition callbacks without a word; this says what went wrong."""
        try:
            action()
        except Exception as error:
            text = " ".join(str(error).split())
            self._fault = f"cannot {what}: " + (
                text if isinstance(error, KarmmaError) else f"{type(error).__name__}: {text}"
            )
            self.get_logger().error(self._fault)
            return FAILURE
        self._fault = ""
        return SUCCESS

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the bundle and announces its labels."""
        result = self._attempt("configure", self._configure)
        if result != SUCCESS:
            self._release()
            return result
        return super().on_configure(state)

    def _configure(self) -> None:
        settings = Settings.of(self)
        self._recognizer = recognizer = self.make_recognizer(settings)
        bundle = recognizer.bundle
        unused = [name for name in settings.modalities if name not in bundle.modalities]
        if unused:
            self.get_logger().warning(f"bundle {bundle.name} has no {' and no '.join(unused)}: not used")
        recognizer.modalities = [name for name in bundle.modalities if name in settings.modalities]
        self._sensors = make_sensors(bundle.modalities, settings)
        self._actions = self.create_lifecycle_publisher(
            ActionPrediction, "~/actions", QoSProfile(depth=10), qos_overriding_options=_overridable()
        )
        self._outputs.append(self._actions)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        labels = self.create_publisher(Labels, "~/labels", latched, qos_overriding_options=_overridable())
        self._outputs.append(labels)
        labels.publish(labels_to_msg(bundle))
        clock = self.get_clock()
        self._worker = Worker(
            recognizer,
            self._sensors,
            settings,
            follow_clock=lambda: isinstance(clock, ROSClock) and clock.ros_time_is_active,
            clock=lambda: clock.now().nanoseconds,
            publish=self._publish,
            warn=self.get_logger().warning,
        )
        self.get_logger().info(f"bundle {bundle.name} from {bundle.folder} on {', '.join(recognizer.engine.providers)}")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Starts to listen and to predict."""
        result = super().on_activate(state)
        if result == SUCCESS:
            result = self._attempt("activate", self._activate)
            if result != SUCCESS:
                self._silence()
                super().on_deactivate(state)
        return result

    def _activate(self) -> None:
        assert self._worker is not None
        self._reported = None
        self._listen(Settings.of(self))
        self._worker.configure(Settings.of(self))
        self._worker.start()

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops listening and predicting; the bundle stays loaded."""
        self._silence()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lets go of the bundle."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lets go of everything."""
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, ready for another try."""
        self._release()
        return super().on_error(state)

    def _silence(self) -> None:
        if self._worker is not None:
            self._worker.stop()
        for subscription in self._heard.values():
            self.destroy_subscription(subscription)
        self._heard.clear()

    def _release(self) -> None:
        self._silence()
        for publisher in self._outputs:
            self.destroy_lifecycle_publisher(publisher)  # knows of ordinary ones too
        self._outputs.clear()
        self._sensors = {}
        self._worker = self._recognizer = None

    def destroy_node(self) -> None:
        """Ends the worker thread first."""
        self._silence()
        for jump in self._jumps:
            jump.unregister()
        super().destroy_node()

    # --- inputs, outputs, clock, parameters --------------------------------------------------------------------------

    def _listen(self, settings: Settings) -> None:
        """Subscribes to the sensors in use, and to no other."""
        for name, sensor in self._sensors.items():
            if name in settings.modalities and name not in self._heard:
                self._heard[name] = self.create_subscription(
                    sensor.message_type,
                    sensor.topic,
                    self._receiver(name),
                    QoSProfile(depth=sensor.depth, reliability=QoSReliabilityPolicy.BEST_EFFORT),
                    qos_overriding_options=_overridable(),
                )
            elif name not in settings.modalities and name in self._heard:
                self.destroy_subscription(self._heard.pop(name))

    def _receiver(self, name: str) -> Callable[[Any], None]:
        worker = self._worker
        assert worker is not None
        return lambda message: worker.receive(name, message)

    def _publish(self, outcome: Outcome) -> None:
        assert self._recognizer is not None
        try:
            self._actions.publish(prediction_to_msg(outcome, self._recognizer.bundle.name))
        except Exception:
            if self.context.ok():  # at shutdown the publisher may go first
                raise

    def _clock_jumped(self, jump: TimeJump) -> None:
        if self._worker is not None:
            if jump.clock_change == ClockChange.ROS_TIME_NO_CHANGE:
                self.get_logger().warning(f"the clock has jumped back by {-jump.delta.nanoseconds * 1e-9:.1f} s")
            self._worker.restart()

    def _clock_ticked(self, jump: TimeJump) -> None:
        if self._worker is not None:
            self._worker.tick()

    def _check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        faults = [fault for p in parameters if (fault := problem(PARAMETERS, p.name, p.value))]
        return SetParametersResult(successful=not faults, reason="; ".join(faults))

    def _parameters_changed(self, parameters: list[Parameter]) -> None:
        # Subscribing declares parameters too (the QoS overrides), which must not lead back here.
        if self._worker is None or not any(PARAMETERS[p.name].live for p in parameters if p.name in PARAMETERS):
            return
        settings = Settings.of(self)
        if self._lifecycle_state == "active":
            self._listen(settings)
        self._worker.configure(settings)

    @property
    def _lifecycle_state(self) -> str:
        return self._state_machine.current_state[1]

    # --- diagnostics -------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        state = self._lifecycle_state
        now = self._worker.statistics() if state == "active" and self._worker is not None else None
        facts: dict[str, Any] = {}
        if self._recognizer is not None:
            bundle = self._recognizer.bundle
            providers = ",".join(self._recognizer.engine.providers)
            facts = {"bundle": bundle.name, "folder": bundle.folder, "providers": providers}
        name = self.get_name()
        statuses = [node_status(name, state=state, fault=self._fault, facts=facts, now=now, before=self._reported)]
        lags_s = now.lags_s if now is not None else {}
        for modality, status in (now.statuses if now is not None else {}).items():
            sensor = self._sensors[modality]
            extra: dict[str, Any] = {"unusable": sensor.unusable} if isinstance(sensor, FlowSensor) else {}
            topic = self.resolve_topic_name(sensor.topic)
            behind_s = lags_s[modality] - lags_s["video"] if {modality, "video"} <= lags_s.keys() else 0.0
            if modality in lags_s:
                extra["stamp_lag_s"] = f"{lags_s[modality]:.3f}"
            statuses.append(sensor_status(f"{name}: {modality}", topic, status, extra, behind_camera_s=behind_s))
        self._reported = now
        report = DiagnosticArray(status=statuses)
        report.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(report)


def _overridable() -> QoSOverridingOptions:
    return QoSOverridingOptions.with_default_policies()


def run(make_node: Callable[[], ActionNode], args: Sequence[str] | None = None) -> int:
    """Runs a node until SIGINT, SIGTERM or shutdown; returns the exit status."""
    return process.run(make_node, "action_node", args, start=ActionNode.autostart)


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of `ros2 run karmma_ros action_node`."""
    return run(ActionNode, args)


if __name__ == "__main__":
    sys.exit(main())
