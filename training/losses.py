# SPDX-License-Identifier: Apache-2.0
"""Loss functions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["alone_views", "classification_loss"]


def classification_loss(logits: Mapping[str, Tensor], targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Sum over the label heads of the cross-entropy.  {head: (B, C)}, (B, heads) -> ()"""
    losses = [
        F.cross_entropy(values, targets[:, i], label_smoothing=smoothing) for i, values in enumerate(logits.values())
    ]
    return torch.stack(losses).sum()


def alone_views(
    tokens: Mapping[str, Tensor], present: Mapping[str, Tensor], targets: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """The same windows once per modality, with that modality alone.

    Fusing them costs little beside encoding, and their loss keeps the modality that is quickest to learn from starving
    the others (ours, not the paper's).

    :return: tokens {m: (R, L, D)}, presence {m: (R, L)} and targets (R, heads) of the R views that have any token.
    """
    heard = {m: here.any(1).nonzero().squeeze(1) for m, here in present.items()}
    rows = torch.cat(list(heard.values()))
    who = torch.cat([torch.full_like(index, i) for i, index in enumerate(heard.values())])
    views = {m: here[rows] & (who == i).unsqueeze(1) for i, (m, here) in enumerate(present.items())}
    return {m: values[rows] for m, values in tokens.items()}, views, targets[rows]
