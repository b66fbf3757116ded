# SPDX-License-Identifier: Apache-2.0
"""The node's events: what it publishes on `~/events` as its predictions go by."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from karmma_msgs.msg import ActionEvent
from karmma_ros.events import Event, EventDetector, EventSettings
from karmma_ros.manifest import Manifest
from karmma_ros.messages import event_to_msg
from karmma_ros.nodes.worker import Outcome

__all__ = ["Events"]


class Events:
    """Feeds predictions to a detector and hands on what it finds, as messages."""

    def __init__(self, bundle: Manifest, settings: EventSettings, publish: Callable[[ActionEvent], None]) -> None:
        """:param publish: called for every event, by whoever called `take` or `close`."""
        self._bundle = bundle
        self._detector = EventDetector.of(bundle, settings)
        self._publish = publish
        self._frame_id = ""

    def configure(self, settings: EventSettings) -> None:
        """Takes over settings while the node runs."""
        self._detector.settings = settings

    def restart(self) -> None:
        """Nothing is going on, and ids start from 0."""
        self._detector.reset()

    def take(self, outcome: Outcome) -> None:
        """A prediction, in the order of their stamps."""
        self._frame_id = outcome.frame_id
        self._tell(self._detector.push(outcome.stamp_ns, outcome.prediction.scores))

    def close(self) -> None:
        """No more predictions are coming: ends what is going on, so that nobody waits for it."""
        self._tell(self._detector.close())

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self._publish(event_to_msg(event, self._bundle, self._frame_id))
