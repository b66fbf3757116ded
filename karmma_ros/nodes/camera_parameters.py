# SPDX-License-Identifier: Apache-2.0
"""What every node that listens to a camera can be told about it, and so by the same names."""

from __future__ import annotations

from dataclasses import dataclass

from karmma_ros.content import GateLimits
from karmma_ros.decode import MAX_PIXELS
from karmma_ros.nodes.declarations import Declaration

__all__ = ["AT_CONFIGURE", "CAMERA_PARAMETERS", "IMAGE_PARAMETERS", "STAMP_OFFSET", "CameraSettings"]

_GATES = GateLimits()
AT_CONFIGURE = "Takes effect at the next configure."
STAMP_OFFSET = (
    "[s] added to the stamps of this sensor, for a driver that stamps late (negative) or early. " + AT_CONFIGURE
)

# How pictures come.
IMAGE_PARAMETERS: dict[str, Declaration] = {
    "image.transport": Declaration(
        "raw",
        "Topic of the camera: raw is `image` (Image), compressed is `image/compressed` (CompressedImage). "
        + AT_CONFIGURE,
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
        MAX_PIXELS, "Images with more pixels than this are refused. " + AT_CONFIGURE, 1, 268_435_456
    ),
}

# And whether they are believed.
CAMERA_PARAMETERS: dict[str, Declaration] = {
    **IMAGE_PARAMETERS,
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
    "gate_recovery": Declaration(
        _GATES.recovery_s, "[s] an OCCLUDED, FROZEN, MUTED or noisy sensor has to be well again.", 0.0, 60.0, live=True
    ),
    "future_tolerance": Declaration(
        0.5, "[s] a stamp may be ahead of the node's clock; samples beyond are refused.", 0.0, 3600.0, live=True
    ),
    "video.stamp_offset": Declaration(0.0, STAMP_OFFSET, -10.0, 10.0),
}


@dataclass(frozen=True, kw_only=True)
class CameraSettings:
    """The values of `CAMERA_PARAMETERS` at one moment."""

    modalities: tuple[str, ...] = ("video",)  # sensors in use
    image_transport: str
    image_rotate: int
    image_max_pixels: int
    stale_min_timeout: float
    stale_intervals: float
    stale_recovery: int
    corrupt_samples: int
    occluded_enabled: bool
    occluded_texture: float
    occluded_after: float
    frozen_enabled: bool
    frozen_after: float
    gate_recovery: float
    future_tolerance: float
    video_stamp_offset: float

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
            recovery_s=self.gate_recovery,
        )
