# SPDX-License-Identifier: Apache-2.0
"""What the networks minimise: cross-entropy, and what the teacher's opinion adds to it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from karmma_ros.errors import KarmmaError

__all__ = ["alone_view", "classification_loss", "distillation_loss", "finite", "student_loss"]


def classification_loss(logits: Mapping[str, Tensor], targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Sum over the label heads of the cross-entropy.  {head: (B, C)}, (B, heads) -> ()"""
    losses = [
        F.cross_entropy(values, targets[:, i], label_smoothing=smoothing) for i, values in enumerate(logits.values())
    ]
    return torch.stack(losses).sum()


def distillation_loss(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], temperature: float) -> Tensor:
    """Sum over the label heads of T^2 KL(teacher || student), both softened by T.  {head: (B, C)} twice -> ()

    T^2 keeps the size of the gradients where T changes (Hinton et al., 2015); the paper does not say whether it does.
    """
    losses = []
    for head, values in student.items():
        log_student = F.log_softmax(values / temperature, 1)
        log_teacher = F.log_softmax(teacher[head] / temperature, 1)
        losses.append(F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True))
    return temperature**2 * torch.stack(losses).sum()


def student_loss(
    logits: Mapping[str, Tensor],
    teacher: Mapping[str, Tensor] | None,
    targets: Tensor,
    *,
    alpha: float,
    temperature: float,
    smoothing: float = 0.0,
    heard: Tensor | None = None,
) -> Tensor:
    """alpha KL(teacher || student) + (1 - alpha) CE(student, targets), the paper's L_S; without teacher CE alone.

    :param heard: (B,) bool, windows of which the teacher saw anything: of the others cross-entropy alone; None: of all.
    """
    if heard is not None and teacher is not None:
        return _heard_loss(logits, teacher, targets, heard, alpha, temperature, smoothing)
    truth = classification_loss(logits, targets, smoothing)
    if teacher is None:
        return truth
    return alpha * distillation_loss(logits, teacher, temperature) + (1 - alpha) * truth


def _heard_loss(
    logits: Mapping[str, Tensor],
    teacher: Mapping[str, Tensor],
    targets: Tensor,
    heard: Tensor,
    alpha: float,
    temperature: float,
    smoothing: float,
) -> Tensor:
    """`student_loss` window by window, averaged."""
    weight = alpha * heard.float()  # (B,)
    total = torch.zeros_like(weight)
    for i, (head, values) in enumerate(logits.items()):
        truth = F.cross_entropy(values, targets[:, i], label_smoothing=smoothing, reduction="none")
        # what a teacher says that saw nothing may be anything, NaN included, and a weight of zero would not undo that
        said = torch.where(heard[:, None], teacher[head], 0.0)
        ours, theirs = (F.log_softmax(v / temperature, 1) for v in (values, said))
        opinion = temperature**2 * F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)
        total = total + weight * opinion + (1 - weight) * truth
    return total.mean()


def alone_view(present: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same windows with one of their modalities alone, drawn at random among those with a token.

    Its loss keeps the modality that is quickest to learn from starving the others (ours, not the paper's).

    :param present: {m: (B, L) bool}, at least one True in every row; so is what comes back.
    """
    heard = torch.stack([here.any(1) for here in present.values()], 1)  # (B, modalities)
    who = torch.multinomial(heard.float(), 1)  # (B, 1)
    return {m: here & (who == i) for i, (m, here) in enumerate(present.items())}


def finite(quantity: Tensor, what: str, step: str, rate: str, kept: str = "") -> float:
    """The value of a loss (), or of a norm of gradients, that can be trained on.

    :param what: its name; step: which step it is; rate: the setting to lower; kept: what is not lost.
    :raises KarmmaError: it is infinite or not a number.
    """
    value = quantity.item()
    if not math.isfinite(value):
        raise KarmmaError(
            f"the {what} is {value} at step {step}: start again with a lower {rate}, or train.precision=fp32{kept}"
        )
    return value
