# SPDX-License-Identifier: Apache-2.0
"""A bundle as evaluation sees it: through the engine that runs on the robot."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.bundle import Bundle
from karmma_ros.runtime import Engine
from karmma_ros.window import to_ns
from karmma_training.config import Config, DataConfig
from karmma_training.data.labels import Labels
from karmma_training.data.recording import Context
from karmma_training.presets import PRESETS, preset

__all__ = ["BundlePredictor", "bundle_config", "bundle_contexts"]

Floats = npt.NDArray[np.float32]


class BundlePredictor:
    """A bundle through `karmma_ros.runtime.Engine`."""

    def __init__(self, bundle: Bundle, threads: int, providers: str = "auto") -> None:
        self._engine = Engine(bundle, providers, threads)
        self.specs = bundle.slot_specs()
        self.labels = Labels.of_bundle(bundle)
        self.contexts = bundle_contexts(bundle)
        self.temperature = bundle.temperature

    def encode(self, modality: str, samples: npt.NDArray[Any]) -> Floats:
        """See Predictor."""
        return self._engine.encode(modality, samples)

    def fuse(self, tokens: dict[str, Floats], present: dict[str, npt.NDArray[np.bool_]]) -> dict[str, Floats]:
        """See Predictor."""
        if self._engine.bundle.fusion.precision != "int8":
            return dict(self._engine.fuse(tokens, present))
        # INT8 scales by the largest of all it is given: a window among others would not be what a robot makes of it
        parts = []
        for i in range(len(next(iter(tokens.values())))):
            one = slice(i, i + 1)
            parts.append(
                self._engine.fuse({m: v[one] for m, v in tokens.items()}, {m: v[one] for m, v in present.items()})
            )
        return {head: np.concatenate([part[head] for part in parts]) for head in parts[0]}


def bundle_contexts(bundle: Bundle) -> dict[str, Context]:
    """How much of a recording each extractor sees at once."""
    return {m: Context(spec.context, to_ns(spec.context_step_s)) for m, spec in bundle.modalities.items()}


def bundle_config(bundle: Bundle) -> Config:
    """The settings that preparing data for a bundle needs: sizes from its manifest, rendering as its preset's."""
    config = preset(bundle.preset) if bundle.preset in PRESETS else Config(data=DataConfig())
    config.modalities = list(bundle.modalities)
    for m, spec in bundle.modalities.items():
        if m == "audio":
            config.audio.rate, config.audio.context = spec.rate, spec.context
        elif m == "flow":
            config.flow.height, config.flow.width = spec.input.size
            if spec.producer:
                config.flow.producer_preset = spec.producer.preset
                config.flow.producer_width, config.flow.producer_height = spec.producer.size
        elif m == "detections":
            config.detections.boxes, config.detections.categories = spec.input.shape[-2], list(spec.categories)
        else:
            config.video.height, config.video.width = spec.input.size
    return config
