# SPDX-License-Identifier: Apache-2.0
"""The KARMMA student: extractors, fusion block, multi-head MLP (`paper.md`'s boxes, in the files of their names)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from karmma_training.config import Config
from karmma_training.data.grid import slot_specs
from karmma_training.data.windows import WindowBatch
from karmma_training.extractors import Extractor, build_extractor
from karmma_training.fusion import FusionBlock
from karmma_training.heads import MultiHeadMLP

__all__ = ["Fusion", "Student", "TensorBatch"]


@dataclass(frozen=True)
class TensorBatch:
    """A WindowBatch as tensors; see there for shapes."""

    samples: dict[str, Tensor]
    places: dict[str, Tensor]
    present: dict[str, Tensor]
    targets: Tensor

    @classmethod
    def of(cls, batch: WindowBatch) -> TensorBatch:
        """Wrap the arrays without copying."""
        return cls(
            {m: torch.from_numpy(v) for m, v in batch.samples.items()},
            {m: torch.from_numpy(v) for m, v in batch.places.items()},
            {m: torch.from_numpy(v) for m, v in batch.present.items()},
            torch.from_numpy(batch.targets),
        )


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


class Student(nn.Module):
    """Extractors per modality and their fusion.

    :param heads: label head -> number of classes.
    """

    def __init__(self, config: Config, heads: Mapping[str, int]) -> None:
        super().__init__()
        self.specs = slot_specs(config)
        self.heads = dict(heads)
        self.extractors = nn.ModuleDict({m: build_extractor(m, config) for m in self.specs})
        self.fusion = Fusion(config, heads)
        self.reduced: torch.dtype | None = None  # dtype of convolutions and matrix products; None: float32
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, modality: str, samples: Tensor) -> Tensor:
        """Graph input -> tokens (n, N, D) float32."""
        extractor = cast(Extractor, self.extractors[modality])
        prepared = extractor.prepare(samples)
        with torch.autocast(samples.device.type, self.reduced, enabled=self.reduced is not None):
            tokens: Tensor = extractor.encode(prepared)
        return tokens.float()

    def fuse(self, tokens: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{m: (B, S*N, D)}, {m: (B, S*N) bool} -> {head: (B, C)} float32"""
        with torch.autocast("cpu", self.reduced, enabled=self.reduced is not None):
            logits = self.fusion(tokens, present)
        return {head: values.float() for head, values in logits.items()}

    def tokens(self, batch: TensorBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Encode a batch of windows, only the samples that are present.

        :return: tokens {m: (B, S*N, D)} and presence {m: (B, S*N) bool}.
        """
        tokens, present = {}, {}
        for m, spec in self.specs.items():
            rows = batch.present[m].shape[0]
            filled = torch.zeros(rows * spec.slots, spec.tokens, spec.dim)
            if m in batch.samples:
                filled = filled.index_copy(0, batch.places[m], self.encode(m, batch.samples[m]))
            tokens[m] = filled.reshape(rows, spec.slots * spec.tokens, spec.dim)
            present[m] = batch.present[m].repeat_interleave(spec.tokens, 1)
        return tokens, present

    def forward(self, batch: TensorBatch) -> dict[str, Tensor]:
        """Logits of a batch of windows.  -> {head: (B, C)}"""
        return self.fuse(*self.tokens(batch))
