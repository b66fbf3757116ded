# SPDX-License-Identifier: Apache-2.0
"""All faults of a data set's files in one line."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["joined"]

SHOWN = 20  # faults listed before "and n more"


def joined(faults: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return f"{'; '.join(faults[:SHOWN])}{more}"
