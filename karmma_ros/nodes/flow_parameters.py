# SPDX-License-Identifier: Apache-2.0
"""flow_node's parameters, and the typed settings that come out of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rclpy.node import Node

from karmma_ros.bundle import load_bundle
from karmma_ros.errors import UsageError
from karmma_ros.flow import FlowProducer
from karmma_ros.nodes.camera_parameters import AT_CONFIGURE, CAMERA_PARAMETERS, CameraSettings
from karmma_ros.nodes.declarations import Declaration, values

__all__ = ["PARAMETERS", "Settings"]

_LEAST = 16  # pixels a side that the algorithm needs
_OF_BUNDLE = "bundle"

PARAMETERS: dict[str, Declaration] = {
    "bundle": Declaration(
        "tabletop",
        "Bundle that the flow is for, by name or path: it says at what size and how flow is computed. " + AT_CONFIGURE,
    ),
    "autostart": Declaration(
        True, "Configure and activate at start; false leaves that to a lifecycle manager.", read_only=True
    ),
    "width": Declaration(
        0, "[pixels] size at which flow is computed and published; 0: the bundle's. " + AT_CONFIGURE, 0, 4096
    ),
    "height": Declaration(0, "[pixels] the same; set both or none. " + AT_CONFIGURE, 0, 4096),
    "preset": Declaration(
        _OF_BUNDLE,
        "Speed against accuracy of DIS; bundle: the bundle's. " + AT_CONFIGURE,
        choices=(_OF_BUNDLE, "ultrafast", "fast", "medium"),
    ),
    **CAMERA_PARAMETERS,
    "video.stamp_offset": replace(
        CAMERA_PARAMETERS["video.stamp_offset"],
        description="[s] added to the stamps of this sensor where they are compared with the clock. Fields go out with "
        "their frames' own stamps: give flow.stamp_offset of action_node the same value. " + AT_CONFIGURE,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Settings(CameraSettings):
    """The parameters' values at one moment."""

    bundle: str
    autostart: bool
    width: int
    height: int
    preset: str

    @classmethod
    def of(cls, node: Node) -> Settings:
        """Reads them from a node that has declared them."""
        return cls(**values(node, PARAMETERS))

    def make_producer(self) -> FlowProducer:
        """What computes the flow. The bundle is read only where it is asked.

        :raises UsageError: a size that cannot be, or the bundle is asked and knows nothing of flow.
        :raises BundleError: the bundle is asked and cannot be used.
        """
        size = (self.width, self.height)
        if size != (0, 0) and min(size) < _LEAST:
            raise UsageError(
                f"width {self.width} and height {self.height}: set both to at least {_LEAST}, or both to 0"
            )
        if size != (0, 0) and self.preset != _OF_BUNDLE:
            return FlowProducer(size, self.preset)
        flow = load_bundle(self.bundle).modalities.get("flow")
        if flow is None or flow.producer is None:
            raise UsageError(f"bundle {self.bundle} uses no flow: name another, or set width, height and preset")
        return FlowProducer(
            flow.producer.size if size == (0, 0) else size,
            flow.producer.preset if self.preset == _OF_BUNDLE else self.preset,
        )
