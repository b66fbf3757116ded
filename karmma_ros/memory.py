# SPDX-License-Identifier: Apache-2.0
"""Leaving nothing behind of a sensor that was switched off.

What is held of it is overwritten; what was held once and freed lies in the allocator's free blocks, whose pages are
given back to the kernel, which never hands them on as they are. What the middleware keeps is out of reach.
"""

from __future__ import annotations

import ctypes
from typing import Any

__all__ = ["return_freed_pages", "wipe"]


def wipe(message: Any) -> None:
    """Overwrites the samples of a message (`data` or `samples`) with zeros."""
    for name in ("data", "samples"):
        values = getattr(message, name, None)
        if values is None:
            continue
        try:
            view = memoryview(values).cast("B")
        except TypeError:  # no buffer
            continue
        if len(view) and not view.readonly:
            ctypes.memset((ctypes.c_char * len(view)).from_buffer(view), 0, len(view))


def return_freed_pages() -> bool:
    """Gives the pages of freed memory back; False where the C library cannot (it is not glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return False
    trim(ctypes.c_size_t(0))
    return True
