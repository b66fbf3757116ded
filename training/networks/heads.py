# SPDX-License-Identifier: Apache-2.0
"""The multi-head MLP of KARMMA: every voter (CLS, each modality) has its own MLP; the logits of the voters average."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["MultiHeadMLP", "split_heads"]


def split_heads(logits: Tensor, heads: Mapping[str, int]) -> dict[str, Tensor]:
    """Logits of all heads side by side -> one tensor per head.  (B, classes) -> {head: (B, C)}"""
    return dict(zip(heads, logits.split(list(heads.values()), 1), strict=True))


class MultiHeadMLP(nn.Module):
    """One MLP per voter onto the classes of all label heads.

    :param voters: CLS and the modalities, in the order of the read-outs.
    :param heads: label head -> number of classes.
    """

    def __init__(self, width: int, hidden: int, heads: Mapping[str, int], voters: int, dropout: float) -> None:
        super().__init__()
        self.heads = dict(heads)
        classes = sum(heads.values())
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, classes))
            for _ in range(voters)
        )

    def forward(self, readouts: Tensor, votes: Tensor) -> dict[str, Tensor]:
        """(B, V, width), (B, V) bool -> {head: (B, C)}; voters without a vote change nothing"""
        # in float32: autocast on the CPU leaves sums in bfloat16, where logits are steps of 1/32 apart
        ballots = torch.stack([mlp(readouts[:, i]) for i, mlp in enumerate(self.mlps)], 1).float()  # (B, V, classes)
        weight = votes.to(ballots.dtype)
        logits = (ballots * weight.unsqueeze(-1)).sum(1) / weight.sum(1, keepdim=True)  # CLS always votes: never 0
        return split_heads(logits, self.heads)
