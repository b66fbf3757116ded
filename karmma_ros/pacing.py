# SPDX-License-Identifier: Apache-2.0
"""When a prediction is due, and for which moment: the timing rules of the node, without threads, clocks or ROS.

One prediction is due per camera period. A frame triggers it at once. If none comes within 1.5 periods, the timer
predicts for the last stamp plus one period, then every period, until a newer frame arrives. Four things make that hold:

- Due times follow from one *anchor*, the last arrival of the leading sensor: the moment t is due half a period after
  the time at which a sample stamped t would arrive. So a dead camera costs half a period of delay once and not a single
  prediction, nothing drifts, and stamps of any age work (only differences count).
- Every frame moves the anchor, also one that is too old to trigger. If the stamps of the timer ever get ahead of the
  camera's, the timer waits for the camera instead of running before it for ever.
- The period is learned from arrivals in a way that neither lost frames nor jitter bend (`CameraPeriod`).
- A frame whose moment the timer has just predicted only fills slots. Its stamp is never exactly the predicted one, so
  "its moment" reaches an eighth of a period past it; otherwise late frames would be predicted twice, by coin flip.

Steady times are float seconds, stamps int nanoseconds of the data's clock, both passed in. Not thread-safe.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from karmma_ros.period import PeriodEstimator

__all__ = ["CameraPeriod", "Due", "Pacer"]


class CameraPeriod:
    """The camera's period: `PeriodEstimator`'s lower quartile, held and refined.

    *Held*: with half of the frames lost at random, every hundredth run of 30 intervals has so few single ones that the
    quartile doubles. As long as three of the intervals are still as short as the known period, it is kept.
    *Refined*: the lower quartile of jittery intervals is shorter than the period (3 % at 1 ms of jitter, 30 Hz). The
    mean of the intervals, each divided by the whole number of periods it spans, is not.
    """

    HOLD = 3  # intervals of the known period that keep it
    MEAN = 120  # intervals that the mean looks back on
    SPAN = 4  # longest interval used for the mean, in periods
    NEAR = 0.25  # how far from a whole number of periods an interval may be, in periods

    def __init__(self) -> None:
        self._quartile = PeriodEstimator()
        self._intervals: deque[float] = deque(maxlen=self.MEAN)
        self._last_s: float | None = None
        self._known_s: float | None = None

    @property
    def known(self) -> bool:
        """False until enough intervals were seen; `period_s` is 1/30 s until then."""
        return self._known_s is not None

    @property
    def period_s(self) -> float:
        """[s] between two frames of an undisturbed camera."""
        return PeriodEstimator.UNKNOWN_S if self._known_s is None else self._known_s

    def arrived(self, now_s: float) -> None:
        """A frame arrived at `now_s` (or was stamped so)."""
        self._quartile.arrived(now_s)
        if self._last_s is not None and now_s > self._last_s:
            self._intervals.append(now_s - self._last_s)
            if len(self._intervals) >= PeriodEstimator.KNOWN:
                self._known_s = self._refined(self._held(self._quartile.period_s))
        self._last_s = now_s

    def _held(self, base_s: float) -> float:
        known_s = self._known_s
        if known_s is None or base_s < 1.15 * known_s:
            return base_s
        recent = list(self._intervals)[-PeriodEstimator.LEARN :]
        single = sum(abs(interval - known_s) < self.NEAR * known_s for interval in recent)
        return known_s if single >= self.HOLD else base_s

    def _refined(self, base_s: float) -> float:
        for _ in range(3):  # a base that is too short shuts out the longer intervals, so it is corrected and used again
            total_s, periods, used = 0.0, 0, 0
            for interval in self._intervals:
                spans = round(interval / base_s)
                if 1 <= spans <= self.SPAN and abs(interval - spans * base_s) < self.NEAR * base_s:
                    total_s, periods, used = total_s + interval, periods + spans, used + 1
            if used < PeriodEstimator.KNOWN:
                break
            base_s = total_s / periods
        return base_s

    def reset(self) -> None:
        """Forgets everything."""
        self._quartile.reset()
        self._intervals.clear()
        self._last_s = self._known_s = None


@dataclass(frozen=True)
class Due:
    """A prediction that the timer owes."""

    stamp_ns: int  # the moment to predict for
    due_s: float  # steady time at which it became due
    skipped: int  # earlier ones given up, because the machine is too slow


@dataclass(frozen=True)
class _Anchor:
    """Ties the data's clock to the steady one."""

    source: str  # sensor that set it; "" for none, the node's own clock
    stamp_ns: int
    now_s: float
    clock_ns: int


