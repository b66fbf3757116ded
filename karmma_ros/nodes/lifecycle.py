# SPDX-License-Identifier: Apache-2.0
"""What our life cycle nodes share: they start themselves, survive wrong requests, and say every second how they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos_overriding_options import QoSOverridingOptions

from karmma_ros.errors import KarmmaError
from karmma_ros.nodes.declarations import Declaration, declare, problem

__all__ = ["SelfStartingNode", "overridable"]

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class SelfStartingNode(LifecycleNode):
    """A life cycle node with a table of parameters, one of which is `autostart`, and a report in /diagnostics at 1 Hz.

    `fault` is why the last transition failed, or "".
    """

    def __init__(self, name: str, parameters: Mapping[str, Declaration], **kwargs: Any) -> None:
        """:raises UsageError: a parameter given to the node is not valid; the line names it."""
        super().__init__(name, **kwargs)
        self.fault = ""
        self._table = parameters
        declare(self, parameters)
        self.add_on_set_parameters_callback(self._check_parameters)
        self._refuse_invalid_transitions()
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady: a robot whose simulated time stands still needs its diagnostics most.
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @abstractmethod
    def statuses(self) -> list[DiagnosticStatus]:
        """What to say in /diagnostics; asked once a second."""

    @abstractmethod
    def release(self) -> None:
        """Lets go of whatever was set up, from any state, and again without harm."""

    def autostart(self) -> None:
        """Configures and activates, if the parameter says so. If it fails the node stays as it is and says why."""
        if not self.get_parameter("autostart").value:
            return
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def attempt(self, what: str, action: Callable[[], None]) -> TransitionCallbackReturn:
        """rclpy swallows exceptions of transition callbacks without a word; this says what went wrong."""
        try:
            action()
        except Exception as error:
            text = " ".join(str(error).split())
            self.fault = f"cannot {what}: " + (
                text if isinstance(error, KarmmaError) else f"{type(error).__name__}: {text}"
            )
            self.get_logger().error(self.fault)
            return FAILURE
        self.fault = ""
        return SUCCESS

    @property
    def lifecycle_state(self) -> str:
        """`unconfigured`, `inactive`, `active` or `finalized`."""
        return self._state_machine.current_state[1]

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lets go of what was configured."""
        self.release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lets go of everything."""
        self.release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, ready for another try."""
        self.release()
        return super().on_error(state)

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

    def _check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        faults = [fault for p in parameters if (fault := problem(self._table, p.name, p.value))]
        return SetParametersResult(successful=not faults, reason="; ".join(faults))

    def _report(self) -> None:
        report = DiagnosticArray(status=self.statuses())
        report.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(report)


def overridable() -> QoSOverridingOptions:
    """Lets users override a topic's quality of service by parameters (`qos_overrides`)."""
    return QoSOverridingOptions.with_default_policies()
