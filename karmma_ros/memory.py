# SPDX-License-Identifier: Apache-2.0
"""Leaving nothing behind of a sensor that was switched off.

What is held of it is overwritten. What was held and is freed lies in the allocator's free blocks, whose pages are given
back to the kernel, which never hands them on as they are: no more than fragments shorter than a page (4096 bytes) can
stay until they are used again. What the middleware keeps is out of reach.
"""

from __future__ import annotations

import ctypes
from typing import Any

__all__ = ["return_freed_pages", "wipe"]

# Fields that hold samples, and fields that hold messages which do
_SAMPLES = ("data", "samples", "float32_data", "int32_data", "int16_data", "int8_data", "uint8_data")
_PARTS = ("audio", "audio_data")
_BLOCK = 65_536  # bytes; below the size that glibc maps for itself
_BLOCKS = 128  # 8 MiB: more than the samples that a thread handles at a time


def wipe(message: Any) -> None:
    """Overwrites the samples of a message with zeros."""
    for name in _SAMPLES:
        values = getattr(message, name, None)
        if values is None:
            continue
        try:
            view = memoryview(values).cast("B")
        except TypeError:  # no buffer
            continue
        if len(view) and not view.readonly:
            ctypes.memset((ctypes.c_char * len(view)).from_buffer(view), 0, len(view))
    for name in _PARTS:
        if hasattr(message, name):
            wipe(getattr(message, name))


def return_freed_pages() -> bool:
    """Gives the pages of freed memory back; False where the C library cannot (it is not glibc).

    To be called by the thread that freed it: the end of a thread's own memory is not given back, but overwritten here.
    """
    blocks = [bytearray(_BLOCK) for _ in range(_BLOCKS)]
    del blocks
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return False
    trim(ctypes.c_size_t(0))
    return True
