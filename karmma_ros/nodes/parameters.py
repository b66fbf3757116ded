# SPDX-License-Identifier: Apache-2.0
"""The node's parameters: one table with default, range and description, and the typed settings that come out of it."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.node import Node

from karmma_ros.content import GateLimits
from karmma_ros.manifest import MODALITIES
from karmma_ros.nodes.declarations import Declaration, values

__all__ = ["PARAMETERS", "Settings"]

_GATES = GateLimits()
_NEXT = "Takes effect at the next configure."
_OFFSET = "[s] added to the stamps of this sensor, for a driver that stamps late (negative) or early. " + _NEXT

PARAMETERS: dict[str, Declaration] = {
    "bundle": Declaration("tabletop", "Bundle to run: a name or the path of its folder. " + _NEXT),
    "autostart": Declaration(
        True, "Configure and activate at start; false leaves that to a lifecycle manager.", read_only=True
    ),
    "modalities": Declaration(
        ["video", "flow", "audio"],
        "Sensors in use; the others are DISABLED. Names the bundle lacks are ignored.",
        choices=MODALITIES,
        live=True,
    ),
    "rate": Declaration(0.0, "[Hz] predictions due per second; 0 follows the camera. " + _NEXT, 0.0, 240.0),
    "max_rate": Declaration(
        0.0, "[Hz] no more predictions than this, on average; 0 is no limit.", 0.0, 240.0, live=True
    ),
    "top_k": Declaration(5, "Labels per list in a prediction.", 1, 1000, live=True),
    "min_score": Declaration(0.0, "A best label below this score is published as `unknown`.", 0.0, 1.0, live=True),
    "threads": Declaration(1, "Threads of one inference run. " + _NEXT, 1, 64),
    "providers": Declaration(
        "auto",
        "Execution providers in order of preference, separated by commas: cpu, cuda, tensorrt; or auto. " + _NEXT,
    ),
    "image.transport": Declaration(
        "raw",
        "Topic of the camera: raw is `image` (Image), compressed is `image/compressed` (CompressedImage). " + _NEXT,
        choices=("raw", "compressed"),
    ),
    "image.rotate": Declaration(
        0,
        "[degrees] clockwise turn that makes the camera's image upright: 0, 90, 180 or 270.",
        0,
        270,
        step=90,
        live=True,
    ),
    "image.max_pixels": Declaration(
        16_777_216, "Images with more pixels than this are refused. " + _NEXT, 1, 268_435_456
    ),
    "flow.unit": Declaration(
        "pixels_per_second",
        "Unit of the flow topic; pixels_per_frame takes the interval from consecutive stamps. " + _NEXT,
        choices=("pixels_per_second", "pixels_per_frame"),
    ),
    "flow.source": Declaration(
        "camera",
        "Where the flow comes from; camera: it is not used across times when the camera was not OK. " + _NEXT,
        choices=("camera", "independent"),
    ),
    "flow.max_pixels": Declaration(
        16_777_216, "Flow fields with more pixels than this are refused. " + _NEXT, 1, 268_435_456
    ),
    "audio.max_chunk": Declaration(10.0, "[s] longer chunks of sound are refused. " + _NEXT, 0.01, 600.0),
    "stale.min_timeout": Declaration(
        0.1, "[s] a sensor may be silent before it is STALE, at least.", 0.01, 60.0, live=True
    ),
    "stale.intervals": Declaration(
        3.0, "Usual intervals of a sensor that it may be silent before it is STALE.", 1.0, 100.0, live=True
    ),
    "stale.recovery": Declaration(
        3, "Samples in a row that make a STALE or CORRUPT sensor OK again.", 1, 1000, live=True
    ),
    "corrupt.samples": Declaration(3, "Unusable samples in a row that make a sensor CORRUPT.", 1, 1000, live=True),
    "occluded.enabled": Declaration(True, "Judge whether the camera is covered or sees nothing but black.", live=True),
    "occluded.texture": Declaration(
        _GATES.occluded_texture, "Structure of the picture below which the camera is OCCLUDED.", 0.0, 1.0, live=True
    ),
    "occluded.after": Declaration(_GATES.occluded_after_s, "[s] that has to last.", 0.0, 60.0, live=True),
    "frozen.enabled": Declaration(
        True, "Judge whether camera or flow send exactly the same again and again.", live=True
    ),
    "frozen.after": Declaration(_GATES.frozen_after_s, "[s] that has to last.", 0.0, 3600.0, live=True),
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
    "gate_recovery": Declaration(
        _GATES.recovery_s, "[s] an OCCLUDED, FROZEN, MUTED or noisy sensor has to be well again.", 0.0, 60.0, live=True
    ),
    "future_tolerance": Declaration(
        0.5, "[s] a stamp may be ahead of the node's clock; samples beyond are refused.", 0.0, 3600.0, live=True
    ),
    **{f"{modality}.stamp_offset": Declaration(0.0, _OFFSET, -10.0, 10.0) for modality in MODALITIES},
}


@dataclass(frozen=True)
class Settings:
    """The parameters' values at one moment."""

    bundle: str
    autostart: bool
    modalities: tuple[str, ...]
    rate: float
    max_rate: float
    top_k: int
    min_score: float
    threads: int
    providers: str
    image_transport: str
    image_rotate: int
    image_max_pixels: int
    flow_unit: str
    flow_source: str
    flow_max_pixels: int
    audio_max_chunk: float
    stale_min_timeout: float
    stale_intervals: float
    stale_recovery: int
    corrupt_samples: int
    occluded_enabled: bool
    occluded_texture: float
    occluded_after: float
    frozen_enabled: bool
    frozen_after: float
    muted_enabled: bool
    muted_level: float
    muted_after: float
    garbage_enabled: bool
    garbage_roughness: float
    garbage_speed: float
    garbage_after: float
    gate_recovery: float
    future_tolerance: float
    video_stamp_offset: float
    flow_stamp_offset: float
    audio_stamp_offset: float

    @classmethod
    def of(cls, node: Node) -> Settings:
        """Reads them from a node that has declared them."""
        return cls(**values(node, PARAMETERS))

    def stamp_offset(self, modality: str) -> float:
        """[s] to add to a sensor's stamps."""
        return getattr(self, f"{modality}_stamp_offset")

    def gate_limits(self) -> GateLimits:
        """What the content of samples is judged by."""
        return GateLimits(
            occluded=self.occluded_enabled,
            occluded_texture=self.occluded_texture,
            occluded_after_s=self.occluded_after,
            frozen=self.frozen_enabled,
            frozen_after_s=self.frozen_after,
            muted=self.muted_enabled,
            muted_level=self.muted_level,
            muted_after_s=self.muted_after,
            garbage=self.garbage_enabled,
            garbage_roughness=self.garbage_roughness,
            garbage_speed=self.garbage_speed,
            garbage_after_s=self.garbage_after,
            recovery_s=self.gate_recovery,
        )
