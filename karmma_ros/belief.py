# SPDX-License-Identifier: Apache-2.0
"""What a camera's pictures are worth to those who make something of them: flow, and the boxes of an object detector.

Flow needs two pictures, so it is believed where the camera was OK all the time that it spans. Boxes say what is in one
picture, and a covered lens shows nothing of what is there; but a camera that is only silent may have its detector on
board, and then they are as good as ever.
"""

from __future__ import annotations

from karmma_ros.content import Verdict
from karmma_ros.health import SensorState
from karmma_ros.recognizer import Recognizer
from karmma_ros.window import to_ns

__all__ = ["CameraBelief", "erase"]


class CameraBelief:
    """Since when a camera has been OK without a break, and when its content was last not believed; by its stamps."""

    def __init__(self) -> None:
        self._ok_since_ns: int | None = None
        self._blind_since_ns: int | None = None
        self._blind_last_ns = 0

    def check(self, state: SensorState) -> None:
        """The camera's state between two frames: an outage ends what it was OK for."""
        if state is not SensorState.OK:
            self._ok_since_ns = None

    def seen(self, stamp_ns: int, verdict: Verdict, state: SensorState) -> None:
        """A frame came.

        :param verdict: about its content; state: the camera's with it.
        """
        self.check(state)
        if state is SensorState.OK and self._ok_since_ns is None:
            self._ok_since_ns = stamp_ns
        if verdict.state is not SensorState.OK:
            self._blind_since_ns, self._blind_last_ns = verdict.since_ns, stamp_ns

    def spans(self, begins_ns: int, period_s: float) -> bool:
        """Whether the camera has been OK since `begins_ns`, up to a quarter of its period: stamps jitter."""
        return self._ok_since_ns is not None and begins_ns >= self._ok_since_ns - to_ns(period_s) // 4

    def shows(self, stamp_ns: int, state: SensorState) -> bool:
        """Whether what is in the picture of a moment can be believed.

        :param state: the camera's at present: only while that says so, its blindness goes on beyond its last frame.
        """
        if self._blind_since_ns is None or stamp_ns < self._blind_since_ns:
            return True
        return stamp_ns > self._blind_last_ns and state not in (SensorState.OCCLUDED, SensorState.FROZEN)


def erase(recognizer: Recognizer, modality: str, since_ns: int, *, flow_follows: bool) -> None:
    """Erases what a sensor gave since its content has been wrong, and what was made of it.

    :param flow_follows: flow is computed from the camera's pictures.
    """
    recognizer.evict(modality, since_ns)
    if modality == "video":
        for other, follows in (("flow", flow_follows), ("detections", True)):
            if follows and other in recognizer.bundle.modalities:
                recognizer.evict(other, since_ns)
