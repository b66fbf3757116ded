# SPDX-License-Identifier: Apache-2.0
"""Accuracies of a set of predictions, and the temperatures that make their probabilities honest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from karmma_ros.scoring import joint_probabilities, probabilities
from karmma_training.data.labels import Labels

__all__ = ["Scored", "accuracies", "action_probabilities", "calibration", "confusion", "fit_temperatures", "score"]

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]


def action_probabilities(logits: Mapping[str, Floats], labels: Labels, temperature: Mapping[str, float]) -> Floats:
    """Probabilities of the valid actions, as the recogniser computes them.  {head: (n, C)} -> (n, A)"""
    if set(labels.heads) == {"verb", "noun"}:
        return joint_probabilities(logits["verb"], logits["noun"], labels.actions, temperature)
    (head,) = labels.heads
    return probabilities(logits[head], temperature.get(head, 1.0))[:, labels.actions[:, 0]]


@dataclass(frozen=True)
class Scored:
    """n predictions beside the truth.

    classes: {head: (n, C)} logits, 0 where there is no prediction; actions: (n, A) probabilities of the valid actions;
    targets: (n, heads); truth: (n,) index of the true action, -1 where it is no valid one; predicted: (n,) False where
    the model had no answer, which counts as wrong; settled: (n,) True where the label does not change within half a
    second.
    """

    classes: dict[str, Floats]
    actions: Floats
    targets: Ints
    truth: Ints
    predicted: npt.NDArray[np.bool_]
    settled: npt.NDArray[np.bool_]

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Where the most probable valid action is the true one.  -> (n,)"""
        return np.asarray(self.predicted & (self.actions.argmax(1) == self.truth))

    @property
    def independent(self) -> npt.NDArray[np.bool_]:
        """Where every head's own best class is the true one, as the paper counts.  -> (n,)"""
        return np.logical_and.reduce(list(self.heads_right.values()))

    @cached_property
    def heads_right(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Where each head's best class is the true one.  -> {head: (n,)}"""
        return {
            head: self.predicted & (values.argmax(1) == self.targets[:, i])
            for i, (head, values) in enumerate(self.classes.items())
        }


def score(
    logits: Mapping[str, Floats],
    targets: Ints,
    settled: npt.NDArray[np.bool_],
    labels: Labels,
    temperature: Mapping[str, float],
) -> Scored:
    """Put predictions beside the truth.

    :param logits: {head: (n, C)}; a row of NaN is "no prediction".
    :param targets: (n, heads); settled: (n,).
    """
    rows = np.asarray(np.isfinite(next(iter(logits.values()))).all(axis=1))
    clean = {head: np.where(rows[:, None], values, 0) for head, values in logits.items()}
    actions = action_probabilities(clean, labels, temperature)
    return Scored(clean, actions, targets, labels.action_ids(targets), rows, settled)


def accuracies(scored: Scored) -> dict[str, float]:
    """Shares of n predictions.

    :return: action (joint over valid pairs), action_top5, action_settled, action_independent (each head's own arg-max,
        as the paper counts), then top-1 and top-5 of every head; ece, the expected calibration error of the action.
    """
    s = scored
    out: dict[str, Any] = {
        "action": s.right.mean(),
        "action_top5": (s.predicted & _among_best(s.actions, s.truth)).mean(),
        "action_settled": s.right[s.settled].mean() if s.settled.any() else 0.0,
        "action_independent": s.independent.mean(),
        **{h: hit.mean() for h, hit in s.heads_right.items()},
        **{
            f"{h}_top5": (s.predicted & _among_best(v, s.targets[:, i])).mean()
            for i, (h, v) in enumerate(s.classes.items())
        },
        "ece": calibration(s)["ece"],
    }
    return {k: float(v) for k, v in out.items()}


def _among_best(values: Floats, truth: Ints, count: int = 5) -> npt.NDArray[np.bool_]:
    """Whether fewer than `count` others rank above the true class.  (n, C), (n,) -> (n,)"""
    own = np.take_along_axis(values, np.maximum(truth, 0)[:, None], 1)
    return np.asarray((truth >= 0) & ((values > own).sum(1) < count))


def calibration(scored: Scored, bins: int = 15) -> dict[str, Any]:
    """Expected calibration error of the most probable action (Guo et al., 2017), bins of equal width.

    :return: ece; and per bin share, confidence and accuracy (None where the bin is empty).
    """
    confidence = scored.actions.max(1)[scored.predicted]
    right = scored.right[scored.predicted]
    where = np.minimum((confidence * bins).astype(int), bins - 1)
    share, sure, hit = (np.bincount(where, weights=w, minlength=bins) for w in (np.ones(len(where)), confidence, right))
    filled = share > 0
    ece = float(np.abs(sure - hit).sum() / max(1, len(where)))
    return {
        "ece": ece,
        "share": (share / max(1, len(where))).round(5).tolist(),
        "confidence": [round(c / n, 5) if f else None for c, n, f in zip(sure, share, filled, strict=True)],
        "accuracy": [round(h / n, 5) if f else None for h, n, f in zip(hit, share, filled, strict=True)],
    }


def confusion(scored: Scored) -> dict[str, Ints]:
    """How often class i (row) was called j, per head.  -> {head: (C, C)}"""
    out = {}
    for i, (head, values) in enumerate(scored.classes.items()):
        matrix = np.zeros((values.shape[1],) * 2, np.int64)
        rows = scored.predicted
        np.add.at(matrix, (scored.targets[rows, i], values[rows].argmax(1)), 1)
        out[head] = matrix
    return out


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
