# SPDX-License-Identifier: Apache-2.0
"""Optical flow as a ROS 2 node: camera in, `flow` out, for action_node or anybody else.

    ros2 run karmma_ros flow_node --ros-args -r image:=/camera/image_raw

Frames are worked on where they arrive: the subscription holds one, the newest, so that a machine which is too slow
skips frames and never falls behind. Nothing is computed, nor the camera heard, while nobody listens.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image

from karmma_ros.messages import flow_to_msg
from karmma_ros.nodes import process, qos
from karmma_ros.nodes.camera_flow import CameraFlow
from karmma_ros.nodes.demand import Demand
from karmma_ros.nodes.diagnostics import sensor_status, status_of
from karmma_ros.nodes.flow_parameters import PARAMETERS, Settings
from karmma_ros.nodes.lifecycle import ManagedNode

__all__ = ["FlowNode", "main"]


class FlowNode(ManagedNode):
    """Topics, life cycle and diagnostics around a `CameraFlow`."""

    def __init__(self, **kwargs: Any) -> None:
        """:raises UsageError: a parameter given to the node is not valid; the line names it."""
        self._flow: CameraFlow | None = None
        self._output: Any = None
        super().__init__("flow_node", PARAMETERS, **kwargs)
        self._demand = Demand(self, self._listen)

    def _configure(self) -> None:
        settings = Settings.of(self)
        producer = settings.make_producer()
        self._flow = CameraFlow(producer, settings, self.get_logger().warning)
        self._output = self.create_lifecycle_publisher(
            Image,
            "flow",
            QoSProfile(depth=1),
            event_callbacks=self._demand.callbacks,
            qos_overriding_options=qos.overridable(),
        )
        width, height = producer.size
        self.get_logger().info(f"flow of {width}x{height} pixels, preset {producer.preset}")

    def _activate(self) -> None:
        self._demand.begin(self._output)

    def _silence(self) -> None:
        self._demand.end()

    def _release(self) -> None:
        self._silence()
        if self._output is not None:
            self.destroy_lifecycle_publisher(self._output)
        self._output = self._flow = None

    def _restart(self) -> None:
        if self._flow is not None:
            self._flow.restart()

    def _settings_changed(self) -> None:
        if self._flow is not None:
            self._flow.configure(Settings.of(self))

    def _listen(self) -> Iterator[Subscription]:
        assert self._flow is not None
        self._flow.restart()
        camera = self._flow.camera
        yield self.create_subscription(
            camera.message_type,
            camera.topic,
            self._frame,
            qos.sensor(),
            qos_overriding_options=qos.overridable(),
        )

    def _frame(self, message: Any) -> None:
        assert self._flow is not None
        field = self._flow.push(message, time.monotonic(), self.get_clock().now().nanoseconds)
        if field is not None:
            flow = flow_to_msg(0, message.header.frame_id, field)
            flow.header.stamp = message.header.stamp  # as it is: where time stands still even one that makes no sense
            self._output.publish(flow)

    def _statuses(self) -> list[DiagnosticStatus]:
        name, state = self.full_name, self._lifecycle_state
        fault = self._fault or self._demand.fault
        if fault or self._flow is None:
            level = DiagnosticStatus.ERROR if fault else DiagnosticStatus.OK
            message = f"{state}: {fault}" if fault else state
            return [status_of(name, level, message, "", {"state": state})]
        flow = self._flow
        heard = self._demand.present
        values: dict[str, Any] = {
            "state": state,
            "size": "{}x{}".format(*flow.producer.size),
            "preset": flow.producer.preset,
            **flow.counts,
        }
        message = state if heard or state != "active" else "active: nobody listens, nothing is computed"
        statuses = [status_of(name, DiagnosticStatus.OK, message, "", values)]
        if heard:
            topic = self.resolve_topic_name(flow.camera.topic)
            statuses.append(sensor_status(f"{name}: video", topic, flow.status(time.monotonic()), {}))
        return statuses


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of `ros2 run karmma_ros flow_node`."""
    return process.run(FlowNode, "flow_node", args, start=FlowNode.autostart)


if __name__ == "__main__":
    sys.exit(main())
