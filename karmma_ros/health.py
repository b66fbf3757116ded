# SPDX-License-Identifier: Apache-2.0
"""How each sensor is doing, judged by when its samples arrive (not by their stamps, which only align).

A sensor is live while samples keep coming: the timeout follows the intervals the sensor has shown, so that a slow
sensor is not called dead between two samples, nor a fast one thought alive for long. All times are steady seconds.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import IntEnum

__all__ = ["SensorHealth", "SensorState", "SensorStatus"]


class SensorState(IntEnum):
    """The values of ModalityStatus.msg."""

    WAITING = 0  # nothing has arrived yet
    OK = 1  # samples arrive and are usable
    STALE = 2  # samples have stopped arriving
    OCCLUDED = 3  # the camera is covered or black
    FROZEN = 4  # the same content over and over
    MUTED = 5  # the microphone gives silence
    CORRUPT = 6  # samples arrive but cannot be used
    DISABLED = 7  # switched off by the user


@dataclass(frozen=True)
class SensorStatus:
    """A sensor at one moment."""

    state: SensorState
    age_s: float  # [s] since the last usable sample arrived; infinite before the first
    rate_hz: float  # [1/s] usable samples, over the last intervals; 0 while unknown or stale
    received: int  # usable samples
    skipped: int  # usable samples that were not encoded because newer ones were there
    rejected: int  # samples that could not be used
    last_cause: str  # why the last sample was rejected or not believed; empty if none was
    repeats: bool = False  # whether samples keep coming that have the stamp of the one before


class SensorHealth:
    """One sensor's state and counters.

    - WAITING turns OK with the first usable sample.
    - A gap between arrivals longer than the timeout turns it STALE; `recovery_samples` usable samples in a row, each
      within the timeout of the one before, turn it OK again. A sensor that has become slower than its timeout therefore
      stays STALE until the new interval is learned, instead of flapping.
    - `corrupt_after` unusable samples in a row turn it CORRUPT; `recovery_samples` usable ones in a row end that.
    - Unusable samples count as arrivals: a sensor that sends rubbish is CORRUPT, not STALE. Samples with the stamp of
      the one before do not: they bring nothing new.
    - What is in usable samples is judged elsewhere (content.py): while they come, that verdict is the state.

    The timeout is max(`min_timeout_s`, `timeout_intervals` x learned interval), and `initial_timeout_s` until three
    intervals are known. The learned interval is the 90th percentile of the last 30: with a steady sensor it is the
    interval, with a lossy one (half of the frames lost at random) it covers the usual gaps, where the median would call
    the sensor dead every few seconds; one or two outages do not stretch it. Samples within 5 ms are
    one arrival: an audio driver may deliver eight chunks at once, and then nothing for as long as they last.
    """

    LEARN = 30  # intervals remembered
    QUANTILE = 0.9
    CLUMP_S = 0.005  # [s]

    def __init__(
        self,
        *,
        min_timeout_s: float = 0.1,
        timeout_intervals: float = 3.0,
        initial_timeout_s: float = 3.0,
        recovery_samples: int = 3,
        corrupt_after: int = 3,
        enabled: bool = True,
    ) -> None:
        if min_timeout_s <= 0 or timeout_intervals <= 0 or initial_timeout_s <= 0:
            raise ValueError("timeouts must be positive")
        if recovery_samples < 1 or corrupt_after < 1:
            raise ValueError("recovery_samples and corrupt_after must be at least 1")
        self.min_timeout_s = min_timeout_s
        self.timeout_intervals = timeout_intervals
        self.initial_timeout_s = initial_timeout_s
        self.recovery_samples = recovery_samples
        self.corrupt_after = corrupt_after
        self._enabled = enabled
        self._received = self._skipped = self._rejected = 0
        self._last_cause = ""
        self._intervals: deque[float] = deque(maxlen=self.LEARN)  # between arrivals of any kind, clumps counted once
        self._good_s: deque[float] = deque(maxlen=self.LEARN + 1)  # times of usable samples
        self._forget()

    def _forget(self) -> None:
        self._state = SensorState.WAITING
        self._content = SensorState.OK
        self._repeated_s: float | None = None
        self._last_arrival_s: float | None = None
        self._clump_s: float | None = None  # first arrival of the present clump
        self._good_streak = self._bad_streak = 0
        self._intervals.clear()
        self._good_s.clear()

    @property
    def enabled(self) -> bool:
        """False while the user has switched the sensor off."""
        return self._enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        if value != self._enabled:
            self._enabled = value
            self._forget()  # what was learned before says nothing about a sensor that was off in between

    @property
    def timeout_s(self) -> float:
        """[s] after an arrival when the sensor becomes STALE."""
        if len(self._intervals) < 3:
            return max(self.min_timeout_s, self.initial_timeout_s)
        ordered = sorted(self._intervals)
        learned = ordered[int(self.QUANTILE * (len(ordered) - 1))]
        return max(self.min_timeout_s, self.timeout_intervals * learned)

    def received(self, now_s: float, content: SensorState = SensorState.OK) -> SensorState:
        """A usable sample arrived; returns the state with it. While disabled nothing is counted.

        :param content: what its content makes of the sensor: OK, OCCLUDED, FROZEN, MUTED or CORRUPT.
        """
        if not self._enabled:
            return SensorState.DISABLED
        self._arrive(now_s)
        self._received += 1
        if self._state is SensorState.STALE and not self._good_streak:
            self._good_s.clear()  # the outage is no part of the rate
        self._good_s.append(now_s)
        self._good_streak += 1
        self._bad_streak = 0
        self._content = content
        if content is SensorState.CORRUPT:
            self._last_cause = "content is noise"
        if self._state is SensorState.WAITING or self._good_streak >= self.recovery_samples:
            self._state = SensorState.OK
        return self._judged()

    def rejected(self, now_s: float, cause: str) -> SensorState:
        """An unusable sample arrived; returns the state with it. While disabled nothing is counted."""
        if not self._enabled:
            return SensorState.DISABLED
        self._arrive(now_s)
        self._rejected += 1
        self._last_cause = cause
        self._bad_streak += 1
        self._good_streak = 0
        if self._bad_streak >= self.corrupt_after:
            self._state = SensorState.CORRUPT
        return self._state

    def repeated(self, now_s: float) -> SensorState:
        """A sample arrived with the stamp of the one before; returns the state with it.

        A driver that hangs may send its last sample again and again: that is no sign of life.
        """
        if not self._enabled:
            return SensorState.DISABLED
        self._received += 1
        self._repeated_s = now_s
        self._last_cause = "the same stamp again"
        return self.state(now_s)

    def passed_over(self, now_s: float) -> None:
        """A sample arrived that nobody looked at, for a newer one was there: the sensor lives, that is all it says."""
        if not self._enabled:
            return
        self._arrive(now_s)
        self._received += 1
        self._skipped += 1
        if self._judged() is SensorState.OK:
            self._good_s.append(now_s)

    def skipped(self, count: int = 1) -> None:
        """`count` usable samples were passed over for newer ones."""
        self._skipped += count

    def _arrive(self, now_s: float) -> None:
        self._expire(now_s)
        if self._clump_s is None:
            self._clump_s = now_s
        elif now_s - self._clump_s >= self.CLUMP_S:
            self._intervals.append(now_s - self._clump_s)
            self._clump_s = now_s
        self._last_arrival_s = now_s

    def _expire(self, now_s: float) -> None:
        if self._last_arrival_s is None or now_s - self._last_arrival_s <= self.timeout_s:
            return
        self._good_streak = self._bad_streak = 0
        if self._state is not SensorState.WAITING:
            self._state = SensorState.STALE

    def state(self, now_s: float) -> SensorState:
        """The state at `now_s`."""
        if not self._enabled:
            return SensorState.DISABLED
        self._expire(now_s)
        return self._judged()

    def _judged(self) -> SensorState:
        return self._content if self._state is SensorState.OK else self._state

    def status(self, now_s: float) -> SensorStatus:
        """State, age, rate and counters at `now_s`."""
        state = self.state(now_s)
        live = state not in (SensorState.WAITING, SensorState.STALE, SensorState.DISABLED)
        span_s = self._good_s[-1] - self._good_s[0] if self._good_s else 0.0
        return SensorStatus(
            state=state,
            age_s=max(0.0, now_s - self._good_s[-1]) if self._good_s else math.inf,
            rate_hz=(len(self._good_s) - 1) / span_s if live and span_s > 0 else 0.0,
            received=self._received,
            skipped=self._skipped,
            rejected=self._rejected,
            last_cause=self._last_cause,
            repeats=self._repeated_s is not None and now_s - self._repeated_s <= self.timeout_s,
        )

    def reset(self) -> None:
        """Back to WAITING with all counters at zero (a new configuration, or a clock that jumped back)."""
        self._received = self._skipped = self._rejected = 0
        self._last_cause = ""
        self._forget()
