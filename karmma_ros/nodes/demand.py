# SPDX-License-Identifier: Apache-2.0
"""Inputs that are heard only while somebody hears the output: a node that nobody listens to costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription

from karmma_ros.nodes.faults import describe

__all__ = ["Demand"]


class Demand:
    """Subscribes while the output has subscribers. Give `callbacks` to the output's publisher, then `begin` with it."""

    def __init__(self, node: Node, subscribe: Callable[[], Iterator[Subscription]]) -> None:
        """:param subscribe: makes the subscriptions to the inputs, one by one."""
        self._node = node
        self._subscribe = subscribe
        self._output: Publisher | None = None
        self._inputs: list[Subscription] = []
        self.fault = ""  # why the inputs cannot be heard
        self.callbacks = PublisherEventCallbacks(matched=self._matched)

    @property
    def present(self) -> bool:
        """Whether the inputs are heard."""
        return bool(self._inputs)

    def begin(self, output: Publisher) -> None:
        """Follows the demand for `output` from now on."""
        self._output = output
        self._follow()

    def end(self) -> None:
        """No longer hears the inputs, whatever the demand."""
        self._output = None
        self.fault = ""
        self._follow()

    def _matched(self, info: Any) -> None:
        self._follow()

    def _follow(self) -> None:
        wanted = self._output is not None and self._output.get_subscription_count() > 0
        if wanted and not self._inputs:
            try:
                for subscription in self._subscribe():
                    self._inputs.append(subscription)
                self.fault = ""
            except Exception as error:  # whatever rclpy raises for a parameter qos_overrides.* that makes no sense
                self._unsubscribe()
                self.fault = describe(error)
                self._node.get_logger().error(f"cannot subscribe: {self.fault}")
        elif not wanted:
            self._unsubscribe()

    def _unsubscribe(self) -> None:
        for subscription in self._inputs:
            self._node.destroy_subscription(subscription)
        self._inputs = []
