# SPDX-License-Identifier: Apache-2.0
"""A bag through the core as the node would have run it, on a machine that is never late.

Messages arrive at their log time, in its order, and are aligned by their header stamps; when a prediction is due is
decided by the node's own `Pacer`, with log time for its clocks. No wall clock and no thread is involved, so the same
bag gives the same predictions.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.bags.reader import Bag, BagMessage, header_ns
from karmma_ros.bags.sound import SoundDecoder
from karmma_ros.bags.topics import FUTURE_S, Sensors, picture_decoder
from karmma_ros.decode import check_stamp, flow_to_field, scale_flow, sent_size
from karmma_ros.decode_detections import detections_to_boxes
from karmma_ros.errors import SampleError
from karmma_ros.flow import FlowIntervals, FlowProducer
from karmma_ros.health import SensorState, SensorStatus
from karmma_ros.offline import OfflineSensors, to_record
from karmma_ros.pacing import Pacer
from karmma_ros.recognizer import LIVE_AUDIO_LIMIT, Recognizer
from karmma_ros.records import PredictionRecord

__all__ = ["Answer", "Replay", "ReplaySettings"]

Image = npt.NDArray[np.uint8]

_NS = 1_000_000_000
_SILENCE_NS = 60 * _NS  # log time in which nothing at all was recorded; more is a recorder's clock that was set


@dataclass(frozen=True)
class ReplaySettings:
    """The node's parameters that matter for a recording."""

    rotate: int = 0  # clockwise degrees that make the picture upright
    rate_hz: float = 0.0  # predictions per second; 0 follows the camera
    flow_unit: str = "pixels_per_second"
    flow_follows_camera: bool = True
    detections_size: tuple[int, int] | None = None  # (width, height) of what boxes are in; None: the camera's images
    stamp_offsets_s: Mapping[str, float] = field(default_factory=dict)  # modality -> [s] added to its stamps


@dataclass(frozen=True)
class Answer:
    """A prediction. `rgb`: the frame that it is about, or the last one before; None before the first."""

    record: PredictionRecord
    scores: npt.NDArray[np.float64] | None  # (A,) of every action; None without a prediction
    rgb: Image | None
    fresh: bool  # `rgb` is the frame that caused it
    arrived_s: float  # [s] of log time since the bag's first message
    processing_s: float


