# SPDX-License-Identifier: Apache-2.0
"""Teacher and student of KARMMA: extractors, fusion block, multi-head MLP, the boxes of the paper's figure."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from karmma_training.config import Config
from karmma_training.data.grid import contexts, slot_specs
from karmma_training.data.windows import WindowBatch
from karmma_training.networks.extractors import Extractor, build_extractor
from karmma_training.networks.fusion import FusionBlock
from karmma_training.networks.heads import MultiHeadMLP

__all__ = [
    "Fusion",
    "MultimodalModel",
    "Student",
    "Teacher",
    "TensorBatch",
    "Unimodal",
    "View",
    "build_model",
    "full_precision",
]

View = Mapping[str, Tensor]  # {m: (B, slots) bool}: which slots a model may look at


@dataclass(frozen=True)
class TensorBatch:
    """A WindowBatch as tensors; see there for shapes."""

    samples: dict[str, Tensor]
    features: dict[str, Tensor]
    places: dict[str, Tensor]
    present: dict[str, Tensor]
    targets: Tensor
    beside: TensorBatch | None = None

    @classmethod
    def of(cls, batch: WindowBatch, device: torch.device | str = "cpu") -> TensorBatch:
        """Wrap the arrays; on the CPU nothing is copied."""

        def tensors(arrays: Mapping[str, object]) -> dict[str, Tensor]:
            return {m: torch.from_numpy(v).to(device, non_blocking=True) for m, v in arrays.items()}

        return cls(
            tensors(batch.samples),
            tensors(batch.features),
            tensors(batch.places),
            tensors(batch.present),
            torch.from_numpy(batch.targets).to(device),
            None if batch.beside is None else cls.of(batch.beside, device),
        )

    def of_samples(self) -> TensorBatch:
        """Without features: for a model whose own extractors see the samples."""
        return replace(self, features={})


class Fusion(nn.Module):
    """Window -> logits: fusion block and heads, the graph the robot runs per prediction."""

    def __init__(self, config: Config, heads: Mapping[str, int]) -> None:
        super().__init__()
        c = config.fusion
        self.specs = slot_specs(config)
        self.absent_votes = c.absent_votes
        self.block = FusionBlock(self.specs, c)
        self.mlp = MultiHeadMLP(c.width, c.head_hidden, heads, 1 + len(self.specs), c.dropout)

    def forward(self, tokens: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{m: (B, S*N, D)}, {m: (B, S*N) bool} -> {head: (B, C)}"""
        readouts = self.block(tokens, present)
        votes = [present[m].any(1) for m in self.specs]
        if self.absent_votes:
            votes = [torch.ones_like(v) for v in votes]
        out: dict[str, Tensor] = self.mlp(readouts, torch.stack([torch.ones_like(votes[0]), *votes], 1))
        return out


