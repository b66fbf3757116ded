# SPDX-License-Identifier: Apache-2.0
"""The node's sensors: each owns its topic, its decoding, its waiting messages, its health and its gate.

Receiving only stores (`store`); the worker takes what waits and decodes it (`take`, `decode`). The messages come from
`karmma_ros.messages`; nothing here knows of the network.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CompressedImage, Image

from karmma_ros.content import Verdict, make_gate
from karmma_ros.decode import sent_size
from karmma_ros.decode_audio import AUDIO, AUDIO_DATA_STAMPED, PcmFormat, audio_seconds, info_to_format
from karmma_ros.errors import SampleError, UsageError
from karmma_ros.flow import FlowIntervals
from karmma_ros.health import SensorHealth, SensorState, SensorStatus
from karmma_ros.memory import wipe
from karmma_ros.messages import (
    audio_to_chunk,
    compressed_to_rgb,
    detections_to_boxes,
    flow_to_field,
    image_to_rgb,
    scale_flow,
)
from karmma_ros.nodes import vision
from karmma_ros.nodes.audio_types import choose_type, installed_types, unheard
from karmma_ros.nodes.camera_parameters import CameraSettings
from karmma_ros.nodes.parameters import Settings

__all__ = ["Arrival", "AudioSensor", "CameraSensor", "DetectionsSensor", "FlowSensor", "Sensor"]

M = TypeVar("M")


@dataclass(frozen=True)
class Arrival(Generic[M]):
    """A message and when it came."""

    message: M
    stamp_ns: int  # the header's, corrected by the sensor's stamp offset
    now_s: float  # steady time at which it arrived
    interval_s: float | None = None  # of flow: [s] from the stamp of the message before, None where unknown
    again: bool = False  # whether the message before had the same stamp


class Sensor(Generic[M]):
    """One modality's sensor. The worker's lock guards everything but `decode` and `judge`, which its thread calls."""

    name: str
    topic: str
    message_type: type
    depth = 1  # messages the middleware keeps
    held = 1  # messages that `store` keeps; more than one of what is seen as clips
    info_topic = ""  # a second topic, which says what the messages of the first are; see `inform`
    subscribes = True  # to `topic`; False: samples come from inside the node, or cannot come at all (`missing`)
    missing = ""  # what has to be installed before this sensor can be heard

    def __init__(self, settings: CameraSettings) -> None:
        self.offset_ns = round(settings.stamp_offset(self.name) * 1e9)
        self.health = SensorHealth(enabled=self.name in settings.modalities)
        self._gate = make_gate(self.name)
        self._gate_outdated = False
        self._lags_s: deque[float] = deque(maxlen=30)
        self._waiting: deque[Arrival[M]] = deque()
        self._passed_over: list[float] = []  # arrival times of messages that newer ones replaced
        self._stamp_ns: int | None = None  # of the last message
        self.configure(settings)

    def configure(self, settings: Any) -> None:
        """Takes over the settings (the kind that `__init__` takes) that may change while the node runs."""
        self.health.min_timeout_s = settings.stale_min_timeout
        self.health.timeout_intervals = settings.stale_intervals
        self.health.recovery_samples = settings.stale_recovery
        self.health.corrupt_after = settings.corrupt_samples
        self._gate.limits = settings.gate_limits()

    def judge(self, stamp_ns: int, sample: npt.NDArray[Any], rate: int = 0) -> Verdict:
        """What the content of a decoded sample says about the sensor; see `content.Gate.judge`."""
        self.forget_content()
        return self._gate.judge(stamp_ns, sample, rate)

    def forget_content(self) -> None:
        """Forgets what was judged before a restart; called by the thread that judges."""
        if self._gate_outdated:
            self._gate_outdated = False
            self._gate.reset()

    def store(self, arrival: Arrival[M]) -> None:
        """Keeps a message until the worker has time; one that it had no time for is passed over."""
        if len(self._waiting) == self.held:
            dropped = self._waiting.popleft()
            if arrival.again and dropped.stamp_ns == arrival.stamp_ns:
                arrival = replace(arrival, again=dropped.again)  # stands for the one before
            elif not dropped.again:
                self._passed_over.append(dropped.now_s)
        self._waiting.append(arrival)

    def repeats(self, stamp_ns: int) -> bool:
        """Whether the message that has just come has the stamp of the one before."""
        before_ns, self._stamp_ns = self._stamp_ns, stamp_ns
        return stamp_ns == before_ns

    def inform(self, info: Any) -> None:
        """Takes a message of `info_topic`."""

    def lagged(self, lag_s: float, message: M) -> None:
        """A message arrived `lag_s` after its stamp, by the node's clock."""
        self._lags_s.append(lag_s)

    @property
    def lag_s(self) -> float | None:
        """[s] from stamp to arrival, median of the last 30; None before the first."""
        return statistics.median(self._lags_s) if self._lags_s else None

    @property
    def waiting(self) -> bool:
        """Whether `take` has something."""
        return bool(self._waiting)

    def take(self) -> list[Arrival[M]]:
        """What waits, oldest first; the messages passed over are accounted for."""
        for now_s in self._passed_over:
            self.health.passed_over(now_s)
        self._passed_over.clear()
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def drop(self) -> None:
        """Forgets what waits, and overwrites it."""
        for arrival in self._waiting:
            wipe(arrival.message)
        self._waiting.clear()
        self._passed_over.clear()

    def state(self, now_s: float) -> SensorState:
        """The state at steady time `now_s`; messages that wait have arrived, whatever becomes of them."""
        return self.health.state(self._judged_s(now_s))

    def status(self, now_s: float) -> SensorStatus:
        """State and counters at steady time `now_s`."""
        return self.health.status(self._judged_s(now_s))

    def _judged_s(self, now_s: float) -> float:
        first = self._passed_over[0] if self._passed_over else self._waiting[0].now_s if self._waiting else now_s
        return min(now_s, first)

    def restart(self) -> None:
        """The stamps start anew: forgets what was learned from them, and the statistics."""
        self.drop()
        self._stamp_ns = None
        self.health.reset()
        self._lags_s.clear()
        self._gate_outdated = True  # the worker's thread may be judging just now


