# SPDX-License-Identifier: Apache-2.0
"""What overlay_node draws of a prediction's message."""

from __future__ import annotations

from collections import deque

from karmma_msgs.msg import ActionPrediction
from karmma_ros.health import SensorState
from karmma_ros.messages import stamp_to_ns
from karmma_ros.overlay import PredictionView
from karmma_ros.recognizer import Status

__all__ = ["Viewer", "without_camera"]


class Viewer:
    """Views of predictions, with the rate at which they come."""

    COUNTED = 30  # predictions that the rate is taken over

    def __init__(self) -> None:
        self._stamps_ns: deque[int] = deque(maxlen=self.COUNTED)

    def counted(self, prediction: ActionPrediction) -> None:
        """Counts a prediction, shown or not."""
        stamp_ns = stamp_to_ns(prediction.header.stamp)
        if self._stamps_ns and stamp_ns <= self._stamps_ns[-1]:
            self._stamps_ns.clear()
        self._stamps_ns.append(stamp_ns)

    @property
    def rate_hz(self) -> float | None:
        """Predictions per second; None until two came."""
        if len(self._stamps_ns) < 2:
            return None
        return (len(self._stamps_ns) - 1) * 1e9 / (self._stamps_ns[-1] - self._stamps_ns[0])

    def view(self, prediction: ActionPrediction | None, *, seen: bool = True) -> PredictionView:
        """:param prediction: None where a frame waited for it in vain.
        :param seen: False where the picture is an old one.
        """
        if prediction is None:
            return PredictionView()
        return PredictionView(
            actions=[(label.name, label.score) for label in prediction.actions],
            sensors={sensor.name: SensorState(sensor.state).name for sensor in prediction.modalities},
            latency_ms=prediction.latency * 1e3,
            rate_hz=self.rate_hz,
            note=Status(prediction.status).name.lower().replace("_", " "),
            seen=seen,
        )


def without_camera(prediction: ActionPrediction) -> bool:
    """Whether it was made because the camera is gone, so that no frame can be expected for it."""
    return prediction.trigger == ActionPrediction.TIMER and not any(
        sensor.name == "video" and sensor.state == SensorState.OK for sensor in prediction.modalities
    )
