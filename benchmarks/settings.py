# SPDX-License-Identifier: Apache-2.0
"""What every benchmark is given, and what it gives back."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import Progress

from karmma_ros.bundle import Bundle, load_bundle
from karmma_ros.errors import BundleError

__all__ = ["Report", "Settings", "Table", "in_fp32", "median_ms", "take_turns"]


@dataclass(frozen=True)
class Settings:
    """quick: two minutes in all, to see that it works; its numbers mean little. providers: see `runtime.Engine`."""

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


def in_fp32(bundle: Bundle) -> Bundle | None:
    """The bundle itself, or the one named `NAME-fp32` that it was made from; None without one."""
    if bundle.precisions == {"fp32"}:
        return bundle
    try:
        exact = load_bundle(f"{bundle.name}-fp32")
    except BundleError:
        return None
    return exact if exact.precisions == {"fp32"} else None


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
    return {name: median_ms(values) for name, values in spent.items()}


def median_ms(means_s: Iterable[float]) -> float:
    """Of the rounds' means in seconds the median, in milliseconds."""
    return round(1e3 * statistics.median(means_s), 4)
