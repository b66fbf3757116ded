# SPDX-License-Identifier: Apache-2.0
"""What every benchmark is given, and what it gives back."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import Progress

from karmma_ros.bundle import Bundle

__all__ = ["Report", "Settings", "Table", "precisions", "take_turns"]


@dataclass(frozen=True)
class Settings:
    """quick: a minute in all, to see that it works; its numbers mean little. providers: see `runtime.Engine`."""

    bundle: Bundle
    threads: int
    quick: bool
    console: Console
    providers: str = "cpu"


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


def precisions(bundle: Bundle) -> set[str]:
    """Those that its graphs have."""
    return {spec.precision for spec in (*bundle.modalities.values(), bundle.fusion)}


def take_turns(
    steps: Mapping[str, Callable[[int], Any]], rounds: int, count: int, progress: Progress, what: str
) -> dict[str, float]:
    """{name: ms a step}: in every round each does `count` steps, numbered on; of the rounds' means the median."""
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for number in progress.track(range(rounds), description=what):
        for name, step in steps.items():
            begun = time.perf_counter()
            for index in range(number * count, (number + 1) * count):
                step(index)
            spent[name].append((time.perf_counter() - begun) / count)
    return {name: round(1e3 * statistics.median(values), 4) for name, values in spent.items()}
