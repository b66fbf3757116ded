# SPDX-License-Identifier: Apache-2.0
"""The actions of a recording, as the node's `~/events` would have told them: for files and bags."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from karmma_ros.events import Event, EventDetector, EventSettings, EventType
from karmma_ros.files import whole_file
from karmma_ros.manifest import Manifest

__all__ = ["EventLog", "LoggedAction", "write_actions"]


@dataclass(frozen=True)
class LoggedAction:
    """One action; times from the start of the recording. `decided_s`: when a subscriber heard that it had started."""

    event_id: int
    action: str
    start_s: float
    stop_s: float
    decided_s: float
    score: float  # average when it started


class EventLog:
    """Takes predictions in the order of time; `actions` are those that have ended."""

    def __init__(self, bundle: Manifest, *, origin_ns: int, settings: EventSettings | None = None) -> None:
        """:param origin_ns: the stamp from which times count."""
        self._names = bundle.action_names
        self._detector = EventDetector.of(bundle, settings)
        self._origin_ns = origin_ns
        self._started: Event | None = None
        self.actions: list[LoggedAction] = []

    def take(self, stamp_ns: int, scores: npt.NDArray[np.floating] | None) -> None:
        """A prediction; see `EventDetector.push`."""
        self._note(self._detector.push(stamp_ns, scores))

    def close(self) -> None:
        """The recording has ended, and what was going on with it."""
        self._note(self._detector.close())

    def _note(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.type is EventType.START:
                self._started = event
                continue
            started = self._started
            assert started is not None
            self.actions.append(
                LoggedAction(
                    event.event_id,
                    self._names[event.action],
                    start_s=self._seconds(event.start_ns),
                    stop_s=self._seconds(event.end_ns),
                    decided_s=self._seconds(started.decided_ns),
                    score=round(float(started.scores[event.action]), 4),
                )
            )

    def _seconds(self, stamp_ns: int) -> float:
        return round((stamp_ns - self._origin_ns) / 1e9, 3)


def write_actions(path: Path, actions: Sequence[LoggedAction]) -> None:
    """Writes a CSV with a column for each field."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(LoggedAction)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(action) for action in actions)
