# SPDX-License-Identifier: Apache-2.0
"""overlay_node's parameters."""

from __future__ import annotations

from karmma_ros.nodes.camera_parameters import IMAGE_PARAMETERS
from karmma_ros.nodes.declarations import Declaration

__all__ = ["PARAMETERS"]

PARAMETERS: dict[str, Declaration] = {
    **IMAGE_PARAMETERS,
    "wait": Declaration(
        0.3, "[s] a frame waits for its prediction; without one it is shown as it is.", 0.0, 10.0, live=True
    ),
}
