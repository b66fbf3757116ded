# SPDX-License-Identifier: Apache-2.0
"""The camera's period, learned from arrivals."""

from __future__ import annotations

from collections import deque

__all__ = ["PeriodEstimator"]


class PeriodEstimator:
    """Lower quartile of the last 30 arrival intervals: lost frames lengthen some intervals and must not slow it down.

    30 Hz until five intervals are known. The result stays within 1/240 s and 2 s: frames that arrive in a clump
    must not make a timer spin, nor a camera that pauses silence it.
    """

    LEARN = 30  # intervals remembered
    KNOWN = 5  # intervals before the estimate is believed
    UNKNOWN_S = 1 / 30  # [s]
    SHORTEST_S = 1 / 240  # [s]
    LONGEST_S = 2.0  # [s]

    def __init__(self) -> None:
        self._intervals: deque[float] = deque(maxlen=self.LEARN)
        self._last_s: float | None = None

    def arrived(self, now_s: float) -> None:
        """A frame arrived at steady time `now_s`."""
        if self._last_s is not None and now_s > self._last_s:
            self._intervals.append(now_s - self._last_s)
        self._last_s = now_s

    @property
    def period_s(self) -> float:
        """[s] between two frames."""
        if len(self._intervals) < self.KNOWN:
            return self.UNKNOWN_S
        quartile = sorted(self._intervals)[len(self._intervals) // 4]
        return min(max(quartile, self.SHORTEST_S), self.LONGEST_S)

    def reset(self) -> None:
        """Forgets what was learned."""
        self._intervals.clear()
        self._last_s = None
