# SPDX-License-Identifier: Apache-2.0
"""Frames and the predictions about them, brought together by their stamps.

A frame waits for its prediction, for a while and while there is room; one that the recogniser skipped (a later one was
predicted already) is left out, since nothing is known about it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Match", "Matcher"]

F = TypeVar("F")
P = TypeVar("P")

_BACK_NS = 5_000_000_000  # a stamp so much older than the newest: a recording has started again


class Match(NamedTuple, Generic[F, P]):
    """A frame, and its prediction or None: it waited in vain."""

    stamp_ns: int
    frame: F
    prediction: P | None


class Matcher(Generic[F, P]):
    """Both come in order of their stamps, in any order of each other. All times are steady seconds."""

    MOST_FRAMES = 30  # that wait: a second of an ordinary camera
    MOST_PREDICTIONS = 60  # whose frames may still come

    def __init__(self, wait_s: float) -> None:
        """:param wait_s: [s] that a frame waits for its prediction; may be set at any time."""
        self.wait_s = wait_s
        self._frames: OrderedDict[int, tuple[F, float]] = OrderedDict()  # stamp -> (frame, when it came)
        self._predictions: OrderedDict[int, P] = OrderedDict()
        self._predicted_ns: int | None = None  # the newest prediction's stamp

    def reset(self) -> None:
        """Forgets everything."""
        self._frames.clear()
        self._predictions.clear()
        self._predicted_ns = None

    def frame(self, stamp_ns: int, frame: F, now_s: float) -> Match[F, P] | None:
        """Takes a frame; gives it back where its prediction is here already, or else the oldest if too many wait."""
        if self._predicted_ns is not None and self._predicted_ns - stamp_ns > _BACK_NS:
            self.reset()
        prediction = self._predictions.pop(stamp_ns, None)
        if prediction is not None:
            return Match(stamp_ns, frame, prediction)
        if self._predicted_ns is None or stamp_ns > self._predicted_ns:
            self._frames[stamp_ns] = (frame, now_s)
            if len(self._frames) > self.MOST_FRAMES:
                oldest_ns, (oldest, _) = self._frames.popitem(last=False)
                return Match(oldest_ns, oldest, None)
        return None

    def prediction(self, stamp_ns: int, prediction: P) -> Match[F, P] | None:
        """Takes a prediction; gives its frame where that is here already. Older frames no longer wait."""
        if self._predicted_ns is not None and self._predicted_ns - stamp_ns > _BACK_NS:
            self.reset()
        self._predicted_ns = stamp_ns
        waiting = self._frames.pop(stamp_ns, None)
        for older in [stamp for stamp in self._frames if stamp < stamp_ns]:
            del self._frames[older]
        if waiting is not None:
            return Match(stamp_ns, waiting[0], prediction)
        self._predictions[stamp_ns] = prediction
        if len(self._predictions) > self.MOST_PREDICTIONS:
            self._predictions.popitem(last=False)
        return None

    def overdue(self, now_s: float) -> list[Match[F, P]]:
        """Frames that have waited long enough, oldest first."""
        late = [(stamp, frame) for stamp, (frame, came_s) in self._frames.items() if now_s - came_s >= self.wait_s]
        for stamp, _ in late:
            del self._frames[stamp]
        return [Match(stamp, frame, None) for stamp, frame in late]
