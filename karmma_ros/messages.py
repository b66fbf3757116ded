# SPDX-License-Identifier: Apache-2.0
"""Between ROS messages and the core: samples in (see `decode`, found here too), predictions, labels and images out."""

import array
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image

from karmma_ros.decode import audio_to_chunk, compressed_to_rgb, flow_to_field, image_to_rgb, scale_flow
from karmma_ros.decode_detections import detections_to_boxes
from karmma_ros.errors import KarmmaError
from karmma_ros.events import Event
from karmma_ros.health import SensorStatus
from karmma_ros.manifest import Manifest
from karmma_ros.recognizer import Prediction, ScoredLabel

try:
    from karmma_msgs.msg import ActionEvent, ActionPrediction, Labels, ModalityStatus
    from karmma_msgs.msg import ScoredLabel as ScoredLabelMsg
except ImportError as error:
    raise ImportError(
        f"karmma_msgs cannot be imported ({error}): colcon does not find it by itself inside this package; build with "
        "`--base-paths src src/karmma_ros/karmma_msgs` and source install/setup.bash"
    ) from error

__all__ = [
    "PredictionRecord",
    "audio_to_chunk",
    "compressed_to_rgb",
    "detections_to_boxes",
    "event_to_msg",
    "flow_to_field",
    "flow_to_msg",
    "image_to_msg",
    "image_to_rgb",
    "labels_to_msg",
    "prediction_to_msg",
    "scale_flow",
    "stamp_to_msg",
    "stamp_to_ns",
    "status_to_msg",
]

_SECOND_NS = 1_000_000_000
_MAX_UINT32 = 2**32 - 1


class PredictionRecord(Protocol):
    """All that an ActionPrediction tells, beside the bundle's name."""

    @property
    def prediction(self) -> Prediction: ...
    @property
    def trigger(self) -> int:
        """ActionPrediction.CAMERA or TIMER."""

    @property
    def stamp_ns(self) -> int:
        """For the header."""

    @property
    def frame_id(self) -> str:
        """For the header."""

    @property
    def statuses(self) -> Mapping[str, SensorStatus]:
        """One for each modality, in the bundle's order."""

    @property
    def latency_s(self) -> float: ...
    @property
    def processing_s(self) -> float: ...


def stamp_to_ns(stamp: Time) -> int:
    """A builtin_interfaces/Time as nanoseconds since the epoch."""
    return int(stamp.sec) * _SECOND_NS + int(stamp.nanosec)


def stamp_to_msg(stamp_ns: int) -> Time:
    """Nanoseconds since the epoch as a builtin_interfaces/Time.

    :raises KarmmaError: it does not fit (before 1902 or after 2038).
    """
    seconds, nanoseconds = divmod(stamp_ns, _SECOND_NS)
    if not -(2**31) <= seconds < 2**31:
        raise KarmmaError(f"a stamp of {stamp_ns} ns does not fit a ROS message")
    return Time(sec=seconds, nanosec=nanoseconds)


def prediction_to_msg(record: PredictionRecord, bundle: str) -> ActionPrediction:
    """An ActionPrediction.

    :param bundle: name of the bundle that made the prediction.
    """
    prediction = record.prediction
    message = ActionPrediction(
        status=int(prediction.status),
        trigger=int(record.trigger),
        actions=_labels(prediction.actions),
        verbs=_labels(prediction.verbs),
        nouns=_labels(prediction.nouns),
        modalities=[
            status_to_msg(name, status, prediction.coverages.get(name, 0.0)) for name, status in record.statuses.items()
        ],
        latency=float(record.latency_s),
        processing_time=float(record.processing_s),
        coverage=float(prediction.coverage),
        bundle=bundle,
    )
    message.header.stamp = stamp_to_msg(record.stamp_ns)
    message.header.frame_id = record.frame_id
    return message


