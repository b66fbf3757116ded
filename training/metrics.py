# SPDX-License-Identifier: Apache-2.0
"""Accuracies of a set of predictions, and the temperatures that make their probabilities honest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from karmma_ros.scoring import joint_probabilities, probabilities
from karmma_training.data.labels import Labels

__all__ = ["accuracies", "action_probabilities", "fit_temperatures"]

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]


def action_probabilities(logits: Mapping[str, Floats], labels: Labels, temperature: Mapping[str, float]) -> Floats:
    """Probabilities of the valid actions, as the recogniser computes them.  {head: (n, C)} -> (n, A)"""
    if set(labels.heads) == {"verb", "noun"}:
        return joint_probabilities(logits["verb"], logits["noun"], labels.actions, temperature)
    (head,) = labels.heads
    return probabilities(logits[head], temperature.get(head, 1.0))[:, labels.actions[:, 0]]


def accuracies(
    logits: Mapping[str, Floats],
    targets: Ints,
    settled: npt.NDArray[np.bool_],
    labels: Labels,
    temperature: Mapping[str, float],
) -> dict[str, float]:
    """Top-1 accuracies of n predictions.

    :param logits: {head: (n, C)}; a row of NaN is "no prediction" and counts as wrong.
    :param targets: (n, heads).
    :param settled: (n,) True where the label does not change within half a second.
    :return: action (joint over valid pairs), action_settled, action_independent (each head's own arg-max, as the paper
        counts), and one entry per head.
    """
    rows = np.asarray(np.isfinite(next(iter(logits.values()))).all(axis=1))
    clean = {head: np.where(rows[:, None], values, 0) for head, values in logits.items()}
    joint = action_probabilities(clean, labels, temperature).argmax(1)
    right = np.asarray(rows & (joint == labels.action_ids(targets)))
    heads = {h: rows & (clean[h].argmax(1) == targets[:, i]) for i, h in enumerate(labels.heads)}
    out = {
        "action": right.mean(),
        "action_settled": right[settled].mean() if settled.any() else 0.0,
        "action_independent": np.logical_and.reduce(list(heads.values())).mean(),
        **{h: hit.mean() for h, hit in heads.items()},
    }
    return {k: float(v) for k, v in out.items()}


def fit_temperatures(logits: Mapping[str, Floats], targets: Ints) -> dict[str, float]:
    """Per head the temperature with the least negative log-likelihood (Guo et al., 2017), within [0.25, 4]."""
    out = {}
    for i, (head, values) in enumerate(logits.items()):
        rows = ~np.isnan(values).any(1)
        x, y = torch.from_numpy(values[rows]).double(), torch.from_numpy(targets[rows, i])
        grid = torch.logspace(-2, 2, 161, base=2, dtype=torch.float64)  # steps of 2.5 %
        losses = torch.stack([F.cross_entropy(x / t, y) for t in grid])
        out[head] = round(float(grid[losses.argmin()]), 4)
    return out
