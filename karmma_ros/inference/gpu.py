# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs and TensorRT as the machine's own libraries describe them; nothing is found where they are not.

The driver's library is asked rather than nvidia-smi, which on a Jetson does not know the compute capability.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

__all__ = ["Gpu", "find_gpus", "tensorrt_version"]

_CUDA = "libcuda.so.1"
_TENSORRT = ("libnvinfer.so.10", "libnvinfer.so.8")
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


class Gpu(NamedTuple):
    """One GPU."""

    name: str
    capability: str  # compute capability, e.g. 8.7


def find_gpus() -> list[Gpu]:
    """The GPUs that the driver offers, in its order; none without a driver, or when it does not start."""
    cuda = _library(_CUDA)
    count = ctypes.c_int()
    if cuda is None or cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return []
    found = []
    for ordinal in range(count.value):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
        version = [ctypes.c_int(), ctypes.c_int()]
        failed = cuda.cuDeviceGet(ctypes.byref(device), ordinal) or cuda.cuDeviceGetName(name, len(name), device)
        for value, attribute in zip(version, (_MAJOR, _MINOR), strict=True):
            failed = failed or cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        if not failed:
            found.append(Gpu(name.value.decode(errors="replace"), f"{version[0].value}.{version[1].value}"))
    return found


def tensorrt_version() -> str:
    """Version of the TensorRT library that a program here would load, e.g. 10.3.0; empty without one."""
    for name in _TENSORRT:
        library = _library(name)
        if library is not None:
            number = int(library.getInferLibVersion())
            # 8.6.1 is 8601, and from 10 on 10.3.0 is 100300
            major, rest = divmod(number, 10_000) if number >= 100_000 else divmod(number, 1_000)
            return f"{major}.{rest // 100}.{rest % 100}"
    return ""


def _library(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None
