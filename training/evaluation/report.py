# SPDX-License-Identifier: Apache-2.0
"""An evaluation as the paper does it: every modality subset, the dropout curve, calibration, confusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from karmma_training.data.labels import Labels
from karmma_training.data.recording import Recording
from karmma_training.evaluation.dropout_curve import by_key, dropout_curve
from karmma_training.evaluation.evaluate import Logits, encode_recording, predict
from karmma_training.evaluation.metrics import accuracies, calibration, confusion, score
from karmma_training.evaluation.patterns import demo_patterns, initials, loss_patterns, outage_patterns, subsets
from karmma_training.evaluation.predictor import Predictor
from karmma_training.progress import progress_bar

__all__ = ["evaluate", "print_curve", "print_report"]


def evaluate(
    predictor: Predictor,
    recordings: list[Recording],
    *,
    every: int,
    seed: int,
    console: Console,
    losses: bool = True,
) -> dict[str, Any]:
    """Measure a model; plain values, for JSON.

    :param every: predict at every so many frames.
    :param losses: also with single frames and chunks of sound lost.
    """
    modalities = list(predictor.specs)
    patterns = subsets(modalities)
    failures = demo_patterns(seed) if set(modalities) == {"video", "flow", "audio"} else {}
    context_s = predictor.contexts["audio"].count / recordings[0].rate if "audio" in modalities else 0.0
    outages = outage_patterns(modalities, context_s, seed)
    lost = loss_patterns(context_s, seed) if failures and losses else {}
    results: dict[Any, Logits] = {name: Logits() for name in (*patterns, *failures, *lost, *outages)}
    with progress_bar(console) as bar:
        task = bar.add_task("evaluating", total=len(recordings), note="")
        for number, recording in enumerate(recordings):
            encoded = encode_recording(predictor, recording, every=every)
            for group in (patterns, failures, lost, outages):
                for name, pattern in group.items():
                    results[name].add(predict(predictor, encoded, pattern(encoded, number)), encoded)
            bar.advance(task)
    labels = predictor.labels
    scored = {name: score(*result.arrays(), labels, predictor.temperature) for name, result in results.items()}
    full = scored["+".join(modalities)]
    numbers, recorded = results["+".join(modalities)].recordings()
    shares = np.bincount(full.truth[full.truth >= 0], minlength=len(labels.actions)) / max(1, (full.truth >= 0).sum())
    return {
        "minutes": round(sum(r.labelled_s for r in recordings) / 60, 3),
        "recordings": len(recordings),
        "windows": len(full.truth),
        "temperature": dict(predictor.temperature),
        "subsets": {name: accuracies(scored[name]) for name in patterns},
        "patterns": {name: accuracies(scored[name]) for name in failures},
        "dropout_curve": dropout_curve(
            {name: scored[name].right for name in patterns}, recorded, by_key(recordings)[numbers], modalities, seed
        ),
        "losses": _losses({which: accuracies(scored[which])["action"] for which in lost}, accuracies(full)["action"]),
        "outages": {
            "share": [0.0, *outages],
            "action": [accuracies(full)["action"], *(accuracies(scored[share])["action"] for share in outages)],
        },
        "calibration": {name: calibration(scored[name]) for name in patterns},
        "confusion": {head: matrix.tolist() for head, matrix in confusion(full).items()},
        "majority_share": float(shares.max()),
        "classes": {labels.action_name(i): round(float(s), 5) for i, s in enumerate(shares)},
        "heads": {head: list(names) for head, names in labels.heads.items()},
    }


def _losses(accuracy: Mapping[tuple[str, float], float], nothing_lost: float) -> dict[str, dict[str, list[float]]]:
    """{(what, share): accuracy} -> {what: {"share": [...], "action": [...]}}, from nothing lost on."""
    curves: dict[str, dict[str, list[float]]] = {}
    for (what, share), value in accuracy.items():
        curve = curves.setdefault(what, {"share": [0.0], "action": [nothing_lost]})
        curve["share"].append(share)
        curve["action"].append(value)
    return curves


def print_report(console: Console, report: Mapping[str, Any], labels: Labels) -> None:
    """The report as tables."""
    both = list(dict.fromkeys(["action", *labels.heads]))
    table = Table(title=f"{report['data']} {report['split']}, {report['minutes']:.1f} min: % right, top-1 / top-5")
    table.add_column("sensors")
    for column in [*both, "settled", "independent", "ECE"]:
        table.add_column(column, justify="right")
    for section in ("subsets", "patterns"):
        for name, s in report[section].items():
            cells = [f"{100 * s[c]:.1f} / {100 * s[f'{c}_top5']:.0f}" for c in both]
            cells += [f"{100 * s[c]:.1f}" for c in ("action_settled", "action_independent", "ece")]
            table.add_row(initials(name) if section == "subsets" else name, *cells)
        table.add_section()
    console.print(table)
    print_curve(console, report["dropout_curve"])
    if report["losses"]:
        shares = next(iter(report["losses"].values()))["share"]
        table = Table(title="action accuracy in % when a share of the samples is lost, one by one")
        for column in ("lost", *(f"{100 * share:.0f} %" for share in shares)):
            table.add_column(column, justify="right")
        for what, lost in report["losses"].items():
            table.add_row(what, *(f"{100 * value:.1f}" for value in lost["action"]))
        console.print(table)
    table = Table(title="action accuracy in % when every sensor comes and goes")
    for column in ("out for", *(f"{100 * share:.0f} %" for share in report["outages"]["share"])):
        table.add_column(column, justify="right")
    table.add_row("", *(f"{100 * value:.1f}" for value in report["outages"]["action"]))
    console.print(table)
    console.print(f"majority class: {100 * report['majority_share']:.1f} %")


def print_curve(console: Console, curve: Mapping[str, Any]) -> None:
    """A dropout curve as a table, and its area."""
    table = Table(title="action accuracy in % when every modality fails with probability p")
    for column in ("p", "accuracy", "95 % band"):
        table.add_column(column, justify="right")
    for p, middle, low, high in zip(*(curve[c] for c in ("p", "mean", "low", "high")), strict=True):
        table.add_row(f"{p:.1f}", f"{100 * middle:.1f}", f"{100 * low:.1f} to {100 * high:.1f}")
    console.print(table)
    console.print(f"area under the curve: {100 * curve['area']:.1f} %")
