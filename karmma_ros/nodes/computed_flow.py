# SPDX-License-Identifier: Apache-2.0
"""Flow that the node computes from its own camera's frames, in place of hearing it on a topic.

To the worker it is a flow sensor like any other, whose messages are frames. They come from the camera once decoded and
believed (`frame`), and become fields when the worker turns to flow: after the frame's own prediction, as with flow that
takes the way over `flow_node`, and with the same tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.flow import FlowProducer
from karmma_ros.manifest import ProducerSpec
from karmma_ros.nodes.parameters import Settings
from karmma_ros.nodes.sensors import Arrival, FlowSensor, Sensor

__all__ = ["ComputedFlow"]


class ComputedFlow(FlowSensor):
    """Flow from the camera's frames, as the bundle's flow was computed in training."""

    subscribes = False

    def __init__(self, settings: Settings, producer: ProducerSpec, camera_topic: str) -> None:
        """:param camera_topic: where the frames come from, for the diagnostics."""
        self._producer = FlowProducer(producer.size, producer.preset)
        self._outdated = False  # the frame before is not to be used: the camera was not believed since
        self._view: tuple[bool, int] | None = None
        super().__init__(settings)
        self.topic = camera_topic
        self.follows_camera = True

    def configure(self, settings: Settings) -> None:
        super().configure(settings)
        view = ("video" in settings.modalities, settings.image_rotate)
        if view != self._view:
            self._view = view
            self.interrupt()

    def frame(self, arrival: Arrival[Any], rgb: npt.NDArray[np.uint8], believed: bool) -> None:
        """Takes the camera's next frame; one that is not believed is no end of a field, nor its beginning."""
        if not self.health.enabled:
            return
        if believed:
            self.store(Arrival(rgb, arrival.stamp_ns, arrival.now_s))
        else:
            self.interrupt()

    def store(self, arrival: Arrival[Any]) -> None:
        """See Sensor."""
        Sensor.store(self, arrival)

    def interval_s(self, arrival: Arrival[Any]) -> float | None:
        """[s] since the frame before that was looked at: what is computed spans the frames passed over, too."""
        return self._intervals.next(arrival.stamp_ns)

    def interrupt(self) -> None:
        """Computes no flow across this moment."""
        self.drop()
        self._outdated = True

    def decode(self, arrival: Arrival[Any], interval_s: float | None) -> npt.NDArray[np.float32] | None:
        """(h, w, 2) float32 at the working size, image widths per second; None for a frame that none came before."""
        self.forget_content()
        return self._producer.push(arrival.stamp_ns, arrival.message)

    def forget_content(self) -> None:
        super().forget_content()
        if self._outdated:
            self._outdated = False
            self._producer.reset()

    def restart(self) -> None:
        super().restart()
        self.interrupt()
