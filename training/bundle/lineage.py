# SPDX-License-Identifier: Apache-2.0
"""The runs that a run was made from: its teacher, and the extractors that each of them began with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from karmma_training.config import Config
from karmma_training.config_file import load_config

__all__ = ["Ancestor", "from_scratch", "lineage"]


@dataclass(frozen=True)
class Ancestor:
    """A run, and what it is to the run in question."""

    title: str
    folder: Path
    config: Config | None


def lineage(folder: Path, config: Config, title: str = "") -> list[Ancestor]:
    """In the order in which they were trained, the run itself last.

    A run that is named and no longer there stands in it without a configuration: nobody knows what it was made from.
    """
    title = title or f"the {config.system}"
    runs = []
    if config.distillation.teacher:
        teacher = folder / "teacher" if config.distillation.teacher == "own" else Path(config.distillation.teacher)
        runs += _of_run("the teacher", teacher)
    if config.pretrain.extractors:
        runs += _of_run(f"{title}'s extractors", Path(config.pretrain.extractors))
    return [*runs, Ancestor(title, folder, config)]


def from_scratch(run: Ancestor) -> bool:
    """Whether a run saw rendered scenes alone and began with random weights: nobody else has a say in its licence."""
    config = run.config
    if config is None or config.data.source != "tabletop":
        return False
    return not any(config.slots(m).weights for m in config.modalities)


def _of_run(title: str, folder: Path) -> list[Ancestor]:
    if not (folder / "config.yaml").is_file():
        return [Ancestor(title, folder, None)]
    return lineage(folder, load_config(folder / "config.yaml"), title)
