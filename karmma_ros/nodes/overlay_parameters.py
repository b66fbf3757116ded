# SPDX-License-Identifier: Apache-2.0
"""overlay_node's parameters."""

from __future__ import annotations

from dataclasses import replace

from karmma_ros.nodes.camera_parameters import AT_CONFIGURE, IMAGE_PARAMETERS
from karmma_ros.nodes.declarations import Declaration

__all__ = ["PARAMETERS"]


def _of_no_life_cycle(declaration: Declaration) -> Declaration:
    """A parameter that other nodes read when they are configured, which this one never is."""
    return replace(declaration, description=declaration.description.removesuffix(AT_CONFIGURE).rstrip())


PARAMETERS: dict[str, Declaration] = {
    "image.transport": replace(_of_no_life_cycle(IMAGE_PARAMETERS["image.transport"]), read_only=True),
    "image.rotate": IMAGE_PARAMETERS["image.rotate"],
    "image.max_pixels": replace(_of_no_life_cycle(IMAGE_PARAMETERS["image.max_pixels"]), live=True),
    "wait": Declaration(
        0.3, "[s] a frame waits for its prediction; without one it is shown as it is.", 0.0, 10.0, live=True
    ),
}
