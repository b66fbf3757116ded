# SPDX-License-Identifier: Apache-2.0
"""A bundle as evaluation sees it: through the engine that runs on the robot."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.bundle import Bundle
from karmma_ros.runtime import Engine
from karmma_ros.window import to_ns
from karmma_training.data.labels import Labels
from karmma_training.data.recording import Context

__all__ = ["BundlePredictor"]

Floats = npt.NDArray[np.float32]


class BundlePredictor:
    """A bundle through `karmma_ros.runtime.Engine`."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self._engine = Engine(bundle, threads=threads)
        self.specs = bundle.slot_specs()
        self.labels = Labels.of_bundle(bundle)
        self.contexts = {m: Context(spec.context, to_ns(spec.context_step_s)) for m, spec in bundle.modalities.items()}
        self.temperature = bundle.temperature

    def encode(self, modality: str, samples: npt.NDArray[Any]) -> Floats:
        """See Predictor."""
        return self._engine.encode(modality, samples)

    def fuse(self, tokens: dict[str, Floats], present: dict[str, npt.NDArray[np.bool_]]) -> dict[str, Floats]:
        """See Predictor."""
        return dict(self._engine.fuse(tokens, present))
