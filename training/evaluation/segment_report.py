# SPDX-License-Identifier: Apache-2.0
"""The report on one prediction per annotated action: modality subsets, the dropout curve, a challenge's counting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from karmma_ros.errors import UsageError
from karmma_training.data.labels import Labels
from karmma_training.data.recording import Recording
from karmma_training.evaluation.dropout_curve import by_key, dropout_curve
from karmma_training.evaluation.metrics import accuracies, score
from karmma_training.evaluation.patterns import initials, subsets
from karmma_training.evaluation.predictor import Predictor
from karmma_training.evaluation.report import print_curve
from karmma_training.evaluation.segments import SegmentLogits, predict_segments

__all__ = ["evaluate_segments", "print_segments"]


def evaluate_segments(
    predictor: Predictor, recordings: Sequence[Recording], *, clips: int, crops: int, seed: int, console: Console
) -> tuple[dict[str, Any], dict[str, SegmentLogits]]:
    """Measure a model on annotated actions; plain values for JSON, and the predictions per subset.

    The curve counts as the paper does: an action is right where each head's best class is.

    :param seed: of the modalities that fail.
    :raises UsageError: the actions have no labels.
    """
    if any((recording.targets < 0).any() for recording in recordings):  # before hours of predictions
        raise UsageError("these actions have no labels: choose another --split, or write a --submission")
    modalities = list(predictor.specs)
    names = list(subsets(modalities))
    predictions = predict_segments(predictor, recordings, clips=clips, crops=crops, subsets=names, console=console)
    full = predictions[names[0]]
    scored = {
        name: score(*result.arrays(), predictor.labels, predictor.temperature) for name, result in predictions.items()
    }
    recorded = np.stack([scored[m].predicted for m in modalities], 1)  # what a modality alone answers, it was there for
    numbers = np.repeat(by_key(recordings), [len(recording.starts) for recording in recordings])
    report = {
        "actions": len(full.targets),
        "clips": clips,
        "crops": crops,
        "temperature": dict(predictor.temperature),
        "subsets": {name: accuracies(scored[name]) for name in names},
        "dropout_curve": dropout_curve(
            {name: scored[name].independent for name in names}, recorded, numbers, modalities, seed
        ),
    }
    return report, predictions


def print_segments(console: Console, report: Mapping[str, Any], labels: Labels) -> None:
    """The report as tables."""
    heads = [head for head in labels.heads if len(labels.heads) > 1]
    views = f"{report['clips']} clips x {report['crops']} crops"
    table = Table(title=f"{report['actions']} actions, {views}, top-1 (top-5) [%]")
    table.add_column("sensors")
    for column in ("action, each head's best", "action, best valid pair", *heads):
        table.add_column(column, justify="right")
    for subset, row in report["subsets"].items():
        cells = [f"{100 * row['action_independent']:.2f}", _both(row, "action"), *(_both(row, head) for head in heads)]
        table.add_row(initials(subset), *cells)
    console.print(table)
    print_curve(console, report["dropout_curve"])
    if "challenge" in report:
        table = Table(title="as the challenge counts, all sensors [%]")
        table.add_column("")
        for head in ("verb", "noun", "action"):
            table.add_column(head, justify="right")
        for part, row in report["challenge"].items():
            table.add_row(part, *(_both(row, head) for head in ("verb", "noun", "action")))
        console.print(table)


def _both(row: Mapping[str, float], name: str) -> str:
    """Top-1, and top-5 where it was counted."""
    first = row[name]
    if first is None or np.isnan(first):
        return "none"
    return f"{100 * first:.2f}" + (f" ({100 * row[f'{name}_top5']:.2f})" if f"{name}_top5" in row else "")
