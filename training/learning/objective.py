# SPDX-License-Identifier: Apache-2.0
"""The loss of a training step: stage 1 and the baselines by cross-entropy, stage 2 with a teacher's opinion.

Teacher and student answer for the same views of the same batch: one draw of what is missing feeds both. A teacher with
a layout of its own sees the same moments without the same modalities.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from karmma_training.config import Config
from karmma_training.learning.losses import alone_view, student_loss
from karmma_training.networks.model import Teacher, TensorBatch, View

__all__ = ["Objective"]


class Objective:
    """Loss of a model for a batch.

    :param teacher: gives its opinion through the batch's features; None: cross-entropy alone.
    """

    def __init__(self, config: Config, teacher: Teacher | None = None) -> None:
        self.config = config
        self.teacher = None if teacher is None else teacher.eval().requires_grad_(False)

    def __call__(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        """-> ()

        :param model: a MultimodalModel, or what wraps one to train it in several processes.
        """
        t, d = self.config.train, self.config.distillation
        views = [batch.present]
        if t.alone_weight and len(batch.present) > 1:
            views.append(alone_view(batch.present))
        opinions: list[dict[str, Tensor] | None] = [None] * len(views)
        heard: list[Tensor | None] = [None] * len(views)
        if self.teacher is not None:
            with torch.no_grad():
                opinions, heard = self._opinions(batch, views)
            batch = batch.of_samples()  # the features are the teacher's
        losses = [
            student_loss(
                logits,
                opinion,
                batch.targets,
                alpha=d.alpha,
                temperature=d.temperature,
                smoothing=t.label_smoothing,
                heard=rows,
            )
            for logits, opinion, rows in zip(model(batch, views), opinions, heard, strict=True)
        ]
        weights = torch.tensor([1.0, t.alone_weight][: len(losses)], device=batch.targets.device)
        return (torch.stack(losses) * weights).sum()

    def _opinions(
        self, batch: TensorBatch, views: Sequence[View]
    ) -> tuple[list[dict[str, Tensor] | None], list[Tensor | None]]:
        """What the teacher says of every view, and of which windows it saw anything (None: of all)."""
        assert self.teacher is not None
        if batch.beside is None:
            return list(self.teacher(batch, views)), [None] * len(views)
        there = batch.beside.present
        seen = [{m: there[m] & view[m].any(1, keepdim=True) for m in there} for view in views]
        heard = [torch.stack([here.any(1) for here in view.values()]).any(0) for view in seen]
        return list(self.teacher(batch.beside, seen)), list(heard)
