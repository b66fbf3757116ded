# SPDX-License-Identifier: Apache-2.0
"""The camera's pictures with what action_node says about them drawn in, for people to look at.

    ros2 run karmma_ros overlay_node --ros-args -r image:=/camera/image_raw
    ros2 run rqt_image_view rqt_image_view /overlay_node/image

A frame is shown with its own prediction, the one of its stamp. It waits for that, at most `wait` and until 30 newer
frames wait too; then it is shown without. A frame that the recogniser skipped is skipped here too. While the camera is
gone its last picture is shown, dark, with the predictions that the other sensors make. Nothing is heard or drawn while
nobody looks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from karmma_msgs.msg import ActionPrediction
from karmma_ros.errors import KarmmaError, SampleError
from karmma_ros.messages import compressed_to_rgb, image_to_msg, image_to_rgb, stamp_to_ns
from karmma_ros.nodes import process, qos
from karmma_ros.nodes.declarations import declare
from karmma_ros.nodes.demand import Demand
from karmma_ros.nodes.faults import FaultLog
from karmma_ros.nodes.matching import Match, Matcher
from karmma_ros.nodes.overlay_parameters import PARAMETERS
from karmma_ros.nodes.overlay_view import Viewer, without_camera
from karmma_ros.overlay import PredictionView, draw

__all__ = ["OverlayNode", "main"]

_LOOK_S = 0.05  # [s] between two looks for frames that have waited long enough
_CANVAS = (480, 640, 3)  # shown where there has been no picture yet


class OverlayNode(Node):
    """Topics and parameters around `Matcher`, `Viewer` and `overlay.draw`."""

    def __init__(self, **kwargs: Any) -> None:
        """:raises UsageError: a parameter given to the node is not valid; the line names it."""
        super().__init__("overlay_node", **kwargs)
        declare(self, PARAMETERS)
        self._compressed = self.get_parameter("image.transport").value == "compressed"
        self._matcher: Matcher[Any, ActionPrediction] = Matcher(0.0)
        self._viewer = Viewer()
        self._faults = FaultLog(self.get_logger().warning)
        self._last: npt.NDArray[np.uint8] = np.zeros(_CANVAS, np.uint8)
        self._demand = Demand(self, self._listen)
        self._output = self.create_publisher(
            Image,
            "~/image",
            QoSProfile(depth=1),
            event_callbacks=self._demand.callbacks,
            qos_overriding_options=qos.overridable(),
        )
        self._demand.begin(self._output)
        self.create_timer(_LOOK_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _listen(self) -> Iterator[Subscription]:
        self._matcher.reset()
        self._viewer = Viewer()
        self._last = np.zeros(_CANVAS, np.uint8)
        yield self.create_subscription(
            CompressedImage if self._compressed else Image,
            "image/compressed" if self._compressed else "image",
            self._frame,
            qos.sensor(),
            qos_overriding_options=qos.overridable(),
        )
        yield self.create_subscription(
            ActionPrediction,
            "action_node/actions",
            self._prediction,
            QoSProfile(depth=10),
            qos_overriding_options=qos.overridable(),
        )

    def _frame(self, message: Any) -> None:
        match = self._matcher.frame(stamp_to_ns(message.header.stamp), message, time.monotonic())
        if match is not None:
            self._show(match)

    def _prediction(self, prediction: ActionPrediction) -> None:
        self._viewer.counted(prediction)
        match = self._matcher.prediction(stamp_to_ns(prediction.header.stamp), prediction)
        if match is not None:
            self._show(match)
        elif without_camera(prediction):
            self._publish("prediction", prediction.header, draw(self._last, self._view(prediction, seen=False)))

    def _look(self) -> None:
        self._matcher.wait_s = self.get_parameter("wait").value
        for match in self._matcher.overdue(time.monotonic()):
            self._show(match)

    def _show(self, match: Match[Any, ActionPrediction]) -> None:
        to_rgb = compressed_to_rgb if self._compressed else image_to_rgb
        try:
            rgb = to_rgb(
                match.frame,
                rotate=self.get_parameter("image.rotate").value,
                max_pixels=self.get_parameter("image.max_pixels").value,
            )
        except SampleError as error:
            self._faults.report("video", error, time.monotonic())
            return
        self._last = rgb
        self._publish("video", match.frame.header, draw(rgb, self._view(match.prediction)))

    def _view(self, prediction: ActionPrediction | None, *, seen: bool = True) -> PredictionView:
        """What to draw of a prediction; of one that cannot be, nothing."""
        try:
            return self._viewer.view(prediction, seen=seen)
        except SampleError as error:
            self._faults.report("prediction", error, time.monotonic())
            return self._viewer.view(None, seen=seen)

    def _publish(self, whose: str, header: Any, rgb: npt.NDArray[np.uint8]) -> None:
        """:param whose: header it is."""
        try:
            message = image_to_msg(stamp_to_ns(header.stamp), header.frame_id, rgb)
        except KarmmaError as error:
            self._faults.report(whose, SampleError("impossible stamp", str(error)), time.monotonic())
            return
        self._output.publish(message)


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of `ros2 run karmma_ros overlay_node`."""
    return process.run(OverlayNode, "overlay_node", args)


if __name__ == "__main__":
    sys.exit(main())
