# SPDX-License-Identifier: Apache-2.0
"""What a run leaves to read: log.txt, metrics.csv (a line an epoch) and TensorBoard events."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from karmma_ros.files import whole_file

__all__ = ["METRICS", "RunLog", "scores_by_epoch"]

METRICS = "metrics.csv"  # a line an epoch

ABOUT = """\
# A run of `karmma train`

{headline}

| file | what it is |
|---|---|
| `config.yaml` | every setting, resolved |
| `log.txt`, `metrics.csv`, `tensorboard/` | what happened, a line an epoch, curves (`tensorboard --logdir {folder}`) |
| `best.pt`, `best.json` | averaged weights of the best epoch in validation; its figures, temperatures and classes |
| `last.pt`, `last.json` | where the run stands; `stage0.pt` while stage 0 lasts |
| `teacher/` | the teacher's own run, where it was trained with this one |
| `evaluation.json` and pictures | what `karmma evaluate` measured |

    karmma train --out {folder} --resume
    karmma evaluate {folder}
    karmma export {folder} --out models/NAME
"""


class RunLog:
    """The readable files of a run folder; they appear with the first line.

    :param silent: write nothing: for all but one of the processes that train together.
    """

    def __init__(self, folder: Path, console: Console, *, silent: bool = False) -> None:
        self.folder, self.console, self.silent = folder, console, silent
        self._board: SummaryWriter | None = None

    def explain(self, headline: str) -> None:
        """Write the README.md that says what is in the folder."""
        if not self.silent:
            (self.folder / "README.md").write_text(ABOUT.format(headline=headline, folder=self.folder))

    def line(self, text: str) -> None:
        """To the terminal and into log.txt."""
        if self.silent:
            return
        self.console.print(text, soft_wrap=True)
        with (self.folder / "log.txt").open("a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Into TensorBoard; names with a slash share a panel."""
        if self.silent:
            return
        if self._board is None:  # events of steps that a resumed run repeats are hidden
            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step)
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """A line of metrics.csv; a column that appears later is added to the file."""
        if self.silent:
            return
        path = self.folder / METRICS
        rows: list[dict[str, Any]] = []
        if path.exists():
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
        _write(path, [*rows, dict(row)])

    def cut(self, step: int) -> None:
        """Drop the lines of epochs that ended after `step`: they are trained again."""
        path = self.folder / METRICS
        if path.exists():
            with path.open(newline="") as file:
                _write(path, [row for row in csv.DictReader(file) if int(row["step"]) <= step])

    def close(self) -> None:
        """Flush."""
        if self._board is not None:
            self._board.close()
            self._board = None


def scores_by_epoch(path: Path) -> list[tuple[int, float]]:
    """(epoch, mean accuracy over the modality subsets) of every validation, out of metrics.csv."""
    with path.open(newline="") as file:
        return [(int(row["epoch"]), float(row["score"])) for row in csv.DictReader(file) if row.get("score")]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    fields = list(dict.fromkeys(name for row in rows for name in row))
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)
