# SPDX-License-Identifier: Apache-2.0
"""What is to be known about one recorded topic, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.audio import JOIN_S
from karmma_ros.bags.reader import Bag, BagMessage, Topic, header_ns
from karmma_ros.bags.sound import SoundDecoder
from karmma_ros.bags.topics import COMPRESSED, FUTURE_S
from karmma_ros.compressed import picture_info
from karmma_ros.content import GateLimits, level
from karmma_ros.decode import compressed_to_rgb, flow_to_field, image_to_rgb
from karmma_ros.decode_detections import OTHER, class_ids, detections_to_boxes
from karmma_ros.errors import SampleError

__all__ = ["LAG_S", "Finding", "Severity", "TopicCheck", "TopicReport"]

_NS = 1_000_000_000
_SLOW_HZ = 5.0  # a camera below this shows too little of a movement
LAG_S = 0.5  # [s] behind its arrival, from where a node's diagnostics warn
_OTHER_CLOCK_S = 10.0  # [s] between stamps and log time that mean two clocks
_CHUNK_S = 0.2  # a node encodes two grid points of 0.1 s at once
_GAP_INTERVALS, _GAP_S = 3.0, 0.1  # a gap is longer than so many usual intervals, and than this: the node's STALE
_DECODED = 10  # every so many messages one is decoded
_SHOWN = 5  # causes listed


class Severity(StrEnum):
    """How bad a finding is: with an ERROR the bag is not fit."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """What is wrong, and what to do about it. `topic`: empty for the bag as a whole."""

    severity: Severity
    topic: str
    text: str
    remedy: str


@dataclass
class TopicReport:
    """A topic that would be used. Times in seconds of log time from the bag's start."""

    modality: str
    name: str
    type: str
    messages: int = 0
    rate_hz: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0
    gaps: int = 0
    longest_gap_s: float = 0.0
    longest_gap_at_s: float = 0.0
    lag_s: float | None = None  # median time from stamp (of sound: its last sample) to log time
    details: str = ""  # size and encoding; rate and channels; what was detected


