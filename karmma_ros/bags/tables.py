# SPDX-License-Identifier: Apache-2.0
"""Predictions as CSV: one line each, for spreadsheets and pandas."""

from __future__ import annotations

from collections.abc import Sequence

from karmma_ros.records import PredictionRecord, Scored

__all__ = ["csv_header", "csv_row"]

_FIXED = ("stamp_ns", "t_s", "status", "trigger", "action", "score", "verb", "verb_score", "noun", "noun_score")


def csv_header(modalities: Sequence[str], *, truth: bool) -> list[str]:
    """The columns. `truth`: with the true action, empty where nothing is labelled."""
    columns = [*_FIXED, *(["truth"] if truth else []), "coverage"]
    for name in modalities:
        columns += [f"{name}_state", f"{name}_coverage"]
    return columns


def csv_row(record: PredictionRecord, modalities: Sequence[str], truth: str | None) -> list[object]:
    """The cells of a prediction; `truth` None: without that column."""
    cells: list[object] = [record.stamp_ns, f"{record.t_s:.6f}", record.status, record.trigger]
    for ranking in (record.actions, record.verbs, record.nouns):
        cells += _best(ranking)
    cells += [] if truth is None else [truth]
    cells.append(f"{record.coverage:.4f}")
    for name in modalities:
        cells += [record.sensors[name].state, f"{record.sensors[name].coverage:.4f}"]
    return cells


def _best(ranking: Sequence[Scored]) -> tuple[str, str]:
    return (ranking[0].name, f"{ranking[0].score:.6f}") if ranking else ("", "")
