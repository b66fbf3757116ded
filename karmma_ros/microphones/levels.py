# SPDX-License-Identifier: Apache-2.0
"""How loud a recording is, in decibels relative to full scale (dBFS)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["SILENCE", "LevelMeter", "Levels"]


@dataclass(frozen=True)
class Levels:
    """Levels of the loudest channel. 0 dBFS is an amplitude of 1: a sine of full scale has a peak of 0 and an rms of
    -3.01. -inf is digital silence, or nothing at all."""

    rms_dbfs: float
    peak_dbfs: float


SILENCE = Levels(-math.inf, -math.inf)


class LevelMeter:
    """Measures since it was last read."""

    def __init__(self) -> None:
        self._power: npt.NDArray[np.float64] | None = None  # (channels,) sum of squares
        self._samples = 0
        self._peak = 0.0

    def add(self, samples: npt.NDArray[np.float32]) -> None:
        """:param samples: (n, channels) float32."""
        power = np.einsum("nc,nc->c", samples, samples, dtype=np.float64)
        if self._power is None or self._power.shape != power.shape:  # another device has another number of channels
            self._power, self._samples = np.zeros_like(power), 0
        self._power += power
        self._samples += len(samples)
        self._peak = max(self._peak, float(np.max(np.abs(samples), initial=0.0)))

    def read(self) -> Levels:
        """The levels since the last reading, and starts anew."""
        rms = math.sqrt(float(self._power.max()) / self._samples) if self._power is not None and self._samples else 0.0
        levels = Levels(_decibels(rms), _decibels(self._peak))
        self._power, self._samples, self._peak = None, 0, 0.0
        return levels


def _decibels(amplitude: float) -> float:
    return 20.0 * math.log10(amplitude) if amplitude > 0 else -math.inf
