# SPDX-License-Identifier: Apache-2.0
"""What overlay_node draws of a prediction's message."""

from __future__ import annotations

import math
from collections import deque

from karmma_msgs.msg import ActionPrediction, ModalityStatus
from karmma_ros.errors import SampleError
from karmma_ros.fields import shown
from karmma_ros.health import SensorState
from karmma_ros.messages import stamp_to_ns
from karmma_ros.overlay import PredictionView
from karmma_ros.recognizer import Status

__all__ = ["Viewer", "without_camera"]

_ODD = "prediction cannot be"
_LONGEST = 200  # characters of a name: more is cut, which takes longer the more there are, and fits no picture


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
        :raises SampleError: it is none of action_node's: a score, a state or a status that cannot be.
        """
        if prediction is None:
            return PredictionView(seen=seen)
        for label in prediction.actions:
            if not math.isfinite(label.score):
                raise SampleError(_ODD, f"the score of {shown(label.name)} is {label.score}")
        return PredictionView(
            actions=[(label.name[:_LONGEST], label.score) for label in prediction.actions],
            sensors={sensor.name[:_LONGEST]: _state_name(sensor) for sensor in prediction.modalities},
            latency_ms=prediction.latency * 1e3,
            rate_hz=self.rate_hz,
            note=_status_name(prediction),
            seen=seen,
        )


def _state_name(sensor: ModalityStatus) -> str:
    try:
        return SensorState(sensor.state).name
    except ValueError:
        raise SampleError(_ODD, f"state {sensor.state} of {shown(sensor.name)}") from None


def _status_name(prediction: ActionPrediction) -> str:
    try:
        return Status(prediction.status).name.lower().replace("_", " ")
    except ValueError:
        raise SampleError(_ODD, f"status {prediction.status}") from None


def without_camera(prediction: ActionPrediction) -> bool:
    """Whether it was made because the camera is gone, so that no frame can be expected for it."""
    return prediction.trigger == ActionPrediction.TIMER and not any(
        sensor.name == "video" and sensor.state == SensorState.OK for sensor in prediction.modalities
    )
