# SPDX-License-Identifier: Apache-2.0
"""Loss functions."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from karmma_ros.errors import KarmmaError

__all__ = ["alone_views", "classification_loss", "finite_loss"]


def classification_loss(logits: Mapping[str, Tensor], targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Sum over the label heads of the cross-entropy.  {head: (B, C)}, (B, heads) -> ()"""
    losses = [
        F.cross_entropy(values, targets[:, i], label_smoothing=smoothing) for i, values in enumerate(logits.values())
    ]
    return torch.stack(losses).sum()


def alone_views(
    tokens: Mapping[str, Tensor], present: Mapping[str, Tensor], targets: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """The same windows with one of their modalities alone, drawn at random.

    Fusing them costs little beside encoding, and their loss keeps the modality that is quickest to learn from starving
    the others (ours, not the paper's).

    :return: tokens {m: (R, L, D)}, presence {m: (R, L)} and targets (R, heads) of the R windows that have any token.
    """
    heard = torch.stack([here.any(1) for here in present.values()], 1)  # (B, modalities)
    rows = heard.any(1).nonzero().squeeze(1)
    who = torch.multinomial(heard[rows].float(), 1)  # (R, 1)
    views = {m: here[rows] & (who == i) for i, (m, here) in enumerate(present.items())}
    return {m: values[rows] for m, values in tokens.items()}, views, targets[rows]


def finite_loss(loss: Tensor, step: str, rate: str, kept: str = "") -> float:
    """The value of a loss () that can be trained on.

    :param step: which step it is; rate: the setting to lower; kept: what is not lost.
    :raises KarmmaError: it is infinite or not a number.
    """
    value = loss.item()
    if not math.isfinite(value):
        raise KarmmaError(f"the loss is {value} at step {step}: lower {rate} or use train.precision=fp32{kept}")
    return value
