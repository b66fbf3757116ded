# SPDX-License-Identifier: Apache-2.0
"""Probabilities of actions from two heads."""

from __future__ import annotations

import numpy as np
import pytest

from karmma_ros.scoring import joint_probabilities, probabilities

ACTIONS = [(0, 0), (1, 1), (1, 2), (2, 2)]


def test_an_action_scores_the_product_of_its_parts_among_the_valid_pairs() -> None:
    rng = np.random.default_rng(0)
    verb, noun = rng.standard_normal((5, 3)), rng.standard_normal((5, 3))
    temperature = {"verb": 0.7, "noun": 2.0}
    scores = joint_probabilities(verb, noun, ACTIONS, temperature)
    p, q = np.exp(verb / 0.7), np.exp(noun / 2.0)
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    products = np.stack([p[:, v] * q[:, n] for v, n in ACTIONS], axis=1)
    assert scores == pytest.approx(products / products.sum(1, keepdims=True))
    assert scores.shape == (5, 4)


def test_confident_heads_that_contradict_each_other_still_give_probabilities() -> None:
    # Verb 0 goes with noun 0 only, and noun 0 has no probability that a float could hold.
    verb = np.array([[2_000.0, 0.0, 0.0]], dtype=np.float32)
    noun = np.array([[0.0, 2_000.0, 0.0]], dtype=np.float32)
    scores = joint_probabilities(verb, noun, ACTIONS)
    assert scores.sum() == pytest.approx(1.0)
    assert scores[0] == pytest.approx([0.5, 0.5, 0.0, 0.0])


def test_a_higher_temperature_is_less_sure_but_ranks_the_same() -> None:
    logits = np.array([3.0, 1.0, 2.0], dtype=np.float32)
    sharp, flat = probabilities(logits), probabilities(logits, 4.0)
    assert sharp.max() > flat.max()
    assert np.argsort(sharp).tolist() == np.argsort(flat).tolist()
    assert flat.sum() == pytest.approx(1.0)