class Replay:
    """Runs a bag through a recogniser. `faults`: per modality, why messages were not used; `restarts`: how often the
    recording's clock jumped back and all began anew; `frames`: camera messages seen; `period_s`: the camera's.

    :param producer: computes flow from the camera, where the bag has none; the robot would run `flow_node` for that.
    :param on_sound: called with (stamp of the first sample [ns], samples (n, channels), rate) for every chunk.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        bag: Bag,
        sensors: Sensors,
        settings: ReplaySettings | None = None,
        *,
        producer: FlowProducer | None = None,
        on_sound: Callable[[int, npt.NDArray[np.float32], int], None] | None = None,
    ) -> None:
        self._recognizer = recognizer
        self._bag = bag
        self._topics = sensors
        self._settings = settings or ReplaySettings()
        self._producer = producer
        self._on_sound = on_sound
        self._pacer = Pacer(rate_hz=self._settings.rate_hz)
        self._sensors = OfflineSensors(
            recognizer, flow_follows_camera=self._settings.flow_follows_camera, audio_limit=LIVE_AUDIO_LIMIT
        )
        self._intervals = FlowIntervals()
        self._to_samples = SoundDecoder(bag, sensors.audio) if sensors.audio else None
        self._to_rgb = picture_decoder(sensors.video) if sensors.video else None
        self._origin_ns: int | None = None  # stamp at which the records' time starts
        self._now_ns = 0  # log time
        self._rgb: Image | None = None
        self._sent_size: tuple[int, int] | None = None  # (width, height) of the last frame, before it was turned
        detections = recognizer.bundle.modalities.get("detections")
        self._categories = {name: i for i, name in enumerate(detections.categories)} if detections else {}
        self.faults: dict[str, Counter[str]] = {modality: Counter() for modality, _ in sensors.items()}
        self.restarts = 0
        self.frames = 0

    @property
    def period_s(self) -> float:
        """[s] between two predictions."""
        return self._pacer.period_s

    def statuses(self) -> dict[str, SensorStatus]:
        """Every sensor at the last message."""
        return self._sensors.statuses(self._now_ns)

    def run(self, *, origin_ns: int) -> Iterator[Answer]:
        """Every prediction, in the order in which a robot would have had them.

        :param origin_ns: the stamp from which the records' `t_s` counts.
        :raises BagError: the bag is damaged. :raises EngineError: an extractor failed.
        """
        self._origin_ns = origin_ns
        modalities = self._topics.modality_of()
        for message in self._bag.messages(list(modalities)):
            yield from self._timer_until(message.log_ns)
            self._now_ns = max(self._now_ns, message.log_ns)
            yield from self._arrive(message, modalities[message.topic.name])

    @property
    def _now_s(self) -> float:
        return (self._now_ns - self._bag.start_ns) / _NS

    def _timer_until(self, end_ns: int) -> Iterator[Answer]:
        """The timer's predictions that are due before `end_ns` of log time; none beyond a minute of silence."""
        end_ns = min(end_ns, self._now_ns + _SILENCE_NS)
        while (wait_s := self._pacer.wait_s(self._now_s, self._now_ns)) is not None:
            due_ns = self._now_ns + math.ceil(wait_s * _NS) + 1  # a nanosecond late is due, whatever was rounded
            if due_ns >= end_ns:
                return
            self._now_ns = due_ns
            due = self._pacer.poll(self._now_s, self._now_ns)
            if due is not None:
                yield self._predict(due.stamp_ns, time.perf_counter(), fresh=False)

    def _arrive(self, message: BagMessage, modality: str) -> Iterator[Answer]:
        started = time.perf_counter()
        self.frames += modality == "video"
        try:
            decoded = message.decode()
            stamp_ns = self._stamp_ns(decoded, modality)
        except SampleError as error:
            self._reject(modality, error)
            return
        used = modality in self._recognizer.modalities
        if used:
            self._follow(modality, stamp_ns)
        if modality == "video":
            yield from self._frame(decoded, stamp_ns, started, used=used)
        elif modality == "flow" and used:
            self._flow(decoded, stamp_ns)
        elif modality == "detections" and used:
            self._detections(decoded, stamp_ns)
        elif modality == "audio":
            self._sound(decoded, stamp_ns, used=used)

    def _stamp_ns(self, decoded: Any, modality: str) -> int:
        stamp_ns = header_ns(decoded)
        if stamp_ns > 0:
            stamp_ns += round(self._settings.stamp_offsets_s.get(modality, 0.0) * _NS)
        check_stamp(stamp_ns, self._now_ns, FUTURE_S)
        return stamp_ns

    def _follow(self, modality: str, stamp_ns: int) -> None:
        """Tells the pacer of an arrival; where it finds that the stamps start again, everything does."""
        if self._pacer.arrived(modality, stamp_ns, self._now_s, self._now_ns):
            self.restarts += 1
            self._sensors.reset()
            self._intervals = FlowIntervals()
            if self._producer is not None:
                self._producer.reset()

    def _frame(self, decoded: Any, stamp_ns: int, started: float, *, used: bool) -> Iterator[Answer]:
        assert self._to_rgb is not None
        try:
            rgb = self._to_rgb(decoded, rotate=self._settings.rotate)
        except SampleError as error:
            self._reject("video", error)
            return
        self._rgb = rgb
        self._sent_size = sent_size(rgb, self._settings.rotate)
        triggers, state = False, SensorState.OK
        if used:
            state = self._sensors.push("video", stamp_ns, rgb, arrived_ns=self._now_ns)
            triggers = self._pacer.triggers(stamp_ns)
        if triggers:
            yield self._predict(stamp_ns, started, fresh=True)
        if self._producer is None:
            return
        # After the prediction, as on the robot: flow of a frame cannot be there before the frame. None is computed of a
        # picture that is not believed, nor across it.
        if state is not SensorState.OK:
            self._producer.reset()
            return
        computed = self._producer.push(stamp_ns, rgb)
        if computed is None:  # no frame came before: a sign of life all the same, as on the robot
            self._sensors.arrived("flow", arrived_ns=self._now_ns)
        else:
            self._follow("flow", stamp_ns)
            self._push_flow(stamp_ns, computed, self._intervals.next(stamp_ns))

    def _flow(self, decoded: Any, stamp_ns: int) -> None:
        interval_s = self._intervals.next(stamp_ns)
        unit = self._settings.flow_unit
        try:
            pixels = flow_to_field(decoded)
            if unit == "pixels_per_frame" and interval_s is None:  # nor is known what it says
                self._sensors.arrived("flow", arrived_ns=self._now_ns)
                return
            field = scale_flow(pixels, unit, interval_s)
        except SampleError as error:
            self._reject("flow", error)
            return
        self._push_flow(stamp_ns, field, interval_s)

    def _push_flow(self, stamp_ns: int, field: npt.NDArray[np.float32], interval_s: float | None) -> None:
        self._sensors.push(
            "flow", stamp_ns, field, arrived_ns=self._now_ns, interval_s=interval_s, period_s=self._pacer.camera_s
        )

    def _detections(self, decoded: Any, stamp_ns: int) -> None:
        size = self._settings.detections_size or self._sent_size
        try:
            boxes = detections_to_boxes(decoded, self._categories, size, rotate=self._settings.rotate)
        except SampleError as error:
            self._reject("detections", error)
            return
        self._sensors.push("detections", stamp_ns, boxes, arrived_ns=self._now_ns)

    def _sound(self, decoded: Any, stamp_ns: int, *, used: bool) -> None:
        assert self._to_samples is not None
        try:
            samples, rate = self._to_samples(decoded)
        except SampleError as error:
            self._reject("audio", error)
            return
        if self._on_sound is not None:
            self._on_sound(stamp_ns, samples, rate)
        if used:
            self._sensors.push("audio", stamp_ns, samples, rate, arrived_ns=self._now_ns)

    def _reject(self, modality: str, error: SampleError) -> None:
        self.faults[modality][error.cause] += 1
        if modality in self._recognizer.modalities:
            self._sensors.reject(modality, self._now_ns, error.cause)

    def _predict(self, stamp_ns: int, started: float, *, fresh: bool) -> Answer:
        assert self._origin_ns is not None
        statuses = self._sensors.statuses(self._now_ns)
        prediction = self._recognizer.predict(stamp_ns)
        record = to_record(
            prediction,
            statuses,
            t_s=(stamp_ns - self._origin_ns) / _NS,
            bundle=self._recognizer.bundle.name,
            trigger="CAMERA" if fresh else "TIMER",
        )
        return Answer(record, prediction.scores, self._rgb, fresh, self._now_s, time.perf_counter() - started)