class CameraSensor(Sensor[Any]):
    """Frames: `image`, or `image/compressed`."""

    name = "video"

    def __init__(self, settings: CameraSettings) -> None:
        super().__init__(settings)
        self._max_pixels = settings.image_max_pixels
        compressed = settings.image_transport == "compressed"
        self.topic = "image/compressed" if compressed else "image"
        self.message_type = CompressedImage if compressed else Image
        self._to_rgb: Callable[..., npt.NDArray[np.uint8]] = compressed_to_rgb if compressed else image_to_rgb
        # (width, height) [pixels] of the last frame as the camera sent it, not yet turned; None before the first. Kept
        # while the camera is switched off and across restarts: it says nothing of what was seen.
        self.sent_size: tuple[int, int] | None = None

    def configure(self, settings: CameraSettings) -> None:
        super().configure(settings)
        self._rotate = settings.image_rotate

    def decode(self, message: Any) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, upright.

        :raises SampleError: the message cannot be used.
        """
        rotate = self._rotate
        rgb = self._to_rgb(message, rotate=rotate, max_pixels=self._max_pixels)
        self.sent_size = sent_size(rgb, rotate)
        return rgb


class FlowSensor(Sensor[Any]):
    """Optical flow: 32FC2 fields."""

    name = "flow"
    topic = "flow"
    message_type = Image

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._max_pixels = settings.flow_max_pixels
        self._unit = settings.flow_unit
        self.follows_camera = settings.flow_source == "camera"
        self.unusable = 0  # fields without an interval, or across a time when the camera was not OK
        self._intervals = FlowIntervals()

    def store(self, arrival: Arrival[Any]) -> None:
        """See Sensor. A field spans the time since the one before it, also where that is passed over."""
        super().store(replace(arrival, interval_s=self._intervals.next(arrival.stamp_ns)))

    def interval_s(self, arrival: Arrival[Any]) -> float | None:
        """[s] that a field spans, None when unknown or more than 0.2 s. Asked once for each that is used, in order."""
        return arrival.interval_s

    def decode(self, arrival: Arrival[Any], interval_s: float | None) -> npt.NDArray[np.float32] | None:
        """(H, W, 2) float32, image widths per second; None when the field's interval is needed and unknown.

        :raises SampleError: the message cannot be used.
        """
        pixels = flow_to_field(arrival.message, max_pixels=self._max_pixels)
        if self._unit == "pixels_per_frame" and interval_s is None:
            return None
        return scale_flow(pixels, self._unit, interval_s)

    def restart(self) -> None:
        super().restart()
        self._intervals = FlowIntervals()


class DetectionsSensor(Sensor[Any]):
    """Boxes of objects, as vision_msgs/Detection2DArray; never heard where that package is not installed."""

    name = "detections"
    topic = "detections"

    def __init__(
        self, settings: Settings, categories: Sequence[str], types: ModuleType | Any | None = vision.installed
    ) -> None:
        """:param categories: names of the bundle's kinds of objects, in its order.
        :param types: the module with vision_msgs' message types, None where there is none.
        :raises UsageError: one side of the image is set, and the other is not.
        """
        super().__init__(settings)
        size = (settings.detections_image_width, settings.detections_image_height)
        if (size[0] == 0) != (size[1] == 0):
            raise UsageError(
                f"detections.image_width is {size[0]} and detections.image_height {size[1]}: set both, or both to 0"
            )
        self._size = size if size[0] else None
        self._max_boxes = settings.detections_max_boxes
        self.unusable = 0  # of images that the camera's content gate does not believe
        self._numbers = {name: number for number, name in enumerate(categories)}
        if types is None:
            self.subscribes = False
            self.missing = "vision_msgs is not installed: apt install ros-jazzy-vision-msgs, and start the node again"
        else:
            self.message_type = types.Detection2DArray

    def configure(self, settings: Settings) -> None:
        super().configure(settings)
        self._rotate = settings.image_rotate

    def decode(self, message: Any, camera_size: tuple[int, int] | None) -> npt.NDArray[np.float32]:
        """(n, 6) float32; see `decode_detections.detections_to_boxes`.

        :param camera_size: (width, height) [pixels] of the camera's images as it sends them, None while unknown; what
            the user has set goes before it.
        :raises SampleError: the message cannot be used.
        """
        return detections_to_boxes(
            message, self._numbers, self._size or camera_size, rotate=self._rotate, max_boxes=self._max_boxes
        )


class AudioSensor(Sensor[Any]):
    """Sound in chunks, as messages of one of the types in `audio_types`; `type_name` says which."""

    name = "audio"
    topic = "audio"
    depth = held = 50

    def __init__(self, settings: Settings) -> None:
        """:raises KarmmaError: the type of message that is set is not installed."""
        super().__init__(settings)
        self._max_chunk_s = settings.audio_max_chunk
        self._wanted_type = settings.audio_type
        self._types = installed_types()
        self._pcm: PcmFormat | SampleError = SampleError("audio has no format yet", "nothing on audio_info")
        self._take_type(choose_type(self._wanted_type, AUDIO, (), self._types))

    def _take_type(self, name: str) -> None:
        self.type_name = name
        self.message_type = self._types[name]
        self.info_topic = "audio_info" if name == AUDIO_DATA_STAMPED else ""

    def follow(self, offered: Collection[str]) -> bool:
        """Takes the type of message that is published; whether it is another one than so far.

        :param offered: types that are published on the topic.
        """
        before = self.type_name
        self._take_type(choose_type(self._wanted_type, before, offered, self._types))
        return self.type_name != before

    def unheard(self, topic: str, offered: Collection[str]) -> str:
        """What to do about sound that is published on the topic in a type that is not heard, or ""."""
        return unheard(topic, self.type_name, offered, self._types)

    def inform(self, info: Any) -> None:
        """Takes an AudioInfo, which says what the bytes of messages are from now on."""
        try:
            self._pcm = info_to_format(info)
        except SampleError as error:
            self._pcm = SampleError(error.cause, error.detail)  # without its traceback, which holds the message

    def lagged(self, lag_s: float, message: Any) -> None:
        """The stamp is that of the first sample, and a chunk cannot come before its last."""
        pcm = self._pcm if isinstance(self._pcm, PcmFormat) else None
        super().lagged(lag_s - audio_seconds(message, pcm), message)

    def decode(self, message: Any) -> tuple[npt.NDArray[np.float32], int]:
        """((n, channels) float32, sample rate [Hz]).

        :raises SampleError: the message cannot be used.
        """
        pcm = self._pcm
        if self.info_topic and isinstance(pcm, SampleError):
            raise SampleError(pcm.cause, pcm.detail)  # anew: raised again and again, one would grow for ever
        return audio_to_chunk(message, max_seconds=self._max_chunk_s, pcm=pcm if isinstance(pcm, PcmFormat) else None)
