# SPDX-License-Identifier: Apache-2.0
"""What the subcommands that recognise a recording have in common: progress, and what was seen longest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from karmma_ros.records import PredictionRecord

__all__ = ["progress_bar", "seen_longest"]

_SHOWN = 8  # actions


def progress_bar(console: Console) -> Progress:
    """A bar with the action that is being seen; its tasks have a field `action`."""
    columns = (BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[action]}"), console=console, transient=True)


def seen_longest(title: str, records: Sequence[PredictionRecord]) -> Table:
    """The actions of most predictions."""
    table = Table(title=f"{title}: what was seen longest", title_justify="left", title_style="bold")
    for heading in ("action", "share", "mean score", "first at"):
        table.add_column(heading, justify="left" if heading == "action" else "right")
    said = Counter(record.actions[0].name for record in records if record.actions)
    for name, count in said.most_common(_SHOWN):
        scores = [r.actions[0].score for r in records if r.actions and r.actions[0].name == name]
        first_s = next(r.t_s for r in records if r.actions and r.actions[0].name == name)
        table.add_row(name, f"{count / len(records):.0%}", f"{np.mean(scores):.0%}", f"{first_s:.1f} s")
    return table
