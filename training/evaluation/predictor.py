# SPDX-License-Identifier: Apache-2.0
"""What evaluation asks of a model, and a model in PyTorch that answers (a bundle: bundle_predictor.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from karmma_ros.window import SlotSpec
from karmma_training.checkpoint import load_model
from karmma_training.config import Config
from karmma_training.data.labels import Labels
from karmma_training.data.recording import Context
from karmma_training.networks.model import MultimodalModel

__all__ = ["ModelPredictor", "Predictor", "device_of", "load_predictor"]

Floats = npt.NDArray[np.float32]


class Predictor(Protocol):
    """What evaluation needs of a model."""

    @property
    def specs(self) -> Mapping[str, SlotSpec]:
        """Slot layout per modality."""

    @property
    def labels(self) -> Labels:
        """Class names."""

    @property
    def contexts(self) -> Mapping[str, Context]:
        """What an extractor run sees, per modality."""

    @property
    def temperature(self) -> Mapping[str, float]:
        """Per head; 1 where missing."""

    def encode(self, modality: str, samples: npt.NDArray[Any]) -> Floats:
        """Graph input (n, ...) -> tokens (n, N, D)"""

    def fuse(self, tokens: dict[str, Floats], present: dict[str, npt.NDArray[np.bool_]]) -> dict[str, Floats]:
        """{m: (B, S*N, D)}, {m: (B, S*N)} -> {head: (B, C)}"""


def load_predictor(run: Path, device: str = "cpu") -> tuple[ModelPredictor, Config]:
    """The best weights of a run with its temperatures, and its configuration.

    :param device: of torch, or auto: a GPU where there is one.
    :raises UsageError: see `load_model`.
    """
    model, config, labels, about = load_model(run)
    return ModelPredictor(model.to(device_of(device)), labels, about["temperature"]), config


def device_of(name: str) -> torch.device:
    """A device of torch by name; auto: a GPU where there is one, on which float32 is float32."""
    torch.backends.cudnn.allow_tf32 = False  # torch rounds what convolutions read to 10 bits of mantissa otherwise
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


class ModelPredictor:
    """A teacher or a student in PyTorch, on whatever device it is.

    :param temperature: per head; 1 where missing.
    """

    def __init__(
        self,
        model: MultimodalModel,
        labels: Labels,
        temperature: Mapping[str, float] | None = None,
    ) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        self.specs: Mapping[str, SlotSpec] = model.specs
        self.labels = labels
        self.contexts: Mapping[str, Context] = model.contexts
        self.temperature: Mapping[str, float] = temperature or {}

    @torch.inference_mode()
    def encode(self, modality: str, samples: npt.NDArray[Any]) -> Floats:
        """See Predictor."""
        tokens: Floats = self._model.encode(modality, torch.from_numpy(samples).to(self._device)).cpu().numpy()
        return tokens

    @torch.inference_mode()
    def fuse(self, tokens: dict[str, Floats], present: dict[str, npt.NDArray[np.bool_]]) -> dict[str, Floats]:
        """See Predictor."""
        logits = self._model.fuse(
            {m: torch.from_numpy(v).to(self._device) for m, v in tokens.items()},
            {m: torch.from_numpy(v).to(self._device) for m, v in present.items()},
        )
        return {head: values.cpu().numpy() for head, values in logits.items()}
