# SPDX-License-Identifier: Apache-2.0
"""Camera messages in, flow fields out: what flow_node does with a frame.

A camera that is not OK gives no flow, and none is computed across the time when it was not: what action_node does with
flow that it computes itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.decode import check_stamp
from karmma_ros.errors import SampleError
from karmma_ros.flow import FlowProducer
from karmma_ros.health import SensorState, SensorStatus
from karmma_ros.messages import stamp_to_ns
from karmma_ros.nodes.camera_parameters import CameraSettings
from karmma_ros.nodes.faults import FaultLog
from karmma_ros.nodes.sensors import CameraSensor
from karmma_ros.window import to_ns

__all__ = ["CameraFlow"]

_BACK_S = 1.0  # [s] by which a stamp is older than the last when a recording has started again


class CameraFlow:
    """The camera with its health and gates, and the flow between its frames."""

    def __init__(self, producer: FlowProducer, settings: CameraSettings, warn: Callable[[str], None]) -> None:
        """:param warn: logs one line."""
        self.producer = producer
        self.camera = CameraSensor(settings)
        self.counts: Counter[str] = Counter()  # frames, fields
        self._settings = settings
        self._faults = FaultLog(warn)
        self._last_ns: int | None = None

    def configure(self, settings: CameraSettings) -> None:
        """Takes over the settings that may change while the node runs."""
        if settings.image_rotate != self._settings.image_rotate:
            self.producer.reset()
        self._settings = settings
        self.camera.configure(settings)

    def restart(self) -> None:
        """The stamps start anew, or nobody has been listening: forgets what was seen."""
        self.camera.restart()
        self.producer.reset()
        self._last_ns = None

    def status(self, now_s: float) -> SensorStatus:
        """The camera at steady time `now_s`."""
        return self.camera.status(now_s)

    def push(self, message: Any, now_s: float, clock_ns: int) -> npt.NDArray[np.float32] | None:
        """The flow from the frame before to this one, to be published with this one's header.

        :param now_s: steady time of arrival.
        :param clock_ns: the node's clock; 0 while unknown.
        :return: float32 (h, w, 2), image widths per second; None when there is none.
        """
        stamp_ns = stamp_to_ns(message.header.stamp)
        self.counts["frames"] += 1
        try:
            # No stamp stays none, whatever the offset.
            corrected_ns = stamp_ns + self.camera.offset_ns if stamp_ns > 0 else stamp_ns
            check_stamp(corrected_ns, clock_ns, self._settings.future_tolerance)
            if self._last_ns is not None and self._last_ns - stamp_ns > to_ns(_BACK_S):
                self.restart()
            rgb = self.camera.decode(message)
            verdict = self.camera.judge(stamp_ns, rgb)
        except SampleError as error:
            self.camera.health.rejected(now_s, error.cause)
            self._faults.report("video", error, now_s)
            return None
        self._last_ns = stamp_ns
        if verdict.fresh:
            self._faults.state("video", verdict.state.name, now_s)
        if self.camera.health.received(now_s, verdict.state) is not SensorState.OK:
            self.producer.reset()
            return None
        field = self.producer.push(stamp_ns, rgb)
        self.counts["fields"] += field is not None
        return field
