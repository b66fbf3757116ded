# SPDX-License-Identifier: Apache-2.0
"""Bad input and failures: counted always, logged once per cause and period, with the remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from karmma_ros.errors import SampleError

__all__ = ["FaultLog"]


class FaultLog:
    """Counts faults by cause and says each one now and then.

    A sensor that is set up wrongly fails thirty times a second; one line each ten seconds is read, the flood is not.
    """

    PERIOD_S = 10.0  # [s] between two lines about the same cause

    def __init__(self, say: Callable[[str], None]) -> None:
        """:param say: logs one line."""
        self._say = say
        self._said_s: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()  # "sensor: cause" -> how often

    def report(self, where: str, error: Exception, now_s: float) -> None:
        """Counts a fault; `where` is the sensor or stage it happened in."""
        cause = error.cause if isinstance(error, SampleError) else type(error).__name__
        key = f"{where}: {cause}"
        self.counts[key] += 1
        self._unsaid[key] += 1
        said_s = self._said_s.get(key)
        if said_s is not None and now_s - said_s < self.PERIOD_S:
            return
        self._said_s[key] = now_s
        times = self._unsaid.pop(key)
        self._say(f"{where}: {' '.join(str(error).split())}" + (f" ({times} times)" if times > 1 else ""))
