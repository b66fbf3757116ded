# SPDX-License-Identifier: Apache-2.0
"""The node's parameters: one table with default, range and description, and the typed settings that come out of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rclpy.node import Node

from karmma_ros.content import GateLimits
from karmma_ros.decode import MAX_PIXELS
from karmma_ros.decode_detections import MAX_BOXES
from karmma_ros.events import EventSettings
from karmma_ros.manifest import MODALITIES
from karmma_ros.nodes.audio_types import AUTO, TYPES
from karmma_ros.nodes.camera_parameters import AT_CONFIGURE, CAMERA_PARAMETERS, STAMP_OFFSET, CameraSettings
from karmma_ros.nodes.declarations import Declaration, values

__all__ = ["PARAMETERS", "Settings"]

_GATES = GateLimits()
_EVENTS = EventSettings()

PARAMETERS: dict[str, Declaration] = {
    "bundle": Declaration("tabletop", "Bundle to run: a name or the path of its folder. " + AT_CONFIGURE),
    "autostart": Declaration(
        True, "Configure and activate at start; false leaves that to a lifecycle manager.", read_only=True
    ),
    "modalities": Declaration(
        list(MODALITIES),
        "Sensors in use; the others are DISABLED. Names the bundle lacks are ignored.",
        choices=MODALITIES,
        live=True,
    ),
    "rate": Declaration(
        0.0,
        "[Hz] predictions due per second; 0 follows the camera. Frames that come faster trigger all the same: "
        "`max_rate` limits. " + AT_CONFIGURE,
        0.0,
        240.0,
    ),
    "max_rate": Declaration(
        0.0, "[Hz] no more predictions than this, on average; 0 is no limit.", 0.0, 240.0, live=True
    ),
    "top_k": Declaration(5, "Labels per list in a prediction.", 1, 1000, live=True),
    "min_score": Declaration(0.0, "A best label below this score is published as `unknown`.", 0.0, 1.0, live=True),
    "threads": Declaration(1, "Threads of one inference run. " + AT_CONFIGURE, 1, 64),
    "providers": Declaration(
        "auto",
        "Execution providers in order of preference, separated by commas (cpu, cuda, tensorrt), which must all work; "
        "or auto: the best that gives what the manifest expects (tensorrt if its engines are built), but the CPU for a "
        "bundle with graphs in INT8. " + AT_CONFIGURE,
    ),
    **CAMERA_PARAMETERS,
    "flow.compute": Declaration(
        False,
        "Compute flow in this node, from the camera's frames as the bundle says, and hear no topic. " + AT_CONFIGURE,
    ),
    "flow.unit": Declaration(
        "pixels_per_second",
        "Unit of the flow topic; pixels_per_frame takes the interval from consecutive stamps. " + AT_CONFIGURE,
        choices=("pixels_per_second", "pixels_per_frame"),
    ),
    "flow.source": Declaration(
        "camera",
        "Where the flow comes from; camera: it is not used across times when the camera was not OK. " + AT_CONFIGURE,
        choices=("camera", "independent"),
    ),
    "flow.max_pixels": Declaration(
        MAX_PIXELS, "Flow fields with more pixels than this are refused. " + AT_CONFIGURE, 1, 268_435_456
    ),
    "audio.type": Declaration(
        AUTO,
        "Type of message on the audio topic; auto hears whichever of them is published. " + AT_CONFIGURE,
        choices=(AUTO, *TYPES),
    ),
    "audio.max_chunk": Declaration(
        10.0,
        "[s] longer chunks of sound are refused, and any of more than 4194304 samples over all channels. "
        + AT_CONFIGURE,
        0.01,
        600.0,
    ),
    "detections.image_width": Declaration(
        0,
        "[pixels] width of the images that detections are boxes in, before image.rotate; 0: the camera's. "
        + AT_CONFIGURE,
        0,
        65_535,
    ),
    "detections.image_height": Declaration(0, "[pixels] the same; set both or none. " + AT_CONFIGURE, 0, 65_535),
    "detections.max_boxes": Declaration(
        MAX_BOXES, "Messages with more detections than this are refused. " + AT_CONFIGURE, 1, 100_000
    ),
    "muted.enabled": Declaration(True, "Judge whether the microphone sends silence.", live=True),
    "muted.level": Declaration(
        _GATES.muted_level,
        "Half of peak to peak, of full scale 1, below which the microphone is MUTED.",
        0.0,
        1.0,
        live=True,
    ),
    "muted.after": Declaration(_GATES.muted_after_s, "[s] that has to last.", 0.0, 3600.0, live=True),
    "garbage.enabled": Declaration(True, "Judge whether a flow field is noise.", live=True),
    "garbage.roughness": Declaration(
        _GATES.garbage_roughness,
        "Mean step between neighbours over mean speed, above which flow is CORRUPT; independent noise has 1.4.",
        0.0,
        10.0,
        live=True,
    ),
    "garbage.speed": Declaration(
        _GATES.garbage_speed, "[image widths/s] mean speed above which flow is CORRUPT.", 0.0, 1e6, live=True
    ),
    "garbage.after": Declaration(_GATES.garbage_after_s, "[s] that has to last.", 0.0, 60.0, live=True),
    "events.smoothing": Declaration(
        _EVENTS.smoothing_s,
        "[s] time constant of the average over predictions that events go by.",
        0.0,
        60.0,
        live=True,
    ),
    "events.start_score": Declaration(
        _EVENTS.start_score, "Average score from which on an action may start.", 0.0, 1.0, live=True
    ),
    "events.end_score": Declaration(
        _EVENTS.end_score, "Average score below which an action ends.", 0.0, 1.0, live=True
    ),
    "events.min_duration": Declaration(
        _EVENTS.min_duration_s, "[s] an action that has not lasted this long has not started.", 0.0, 600.0, live=True
    ),
    "events.gap": Declaration(
        _EVENTS.gap_s,
        "[s] without a prediction, and 2.5 usual steps between two, after which an action has ended with the last.",
        0.0,
        600.0,
        live=True,
    ),
    "events.idle": Declaration(
        list(_EVENTS.idle), "Actions, or verbs, that are no action: they neither start nor end.", live=True
    ),
    "flow.stamp_offset": Declaration(0.0, STAMP_OFFSET, -10.0, 10.0),
    "audio.stamp_offset": Declaration(0.0, STAMP_OFFSET, -10.0, 10.0),
    "detections.stamp_offset": Declaration(0.0, STAMP_OFFSET, -10.0, 10.0),
}


@dataclass(frozen=True, kw_only=True)
class Settings(CameraSettings):
    """The parameters' values at one moment."""

    bundle: str
    autostart: bool
    rate: float
    max_rate: float
    top_k: int
    min_score: float
    threads: int
    providers: str
    flow_compute: bool
    flow_unit: str
    flow_source: str
    flow_max_pixels: int
    audio_type: str
    audio_max_chunk: float
    detections_image_width: int
    detections_image_height: int
    detections_max_boxes: int
    muted_enabled: bool
    muted_level: float
    muted_after: float
    garbage_enabled: bool
    garbage_roughness: float
    garbage_speed: float
    garbage_after: float
    events_smoothing: float
    events_start_score: float
    events_end_score: float
    events_min_duration: float
    events_gap: float
    events_idle: tuple[str, ...]
    flow_stamp_offset: float
    audio_stamp_offset: float
    detections_stamp_offset: float

    @classmethod
    def of(cls, node: Node) -> Settings:
        """Reads them from a node that has declared them."""
        return cls(**values(node, PARAMETERS))

    def gate_limits(self) -> GateLimits:
        """What the content of samples is judged by."""
        return replace(
            super().gate_limits(),
            muted=self.muted_enabled,
            muted_level=self.muted_level,
            muted_after_s=self.muted_after,
            garbage=self.garbage_enabled,
            garbage_roughness=self.garbage_roughness,
            garbage_speed=self.garbage_speed,
            garbage_after_s=self.garbage_after,
        )

    def event_settings(self) -> EventSettings:
        """When predictions become events."""
        return EventSettings(
            smoothing_s=self.events_smoothing,
            start_score=self.events_start_score,
            end_score=self.events_end_score,
            min_duration_s=self.events_min_duration,
            gap_s=self.events_gap,
            idle=self.events_idle,
        )
