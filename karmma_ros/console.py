# SPDX-License-Identifier: Apache-2.0
"""The terminal that commands print to."""

from __future__ import annotations

import sys

from rich.console import Console

__all__ = ["make_console"]


def make_console(*, stderr: bool = False) -> Console:
    """Where a command prints: names with brackets in them stay as they are; 120 columns where nobody looks on."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, markup=False, highlight=False, width=None if stderr or stream.isatty() else 120)
