# SPDX-License-Identifier: Apache-2.0
"""Exponential moving average of the weights: what is evaluated, kept as best and exported."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["Ema"]

M = TypeVar("M", bound=nn.Module)


class Ema(Generic[M]):
    """Averages parameters and running statistics of a module.

    :param decay: of the average; smaller during the first steps, so that the initial weights are soon forgotten.
    """

    def __init__(self, module: M, decay: float) -> None:
        self.module: M = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module's present weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        averaged: list[Tensor] = []
        present: list[Tensor] = []
        source = module.state_dict()
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                averaged.append(value)
                present.append(source[name])
            else:
                value.copy_(source[name])
        torch._foreach_lerp_(averaged, present, 1 - decay)
