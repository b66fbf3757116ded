# SPDX-License-Identifier: Apache-2.0
"""How the action recognition challenge of EPIC-KITCHENS-100 counts, and the archive that it takes.

All accuracies are shares of annotated actions. An action's score is p(verb) p(noun) over all pairs of classes. Unseen:
participants that training does not have. Tail: actions whose verb, whose noun, or (for "action") either of them is one
of the rare classes that make up a fifth of training. As in epic-kitchens/C1-Action-Recognition; its server reads a zip
with one `test.json`.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import UsageError
from karmma_ros.files import whole_file
from karmma_training.datasets.epic_kitchens.annotations import Segment, read_class_ids, read_ids
from karmma_training.datasets.predicted import check_predicted, predicted_rows

__all__ = ["ChallengeLists", "challenge_scores", "check_levels", "read_lists", "write_submission"]

Floats = npt.NDArray[np.floating[Any]]

CHUNK = 128  # actions whose pairs of classes are ranked at a time


@dataclass(frozen=True)
class ChallengeLists:
    """Participants and classes that are counted apart."""

    unseen: frozenset[str]
    tail_verbs: frozenset[int]
    tail_nouns: frozenset[int]


def read_lists(annotations: Path) -> ChallengeLists:
    """The lists for the validation split, beside the annotations.

    :raises UsageError: they are not there, or are no such lists.
    """
    return ChallengeLists(
        frozenset(read_ids(annotations / "EPIC_100_unseen_participant_ids_validation.csv")),
        frozenset(read_class_ids(annotations / "EPIC_100_tail_verbs.csv")),
        frozenset(read_class_ids(annotations / "EPIC_100_tail_nouns.csv")),
    )


def challenge_scores(
    segments: Sequence[Segment], logits: Mapping[str, Floats], lists: ChallengeLists
) -> dict[str, dict[str, float]]:
    """{overall, unseen, tail: {verb, noun, action, and of overall verb_top5 ...: share}}; NaN where there is no action.

    :param segments: n, labelled; logits: {verb (n, V), noun (n, N)}, a row of NaN is no prediction, which is wrong.
    """
    truth = {head: np.asarray([getattr(s, head) for s in segments], np.int64) for head in ("verb", "noun")}
    ranks = {head: _rank(logits[head], truth[head]) for head in truth} | {"action": _action_ranks(logits, truth)}
    tail = {
        "verb": np.asarray([s.verb in lists.tail_verbs for s in segments], bool),
        "noun": np.asarray([s.noun in lists.tail_nouns for s in segments], bool),
    }
    tail["action"] = tail["verb"] | tail["noun"]
    unseen = np.asarray([s.participant in lists.unseen for s in segments], bool)
    return {
        "overall": {
            **{head: _share(rank < 1) for head, rank in ranks.items()},
            **{f"{head}_top5": _share(rank < 5) for head, rank in ranks.items()},
        },
        "unseen": {head: _share(rank[unseen] < 1) for head, rank in ranks.items()},
        "tail": {head: _share(rank[tail[head]] < 1) for head, rank in ranks.items()},
    }


def _share(right: npt.NDArray[np.bool_]) -> float:
    return float(right.mean()) if len(right) else float("nan")


def _rank(scores: Floats, truth: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many classes score higher than the true one; all of them where there is no prediction.  (n, C) -> (n,)"""
    own = np.take_along_axis(scores, truth[:, None], 1)
    rank = (scores > own).sum(1)
    return np.where(np.isfinite(scores).all(1), rank, scores.shape[1]).astype(np.int64)


def _action_ranks(logits: Mapping[str, Floats], truth: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    nouns = logits["noun"].shape[1]
    target = truth["verb"] * nouns + truth["noun"]
    ranks = [
        _rank(_pairs(logits["verb"][low : low + CHUNK], logits["noun"][low : low + CHUNK]), target[low : low + CHUNK])
        for low in range(0, len(target), CHUNK)
    ]
    return np.concatenate([np.zeros(0, np.int64), *ranks])


def _pairs(verb: Floats, noun: Floats) -> Floats:
    """log p(verb) + log p(noun), up to a constant per row.  (n, V), (n, N) -> (n, V * N)"""
    return np.asarray((verb[:, :, None] + noun[:, None, :]).reshape(len(verb), -1))


def check_levels(sls: Sequence[int]) -> None:
    """Makes sure that supervision levels are those that there are.

    :raises UsageError: one makes no sense.
    """
    if any(not 0 <= level <= 5 for level in sls):
        raise UsageError(f"supervision levels are 0 to 5, not {' '.join(map(str, sls))}")


def write_submission(
    path: Path, segments: Sequence[Segment], ids: Sequence[str], logits: Mapping[str, Floats], sls: tuple[int, int, int]
) -> None:
    """Write the challenge's archive, whole or not at all.

    :param segments: all of the test split; ids: of the predicted ones; logits: {verb (n, V), noun (n, N)} in the order
        of `ids`. The server makes the scores of actions from them, with a softmax.
    :param sls: supervision levels: pre-training, training labels, training data, each 0 to 5.
    :raises UsageError: a segment has no prediction, or a level makes no sense.
    """
    check_levels(sls)
    rows = predicted_rows(ids, logits)
    check_predicted([s.narration_id for s in segments], rows, "actions")
    results = {
        s.narration_id: {
            head: {str(i): round(float(v), 5) for i, v in enumerate(values[rows[s.narration_id]])}
            for head, values in logits.items()
        }
        for s in segments
    }
    levels = dict(zip(("sls_pt", "sls_tl", "sls_td"), sls, strict=True))
    text = json.dumps({"version": "0.2", "challenge": "action_recognition", **levels, "results": results})
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("test.json", text)
