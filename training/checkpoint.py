# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: a file of tensors and, beside it, a readable JSON; each appears whole or not at all.

Loaded with `weights_only=True`: a checkpoint from elsewhere cannot run code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from karmma_ros.errors import UsageError
from karmma_ros.files import whole_file, write_json
from karmma_training.config import Config, load_config
from karmma_training.data.labels import Labels
from karmma_training.model import Student

__all__ = ["load_student", "load_tensors", "save_tensors"]


def save_tensors(path: Path, state: dict[str, Any], about: dict[str, Any] | None = None) -> None:
    """Write `state` to `path` and `about` to the JSON of the same name."""
    with whole_file(path) as temporary:
        torch.save(state, temporary)
    if about is not None:
        write_json(path.with_suffix(".json"), about)


def load_tensors(path: Path) -> dict[str, Any]:
    """Read what `save_tensors` wrote.

    :raises UsageError: missing or damaged file.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UsageError(f"cannot read checkpoint {path}: {str(error).splitlines()[0]}") from error
    return state


def load_student(run: Path) -> tuple[Student, Config, Labels, dict[str, Any]]:
    """The best weights of a run folder, in evaluation mode, with its configuration, labels and the checkpoint's JSON.

    :raises UsageError: not a run folder, or it holds no finished epoch yet.
    """
    if not (run / "config.yaml").is_file():
        raise UsageError(f"{run} is not a run folder: it has no config.yaml")
    if not (run / "best.pt").is_file():
        raise UsageError(f"{run} has no best.pt yet: train at least until the first validation")
    config = load_config(run / "config.yaml")
    about = json.loads((run / "best.json").read_text())
    labels = Labels.from_json(about["labels"])
    student = Student(config, labels.sizes())
    try:
        student.load_state_dict(load_tensors(run / "best.pt")["weights"])
    except RuntimeError as error:
        raise UsageError(f"{run}/best.pt does not fit its config.yaml: {str(error).splitlines()[0]}") from error
    return student.eval(), config, labels, about