class Pacer:
    """Decides which frames trigger and when the timer does; stamps handed out strictly increase until `reset()`."""

    CAMERA = "video"
    CATCH_UP = 3  # predictions the timer may be behind before it gives up all but the newest
    LEAD_LOST_S = 1.0  # silence after which another sensor may set the anchor, and the disagreement that makes it
    SLEW_S = 5.0  # time constant with which the anchor follows the stamps of a leading sensor that is no camera
    SLEW_FREE_S = 0.25  # by which these may be off: chunks of sound come when they are over, and in bursts
    BACK_S = 1.0  # a leading sensor's stamps must fall behind to count as a jump of its clock
    JUMP_SAMPLES, JUMP_S = 3, 0.5  # so many samples over so long must be old before the data's clock counts as reset

    def __init__(self, *, rate_hz: float = 0.0, max_rate_hz: float = 0.0, follow_clock: bool = False) -> None:
        """
        :param rate_hz: predictions due per second; 0 follows the camera.
        :param max_rate_hz: no more than this on average; 0 is no limit.
        :param follow_clock: simulated time: the timer is silent while the clock given as `clock_ns` stands still.
        """
        self.rate_hz = rate_hz
        self.max_rate_hz = max_rate_hz
        self.follow_clock = follow_clock
        self._arrivals = CameraPeriod()
        self._stamps = CameraPeriod()
        self.reset()

    def reset(self) -> None:
        """Forgets stamps and periods: stamps may start again anywhere."""
        self._arrivals.reset()
        self._stamps.reset()
        # (arrival [s], stamp [ns]) of the last frames, none of whose stamps is there twice
        self._frames: deque[tuple[float, int]] = deque(maxlen=PeriodEstimator.LEARN + 1)
        self._real_time = False  # whether the clock of their stamps runs like the steady one
        self._stamps_s = 0.0  # the camera's stamps as a clock that only goes forward, by the steps they take
        self._anchor: _Anchor | None = None
        self._heard_s = 0.0  # when the anchor's sensor last delivered
        self._frame_ns: int | None = None  # stamp of the last frame, trigger or not
        self._chain_ns: int | None = None  # the timer goes on from here
        self._published_ns: int | None = None
        self._by_timer = False  # who published it
        self._allowed_ns = 0  # max_rate: no trigger before
        self._old_since: tuple[int, float, int] | None = None  # far too old samples: how many, since when, the last

    @property
    def period_s(self) -> float:
        """[s] of the data's clock between two predictions."""
        period = 1 / self.rate_hz if self.rate_hz > 0 else self.camera_s
        return max(period, 1 / self.max_rate_hz) if self.max_rate_hz > 0 else period

    @property
    def camera_s(self) -> float:
        """[s] the camera's period. Its stamps know it best, where their clock runs like the steady one."""
        return (self._stamps if self.follow_clock or self._real_time else self._arrivals).period_s

    @property
    def _slowness(self) -> float:
        """Steady seconds per second of data: 1, except where simulated time runs slower or faster than the real one."""
        if self.follow_clock and self._arrivals.known and self._stamps.known:
            return self._arrivals.period_s / self._stamps.period_s
        return 1.0

    @property
    def _grace_s(self) -> float:
        """[s of data] a frame may be late before the timer takes its turn."""
        camera_s = self.camera_s
        # With max_rate, the next frame that may trigger can be nearly one camera period later than the limit allows.
        limited = self.max_rate_hz > 0 and 1 / self.max_rate_hz > camera_s
        return max(0.5 * self.period_s, 1.25 * camera_s) if limited else 0.5 * self.period_s

    def arrived(self, source: str, stamp_ns: int, now_s: float, clock_ns: int = 0) -> bool:
        """A sample arrived (not yet decoded; not rejected for its stamp).

        :return: True when the sensor's clock has jumped back (a recording that starts again, a clock that was set): the
            pacer has reset itself, and everything that depends on stamps has to be reset too.
        """
        if self._lost_in_the_past(source, stamp_ns, now_s):
            self.reset()
            self.arrived(source, stamp_ns, now_s, clock_ns)
            return True
        anchor = self._anchor
        fresh = _Anchor(source, stamp_ns, now_s, clock_ns)
        if source == self.CAMERA:
            self._learn(stamp_ns, now_s)
            # A camera that repeats a stamp must not hold the timer back at it.
            if self._frame_ns is None or stamp_ns > self._frame_ns or (anchor and anchor.source != source):
                self._anchor = fresh
            if self._published_ns is None and (self._chain_ns is None or (anchor and not anchor.source)):
                self._chain_ns = stamp_ns
            self._frame_ns = stamp_ns
            self._heard_s = now_s
        elif anchor is None or not anchor.source or now_s - self._heard_s > self.LEAD_LOST_S or anchor.source == source:
            before_s, self._heard_s = self._heard_s, now_s
            if anchor is None or not anchor.source or abs(self._ahead_s(anchor, fresh)) > self.LEAD_LOST_S:
                self._anchor = fresh
                self._chain_ns = stamp_ns if self._published_ns is None else max(self._published_ns, stamp_ns)
            elif anchor.source != source:
                self._anchor = replace(anchor, source=source)
            else:
                self._anchor = self._slewed(anchor, self._ahead_s(anchor, fresh), now_s - before_s)
        self._date_anchor(now_s, clock_ns)
        return False

    def _date_anchor(self, now_s: float, clock_ns: int) -> None:
        """A bag's player may send its first samples before the first /clock."""
        anchor = self._anchor
        if anchor is not None and anchor.clock_ns <= 0 < clock_ns:
            since_ns = round((now_s - anchor.now_s) / self._slowness * 1e9)
            self._anchor = replace(anchor, clock_ns=clock_ns - since_ns)

    def _slewed(self, anchor: _Anchor, ahead_s: float, since_s: float) -> _Anchor:
        """The anchor, nearer to stamps that are more than SLEW_FREE_S ahead of it or behind."""
        excess_s = max(0.0, ahead_s - self.SLEW_FREE_S) + min(0.0, ahead_s + self.SLEW_FREE_S)
        moved_ns = round(excess_s * min(1.0, since_s / self.SLEW_S) * 1e9)
        return replace(anchor, stamp_ns=anchor.stamp_ns + moved_ns)

    def _learn(self, stamp_ns: int, now_s: float) -> None:
        """The period, from a frame that is not one more copy of another; frames may be out of order."""
        if any(stamp_ns == stamp for _, stamp in self._frames):
            return
        if self._frames:
            self._stamps_s += abs(stamp_ns - self._frames[-1][1]) * 1e-9
        self._frames.append((now_s, stamp_ns))
        self._arrivals.arrived(now_s)
        self._stamps.arrived(self._stamps_s)
        if len(self._frames) > PeriodEstimator.KNOWN:
            stamps = [stamp for _, stamp in self._frames]
            span_s = (max(stamps) - min(stamps)) * 1e-9
            self._real_time = 0.8 < (now_s - self._frames[0][0]) / max(span_s, 1e-9) < 1.25

    def _ahead_s(self, anchor: _Anchor, fresh: _Anchor) -> float:
        """[s] by which a new sample's stamp is ahead of where the anchor says its clock should be."""
        return (fresh.stamp_ns - anchor.stamp_ns) * 1e-9 - (fresh.now_s - anchor.now_s) / self._slowness

    def _lost_in_the_past(self, source: str, stamp_ns: int, now_s: float) -> bool:
        published = self._published_ns
        if published is None or stamp_ns >= published - int(self.BACK_S * 1e9):
            if self._leads(source):
                self._old_since = None
            return False
        if self._anchor is not None and not self._anchor.source:
            return True  # nothing but the node's own clock says otherwise
        if not self._leads(source) and now_s - self._heard_s <= self.LEAD_LOST_S:
            return False
        count, since_s, last_ns = self._old_since or (0, now_s, stamp_ns - 1)
        if stamp_ns > last_ns:  # a clock that jumped goes on from there; a stamp that never changes is no clock
            count += 1
        self._old_since = (count, since_s, stamp_ns)
        return count >= self.JUMP_SAMPLES and now_s - since_s >= self.JUMP_S

    def _leads(self, source: str) -> bool:
        return source == self.CAMERA or (self._anchor is not None and self._anchor.source == source)

    def triggers(self, stamp_ns: int) -> bool:
        """Whether a decoded frame triggers a prediction; if so, its stamp counts as handed out."""
        published = self._published_ns
        if published is not None:
            margin_ns = int(self.period_s * 1e9) // 8 if self._by_timer else 0
            if stamp_ns <= published + margin_ns:
                return False
        if self.max_rate_hz > 0:
            gap_ns = int(1e9 / self.max_rate_hz)
            if stamp_ns < self._allowed_ns - gap_ns // 4:
                return False
            late = stamp_ns - self._allowed_ns >= gap_ns
            self._allowed_ns = (stamp_ns if late else self._allowed_ns) + gap_ns
        self._hand_out(stamp_ns, by_timer=False)
        return True

    def _hand_out(self, stamp_ns: int, *, by_timer: bool) -> None:
        self._published_ns = self._chain_ns = stamp_ns
        self._by_timer = by_timer

    def poll(self, now_s: float, clock_ns: int) -> Due | None:
        """The timer's prediction, if one is due; its stamp then counts as handed out.

        :param clock_ns: the node's clock. It starts the timer while no sensor has delivered anything; 0 is unknown.
        """
        if self._anchor is None and clock_ns > 0:
            self._anchor = _Anchor("", clock_ns, now_s, clock_ns)
        if self._anchor is None:
            return None
        stamp_ns, due_s = self._next(self._anchor)
        # Late by so many seconds of data. Simulated time must have come that far too.
        late_s = (now_s - due_s) / self._slowness
        clock_late_s = self._clock_late_s(self._anchor, stamp_ns, clock_ns)
        if min(late_s, clock_late_s) < 0:
            return None
        if clock_late_s < late_s:
            due_s = now_s - clock_late_s * self._slowness
        step_s = self.period_s
        behind = int(min(late_s, clock_late_s) / step_s)
        skipped = behind if behind > self.CATCH_UP else 0
        stamp_ns += skipped * int(step_s * 1e9)
        self._hand_out(stamp_ns, by_timer=True)
        self._allowed_ns = stamp_ns + int(step_s * 1e9)
        return Due(stamp_ns, due_s + skipped * step_s * self._slowness, skipped)

    def wait_s(self, now_s: float, clock_ns: int) -> float | None:
        """[s] until `poll` is worth calling; None when only an arrival or a tick of the clock can change anything."""
        if self._anchor is None:
            return None
        stamp_ns, due_s = self._next(self._anchor)
        if now_s < due_s:
            return due_s - now_s
        return 0.0 if self._clock_late_s(self._anchor, stamp_ns, clock_ns) >= 0 else None

    def _next(self, anchor: _Anchor) -> tuple[int, float]:
        """(moment, steady time when it is due) of the timer's next prediction."""
        last_ns = anchor.stamp_ns if self._chain_ns is None else self._chain_ns
        stamp_ns = last_ns + int(self.period_s * 1e9)
        ahead_s = (stamp_ns - anchor.stamp_ns) * 1e-9
        return stamp_ns, anchor.now_s + (ahead_s + self._grace_s) * self._slowness

    def _clock_late_s(self, anchor: _Anchor, stamp_ns: int, clock_ns: int) -> float:
        if not self.follow_clock:
            return float("inf")
        if clock_ns <= 0:
            return -1.0
        return (clock_ns - anchor.clock_ns - (stamp_ns - anchor.stamp_ns)) * 1e-9 - self._grace_s
