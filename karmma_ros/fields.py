# SPDX-License-Identifier: Apache-2.0
"""Fields of messages from who knows where, read with their types checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from karmma_ros.errors import SampleError

__all__ = ["count_of", "shown", "text_of"]


def count_of(msg: Any, name: str) -> int:
    """A field that holds a whole number of at least 0.

    :raises SampleError: it does not.
    """
    value = getattr(msg, name, None)
    if not isinstance(value, (int, np.integer)) or value < 0:
        raise SampleError("malformed message", name)
    return int(value)


def text_of(msg: Any, name: str) -> str:
    """A field that holds a text.

    :raises SampleError: it does not.
    """
    value = getattr(msg, name, None)
    if not isinstance(value, str):
        raise SampleError("malformed message", name)
    return value


def shown(text: str) -> str:
    """A text from a message, fit to be logged."""
    return repr(text if len(text) <= 40 else text[:40] + "...")
