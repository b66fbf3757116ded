# SPDX-License-Identifier: Apache-2.0
"""What the life cycle nodes of this package have in common.

They start themselves (parameter `autostart`), answer a transition that is not possible instead of dying of it, say why
one failed, take parameters from a table, report to /diagnostics once a second, and hear of a clock that jumps back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockChange, JumpThreshold, TimeJump
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from karmma_ros.nodes.declarations import Declaration, declare
from karmma_ros.nodes.faults import describe

__all__ = ["ManagedNode"]

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
_CLOCK_BACK_S = 0.1  # [s] a jump back of the clock that starts everything afresh


class ManagedNode(LifecycleNode, ABC):
    """A subclass says what to do: `_configure`, `_activate`, `_silence`, `_release`, `_restart`, `_statuses`."""

    def __init__(self, name: str, table: Mapping[str, Declaration], **kwargs: Any) -> None:
        """:param table: the parameters; `autostart` must be among them.
        :raises UsageError: a parameter given to the node is not valid; the line names it.
        """
        super().__init__(name, **kwargs)
        self._table = table
        self._fault = ""  # why the last transition failed, for the diagnostics
        declare(self, table)
        self.add_post_set_parameters_callback(self._parameters_changed)
        self._refuse_invalid_transitions()
        self._jumps = [
            self.get_clock().create_jump_callback(
                JumpThreshold(min_forward=None, min_backward=Duration(seconds=-_CLOCK_BACK_S)),
                post_callback=self._clock_jumped,
            )
        ]
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady: a robot whose simulated time stands still needs its diagnostics most.
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def full_name(self) -> str:
        """The node's name within its namespace, as diagnostics call it: several robots share one topic of them."""
        return self.get_fully_qualified_name().lstrip("/")

    # --- for subclasses ----------------------------------------------------------------------------------------------

    @abstractmethod
    def _configure(self) -> None:
        """Reads the settings and loads what they name; what it raises is why configuring failed."""

    @abstractmethod
    def _activate(self) -> None:
        """Starts to listen and to work."""

    @abstractmethod
    def _silence(self) -> None:
        """Stops listening and working; may be called at any time, and again."""

    @abstractmethod
    def _release(self) -> None:
        """Silences, and lets go of what `_configure` has made, as far as that came."""

    @abstractmethod
    def _restart(self) -> None:
        """The stamps start anew: forgets what was learned from them."""

    @abstractmethod
    def _settings_changed(self) -> None:
        """A parameter that may change while the node runs has changed."""

    @abstractmethod
    def _statuses(self) -> list[DiagnosticStatus]:
        """What /diagnostics says just now."""

    # --- life cycle --------------------------------------------------------------------------------------------------

    def autostart(self) -> None:
        """Configures and activates, if the parameter says so. If it fails the node stays as it is and says why."""
        if not self.get_parameter("autostart").value:
            return
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    @property
    def _lifecycle_state(self) -> str:
        return self._state_machine.current_state[1]

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
            self._fault = f"cannot {what}: {describe(error)}"
            self.get_logger().error(self._fault)
            return FAILURE
        self._fault = ""
        return SUCCESS

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads what the parameters name."""
        result = self._attempt("configure", self._configure)
        if result != SUCCESS:
            self._release()
            return result
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Starts to listen and to work."""
        result = super().on_activate(state)
        if result == SUCCESS:
            result = self._attempt("activate", self._activate)
            if result != SUCCESS:
                self._silence()
                super().on_deactivate(state)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops listening and working; what is loaded stays loaded."""
        self._silence()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lets go of what was loaded."""
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

    def destroy_node(self) -> None:
        """Ends the work first."""
        self._silence()
        for jump in self._jumps:
            jump.unregister()
        super().destroy_node()

    # --- clock, parameters, diagnostics ------------------------------------------------------------------------------

    def _clock_jumped(self, jump: TimeJump) -> None:
        if self._lifecycle_state in ("inactive", "active"):
            if jump.clock_change == ClockChange.ROS_TIME_NO_CHANGE:
                self.get_logger().warning(f"the clock has jumped back by {-jump.delta.nanoseconds * 1e-9:.1f} s")
            self._restart()

    def _parameters_changed(self, parameters: list[Parameter]) -> None:
        # Subscribing declares parameters too (the QoS overrides), which must not lead back here.
        if any(self._table[p.name].live for p in parameters if p.name in self._table):
            self._settings_changed()

    def _report(self) -> None:
        report = DiagnosticArray(status=self._statuses())
        report.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(report)
