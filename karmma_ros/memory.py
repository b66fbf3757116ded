# SPDX-License-Identifier: Apache-2.0
"""Leaving nothing behind of a sensor that was switched off.

What is held of it is overwritten. What was held and is freed lies in the allocator's free blocks, whose pages are given
back to the kernel, which never hands them on as they are: no more than fragments in which no whole page (4096 bytes)
lies, so shorter than two, can stay until they are used again. What the middleware keeps is out of reach.
"""

from __future__ import annotations

import ctypes
from typing import Any

from karmma_ros.transport import tune_allocator

__all__ = ["return_freed_pages", "wipe"]

# Fields that hold samples, and fields that hold messages which do
_SAMPLES = ("data", "samples", "float32_data", "int32_data", "int16_data", "int8_data", "uint8_data")
_PARTS = ("audio", "audio_data")
_M_TRIM_THRESHOLD, _M_TOP_PAD = -1, -2  # malloc.h
_TOP_PAD = 128 << 10  # bytes; glibc's own value
_BLOCK = 64 << 10  # bytes; freeing a block of this size makes glibc look at what it keeps


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

    To be called by the thread that freed it: `malloc_trim` leaves the free end of a thread's own memory alone. That is
    given back when the thread frees something, down to a threshold, which `transport.prepare` sets high.
    """
    library = ctypes.CDLL(None)
    if not tune_allocator():
        return False
    library.mallopt(_M_TRIM_THRESHOLD, 0)
    library.mallopt(_M_TOP_PAD, 0)
    block = bytearray(_BLOCK)
    del block
    library.mallopt(_M_TOP_PAD, _TOP_PAD)
    tune_allocator()
    library.malloc_trim(ctypes.c_size_t(0))
    return True