class MultimodalModel(nn.Module):
    """Extractors per modality and their fusion.

    :param heads: label head -> number of classes.
    """

    def __init__(self, config: Config, heads: Mapping[str, int]) -> None:
        super().__init__()
        self.specs, self.contexts = slot_specs(config), contexts(config)
        # of each modality: with the weights, all that shapes its tokens, wherever the weights came from
        self.settings = {m: {**asdict(config.slots(m)), "weights": ""} for m in self.specs}
        self.heads = dict(heads)
        self.extractors = nn.ModuleDict({m: build_extractor(m, config) for m in self.specs})
        self.fusion = Fusion(config, heads)
        self.reduced: torch.dtype | None = None  # dtype of convolutions and matrix products; None: float32
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, modality: str, samples: Tensor) -> Tensor:
        """Graph input -> tokens (n, N, D) float32."""
        extractor = cast(Extractor, self.extractors[modality])
        return encode(extractor, samples, self.reduced)

    def fuse(self, tokens: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{m: (B, S*N, D)}, {m: (B, S*N) bool} -> {head: (B, C)} float32"""
        device = next(iter(tokens.values())).device
        with reduced_precision(device, self.reduced):
            logits = self.fusion(tokens, present)
        return {head: values.float() for head, values in logits.items()}

    def tokens(self, batch: TensorBatch) -> dict[str, Tensor]:
        """Tokens of a batch of windows, {m: (B, S*N, D)}: cached ones where the batch has them, else its samples are
        encoded, only those that are present."""
        tokens = {}
        for m, spec in self.specs.items():
            rows = len(batch.targets)
            filled = torch.zeros(rows * spec.slots, spec.tokens, spec.dim, device=batch.targets.device)
            if m in batch.features:
                filled = filled.index_copy(0, batch.places[m], batch.features[m].float())
            elif m in batch.samples:
                filled = filled.index_copy(0, batch.places[m], self.encode(m, batch.samples[m]))
            tokens[m] = filled.reshape(rows, spec.slots * spec.tokens, spec.dim)
        return tokens

    def forward(self, batch: TensorBatch, views: Sequence[View] = ()) -> list[dict[str, Tensor]]:
        """Logits {head: (B, C)} of a batch of windows for every view; without views, of all that is present.

        Several views cost one encoding: fusion is cheap beside it.
        """
        tokens = self.tokens(batch)
        return [self.fuse(tokens, self._present(view, batch.targets)) for view in views or [batch.present]]

    def _present(self, view: View, targets: Tensor) -> dict[str, Tensor]:
        """Which tokens of a view are there; none of a modality that it does not know.  -> {m: (B, S*N) bool}"""
        present = {}
        for m, spec in self.specs.items():
            none = torch.zeros(len(targets), spec.slots, dtype=torch.bool, device=targets.device)
            present[m] = view.get(m, none).repeat_interleave(spec.tokens, 1)
        return present


class Student(MultimodalModel):
    """Trained end to end."""


class Teacher(MultimodalModel):
    """Extractors frozen, their running statistics included: only fusion and heads learn."""

    def __init__(self, config: Config, heads: Mapping[str, int]) -> None:
        super().__init__(config, heads)
        self.extractors.requires_grad_(False)

    def train(self, mode: bool = True) -> Teacher:
        """As in torch; the extractors stay in evaluation mode."""
        super().train(mode)
        self.extractors.eval()
        return self


class Unimodal(nn.Module):
    """Stage 0: one extractor and a linear classifier of all label heads on the mean of its tokens."""

    def __init__(self, model: MultimodalModel, modality: str) -> None:
        super().__init__()
        spec = model.specs[modality]
        self.extractor = cast(Extractor, model.extractors[modality])
        self.classifier = nn.Linear(spec.dim, sum(model.heads.values()))
        self.reduced = model.reduced

    def forward(self, samples: Tensor) -> Tensor:
        """Graph input -> logits of all heads side by side (n, classes)"""
        logits: Tensor = self.classifier(encode(self.extractor, samples, self.reduced).mean(1))
        return logits


def build_model(config: Config, heads: Mapping[str, int], *, pretrained: bool = False) -> MultimodalModel:
    """The model of a run.

    :param pretrained: load the weights that its backbones name; without, a checkpoint's are to follow, or none matter.
    """
    if not pretrained:
        config = copy.deepcopy(config)
        for m in config.modalities:
            config.slots(m).weights = ""
    return Teacher(config, heads) if config.system == "teacher" else Student(config, heads)


def encode(extractor: Extractor, samples: Tensor, reduced: torch.dtype | None) -> Tensor:
    """Graph input -> tokens (n, N, D) float32; preparation is never in reduced precision."""
    prepared = extractor.prepare(samples)
    with reduced_precision(samples.device, reduced):
        tokens: Tensor = extractor.encode(prepared)
    return tokens.float()


@contextmanager
def full_precision(model: MultimodalModel) -> Iterator[None]:
    """A model in float32, whatever it trains in."""
    reduced, model.reduced = model.reduced, None
    try:
        yield
    finally:
        model.reduced = reduced


@contextmanager
def reduced_precision(device: torch.device, dtype: torch.dtype | None) -> Iterator[None]:
    """Automatic mixed precision in `dtype`; None: float32."""
    with nullcontext() if dtype is None else torch.autocast(device.type, dtype):
        yield
