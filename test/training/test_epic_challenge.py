# SPDX-License-Identifier: Apache-2.0
"""The challenge's counting, against a plain reading of its rules, and what its archive may hold."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest

from karmma_ros.errors import UsageError
from karmma_training.datasets.epic_kitchens.annotations import Segment
from karmma_training.datasets.epic_kitchens.challenge import (
    ChallengeLists,
    challenge_scores,
    read_lists,
    write_submission,
)

VERBS, NOUNS, COUNT = 7, 11, 300
LISTS = ChallengeLists(frozenset({"P02"}), frozenset({4, 5, 6}), frozenset({8, 9, 10}))


@pytest.fixture
def segments() -> list[Segment]:
    rng = np.random.default_rng(1)
    people = rng.choice(["P01", "P02", "P03"], COUNT)
    pairs = zip(rng.integers(VERBS, size=COUNT).tolist(), rng.integers(NOUNS, size=COUNT).tolist(), strict=True)
    return [
        Segment(f"{p}_01_{i}", p, f"{p}_01", 0.0, 1.0, *pair)
        for i, (p, pair) in enumerate(zip(people, pairs, strict=True))
    ]


@pytest.fixture
def logits(segments: list[Segment]) -> dict[str, np.ndarray]:
    """Right more often than not."""
    rng = np.random.default_rng(2)
    out = {}
    for head, count in (("verb", VERBS), ("noun", NOUNS)):
        out[head] = rng.normal(size=(COUNT, count)).astype(np.float32)
        out[head][np.arange(COUNT), [getattr(s, head) for s in segments]] += 1.5
    return out


def plainly(segments: list[Segment], logits: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """The rules, one action at a time."""
    right: dict[tuple[str, str], list[bool]] = {}
    for i, segment in enumerate(segments):
        p = {head: np.exp(v[i]) / np.exp(v[i]).sum() for head, v in logits.items()}
        actions = {(v, n): p["verb"][v] * p["noun"][n] for v in range(VERBS) for n in range(NOUNS)}
        orders = {
            "verb": (np.argsort(-p["verb"]).tolist(), segment.verb),
            "noun": (np.argsort(-p["noun"]).tolist(), segment.noun),
            "action": (sorted(actions, key=lambda a: -actions[a]), (segment.verb, segment.noun)),
        }
        rare = {"verb": segment.verb in LISTS.tail_verbs, "noun": segment.noun in LISTS.tail_nouns}
        rare["action"] = rare["verb"] or rare["noun"]
        for head, (order, truth) in orders.items():
            right.setdefault(("overall", head), []).append(order[0] == truth)
            right.setdefault(("overall", f"{head}_top5"), []).append(truth in order[:5])
            if segment.participant in LISTS.unseen:
                right.setdefault(("unseen", head), []).append(order[0] == truth)
            if rare[head]:
                right.setdefault(("tail", head), []).append(order[0] == truth)
    out: dict[str, dict[str, float]] = {}
    for (part, head), hits in right.items():
        out.setdefault(part, {})[head] = float(np.mean(hits))
    return out


def test_scores_are_those_of_the_rules(segments: list[Segment], logits: dict[str, np.ndarray]) -> None:
    found, expected = challenge_scores(segments, logits, LISTS), plainly(segments, logits)
    assert {part: set(row) for part, row in found.items()} == {part: set(row) for part, row in expected.items()}
    for part, row in expected.items():
        for head, value in row.items():
            assert found[part][head] == pytest.approx(value), (part, head)
    assert len({round(v, 4) for row in found.values() for v in row.values()}) > 8, "they differ from each other"


def test_an_action_without_a_prediction_is_wrong(segments: list[Segment], logits: dict[str, np.ndarray]) -> None:
    before = challenge_scores(segments, logits, LISTS)["overall"]
    for head, values in logits.items():
        values[:] = -5
        values[np.arange(COUNT), [getattr(s, head) for s in segments]] = 5
        values[: COUNT // 2] = np.nan
    after = challenge_scores(segments, logits, LISTS)["overall"]
    assert set(after.values()) == {0.5}
    assert before["verb"] > 0.5


def test_without_such_actions_there_is_no_share(segments: list[Segment], logits: dict[str, np.ndarray]) -> None:
    nobody = ChallengeLists(frozenset(), LISTS.tail_verbs, LISTS.tail_nouns)
    assert all(math.isnan(v) for v in challenge_scores(segments, logits, nobody)["unseen"].values())


def test_the_lists_are_read(tmp_path: Path) -> None:
    (tmp_path / "EPIC_100_unseen_participant_ids_validation.csv").write_text("participant_id\nP18\nP32\n")
    (tmp_path / "EPIC_100_tail_verbs.csv").write_text("verb\n10\n12\n")
    (tmp_path / "EPIC_100_tail_nouns.csv").write_text("noun\n56\n")
    assert read_lists(tmp_path) == ChallengeLists(frozenset({"P18", "P32"}), frozenset({10, 12}), frozenset({56}))
    (tmp_path / "EPIC_100_tail_nouns.csv").unlink()
    with pytest.raises(UsageError, match=r"EPIC_100_tail_nouns\.csv"):
        read_lists(tmp_path)


@pytest.mark.parametrize("text", ["abc", "-1", "1.0", "9" * 5000, ""])
def test_lists_that_are_something_else_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "EPIC_100_unseen_participant_ids_validation.csv").write_text("participant_id\nP18\n")
    path = tmp_path / "EPIC_100_tail_verbs.csv"
    path.write_text(f'verb\n10\n"{text}"\n')
    with pytest.raises(UsageError) as error:
        read_lists(tmp_path)
    assert str(error.value) == f"{path}: row 3: {text[:40]!r} is no id of a class"
    path.write_text("\n10\n")
    with pytest.raises(UsageError, match=r"EPIC_100_tail_verbs\.csv: no column"):
        read_lists(tmp_path)


def test_a_submission_holds_every_action_once(
    segments: list[Segment], logits: dict[str, np.ndarray], tmp_path: Path
) -> None:
    order = np.random.default_rng(3).permutation(COUNT)
    ids = [segments[i].narration_id for i in order]
    write_submission(tmp_path / "a.zip", segments, ids, {h: v[order] for h, v in logits.items()}, (2, 3, 4))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        tree = json.loads(archive.read("test.json"))
    assert list(tree["results"]) == [s.narration_id for s in segments]
    for i, segment in enumerate(segments):
        for head, values in logits.items():
            scores = tree["results"][segment.narration_id][head]
            assert list(scores) == [str(k) for k in range(values.shape[1])]
            np.testing.assert_allclose(list(scores.values()), values[i], atol=1e-5)


def test_an_incomplete_submission_is_refused_and_leaves_nothing(
    segments: list[Segment], logits: dict[str, np.ndarray], tmp_path: Path
) -> None:
    ids = [s.narration_id for s in segments]
    with pytest.raises(UsageError, match=f"1 of {COUNT} actions have no prediction, {ids[-1]} for one"):
        write_submission(tmp_path / "a.zip", segments, ids[:-1], {h: v[:-1] for h, v in logits.items()}, (2, 3, 4))
    logits["noun"][7, 3] = np.inf
    with pytest.raises(UsageError, match=f"{ids[7]} for one"):
        write_submission(tmp_path / "a.zip", segments, ids, logits, (2, 3, 4))
    assert not list(tmp_path.iterdir())
