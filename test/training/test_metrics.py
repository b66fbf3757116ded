# SPDX-License-Identifier: Apache-2.0
"""Figures of an evaluation, against values computed by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from karmma_training.data.labels import Labels  # noqa: E402
from karmma_training.evaluation.dropout_curve import dropout_curve  # noqa: E402
from karmma_training.evaluation.evaluate import pooled_temperatures  # noqa: E402
from karmma_training.evaluation.metrics import accuracies, calibration, confusion, fit_temperatures, score  # noqa: E402

LABELS = Labels.from_names({"verb": ["a", "b"], "noun": ["x", "y"]}, [("a", "x"), ("b", "y")])
VERB = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [np.nan, np.nan]])
NOUN = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 1.0], [np.nan, np.nan]])
TARGETS = np.array([[0, 0], [1, 1], [1, 1], [0, 0]])
SETTLED = np.array([True, False, True, True])


def test_accuracies() -> None:
    got = accuracies(score({"verb": VERB, "noun": NOUN}, TARGETS, SETTLED, LABELS, {}))
    # row 1: verb alone says a, but a with y is no action: jointly b y wins. Row 3 has no prediction: wrong.
    want = {"action": 0.75, "action_settled": 2 / 3, "action_independent": 0.5, "verb": 0.5, "noun": 0.75}
    assert {k: got[k] for k in want} == pytest.approx(want)


def test_top5_counts_the_true_class_among_the_five_best() -> None:
    labels = Labels.from_names({"action": [f"c{i}" for i in range(8)]}, [(f"c{i}",) for i in range(8)])
    logits = -np.arange(8.0)[None].repeat(3, 0)  # best first
    got = accuracies(score({"action": logits}, np.array([[0], [4], [5]]), np.ones(3, bool), labels, {}))
    assert got["action"] == pytest.approx(1 / 3)
    assert got["action_top5"] == pytest.approx(2 / 3)


def test_calibration_error() -> None:
    labels = Labels.from_names({"action": ["p", "q"]}, [("p",), ("q",)])
    logits = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]]))
    scored = score({"action": logits}, np.array([[0], [1], [0], [0]]), np.ones(4, bool), labels, {})
    # two at 0.9 of which half are right, two at 0.6 of which all are right
    assert calibration(scored)["ece"] == pytest.approx(0.5 * abs(0.9 - 0.5) + 0.5 * abs(0.6 - 1.0))
    perfect = score({"action": np.log(np.array([[1 - 1e-9, 1e-9]]))}, np.array([[0]]), np.ones(1, bool), labels, {})
    assert calibration(perfect)["ece"] == pytest.approx(0, abs=1e-6)


def test_confusion_counts_rows_that_have_a_prediction() -> None:
    matrices = confusion(score({"verb": VERB, "noun": NOUN}, TARGETS, SETTLED, LABELS, {}))
    assert matrices["verb"].tolist() == [[1, 0], [1, 1]]
    assert matrices["noun"].tolist() == [[1, 0], [0, 2]]


def test_temperature_softens_an_overconfident_head() -> None:
    rng = np.random.default_rng(0)
    truth: Any = rng.integers(0, 4, 4000)
    logits = rng.standard_normal((4000, 4))
    logits[np.arange(4000), truth] += 1.0
    honest = fit_temperatures({"verb": logits}, truth[:, None])["verb"]
    loud = fit_temperatures({"verb": 2 * logits}, truth[:, None])["verb"]
    assert loud == pytest.approx(2 * honest, rel=0.06)


def test_temperatures_are_fitted_over_all_patterns_together() -> None:
    """A pattern that is loud about what it does not know is in it as often as the others."""
    rng = np.random.default_rng(0)
    truth: Any = rng.integers(0, 4, (4000, 1))
    logits = rng.standard_normal((4000, 4))
    knowing = logits.copy()
    knowing[np.arange(4000), truth[:, 0]] += 3.0
    answers = {
        name: SimpleNamespace(arrays=lambda values=values: ({"verb": values}, truth, np.ones(4000, bool)))
        for name, values in (("all", knowing), ("audio", 3 * logits))
    }
    fitted = pooled_temperatures(answers)["verb"]
    alone = {name: fit_temperatures(one.arrays()[0], truth)["verb"] for name, one in answers.items()}
    assert alone["all"] < fitted < alone["audio"]
    both = {"verb": np.concatenate([knowing, 3 * logits])}
    assert fitted == fit_temperatures(both, np.concatenate([truth, truth]))["verb"]


def test_the_dropout_curve_mixes_the_subsets_as_modality_dropout_draws_them() -> None:
    n = 4000
    modalities = ["video", "audio"]
    right = {  # both: always right; video: half; audio: never
        "video+audio": np.ones(n, bool),
        "video": np.arange(n) % 2 == 0,
        "audio": np.zeros(n, bool),
    }
    curve = dropout_curve(right, np.ones((n, 2), bool), np.arange(n) // 100, modalities, seed=0)
    for p, mean, low, high in zip(curve["p"], curve["mean"], curve["low"], curve["high"], strict=True):
        alone = p * (1 - p) + p * p / 2  # one dropped, or both and this one brought back
        assert mean == pytest.approx((1 - p) ** 2 + 0.5 * alone, abs=0.005), p
        assert low <= mean <= high
        # Bands are of videos: 100 windows that share one draw each; at 0 % nothing is drawn.
        assert (high - low > 0.01) == (p > 0), p
    assert curve["area"] == pytest.approx(np.mean(curve["mean"]))
    # a window that never had sound keeps its sight
    blind = dropout_curve(right, np.tile([True, False], (n, 1)), np.arange(n) // 100, modalities, seed=0)
    assert blind["mean"] == pytest.approx([0.5] * 10, abs=0.005)
