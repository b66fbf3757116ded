# SPDX-License-Identifier: Apache-2.0
"""The fusion block of KARMMA (arXiv 2504.08578): embedding with missing-modality tokens, CLS, transformer layers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from karmma_ros.window import SlotSpec
from karmma_training.config import FusionConfig

__all__ = ["EmbeddingLayer", "FusionBlock", "TransformerLayer", "mean_present"]


class EmbeddingLayer(nn.Module):
    """Projected token + modality token + token-specific token; for an absent token the two learned ones alone.

    Presence is per token and chosen with `where`: whatever sits behind an absent token, NaN included, does not leak.

    :param zeroed: an absent token is zero instead: no missing-modality strategy.
    """

    def __init__(self, specs: Mapping[str, SlotSpec], width: int, *, zeroed: bool = False) -> None:
        super().__init__()
        self.zeroed = zeroed
        self.project = nn.ModuleDict({m: nn.Linear(s.dim, width) for m, s in specs.items()})
        self.modality_token = nn.ParameterDict({m: nn.Parameter(torch.randn(width) * 0.02) for m in specs})
        self.token_token = nn.ParameterDict(
            {m: nn.Parameter(torch.randn(s.slots * s.tokens, width) * 0.02) for m, s in specs.items()}
        )

    def forward(self, modality: str, tokens: Tensor, present: Tensor) -> Tensor:
        """(B, S*N, D), (B, S*N) bool -> (B, S*N, width)"""
        chosen = present.unsqueeze(-1)
        # absent inputs are replaced before the projection too: NaN * 0 would poison its gradient
        projected = self.project[modality](torch.where(chosen, tokens, tokens.new_zeros(())))
        learned: Tensor = self.modality_token[modality] + self.token_token[modality]
        nothing = projected.new_zeros(())
        if self.zeroed:
            return torch.where(chosen, projected + learned, nothing)
        return torch.where(chosen, projected, nothing) + learned


class TransformerLayer(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.ffn = nn.Sequential(nn.Linear(width, ffn), nn.GELU(), nn.Dropout(dropout), nn.Linear(ffn, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, hidden: Tensor | None) -> Tensor:
        """(B, L, W) -> (B, L, W); hidden (B, 1, 1, L) is added to the attention scores, -inf where not attended to"""
        b, length, width = x.shape
        shape = (b, length, 3, self.heads, width // self.heads)
        q, k, v = self.qkv(self.norm1(x)).reshape(shape).permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, L, W/H)
        scores = (q @ k.transpose(-1, -2)) * (width // self.heads) ** -0.5
        if hidden is not None:
            scores = scores + hidden
        mixed = (scores.float().softmax(-1) @ v).transpose(1, 2).reshape(b, length, width)
        x = x + self.dropout(self.out(mixed))
        y: Tensor = x + self.dropout(self.ffn(self.norm2(x)))
        return y


class FusionBlock(nn.Module):
    """All tokens of the window and CLS -> one vector per voter (CLS, then each modality)."""

    def __init__(self, specs: Mapping[str, SlotSpec], c: FusionConfig) -> None:
        super().__init__()
        if c.missing not in ("learned", "zeroed", "masked"):
            raise ValueError(f"fusion.missing must be learned, zeroed or masked, not {c.missing!r}")
        self.modalities = list(specs)
        self.masked = c.missing == "masked"
        self.absent_votes = c.absent_votes
        self.embed = EmbeddingLayer(specs, c.width, zeroed=c.missing == "zeroed")
        self.cls = nn.Parameter(torch.randn(c.width) * 0.02)
        self.layers = nn.ModuleList(
            TransformerLayer(c.width, c.attention_heads, c.ffn, c.dropout) for _ in range(c.layers)
        )
        self.norm = nn.LayerNorm(c.width)

    def forward(self, tokens: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """{m: (B, S*N, D)}, {m: (B, S*N) bool} -> (B, 1 + modalities, width)"""
        parts = [self.embed(m, tokens[m], present[m]) for m in self.modalities]
        cls = self.cls.to(parts[0].dtype).expand(parts[0].shape[0], 1, -1)
        x = torch.cat([cls, *parts], 1)  # (B, 1 + tokens, width)
        hidden = None
        if self.masked:
            always = torch.ones_like(present[self.modalities[0]][:, :1])
            seen = torch.cat([always, *(present[m] for m in self.modalities)], 1)
            hidden = torch.where(seen, 0.0, -1e9)[:, None, None, :].to(x.dtype)
        for layer in self.layers:
            x = layer(x, hidden)
        x = self.norm(x)
        readouts = [x[:, 0]]
        at = 1
        for m, part in zip(self.modalities, parts, strict=True):
            read = present[m]
            if self.absent_votes:  # of a modality without any: what fusion made of its absent tokens
                read = read | ~read.any(1, keepdim=True)
            readouts.append(mean_present(x[:, at : at + part.shape[1]], read))
            at += part.shape[1]
        return torch.stack(readouts, 1)


def mean_present(tokens: Tensor, present: Tensor) -> Tensor:
    """Average over the present tokens only; zero where there is none.  (B, L, W), (B, L) bool -> (B, W)"""
    weight = present.to(tokens.dtype)
    total = (tokens * weight.unsqueeze(-1)).sum(1)
    return total / weight.sum(1, keepdim=True).clamp(min=1.0)
