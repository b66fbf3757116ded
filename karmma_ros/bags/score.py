# SPDX-License-Identifier: Apache-2.0
"""How right the predictions of a recording are, where a person has said what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from karmma_ros.bags.intervals import BagIntervals
from karmma_ros.records import SETTLE_S, PredictionRecord

__all__ = ["score"]


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


def _said(record: PredictionRecord) -> str:
    return record.actions[0].name if record.actions else ""


def _share(pairs: Sequence[tuple[PredictionRecord, str]]) -> float | None:
    return round(sum(_said(record) == action for record, action in pairs) / len(pairs), 4) if pairs else None


def _of_action(pairs: Sequence[tuple[PredictionRecord, str]]) -> dict[str, Any]:
    said = Counter(_said(record) for record, _ in pairs)
    return {"predictions": len(pairs), "accuracy": _share(pairs), "mostly": said.most_common(1)[0][0]}
