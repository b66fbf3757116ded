# SPDX-License-Identifier: Apache-2.0
"""Hears what the node says during a soak, and sets its parameters."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile

from karmma_msgs.msg import ActionPrediction
from karmma_ros.health import SensorState
from karmma_ros.recognizer import Status

__all__ = ["Ear"]


class Ear:
    """Listens in a thread of its own, so that nothing else that this process does delays what it hears.

    `arrivals_s`: when each prediction was heard, steady time; `statuses`, `states`: how often each was said.
    """

    def __init__(self, node: str) -> None:
        self._node = Node("soak")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._topic = f"/{node}/actions"
        self._node.create_subscription(ActionPrediction, self._topic, self._heard, QoSProfile(depth=50))
        self._parameters = self._node.create_client(SetParameters, f"/{node}/set_parameters")
        self.arrivals_s: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.states: dict[str, Counter[str]] = {}
        self._listening = True
        self._thread = threading.Thread(target=self._listen, name="karmma_ear", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while self._listening:
            self._executor.spin_once(timeout_sec=0.1)

    def subscribers(self) -> int:
        """How many subscribe to the predictions, this one included."""
        return self._node.count_subscribers(self._topic)

    def set_modalities(self, names: Sequence[str]) -> None:
        """Asks for it, and does not wait for the answer."""
        value = ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=list(names))
        self._parameters.call_async(SetParameters.Request(parameters=[Parameter(name="modalities", value=value)]))

    def _heard(self, message: ActionPrediction) -> None:
        self.arrivals_s.append(time.monotonic())
        self.statuses[Status(message.status).name] += 1
        for status in message.modalities:
            self.states.setdefault(status.name, Counter())[SensorState(status.state).name] += 1

    def destroy(self) -> None:
        """Takes the ear off the network."""
        self._listening = False
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()
