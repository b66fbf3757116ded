# SPDX-License-Identifier: Apache-2.0
"""The node's parameters: one table with default, range and description, and the typed settings that come out of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rclpy.node import Node

from karmma_ros.content import GateLimits
from karmma_ros.manifest import MODALITIES
from karmma_ros.nodes.camera_parameters import AT_CONFIGURE, CAMERA_PARAMETERS, STAMP_OFFSET, CameraSettings
from karmma_ros.nodes.declarations import Declaration, values

__all__ = ["PARAMETERS", "Settings"]

_GATES = GateLimits()

PARAMETERS: dict[str, Declaration] = {
    "bundle": Declaration("tabletop", "Bundle to run: a name or the path of its folder. " + AT_CONFIGURE),
    "autostart": Declaration(
        True, "Configure and activate at start; false leaves that to a lifecycle manager.", read_only=True
    ),
    "modalities": Declaration(
        ["video", "flow", "audio"],
        "Sensors in use; the others are DISABLED. Names the bundle lacks are ignored.",
        choices=MODALITIES,
        live=True,
    ),
    "rate": Declaration(0.0, "[Hz] predictions due per second; 0 follows the camera. " + AT_CONFIGURE, 0.0, 240.0),
    "max_rate": Declaration(
        0.0, "[Hz] no more predictions than this, on average; 0 is no limit.", 0.0, 240.0, live=True
    ),
    "top_k": Declaration(5, "Labels per list in a prediction.", 1, 1000, live=True),
    "min_score": Declaration(0.0, "A best label below this score is published as `unknown`.", 0.0, 1.0, live=True),
    "threads": Declaration(1, "Threads of one inference run. " + AT_CONFIGURE, 1, 64),
    "providers": Declaration(
        "auto",
        "Execution providers in order of preference, separated by commas: cpu, cuda, tensorrt; or auto. "
        + AT_CONFIGURE,
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
        16_777_216, "Flow fields with more pixels than this are refused. " + AT_CONFIGURE, 1, 268_435_456
    ),
    "audio.max_chunk": Declaration(10.0, "[s] longer chunks of sound are refused. " + AT_CONFIGURE, 0.01, 600.0),
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
    "flow.stamp_offset": Declaration(0.0, STAMP_OFFSET, -10.0, 10.0),
    "audio.stamp_offset": Declaration(0.0, STAMP_OFFSET, -10.0, 10.0),
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
    audio_max_chunk: float
    muted_enabled: bool
    muted_level: float
    muted_after: float
    garbage_enabled: bool
    garbage_roughness: float
    garbage_speed: float
    garbage_after: float
    flow_stamp_offset: float
    audio_stamp_offset: float

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
