# SPDX-License-Identifier: Apache-2.0
"""Convolutions over batches whose size is never twice the same.

How many samples a batch of windows holds differs from step to step, and cuDNN plans a convolution, and its two
gradients, anew for every size that it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

__all__ = ["ROWS", "steadily"]

ROWS = 64  # a batch is filled up to a multiple of this


def steadily(convolve: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`convolve(x)`; on a GPU of as many rows of zeros more as make few sizes, which are cut off again.

    :param convolve: makes a row of every row, (n, ...) -> (n, ...), of itself alone: no batch norm.
    """
    return filled_up(convolve, x) if x.is_cuda else convolve(x)


def filled_up(convolve: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """See `steadily`."""
    missing = -len(x) % ROWS
    if not missing:
        return convolve(x)
    return convolve(F.pad(x, [0, 0] * (x.ndim - 1) + [0, missing]))[: len(x)]
