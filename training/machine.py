# SPDX-License-Identifier: Apache-2.0
"""One line on what a run was trained, or measured, on."""

from __future__ import annotations

import platform

import torch

from karmma_ros.records import describe_machine

__all__ = ["machine"]


def machine(device: torch.device | None = None) -> str:
    """The GPU, where `device` is one, then processor, cores, system and Python version."""
    known = describe_machine()
    parts = [known["cpu"], f"{known['cores']} cores", platform.system(), f"Python {known['python']}"]
    if device is not None and device.type == "cuda":
        parts.insert(0, torch.cuda.get_device_name(device))
    return ", ".join(parts)
