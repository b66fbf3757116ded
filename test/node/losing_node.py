# SPDX-License-Identifier: Apache-2.0
"""The action node on a device that is lost: while the file LOST is there, no graph of fusion runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from karmma_ros.nodes.action_node import ActionNode, run
from karmma_ros.nodes.parameters import Settings
from karmma_ros.recognizer import Recognizer

LOST = "KARMMA_TEST_LOST"


class Losing:
    """A session of ONNX Runtime whose device comes and goes."""

    def __init__(self, session: Any) -> None:
        self._session, self._lost = session, Path(os.environ[LOST])

    def run(self, *given: Any) -> Any:
        if self._lost.exists():
            raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : the device is lost\nsecond line")
        return self._session.run(*given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class LosingNode(ActionNode):
    """An `ActionNode` on such a device."""

    def make_recognizer(self, settings: Settings) -> Recognizer:
        recognizer = Recognizer(settings.bundle)
        recognizer.engine._fusion = Losing(recognizer.engine._fusion)
        return recognizer


if __name__ == "__main__":
    sys.exit(run(LosingNode))
