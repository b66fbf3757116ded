# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: a file of tensors and, beside it, a readable JSON; each appears whole or not at all.

Loaded with `weights_only=True`: a checkpoint from elsewhere cannot run code.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch

from karmma_ros.errors import UsageError
from karmma_ros.files import whole_file, write_json
from karmma_training import networks
from karmma_training.config import Config
from karmma_training.config_file import load_config
from karmma_training.data.labels import Labels
from karmma_training.data.store import source_digest
from karmma_training.networks.model import MultimodalModel, build_model

__all__ = ["extractors_digest", "load_extractors", "load_model", "load_tensors", "read_about", "save_tensors"]


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


def load_model(run: Path) -> tuple[MultimodalModel, Config, Labels, dict[str, Any]]:
    """The best weights of a run folder, in evaluation mode, with its configuration, labels and the checkpoint's JSON.

    :raises UsageError: not a run folder, it holds no finished epoch yet, or extractors alone.
    """
    config, weights, about, labels = _best(run)
    if config.system == "extractors":
        raise UsageError(f"{run} holds extractors alone: they name nothing until a teacher or a student is trained")
    model = build_model(config, labels.sizes())
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UsageError(f"{run}/best.pt does not fit its config.yaml: {str(error).splitlines()[0]}") from error
    return model.eval(), config, labels, about


def load_extractors(model: MultimodalModel, run: Path) -> str:
    """Give a model the extractors of a run, whatever its system and classes.

    :return: a line on what was loaded.
    :raises UsageError: unreadable run, or a modality whose extractor is another network.
    """
    weights = _best(run)[1]
    counts = []
    for m, extractor in model.extractors.items():
        prefix = f"extractors.{m}."
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        if not own:
            raise UsageError(f"{run} has no extractor for {m}")
        try:
            extractor.load_state_dict(own)
        except RuntimeError as error:
            reason = " ".join(line.strip() for line in str(error).splitlines()[1:2])
            raise UsageError(f"{run}: its {m} extractor is another network: {reason}") from error
        counts.append(f"{m} {len(own)} tensors")
    return f"extractors of {run}: {', '.join(counts)}; none missing, none left over"


def extractors_digest(model: MultimodalModel) -> str:
    """Digest of the extractors: weights, settings and code. Equal digests, equal tokens."""
    digest = hashlib.sha256(source_digest(*Path(networks.__file__).parent.glob("*.py")).encode())
    digest.update(repr(sorted(model.settings.items())).encode())
    for name, value in model.extractors.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def read_about(path: Path) -> tuple[dict[str, Any], Labels]:
    """best.json: what it says, and the class names in it.

    :raises UsageError: unreadable, or not such a file.
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(about, dict):
            raise ValueError("not an object")
        about = {"temperature": {}, **about}
        labels = Labels.from_json(about.get("labels", {}))
        if not all(isinstance(t, float | int) and 0 < t < math.inf for t in about["temperature"].values()):
            raise ValueError("a temperature that is not a positive number")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise UsageError(f"cannot read {path}: {error}: it belongs to best.pt, so restore both") from error
    return about, labels


def _best(run: Path) -> tuple[Config, dict[str, Any], dict[str, Any], Labels]:
    """Configuration, weights, JSON and class names of a run's best checkpoint."""
    if not (run / "config.yaml").is_file():
        raise UsageError(f"{run} is not a run folder: it has no config.yaml")
    if not (run / "best.pt").is_file():
        raise UsageError(f"{run} has no best.pt yet: train at least until the first validation")
    about, labels = read_about(run / "best.json")
    return load_config(run / "config.yaml"), load_tensors(run / "best.pt")["weights"], about, labels