def status_to_msg(name: str, status: SensorStatus, coverage: float) -> ModalityStatus:
    """A ModalityStatus.

    :param coverage: present slots / slots of the modality.
    """
    return ModalityStatus(
        name=name,
        state=int(status.state),
        age=float(status.age_s) if status.age_s < float("inf") else -1.0,
        rate=float(status.rate_hz),
        coverage=float(coverage),
        received=min(status.received, _MAX_UINT32),
        skipped=min(status.skipped, _MAX_UINT32),
        rejected=min(status.rejected, _MAX_UINT32),
    )


def event_to_msg(event: Event, manifest: Manifest, frame_id: str) -> ActionEvent:
    """An ActionEvent. Verb and noun score what all actions with them score together.

    With a single `action` head there are no verbs and nouns: theirs are -1 and empty.
    """
    action = ScoredLabel(event.action, manifest.action_names[event.action], float(event.scores[event.action]))
    parts = [ScoredLabel(-1, "", 0.0)] * 2
    if manifest.actions:
        pairs = np.asarray(manifest.actions)  # (A, 2)
        for part, head in enumerate(("verb", "noun")):
            label = int(pairs[event.action, part])
            score = float(event.scores[pairs[:, part] == label].sum())
            parts[part] = ScoredLabel(label, manifest.heads[head][label], score)
    verb, noun = parts
    message = ActionEvent(
        type=int(event.type),
        event_id=event.event_id,
        action=_label(action),
        verb=_label(verb),
        noun=_label(noun),
        start=stamp_to_msg(event.start_ns),
        end=stamp_to_msg(event.end_ns),
    )
    message.header.stamp = stamp_to_msg(event.decided_ns)
    message.header.frame_id = frame_id
    return message


def labels_to_msg(manifest: Manifest) -> Labels:
    """The Labels of a bundle. With a single `action` head there are no verbs and nouns, and every pair is (-1, -1)."""
    actions = list(manifest.action_names)
    pairs = manifest.actions if manifest.actions else ((-1, -1),) * len(actions)
    return Labels(
        bundle=manifest.name,
        verbs=list(manifest.heads.get("verb", ())),
        nouns=list(manifest.heads.get("noun", ())),
        actions=actions,
        action_verb=[verb for verb, _ in pairs],
        action_noun=[noun for _, noun in pairs],
    )


def image_to_msg(stamp_ns: int, frame_id: str, pixels: npt.NDArray[Any]) -> Image:
    """An Image of uint8 RGB (H, W, 3), as rgb8, or of float32 (H, W, 2), as 32FC2.

    :raises KarmmaError: the stamp does not fit.
    """
    height, width, channels = pixels.shape
    encoding = {(3, np.dtype(np.uint8)): "rgb8", (2, np.dtype(np.float32)): "32FC2"}[channels, pixels.dtype]
    message = Image(height=height, width=width, encoding=encoding, step=width * channels * pixels.itemsize)
    message.header.stamp = stamp_to_msg(stamp_ns)
    message.header.frame_id = frame_id
    data = array.array("B")  # what rclpy takes without looking at every byte
    data.frombytes(np.ascontiguousarray(pixels).view(np.uint8).data.cast("B"))
    message.data = data
    return message


def flow_to_msg(stamp_ns: int, frame_id: str, field: npt.NDArray[np.float32]) -> Image:
    """A flow field (h, w, 2) in image widths per second as 32FC2, in pixels per second of the published field.

    Both components are in units of its width, as `scale_flow` has them: where the field squashes the image, y is not in
    rows but in steps as long as those of x.
    """
    return image_to_msg(stamp_ns, frame_id, field * np.float32(field.shape[1]))


def _labels(labels: Iterable[ScoredLabel]) -> list[ScoredLabelMsg]:
    return [_label(label) for label in labels]


def _label(label: ScoredLabel) -> ScoredLabelMsg:
    return ScoredLabelMsg(id=int(label.id), name=label.name, score=float(label.score))
