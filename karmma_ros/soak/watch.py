# SPDX-License-Identifier: Apache-2.0
"""What a process uses, second by second, and what the whole run makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["Usage", "Watch", "longest_gaps", "usage_of", "verdict"]

LONG_S = 1200.0  # from this length on the last quarter may not exceed the second by more than LONG_MB
LONG_MB, SHORT_MB = 1.0, 5.0
HOURS_S = 7200.0  # from this length on the growth is also given per hour
LEAST_SHARE = 0.98  # of the predictions due
LEAST_OK = 0.25  # of them that have something to go by: with fewer there was no storm, but no sensors
WORST_GAP_S = 1.0
NOTICED_S = 0.03  # that a process wakes too late
SUBSCRIBERS = 3  # to the predictions: who listens, one who never reads, and one who stands still now and then


@dataclass(frozen=True)
class Usage:
    """A process at one moment."""

    t_s: float
    resident_mb: float
    threads: int
    files: int  # open file descriptors


def usage_of(pid: int, t_s: float) -> Usage:
    """Reads /proc. :raises OSError: the process is gone or about to go, or this is not Linux."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.count(":")
    )
    if "VmRSS" not in fields:  # it has ended, and nobody has asked how
        raise ProcessLookupError(f"process {pid} has ended")
    resident_mb = int(fields["VmRSS"].split()[0]) / 1024
    return Usage(t_s, resident_mb, int(fields["Threads"]), len(list(Path(f"/proc/{pid}/fd").iterdir())))


class Watch:
    """Usage in the order of time."""

    def __init__(self) -> None:
        self.usages: list[Usage] = []
        self.subscribers: list[int] = []  # how many there were to the node's predictions
        self._late: list[tuple[float, float]] = []  # (when this process fell asleep, how much too late it woke) [s]

    def slept(self, t_s: float, late_s: float) -> None:
        """This process slept from `t_s` on, and woke too late by so much."""
        if late_s > NOTICED_S:
            self._late.append((t_s, late_s))

    def stood_still_s(self, begin_s: float, end_s: float) -> float:
        """[s] the longest that this process was not woken between two times: a machine that stands still tells no more
        of the node."""
        return max((late_s for t_s, late_s in self._late if begin_s - late_s < t_s < end_s), default=0.0)

    def quarter(self, number: int, seconds: float) -> list[Usage]:
        """Of the quarters 0 to 3 of a run."""
        return [u for u in self.usages if number * seconds / 4 <= u.t_s < (number + 1) * seconds / 4]


def longest_gaps(seconds: float, arrivals_s: Sequence[float], count: int = 10) -> list[tuple[float, float]]:
    """(from when, how long) no prediction was heard, longest first."""
    edges = [0.0, *(t for t in arrivals_s if 0 <= t < seconds), seconds]
    gaps = [(a, b - a) for a, b in pairwise(edges)]
    return sorted(gaps, key=lambda gap: -gap[1])[:count]


def verdict(
    seconds: float,
    arrivals_s: Sequence[float],
    due: tuple[int, int],
    watch: Watch,
    faults: Sequence[str],
    statuses: Mapping[str, int],
) -> dict[str, Any]:
    """The verdict: numbers, and in `failed` what they say that must not be; plain values, for JSON.

    :param arrivals_s: when each prediction was heard, from the start.
    :param due: predictions, at least and at most.
    :param faults: lines of the node's log that tell of an exception; statuses: how many predictions had each.
    """
    heard = [t for t in arrivals_s if 0 <= t < seconds]
    least, most = due
    ((_, gap_s),) = longest_gaps(seconds, arrivals_s, 1)
    before, after = watch.quarter(1, seconds), watch.quarter(3, seconds)
    memory_mb = (median(u.resident_mb for u in before), median(u.resident_mb for u in after))
    growth_mb = memory_mb[1] - memory_mb[0]
    allowed_mb = LONG_MB if seconds >= LONG_S else SHORT_MB
    threads = (median(u.threads for u in before), median(u.threads for u in after))
    files = (median(u.files for u in before), median(u.files for u in after))
    result: dict[str, Any] = {
        "seconds": seconds,
        "due": least,
        "due_at_most": most,
        "delivered": len(heard),
        "worst_gap_s": round(gap_s, 3),
        "exceptions": len(faults),
        "exception_lines": list(faults[:10]),
        "resident_mb": {
            "second_quarter": round(memory_mb[0], 2),
            "last_quarter": round(memory_mb[1], 2),
            "most": round(max(u.resident_mb for u in watch.usages), 2),
            "growth": round(growth_mb, 2),
            "allowed": allowed_mb,
        },
        "subscribers": min(watch.subscribers, default=0),
        "threads": list(threads),
        "files": list(files),
    }
    if seconds >= HOURS_S:
        result["resident_mb"]["growth_per_hour"] = round(growth_mb / (seconds / 2) * 3600, 2)
    rules = {
        f"only {len(heard)} of {least} predictions": len(heard) < LEAST_SHARE * least,
        f"{len(heard)} predictions where {most} were due": len(heard) > most / LEAST_SHARE,
        f"{gap_s:.2f} s without a prediction": gap_s > WORST_GAP_S,
        f"{len(faults)} exceptions": bool(faults),
        f"{statuses.get('FAILED', 0)} predictions failed": statuses.get("FAILED", 0) > 0,
        f"only {statuses.get('OK', 0)} predictions had something to go by": statuses.get("OK", 0) < LEAST_OK * least,
        f"only {result['subscribers']} of {SUBSCRIBERS} subscribers were there": result["subscribers"] < SUBSCRIBERS,
        f"memory grew by {growth_mb:.1f} MB": growth_mb > allowed_mb,
        f"threads went from {threads[0]:g} to {threads[1]:g}": threads[1] > threads[0],
        f"open files went from {files[0]:g} to {files[1]:g}": files[1] > files[0],
    }
    result["failed"] = [text for text, broken in rules.items() if broken]
    return result
