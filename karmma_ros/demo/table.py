# SPDX-License-Identifier: Apache-2.0
"""The demo's result as a table, beside what the bundle's own evaluation measured for the same sensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from karmma_ros.bundle import read_evaluation
from karmma_ros.demo.script import SensorScript

__all__ = ["offline_accuracies", "result_table"]


def offline_accuracies(bundle_folder: Path) -> dict[str, float]:
    """{sensor pattern: accuracy of actions} out of the bundle's evaluation.json; empty if it has none."""
    try:
        patterns = read_evaluation(bundle_folder)["patterns"]
        return {name: float(result["action"]) for name, result in patterns.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return {}  # it is beside the point of a demo


def result_table(summary: Mapping[str, Any], script: SensorScript, offline: Mapping[str, float]) -> Table:
    """One row for each phase and one for the whole."""
    judged = "accuracy" in summary["overall"]
    table = Table(title=f"bundle {summary['bundle']}", title_justify="left", title_style="bold")
    table.add_column("sensors", no_wrap=True)
    for heading in ("predictions/due", "rate", "p50", "p95", "p99 [ms]"):
        table.add_column(heading, justify="right", no_wrap=True)
    if judged:
        for heading in ("accuracy", "settled", "offline"):
            table.add_column(heading, justify="right", no_wrap=True)
    for phase, result in zip(script.phases, summary["phases"], strict=True):
        offline_share = offline.get(phase.pattern)
        table.add_row(*_cells(result, judged, _percent(offline_share)))
    table.add_section()
    table.add_row(*_cells(summary["overall"], judged, ""), style="bold")
    return table


def _cells(result: Mapping[str, Any], judged: bool, offline: str) -> list[str]:
    latency = result["latency_ms"]
    cells = [result["name"], f"{result['predictions']}/{result['due']}", f"{result['rate_hz']:.1f}"]
    cells += ["-" if latency[key] is None else f"{latency[key]:.1f}" for key in ("p50", "p95", "p99")]
    if judged:
        cells += [_percent(result["accuracy"]), _percent(result["accuracy_settled"]), offline]
    return cells


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
