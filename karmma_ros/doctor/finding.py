# SPDX-License-Identifier: Apache-2.0
"""What a check has found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Finding", "Level", "advice", "fault", "ok"]


class Level(Enum):
    """How much a finding matters."""

    OK = "ok"
    ADVICE = "advice"  # works, but something would be better, or is not there that some need
    FAULT = "fault"  # does not work


@dataclass(frozen=True)
class Finding:
    """One line about one subject; whatever is not OK has a remedy."""

    level: Level
    subject: str
    text: str
    remedy: str = ""


def ok(subject: str, text: str) -> Finding:
    """As it should be."""
    return Finding(Level.OK, subject, text)


def advice(subject: str, text: str, remedy: str) -> Finding:
    """Worth a look."""
    return Finding(Level.ADVICE, subject, text, remedy)


def fault(subject: str, text: str, remedy: str) -> Finding:
    """To be mended."""
    return Finding(Level.FAULT, subject, text, remedy)
