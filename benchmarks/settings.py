# SPDX-License-Identifier: Apache-2.0
"""What every benchmark is given, and what it gives back."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console

from karmma_ros.bundle import Bundle

__all__ = ["Report", "Settings", "Table", "milliseconds"]


@dataclass(frozen=True)
class Settings:
    """quick: a minute in all, to see that it works; its numbers mean little."""

    bundle: Bundle
    threads: int
    quick: bool
    console: Console


@dataclass(frozen=True)
class Table:
    """Rows of text under headings."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Report:
    """`data`: plain values, for JSON; `skipped`: what was left out, and why."""

    data: dict[str, Any]
    tables: list[Table]
    skipped: dict[str, str] = field(default_factory=dict)


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles of durations, in ms."""
    values = np.asarray(seconds) * 1e3
    names = {"p50": 50, "p95": 95, "p99": 99}
    result = {name: round(float(np.percentile(values, q)), 3) for name, q in names.items()}
    return result | {"max": round(float(values.max()), 3), "mean": round(statistics.fmean(values), 3)}
