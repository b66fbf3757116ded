# SPDX-License-Identifier: Apache-2.0
"""What depends on the step alone: learning rate and random state. Resuming needs nothing else."""

from __future__ import annotations

import math

import numpy as np
import torch

__all__ = ["learning_rate", "seed_step"]


def learning_rate(step: int, *, total: int, warmup: int, peak: float, final_share: float) -> float:
    """Linear warm-up, then a cosine down to `final_share * peak` at `total`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = min(1.0, (step - warmup) / max(1, total - warmup))
    return peak * (final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * share)))


def seed_step(seed: int, step: int, process: int) -> None:
    """Set torch's random state for one step of one process."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0] >> 1))
