# SPDX-License-Identifier: Apache-2.0
"""A bundle as evaluation sees it: through the engine that runs on the robot."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.bundle import Bundle
from karmma_ros.runtime import Engine
from karmma_training.data.labels import Labels

__all__ = ["BundlePredictor"]

Floats = npt.NDArray[np.float32]


class BundlePredictor:
    """A bundle through `karmma_ros.runtime.Engine`."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self._engine = Engine(bundle, threads=threads)
        self.specs = bundle.slot_specs()
        single = np.arange(len(next(iter(bundle.heads.values()))))[:, None]  # one head: every class is an action
        self.labels = Labels(dict(bundle.heads), np.asarray(bundle.actions, np.int64) if bundle.actions else single)
        audio = bundle.modalities.get("audio")
        self.audio_context = audio.context if audio else 0
        self.temperature = bundle.temperature

    def encode(self, modality: str, samples: npt.NDArray[Any]) -> Floats:
        """See Predictor."""
        return self._engine.encode(modality, samples)

    def fuse(self, tokens: dict[str, Floats], present: dict[str, npt.NDArray[np.bool_]]) -> dict[str, Floats]:
        """See Predictor."""
        return dict(self._engine.fuse(tokens, present))
