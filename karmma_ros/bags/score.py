# SPDX-License-Identifier: Apache-2.0
"""How right the predictions of a recording are, where a person has said what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from statistics import median
from typing import Any

from karmma_ros.bags.intervals import BagIntervals
from karmma_ros.event_log import LoggedAction
from karmma_ros.records import SETTLE_S, PredictionRecord
from karmma_ros.segments import Segment, score_segments

__all__ = ["score", "score_events"]


def score(records: Sequence[PredictionRecord], truth: BagIntervals, known: Collection[str]) -> dict[str, Any]:
    """Accuracy of the best action: overall, settled (half a second around changes left out), and for each true action.

    Predictions outside all intervals are not scored; saying nothing is wrong.

    :param known: names of the actions that the bundle can say.
    :return: `scored` predictions, `accuracy`, `accuracy_settled`, `actions` {name: {`predictions`, `accuracy`,
        `mostly`: what was said most often}}, `unknown`: true actions that the bundle cannot say, always wrong.
    """
    judged = [(record, row.action) for record in records if (row := truth.at(record.t_s)) is not None]
    settled = [(record, action) for record, action in judged if truth.settled(record.t_s, SETTLE_S)]
    actions = sorted({action for _, action in judged})
    return {
        "scored": len(judged),
        "accuracy": _share(judged),
        "accuracy_settled": _share(settled),
        "actions": {name: _of_action([pair for pair in judged if pair[1] == name]) for name in actions},
        "unknown": [name for name in sorted({row.action for row in truth.rows}) if name not in known],
    }


def score_events(actions: Sequence[LoggedAction], truth: BagIntervals, idle: Collection[str]) -> dict[str, Any]:
    """How well the events match the intervals; those that touch none are not scored: nobody said what was done then.

    :param idle: actions, or verbs, that are no action.
    :return: `f1` at half of the union, `said`, `true`, `found`, `false_starts`, `start_latency_s` (the median).
    """
    rows = [row for row in truth.rows if row.action not in idle and row.names[0] not in idle]
    true = [Segment(row.action, row.start_s, row.stop_s) for row in rows]
    said = [
        Segment(a.action, a.start_s, a.stop_s, a.decided_s)
        for a in actions
        if any(a.start_s < row.stop_s and row.start_s < a.stop_s for row in truth.rows)
    ]
    labelled_s = sum(row.stop_s - row.start_s for row in truth.rows)
    scores = score_segments(said, true, labelled_s)
    return {
        "f1": round(scores.f1, 4),
        "said": scores.said,
        "true": scores.true,
        "found": scores.found,
        "false_starts": scores.false_starts,
        "start_latency_s": round(median(scores.latencies_s), 3) if scores.latencies_s else None,
    }


def _said(record: PredictionRecord) -> str:
    return record.actions[0].name if record.actions else ""


def _share(pairs: Sequence[tuple[PredictionRecord, str]]) -> float | None:
    return round(sum(_said(record) == action for record, action in pairs) / len(pairs), 4) if pairs else None


def _of_action(pairs: Sequence[tuple[PredictionRecord, str]]) -> dict[str, Any]:
    said = Counter(_said(record) for record, _ in pairs)
    return {"predictions": len(pairs), "accuracy": _share(pairs), "mostly": said.most_common(1)[0][0]}
