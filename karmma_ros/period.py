# SPDX-License-Identifier: Apache-2.0
"""The camera's period, learned from arrivals: how often a prediction is due, camera or no camera."""

from __future__ import annotations

from collections import deque

__all__ = ["PeriodEstimator"]


class PeriodEstimator:
    """Lower quartile of the last 30 arrival intervals: lost frames lengthen some intervals and must not slow it down.

    30 Hz until five intervals are known. The result stays within 1/`max_rate_hz` and 2 s: frames that arrive in a clump
    must not make a timer spin, nor a camera that pauses silence it.
    """

    LEARN = 30  # intervals remembered
    KNOWN = 5  # intervals before the estimate is believed
    UNKNOWN_S = 1 / 30  # [s]
    LONGEST_S = 2.0  # [s]

    def __init__(self, rate_hz: float = 0.0, *, max_rate_hz: float = 240.0) -> None:
        """:param rate_hz: fixes the period to 1 / rate_hz; 0 follows the camera."""
        if rate_hz < 0 or max_rate_hz <= 0:
            raise ValueError("rate_hz must be at least 0 and max_rate_hz positive")
        self.rate_hz = rate_hz
        self.max_rate_hz = max_rate_hz
        self._intervals: deque[float] = deque(maxlen=self.LEARN)
        self._last_s: float | None = None

    def arrived(self, now_s: float) -> None:
        """A frame arrived at steady time `now_s`."""
        if self._last_s is not None and now_s > self._last_s:
            self._intervals.append(now_s - self._last_s)
        self._last_s = now_s

    @property
    def period_s(self) -> float:
        """[s] between two predictions."""
        if self.rate_hz > 0:
            return 1 / self.rate_hz
        if len(self._intervals) < self.KNOWN:
            return self.UNKNOWN_S
        quartile = sorted(self._intervals)[len(self._intervals) // 4]
        return min(max(quartile, 1 / self.max_rate_hz), self.LONGEST_S)

    def reset(self) -> None:
        """Forgets what was learned; an override stays."""
        self._intervals.clear()
        self._last_s = None
