# SPDX-License-Identifier: Apache-2.0
"""The ways that need PyTorch: the same student without our runtime, the paper's clip student, and other windows.

Weights are random: they cost as much as trained ones.
"""

from __future__ import annotations

import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from karmma_benchmarks.feed import Feed
from karmma_benchmarks.ways import Again
from karmma_ros.bundle import Bundle, load_bundle
from karmma_ros.manifest import Manifest
from karmma_ros.runtime import FUSION, Engine, check_inputs
from karmma_ros.samples import prepare_flow, prepare_image
from karmma_training.bundle.export import export_bundle
from karmma_training.bundle.precision import reduce_bundle
from karmma_training.config import Config
from karmma_training.data.grid import slot_specs
from karmma_training.data.labels import Labels
from karmma_training.networks.model import MultimodalModel, build_model
from karmma_training.presets import PRESETS, preset

__all__ = ["AgainInTorch", "ClipStudent", "is_of_its_preset", "set_threads", "untrained_bundle"]


def set_threads(count: int) -> None:
    """Threads of PyTorch, for the whole process."""
    torch.set_num_threads(count)


def _config(bundle: Manifest) -> Config:
    """The configuration that a bundle was made with, but for settings that changed its preset."""
    config = preset(bundle.preset if bundle.preset in PRESETS else "demo", "baseline-dropout")
    config.modalities = list(bundle.modalities)
    return config


def is_of_its_preset(bundle: Manifest) -> bool:
    """Whether its networks are those of its preset, which alone can be built again."""
    config = _config(bundle)
    wanted = {m: s.input.size if m != "audio" else (s.rate, s.context) for m, s in bundle.modalities.items()}
    v, f, a = config.video, config.flow, config.audio
    sizes = {"video": (v.height, v.width), "flow": (f.height, f.width), "audio": (a.rate, a.context)}
    same = all(sizes.get(m) == size for m, size in wanted.items())
    return same and slot_specs(config) == bundle.slot_specs()


def _heads(bundle: Manifest) -> dict[str, int]:
    return {head: len(labels) for head, labels in bundle.heads.items()}


def untrained_bundle(bundle: Manifest, window_s: float, folder: Path) -> Bundle:
    """A bundle like `bundle`, in the same precision and with another window, untrained.

    :param folder: must exist; the bundle is made in it.
    """
    config = _config(bundle)
    for name in config.modalities:
        section = config.slots(name)
        section.slots = max(1, round(window_s / section.spacing_s))
    target = Path(tempfile.mkdtemp(dir=folder))
    torch.manual_seed(0)
    model = build_model(config, _heads(bundle))
    labels = Labels.of_bundle(bundle)
    export_bundle(target, f"untrained-{window_s:g}s", model, config, labels, dict.fromkeys(bundle.heads, 1.0))
    specs = {**bundle.modalities, FUSION: bundle.fusion}
    fewer = {graph: spec.precision for graph, spec in specs.items() if spec.precision != "fp32"}
    samples = {name: [batch] for name, batch in check_inputs(bundle.modalities, 0).items()}  # any will do
    reduce_bundle(target, fewer, samples)
    return load_bundle(target)


class AgainInTorch(Again):
    """As one would write it first: a PyTorch model on the whole window, for every frame."""

    def __init__(self, feed: Feed, engine: Engine) -> None:
        super().__init__(feed, engine)
        torch.manual_seed(0)
        self._model: MultimodalModel = build_model(_config(engine.bundle), _heads(engine.bundle)).eval()

    def infer(self, batches: dict[str, npt.NDArray[Any]]) -> None:
        tokens, present = {}, {}
        with torch.inference_mode():
            for name, batch in batches.items():
                spec = self._model.specs[name]
                window = torch.zeros(spec.slots, spec.tokens, spec.dim)
                window[: len(batch)] = self._model.encode(name, torch.from_numpy(batch))
                there = torch.arange(spec.slots) < len(batch)
                tokens[name] = window.reshape(1, -1, spec.dim)
                present[name] = there.repeat_interleave(spec.tokens)[None]
            self._model.fuse(tokens, present)


class ClipStudent:
    """The paper's student: a clip of 32 frames, and one of 32 flow fields, at 224 x 224 through Swin3D-T; sound."""

    def __init__(self, feed: Feed, bundle: Manifest) -> None:
        self._feed = feed
        config = preset("paper", "baseline-dropout")
        torch.manual_seed(0)
        self._model = build_model(config, _heads(bundle)).eval()
        self._size = (config.video.height, config.video.width)
        self._frames = config.video.context  # of a clip, and fields of flow
        self._video: deque[npt.NDArray[np.uint8]] = deque(maxlen=self._frames)
        self._flow: deque[npt.NDArray[np.float32]] = deque(maxlen=self._frames)
        self._sound = np.zeros(config.audio.context, np.float32)

    def take(self, index: int) -> None:
        """Fills the clips on the first call; the frames' spacing does not matter to the cost."""
        moment = self._feed.at(index)
        frame, field = prepare_image(moment.rgb, self._size), prepare_flow(moment.flow, self._size)
        self._video.extend([frame] * (1 if self._video else self._frames))
        self._flow.extend([field] * (1 if self._flow else self._frames))
        self._sound = np.roll(self._sound, -len(moment.sound))
        self._sound[-len(moment.sound) :] = moment.sound

    def predict(self, index: int) -> None:
        """Encodes both clips and the sound, and fuses."""
        samples: dict[str, npt.NDArray[Any]] = {
            "video": np.stack(self._video),
            "flow": np.stack(self._flow),
            "audio": self._sound,
        }
        with torch.inference_mode():
            tokens = {
                name: self._model.encode(name, torch.from_numpy(value[np.newaxis])) for name, value in samples.items()
            }
            tokens = {name: value.reshape(1, -1, value.shape[-1]) for name, value in tokens.items()}
            self._model.fuse(tokens, {n: torch.ones(1, t.shape[1], dtype=torch.bool) for n, t in tokens.items()})
