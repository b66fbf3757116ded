# SPDX-License-Identifier: Apache-2.0
"""A stream of predictions becomes actions that start and end, so that a subscriber need not filter.

The scores are averaged over a short time; an action starts once its average is high and it has lasted for a while, and
ends once the average is low or another action starts. What counts as no action is named by the settings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from karmma_ros.manifest import Manifest
from karmma_ros.window import to_ns

__all__ = ["Event", "EventDetector", "EventSettings", "EventType"]

_NEVER = -(2**62)  # [ns] before any stamp
_STEPS = 5  # steps between predictions that the usual one is learned from: few, so that a new rate is soon known
_HALF = 0.5  # of all probability: whoever has more of it is the best
_LOST = 2.5  # usual steps without a prediction that are no gap yet: one lost prediction ends nothing


class EventType(IntEnum):
    """The values of ActionEvent.msg."""

    START = 0
    END = 1


@dataclass(frozen=True)
class EventSettings:
    """When a stream of predictions becomes an event."""

    smoothing_s: float = 0.4  # time constant of the average over predictions
    start_score: float = 0.5  # average from which on an action may start
    end_score: float = 0.25  # average below which it ends: the distance is the hysteresis
    min_duration_s: float = 0.5  # an action that has not lasted this long has not started
    gap_s: float = 1.0  # without a prediction for this long (and 2.5 usual steps), the action ends with the last one
    idle: tuple[str, ...] = ("idle",)  # names of actions, or of their verbs, that are no action


@dataclass(frozen=True)
class Event:
    """An action has started or ended."""

    type: EventType
    event_id: int  # counts up from 0; START and END of one action share it
    action: int  # index into the bundle's actions
    scores: npt.NDArray[np.float64]  # (A,) average over the last predictions, of every action
    decided_ns: int  # stamp of the prediction that settled it
    start_ns: int
    end_ns: int = 0  # 0 until END


class EventDetector:
    """Turns scores into events, at any rate of predictions.

    `settings` may be replaced at any time. Pushes are in order of time; one that is not starts everything afresh.
    """

    def __init__(self, actions: Sequence[str], verbs: Sequence[str], settings: EventSettings | None = None) -> None:
        """:param actions: (A,) names of the actions.
        :param verbs: (A,) the verb of each; equal to `actions` where a bundle has no verbs.
        """
        self._actions, self._verbs = actions, verbs
        self.settings = settings or EventSettings()
        self._next_id = 0
        self._forget()

    @classmethod
    def of(cls, bundle: Manifest, settings: EventSettings | None = None) -> EventDetector:
        """One for the actions of a bundle."""
        names = bundle.action_names
        verbs = [bundle.heads["verb"][verb] for verb, _ in bundle.actions] if bundle.actions else names
        return cls(names, verbs, settings)

    def _forget(self) -> None:
        self._average: npt.NDArray[np.float64] | None = None
        self._last_ns = _NEVER  # of the last scores
        self._steps_ns: deque[int] = deque(maxlen=_STEPS)  # between the last scores
        self._freed_ns = _NEVER  # end of the last action: the next does not reach back beyond it
        self._first_ns = np.full(len(self._idle), _NEVER, dtype=np.int64)  # since when each action has been the best
        self._latest_ns = self._first_ns.copy()  # and until when
        self._led_ns = self._first_ns.copy()  # when its average was last the highest
        self._leader: int | None = None  # whose average is the highest, if it is high enough to start
        self._leads_since_ns = _NEVER
        self._running: Event | None = None

    def reset(self) -> None:
        """Forgets everything; an action that was going on gets no END. Ids start from 0 again."""
        self._next_id = 0
        self._forget()

    @property
    def settings(self) -> EventSettings:
        """What counts from the next push on."""
        return self._settings

    @settings.setter
    def settings(self, settings: EventSettings) -> None:
        names = zip(self._actions, self._verbs, strict=True)
        self._idle = np.array([a in settings.idle or v in settings.idle for a, v in names], dtype=bool)
        self._settings = settings

    @property
    def running(self) -> Event | None:
        """The START of the action that is going on."""
        return self._running

    def push(self, t_ns: int, scores: npt.NDArray[np.floating] | None) -> list[Event]:
        """What a prediction starts and ends.

        :param t_ns: stamp of the prediction.
        :param scores: (A,) probability of every action; None when there is no prediction for this moment.
        :return: at most an END and a START, in this order.
        """
        events: list[Event] = []
        if t_ns <= self._last_ns:
            events += self.close()
            self._forget()
        elif self._average is not None and t_ns - self._last_ns > self._gap_ns():
            events += self.close()
        if scores is None:
            return events
        self._take(t_ns, np.asarray(scores, dtype=np.float64))
        started = self._starting(t_ns)
        if self._running is not None and (started is not None or self._is_over()):
            events.append(self._end(t_ns, succeeded=started is not None))
        if started is not None:
            begin_ns = max(self._begin_ns(started), self._freed_ns)
            self._running = self._event(EventType.START, self._next_id, started, t_ns, begin_ns)
            self._next_id += 1
            events.append(self._running)
        return events

    def close(self) -> list[Event]:
        """Ends what is going on with the last prediction; what comes next has nothing to do with it."""
        events = [self._end(self._last_ns, succeeded=False)] if self._running is not None else []
        self._average = self._leader = None
        self._latest_ns[:] = _NEVER
        return events

    def _gap_ns(self) -> int:
        """Time without scores that ends what is going on: predictions may usually be further apart than `gap_s`."""
        steps = sorted(self._steps_ns)
        usual_ns = steps[(len(steps) - 1) // 2] if steps else 0  # of two the shorter: the other may be an outage
        return max(to_ns(self.settings.gap_s), round(_LOST * usual_ns))

    def _take(self, t_ns: int, scores: npt.NDArray[np.float64]) -> None:
        """Averages, and notes the best; an interruption shorter than the average's time constant is bridged."""
        best, tau_s = int(scores.argmax()), self.settings.smoothing_s
        if self._last_ns != _NEVER:
            self._steps_ns.append(t_ns - self._last_ns)
        if self._average is None:
            self._average = scores.copy()
            self._first_ns[best] = t_ns
        else:
            step_ns = t_ns - self._last_ns
            self._average += (1 - np.exp(-step_ns * 1e-9 / tau_s) if tau_s > 0 else 1.0) * (scores - self._average)
            if self._latest_ns[best] < t_ns - max(to_ns(tau_s), step_ns):
                self._first_ns[best] = t_ns
        self._latest_ns[best] = self._last_ns = t_ns
        self._lead(t_ns, int(self._average.argmax()), float(self._average.max()))

    def _lead(self, t_ns: int, action: int, average: float) -> None:
        """Notes whose average is the highest: with low scores that may be an action that is never the best itself."""
        self._led_ns[action] = t_ns
        if average < self.settings.start_score:
            self._leader = None
        elif action != self._leader:
            self._leader, self._leads_since_ns = action, t_ns

    def _begin_ns(self, leader: int) -> int:
        """Since when the leader has been the best."""
        assert self._average is not None
        first_ns, since_ns = int(self._first_ns[leader]), self._leads_since_ns
        if self._latest_ns[leader] < since_ns:  # not once since its average leads: what was before is another matter
            return since_ns
        # An average of a half is made of predictions that it was the best of, and they know earlier than the average.
        # With less, being the best of one is chance, and the lead of the average counts as much.
        return first_ns if self._average[leader] >= _HALF else min(first_ns, since_ns)

    def _starting(self, t_ns: int) -> int | None:
        """The action that starts now: neither the one that is going on nor none."""
        leader = self._leader
        if leader is None or self._idle[leader]:
            return None
        if self._running is not None and self._running.action == leader:
            return None
        begin_ns = max(self._begin_ns(leader), self._freed_ns)
        return leader if t_ns - begin_ns >= to_ns(self.settings.min_duration_s) else None

    def _is_over(self) -> bool:
        assert self._average is not None
        assert self._running is not None
        action = self._running.action
        return bool(self._idle[action] or self._average[action] < self.settings.end_score)

    def _end(self, decided_ns: int, *, succeeded: bool) -> Event:
        """The END: when the action was last the best, and no later than its successor, the leader, began."""
        running = self._running
        assert running is not None
        end_ns = int(self._latest_ns[running.action])
        if end_ns < running.start_ns:  # not once since then: only its average was the highest
            end_ns = int(self._led_ns[running.action])
        if succeeded:
            assert self._leader is not None
            end_ns = min(end_ns, max(self._begin_ns(self._leader), running.start_ns))
        self._freed_ns, self._running = end_ns, None
        return self._event(EventType.END, running.event_id, running.action, decided_ns, running.start_ns, end_ns)

    def _event(
        self, kind: EventType, event_id: int, action: int, decided_ns: int, start_ns: int, end_ns: int = 0
    ) -> Event:
        assert self._average is not None
        return Event(kind, event_id, action, self._average.copy(), decided_ns, start_ns, end_ns)