class TopicCheck:
    """Collects what is to be known about one topic."""

    def __init__(self, bag: Bag, topic: Topic, modality: str) -> None:
        self.topic = topic
        self.modality = modality
        self._to_samples = SoundDecoder(bag, topic) if modality == "audio" else None
        self._start_ns = bag.start_ns
        self._logs: list[int] = []
        self._stamps: list[int] = []
        self._ends: list[int] = []  # stamps, of sound those of the chunks' ends
        self._zero = 0
        self._faults: Counter[str] = Counter()  # of all messages
        self._content_faults: Counter[str] = Counter()  # of those whose picture is decoded
        self._example: dict[str, str] = {}
        self._decoded = 0
        self._loudest = 0.0
        self._details: Counter[str] = Counter()
        self._chunks_s: list[float] = []

    def take(self, message: BagMessage) -> None:
        """The topic's next message."""
        self._logs.append(message.log_ns)
        counted = self._faults
        try:
            decoded = message.decode()
            stamp_ns = header_ns(decoded)
            end_ns = stamp_ns
            # Sound is cheap to decode; of pictures a sample will do.
            if self.modality == "audio":
                assert self._to_samples is not None
                samples, rate = self._to_samples(decoded)
                end_ns += len(samples) * _NS // rate
                self._chunks_s.append(len(samples) / rate)
                self._loudest = max(self._loudest, level(samples))
                self._details[f"{rate} Hz, {samples.shape[1]} channel{'s' * (samples.shape[1] > 1)}"] += 1
            elif (len(self._logs) - 1) % _DECODED == 0:
                counted = self._content_faults
                self._details.update(self._content(decoded))
                self._decoded += 1
        except SampleError as error:
            counted[error.cause] += 1
            self._example.setdefault(error.cause, str(error))
            return
        if stamp_ns <= 0:
            self._zero += 1
            return
        self._stamps.append(stamp_ns)
        self._ends.append(end_ns - message.log_ns)

    def _content(self, message: Any) -> list[str]:
        """Decodes it; says what it is, or what is in it."""
        if self.modality == "detections":
            detections_to_boxes(message, {OTHER: 0}, (1, 1))
            return class_ids(message)
        if self.modality == "flow":
            height, width = flow_to_field(message).shape[:2]
            return [f"{width}x{height} 32FC2"]
        if self.topic.type == COMPRESSED:
            height, width = compressed_to_rgb(message).shape[:2]
            return [f"{width}x{height} {picture_info(message.data).kind}"]
        height, width = image_to_rgb(message).shape[:2]
        return [f"{width}x{height} {message.encoding}"]

    def report(self) -> TopicReport:
        """The facts."""
        made = TopicReport(self.modality, self.topic.name, self.topic.type, len(self._logs))
        made.details = ", ".join(
            text for text, _ in self._details.most_common(5 if self.modality == "detections" else 2)
        )
        if not self._logs:
            return made
        made.first_s = (self._logs[0] - self._start_ns) / _NS
        made.last_s = (self._logs[-1] - self._start_ns) / _NS
        span_s = made.last_s - made.first_s
        made.rate_hz = round((len(self._logs) - 1) / span_s, 3) if span_s > 0 else 0.0
        intervals, gaps = self._gaps()
        made.gaps = int(gaps.sum())
        if made.gaps:
            place = int(np.argmax(intervals))
            made.longest_gap_s = float(intervals[place])
            made.longest_gap_at_s = (self._logs[place] - self._start_ns) / _NS
        made.lag_s = -float(np.median(self._ends)) / _NS if self._ends else None
        return made

    def _gaps(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Intervals of log time, and which of them are gaps."""
        intervals = np.diff(np.array(self._logs, np.int64)).astype(np.float64) / _NS
        usual_s = float(np.median(intervals)) if len(intervals) else 0.0
        return intervals, intervals > max(_GAP_INTERVALS * usual_s, _GAP_S)

    def findings(self) -> list[Finding]:
        """What is wrong with the topic."""
        found: list[Finding] = []

        def find(severity: Severity, text: str, remedy: str) -> None:
            found.append(Finding(severity, self.topic.name, text, remedy))

        total = len(self._logs)
        if not total:
            find(Severity.ERROR, "no messages", "was the driver running? does its QoS match the recorder's?")
            return found
        self._judge_faults(find, total)
        self._judge_stamps(find, total)
        self._judge_rate(find)
        if self.modality == "audio":
            self._judge_sound(find)
        if not self.topic.defined:
            text = f"no definition of {self.topic.type} in the bag"
            find(Severity.NOTE, text, "the one that comes with this package is used; mcap keeps definitions")
        return found

    def _judge_faults(self, find: Callable[[Severity, str, str], None], total: int) -> None:
        decoded = self._decoded + sum(self._content_faults.values())
        for faults, looked_at in ((self._faults, total), (self._content_faults, decoded)):
            for cause, count in faults.most_common(_SHOWN):
                severity = Severity.ERROR if count > looked_at / 2 else Severity.WARNING
                text = f"{self._example[cause]}: {count} of {looked_at} messages looked at"
                find(severity, text, "they are left out in a replay; mend the driver or its encoding")

    def _judge_stamps(self, find: Callable[[Severity, str, str], None], total: int) -> None:
        if self._zero:
            severity = Severity.ERROR if self._zero > total / 2 else Severity.WARNING
            text = f"{self._zero} of {total} stamps are 0"
            find(severity, text, "set header.stamp in the driver to the time the sample was taken; 0 is refused")
        if len(self._stamps) < 2:
            return
        steps = np.diff(np.array(self._stamps, np.int64))
        backwards, repeated = int((steps < 0).sum()), int((steps == 0).sum())
        if backwards:
            text = f"{backwards} stamps go back, by up to {-steps.min() / _NS:.3f} s"
            find(Severity.WARNING, text, "late samples only fill slots; a bag of several runs is better split")
        if repeated:
            text = f"{repeated} stamps are the same as the one before"
            find(Severity.WARNING, text, "a frame counts once: let the driver stamp every frame")
        ahead_s = -self._lag_s()
        if ahead_s > FUTURE_S:
            text = f"stamps are {ahead_s:.2f} s ahead of log time"
            remedy = f"a node refuses them: synchronise the clocks, here --stamp-offset {self.modality}={-ahead_s:.2f}"
            find(Severity.ERROR, text, remedy)
        elif -ahead_s > _OTHER_CLOCK_S:
            text = f"stamps are {-ahead_s:.0f} s older than log time"
            find(Severity.NOTE, text, "another clock, which works as long as all sensors have it")
        elif -ahead_s > LAG_S:
            text = f"messages come {-ahead_s:.2f} s after their stamps"
            find(Severity.WARNING, text, "the robot predicts as late: look for a slow driver, or a reliable queue")

    def _lag_s(self) -> float:
        return -float(np.median(self._ends)) / _NS

    def _judge_rate(self, find: Callable[[Severity, str, str], None]) -> None:
        intervals, gaps = self._gaps()
        if not len(intervals):
            return
        rate_hz = len(intervals) / max(float(intervals.sum()), 1e-9)
        if self.modality == "video" and rate_hz < _SLOW_HZ:
            find(Severity.WARNING, f"only {rate_hz:.1f} frames per second", "record at 15 or more, smaller if need be")
        if gaps.any():
            place = int(np.argmax(intervals))
            at_s = (self._logs[place] - self._start_ns) / _NS
            number = f"{gaps.sum()} gaps, the longest" if gaps.sum() > 1 else "a gap of"
            text = f"{number} {intervals[place]:.2f} s at {at_s:.1f} s"
            remedy = "record compressed images, to a fast disk, with a larger --max-cache-size"
            if self.modality == "audio":
                remedy = "record it reliable, with a deep queue"
            find(Severity.WARNING, text, remedy)

    def _judge_sound(self, find: Callable[[Severity, str, str], None]) -> None:
        if len(self._details) > 1:
            find(Severity.WARNING, "rate or channels change", "one setting per bag: sound starts anew at each change")
        if self._chunks_s and float(np.median(self._chunks_s)) > _CHUNK_S:
            text = f"chunks of {float(np.median(self._chunks_s)):.2f} s"
            remedy = f"send chunks of at most {_CHUNK_S:g} s: of longer ones a node skips the start"
            find(Severity.WARNING, text, remedy)
        if self._chunks_s and self._loudest < GateLimits().muted_level:
            find(Severity.WARNING, "nothing but silence", "is the microphone muted, or the wrong one?")
        if len(self._stamps) == len(self._chunks_s) and len(self._stamps) > 1:
            expected = np.array(self._stamps[:-1]) + np.round(np.array(self._chunks_s[:-1]) * _NS).astype(np.int64)
            slips_s = np.abs(np.array(self._stamps[1:]) - expected) / _NS
            apart = int((slips_s > JOIN_S).sum())
            if apart > 0.01 * len(slips_s):
                text = f"{apart} of {len(slips_s)} chunks do not follow the one before within {JOIN_S * 1e3:.0f} ms"
                find(Severity.WARNING, text, "stamp chunks by the sample clock, not by arrival; nothing spans a gap")
