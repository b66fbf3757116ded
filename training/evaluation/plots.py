# SPDX-License-Identifier: Apache-2.0
"""Pictures of an evaluation and of a comparison, as PNG."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from karmma_ros.files import whole_file
from karmma_training.evaluation.patterns import initials

__all__ = ["plot_comparison", "plot_confusion", "plot_evaluation", "plot_profile", "plot_segments", "plot_training"]

# distinguishable also in grey and by colour-blind readers (Okabe and Ito)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
INK = "#333333"


def plot_evaluation(report: Mapping[str, Any], path: Path) -> None:
    """Accuracy per modality subset, the dropout curve and calibration side by side."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    bars, curve, reliability = figure.subplots(1, 3, width_ratios=[1.5, 1.1, 1])
    heads = list(report["heads"])
    columns = list(dict.fromkeys(["action", *heads]))
    _bars(bars, report["subsets"], columns)
    _curve(curve, report["dropout_curve"], "a whole modality, each", COLOURS[0])
    for colour, (what, lost) in zip(COLOURS[1:], report.get("losses", {}).items(), strict=False):
        values = 100 * np.asarray(lost["action"])
        curve.plot(lost["share"], values, marker="s", markersize=3, color=colour, label=f"single {what}")
    curve.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 0.08))
    curve.axhline(100 * report["majority_share"], color=INK, linewidth=0.8, linestyle=":")
    curve.annotate(
        "commonest class", (0.9, 100 * report["majority_share"]), (0, 3), textcoords="offset points", ha="right", size=8
    )
    curve.set_title("accuracy against the probability of failing", size=10)
    _reliability(reliability, report["calibration"])
    figure.suptitle(f"{report['target']}: {report['data']} {report['split']}, {report['minutes']:.1f} min", size=11)
    _save(figure, path)


def plot_segments(report: Mapping[str, Any], path: Path) -> None:
    """Accuracy on annotated actions per modality subset, and the dropout curve, side by side."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    bars, curve = figure.subplots(1, 2, width_ratios=[1.5, 1.1])
    counted = [name.removesuffix("_top5") for name in next(iter(report["subsets"].values())) if name.endswith("_top5")]
    rows = {name: {**row, "action": row["action_independent"]} for name, row in report["subsets"].items()}
    _bars(bars, rows, list(dict.fromkeys(["action", *counted])))
    _curve(curve, report["dropout_curve"], "action, each head's best", COLOURS[0])
    curve.set_title("accuracy against the probability of failing", size=10)
    views = f"{report['clips']} clips x {report['crops']} crops"
    figure.suptitle(
        f"{report['target']}: {report['data']} {report['split']}, {report['actions']} actions, {views}", size=11
    )
    _save(figure, path)


def plot_confusion(report: Mapping[str, Any], path: Path) -> None:
    """How often each class (row) was called each other, all sensors on, per label head."""
    matrices = report["confusion"]
    sizes = [len(names) for names in report["heads"].values()]
    figure = Figure(figsize=(sum(2.2 + 0.3 * n for n in sizes), 2 + 0.3 * max(sizes)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(sizes), width_ratios=sizes))
    for axis, (head, names) in zip(axes, report["heads"].items(), strict=True):
        counts = np.asarray(matrices[head], float)
        shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axis.set_xticks(range(len(names)), names, rotation=90, size=8)
        axis.set_yticks(range(len(names)), names, size=8)
        axis.set_xlabel("called")
        axis.set_ylabel("is")
        axis.set_title(f"{head}, % of its windows", size=10)
        if len(names) <= 30:
            for i, j in zip(*np.nonzero(shares >= 0.01), strict=True):
                colour = "white" if shares[i, j] > 0.5 else INK
                axis.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", size=7, color=colour)
    _save(figure, path)


def plot_comparison(curves: Mapping[str, Sequence[Mapping[str, Any]]], title: str, path: Path) -> None:
    """The paper's curve figure.

    :param curves: {system: one dropout curve per seed}; line: mean over seeds, shade: their standard deviation.
    """
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axis = figure.subplots()
    for colour, (name, seeds) in zip(COLOURS, curves.items(), strict=False):
        values = 100 * np.asarray([c["mean"] for c in seeds])
        mean, spread = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
        p = seeds[0]["p"]
        axis.plot(p, mean, marker="o", markersize=4, color=colour, label=name)
        axis.fill_between(p, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)
    _axis(axis, "probability that a modality fails", "action accuracy, %")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
    axis.set_title(title, size=10)
    _save(figure, path)


def plot_training(runs: Mapping[str, Path], path: Path) -> None:
    """Loss, and action accuracy on the validation split with all sensors and over all subsets, epoch by epoch.

    :param runs: {name: metrics.csv of the run}.
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for colour, (name, source) in zip(COLOURS, runs.items(), strict=False):
        with source.open(newline="") as file:
            rows = list(csv.DictReader(file))
        loss.plot([int(r["epoch"]) for r in rows], [float(r["loss"]) for r in rows], "o-", color=colour, label=name)
        judged = [row for row in rows if row.get("action")]
        epochs = [int(row["epoch"]) for row in judged]
        for key, style, what in (("action", "o-", "all sensors"), ("score", "o:", "mean of all subsets")):
            values = [100 * float(row[key]) for row in judged]
            accuracy.plot(epochs, values, style, color=colour, label=f"{name}, {what}")
    for axis, y in ((loss, "loss"), (accuracy, "action accuracy on validation, %")):
        _axis(axis, "epoch", y)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    accuracy.set_ylim(0, 100)
    loss.set_ylim(bottom=0)
    loss.legend(frameon=False, fontsize=8)
    accuracy.legend(frameon=False, fontsize=8, loc="lower right")
    _save(figure, path)


