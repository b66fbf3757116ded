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
    config: Config


def lineage(folder: Path, config: Config) -> list[Ancestor]:
    """In the order in which they were trained, the run itself last; a folder that is no longer there is left out."""
    runs = []
    teacher = config.distillation.teacher
    if teacher:
        source = folder / "teacher" if teacher == "own" else Path(teacher)
        if (source / "config.yaml").is_file():
            own = load_config(source / "config.yaml")
            runs += [*_extractors("the teacher's extractors", own), Ancestor("the teacher", source, own)]
    runs += _extractors(f"the {config.system}'s extractors", config)
    return [*runs, Ancestor(f"the {config.system}", folder, config)]


def from_scratch(config: Config) -> bool:
    """Whether a run saw rendered scenes alone and began with random weights: nobody else has a say in its licence."""
    return config.data.source == "tabletop" and not any(config.slots(m).weights for m in config.modalities)


def _extractors(title: str, config: Config) -> list[Ancestor]:
    source = Path(config.pretrain.extractors)
    if not config.pretrain.extractors or not (source / "config.yaml").is_file():
        return []
    return [Ancestor(title, source, load_config(source / "config.yaml"))]
