# SPDX-License-Identifier: Apache-2.0
"""Recorded sensors before a recogniser: the health and the gates that a running node has, on the recording's clock."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from karmma_ros.belief import CameraBelief, erase
from karmma_ros.content import GateLimits, make_gate
from karmma_ros.errors import SampleError
from karmma_ros.health import SensorHealth, SensorState, SensorStatus
from karmma_ros.period import PeriodEstimator
from karmma_ros.recognizer import Prediction, Recognizer
from karmma_ros.records import PredictionRecord, Scored, SensorRecord
from karmma_ros.window import to_ns

__all__ = ["OfflineSensors", "to_record"]


class OfflineSensors:
    """Gives a recogniser what its sensors recorded, in order of time, but for what a node would not believe.

    :param limits: of the gates; None: the defaults.
    :param flow_follows_camera: flow is computed from the camera's pictures, and goes when they go.
    :param audio_limit: audio grid points encoded per chunk; None: all that are due.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        limits: GateLimits | None = None,
        flow_follows_camera: bool = True,
        audio_limit: int | None = None,
    ) -> None:
        self.recognizer = recognizer
        self._limits = limits
        self._audio_limit = audio_limit
        modalities = recognizer.bundle.modalities
        self._health = {name: SensorHealth(enabled=name in recognizer.modalities) for name in modalities}
        self._flow_follows = flow_follows_camera and "video" in recognizer.modalities
        self._begin()

    def _begin(self) -> None:
        self._gates = {name: make_gate(name, self._limits) for name in self._health}
        self._camera = CameraBelief()
        self._stamps_ns: dict[str, int] = {}  # of each sensor's last sample

    def reset(self) -> None:
        """Forgets everything, the recogniser's window too: the recording's clock has jumped back."""
        self._begin()
        for health in self._health.values():
            health.reset()
        self.recognizer.reset()

    def push(
        self,
        modality: str,
        stamp_ns: int,
        sample: npt.NDArray[Any],
        rate: int = 0,
        *,
        arrived_ns: int | None = None,
        interval_s: float | None = None,
        period_s: float = PeriodEstimator.UNKNOWN_S,
    ) -> SensorState:
        """Takes a sample, as `Recognizer.push` does; one that cannot be used is counted as rejected.

        :param arrived_ns: when a robot would have had it; None: at its stamp.
        :param interval_s: [s] that a flow field spans; None: the camera's period.
        :param period_s: [s] of the camera; used for flow.
        :return: the sensor's state with it.
        """
        health = self._health[modality]
        now_s = (stamp_ns if arrived_ns is None else arrived_ns) / 1e9
        if modality == "video":
            self._camera.check(health.state(now_s))
        try:
            verdict = self._gates[modality].judge(stamp_ns, sample, rate)
        except SampleError as error:
            return health.rejected(now_s, error.cause)
        again = self._stamps_ns.get(modality) == stamp_ns
        self._stamps_ns[modality] = stamp_ns
        state = health.repeated(now_s) if again else health.received(now_s, verdict.state)
        if modality == "video":
            self._camera.seen(stamp_ns, verdict, state)
        if verdict.fresh:
            erase(self.recognizer, modality, verdict.since_ns, flow_follows=self._flow_follows)
        believed = state is SensorState.OK
        if modality == "flow":
            believed = believed and self._camera_was_ok(stamp_ns - to_ns(interval_s or period_s), period_s, now_s)
        if modality == "detections":
            believed = believed and self._camera_shows(stamp_ns, now_s)
        try:
            if modality == "audio":
                self._hear(stamp_ns, sample, rate, believed=believed)
            elif believed:
                self.recognizer.push(modality, stamp_ns, sample)
        except SampleError as error:
            return health.rejected(now_s, error.cause)
        return state

    def _hear(self, stamp_ns: int, samples: npt.NDArray[Any], rate: int, *, believed: bool) -> None:
        if believed and self._audio_limit is None:
            self.recognizer.push("audio", stamp_ns, samples, rate or None)
            return
        # Kept even if not believed, since a later token's context may reach back to it; what was due passes then.
        self.recognizer.store_audio(stamp_ns, samples, rate or None)
        _, skipped = self.recognizer.encode_due_audio(limit=self._audio_limit if believed else 0)
        self._health["audio"].skipped(skipped if believed else 0)

    def _camera_was_ok(self, begins_ns: int, period_s: float, now_s: float) -> bool:
        """Whether what flow is computed from was believed since `begins_ns`."""
        if not self._flow_follows:
            return True
        self._camera.check(self._health["video"].state(now_s))
        return self._camera.spans(begins_ns, period_s)

    def _camera_shows(self, stamp_ns: int, now_s: float) -> bool:
        """Whether the picture in which something was detected is believed; nothing is known of a camera that is off."""
        camera = self._health.get("video")
        return camera is None or not camera.enabled or self._camera.shows(stamp_ns, camera.state(now_s))

    def reject(self, modality: str, arrived_ns: int, cause: str) -> SensorState:
        """A message came that holds no sample; returns the sensor's state with it."""
        return self._health[modality].rejected(arrived_ns / 1e9, cause)

    def arrived(self, modality: str, *, arrived_ns: int) -> SensorState:
        """Something came that holds no sample and is no fault; returns the sensor's state with it."""
        return self._health[modality].received(arrived_ns / 1e9)

    def statuses(self, now_ns: int) -> dict[str, SensorStatus]:
        """Every sensor at a moment of the recording."""
        return {name: health.status(now_ns / 1e9) for name, health in self._health.items()}


def to_record(
    prediction: Prediction,
    statuses: dict[str, SensorStatus],
    *,
    t_s: float,
    bundle: str,
    trigger: str = "CAMERA",
    processing_s: float | None = None,
) -> PredictionRecord:
    """The record of a prediction.

    :param t_s: its time from the start of the recording.
    :param bundle: the bundle's name.
    """
    sensors = {
        name: SensorRecord(
            state=status.state.name,
            coverage=prediction.coverages[name],
            age_s=status.age_s,
            rate_hz=status.rate_hz,
            received=status.received,
            skipped=status.skipped,
            rejected=status.rejected,
        )
        for name, status in statuses.items()
    }
    return PredictionRecord(
        stamp_ns=prediction.stamp_ns,
        t_s=t_s,
        status=prediction.status.name,
        trigger=trigger,
        bundle=bundle,
        actions=[Scored(*label) for label in prediction.actions],
        verbs=[Scored(*label) for label in prediction.verbs],
        nouns=[Scored(*label) for label in prediction.nouns],
        coverage=prediction.coverage,
        processing_ms=None if processing_s is None else processing_s * 1e3,
        sensors=sensors,
    )
