# SPDX-License-Identifier: Apache-2.0
"""Recorded sensors before a recogniser: the health and the gates that a running node has, on the recording's clock."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from karmma_ros.content import GateLimits, make_gate
from karmma_ros.errors import SampleError
from karmma_ros.health import SensorHealth, SensorState, SensorStatus
from karmma_ros.recognizer import Recognizer

__all__ = ["OfflineSensors"]


class OfflineSensors:
    """Gives a recogniser what its sensors recorded, in order of time, but for what a node would not believe.

    :param limits: of the gates; None: the defaults.
    :param flow_follows_camera: flow is computed from the camera's pictures, and goes when they go.
    """

    def __init__(
        self, recognizer: Recognizer, *, limits: GateLimits | None = None, flow_follows_camera: bool = True
    ) -> None:
        self.recognizer = recognizer
        self._health = {name: SensorHealth() for name in recognizer.bundle.modalities}
        self._gates = {name: make_gate(name, limits) for name in self._health}
        self._flow_follows = flow_follows_camera and "video" in self._health

    def push(
        self, modality: str, stamp_ns: int, sample: npt.NDArray[Any], rate: int = 0, *, arrived_ns: int | None = None
    ) -> SensorState:
        """Takes a sample, as `Recognizer.push` does; one that cannot be used is counted as rejected.

        :param arrived_ns: when a robot would have had it; None: at its stamp.
        :return: the sensor's state with it.
        """
        health = self._health[modality]
        now_s = (stamp_ns if arrived_ns is None else arrived_ns) / 1e9
        try:
            verdict = self._gates[modality].judge(stamp_ns, sample, rate)
            if verdict.fresh:
                self.recognizer.evict(modality, verdict.since_ns)
                if modality == "video" and self._flow_follows and "flow" in self._health:
                    self.recognizer.evict("flow", verdict.since_ns)
            believed = verdict.state is SensorState.OK and self._source_ok(modality, now_s)
            if believed:
                self.recognizer.push(modality, stamp_ns, sample, rate or None)
            elif modality == "audio":  # kept, since a later token's context may reach back to it; what was due passes
                self.recognizer.store_audio(stamp_ns, sample, rate or None)
                self.recognizer.encode_due_audio(limit=0)
        except SampleError as error:
            return health.rejected(now_s, error.cause)
        return health.received(now_s, verdict.state)

    def _source_ok(self, modality: str, now_s: float) -> bool:
        """Whether what a modality is computed from is believed."""
        follows = modality == "flow" and self._flow_follows
        return not follows or self._health["video"].state(now_s) is SensorState.OK

    def statuses(self, now_ns: int) -> dict[str, SensorStatus]:
        """Every sensor at a moment of the recording."""
        return {name: health.status(now_ns / 1e9) for name, health in self._health.items()}
