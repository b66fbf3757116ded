# SPDX-License-Identifier: Apache-2.0
"""Loss functions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["classification_loss"]


def classification_loss(logits: Mapping[str, Tensor], targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Sum over the label heads of the cross-entropy.  {head: (B, C)}, (B, heads) -> ()"""
    losses = [
        F.cross_entropy(values, targets[:, i], label_smoothing=smoothing) for i, values in enumerate(logits.values())
    ]
    return torch.stack(losses).sum()
