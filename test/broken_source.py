# SPDX-License-Identifier: Apache-2.0
"""A source that fails, for the demo's tests; in a module of its own, since it has to travel to another process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from karmma_ros.errors import MediaError
from karmma_ros.media import Frame


@dataclass(frozen=True)
class BrokenSource:
    """A source that fails at its third frame, or takes its whole process along."""

    dies: bool
    size: tuple[int, int] = (32, 32)
    rate: float = 30.0
    seconds: float = 1.0

    def frames(self) -> Iterator[Frame]:
        for index in range(2):
            yield Frame(index, np.zeros((32, 32, 3), np.uint8))
        if self.dies:
            os._exit(9)
        raise MediaError("the tape is torn")

    def sound(self) -> None:
        return None

    def truth(self, pairs: Sequence[tuple[str, str]]) -> None:
        return None
