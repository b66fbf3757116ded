# SPDX-License-Identifier: Apache-2.0
"""The action node on a machine that is too slow: every frame's extractor run takes 0.15 s longer."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy.typing as npt

from karmma_ros.nodes.action_node import ActionNode, run
from karmma_ros.nodes.parameters import Settings
from karmma_ros.recognizer import Recognizer

DELAY_S = 0.15


class SlowRecognizer(Recognizer):
    """Takes its time over frames, outside the GIL as a graph does."""

    def push(self, modality: str, stamp_ns: int, sample: npt.NDArray[Any], rate: int | None = None) -> int:
        if modality == "video":
            time.sleep(DELAY_S)
        return super().push(modality, stamp_ns, sample, rate)


class SlowNode(ActionNode):
    """An `ActionNode` with a slow recogniser."""

    def make_recognizer(self, settings: Settings) -> Recognizer:
        return SlowRecognizer(settings.bundle)


if __name__ == "__main__":
    sys.exit(run(SlowNode))