def _bars(axis: Axes, subsets: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> None:
    names = [initials(name) for name in subsets]
    width = 0.8 / len(columns)
    for i, (column, colour) in enumerate(zip(columns, COLOURS, strict=False)):
        values = [100 * scores[column] for scores in subsets.values()]
        drawn = axis.bar(np.arange(len(names)) + (i - (len(columns) - 1) / 2) * width, values, width, color=colour)
        drawn.set_label(column)
        if i == 0:
            axis.bar_label(drawn, fmt="%.0f", size=8, padding=1)
    axis.set_xticks(range(len(names)), names)
    axis.set_ylim(0, 105)
    _axis(axis, "", "top-1 accuracy, %")
    axis.legend(frameon=False, ncols=len(columns), loc="upper right", fontsize=8)
    axis.set_title("sensors that work", size=10)


def _curve(axis: Axes, curve: Mapping[str, Any], label: str, colour: str) -> None:
    mean, low, high = (100 * np.asarray(curve[name]) for name in ("mean", "low", "high"))
    axis.plot(curve["p"], mean, marker="o", markersize=4, color=colour, label=label)
    axis.fill_between(curve["p"], low, high, color=colour, alpha=0.2, linewidth=0)
    axis.set_ylim(0, 105)
    _axis(axis, "p", "action accuracy, %")


def _reliability(axis: Axes, calibration: Mapping[str, Mapping[str, Any]]) -> None:
    axis.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=":")
    full = next(iter(calibration))
    alone = [name for name in calibration if "+" not in name]
    for colour, name in zip(COLOURS, [full, *alone], strict=False):
        c = calibration[name]
        points = [
            (100 * x, 100 * y)
            for x, y, share in zip(c["confidence"], c["accuracy"], c["share"], strict=True)
            if x is not None and share > 0.005
        ]
        if points:
            axis.plot(
                *zip(*points, strict=True),
                marker="o",
                markersize=3,
                color=colour,
                label=f"{name}: {100 * c['ece']:.1f}",
            )
    axis.set_xlim(0, 100)
    axis.set_ylim(0, 100)
    _axis(axis, "score, %", "how often right, %")
    axis.legend(frameon=False, fontsize=8, title="calibration error, points", title_fontsize=8)
    axis.set_title("is the score honest?", size=10)


def _axis(axis: Axes, x: str, y: str) -> None:
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def plot_profile(report: Mapping[str, Any], path: Path) -> None:
    """GFLOPs, and memory where it was measured, of teacher and student per subset, beside the paper's bars."""
    systems, paper = report["systems"], report["paper"]
    panels = [("gflops", "GFLOPs per window", 1.0, "gflops")]
    panels += [("megabytes", "memory [GB]", 1e-3, "gigabytes")] if report["runs"] else []
    figure = Figure(figsize=(5.2 * len(panels) + 1.5, 3.8), layout="constrained")
    for axis, (name, title, unit, published) in zip(
        np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True
    ):
        subsets = list(next(iter(systems.values())))
        places = np.arange(len(subsets))
        width = 0.8 / len(systems)
        for i, (system, rows) in enumerate(systems.items()):
            left = places + (i - (len(systems) - 1) / 2) * width
            axis.bar(left, [unit * rows[s][name] for s in subsets], width, color=COLOURS[i], label=system)
            if paper:
                values = [paper[published][system].get(s, np.nan) for s in subsets]  # its bars are those of V, F and A
                label = "the paper's values" if i == 0 else None
                axis.plot(left, values, linestyle="", marker="_", markersize=16, color=INK, label=label)
        axis.set_xticks(places, subsets)
        axis.set_title(title, size=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{report['preset']} preset; memory on {report['device']}" if report["runs"] else "", size=10)
    _save(figure, path)
