# SPDX-License-Identifier: Apache-2.0
"""Which number format convolutions and matrix products use in training."""

from __future__ import annotations

import torch

from karmma_ros.errors import UsageError

__all__ = ["reduced_dtype"]


def reduced_dtype(precision: str) -> torch.dtype | None:
    """None for float32; bfloat16 for `bf16`, and for `auto` where the CPU has AMX (2.5x faster there).

    :raises UsageError: unknown name.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise UsageError(f"train.precision must be auto, fp32 or bf16, not {precision!r}")
    supported = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    native = precision == "auto" and bool(supported())
    return torch.bfloat16 if precision == "bf16" or native else None
