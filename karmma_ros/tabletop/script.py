# SPDX-License-Identifier: Apache-2.0
"""What happens in a sequence and when: labelled intervals without holes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karmma_ros.tabletop.vocabulary import ACTIONS, IDLE, NONE, action_weights

__all__ = ["Interval", "write_script"]

_ACTION_S = (8.0, 12.0)
_IDLE_S = (3.0, 5.0)
_IDLE_SHARE = 0.15  # of the changes of action that pass through rest: about 7 % of the time
_IDLE_FIRST = 0.1  # a recording begins at rest this often


@dataclass(frozen=True)
class Interval:
    """`verb` is done to `noun` from start_s (included) to stop_s (excluded), in seconds of the sequence."""

    start_s: float
    stop_s: float
    verb: str
    noun: str


def write_script(rng: np.random.Generator, nouns: tuple[str, ...], duration_s: float) -> list[Interval]:
    """Draw intervals that fill [0, duration_s): long-tailed actions on the nouns at hand, idle now and then.

    The same action never follows itself: the change would not be visible.
    """
    weights = action_weights()
    choices = [a for a in ACTIONS[1:] if a[1] in nouns]
    p = np.array([weights[a] for a in choices])
    p /= p.sum()
    intervals: list[Interval] = []
    start, previous = 0.0, ("", "")
    while start < duration_s:
        idle = _IDLE_SHARE if intervals else _IDLE_FIRST
        if previous != (IDLE, NONE) and rng.uniform() < idle:
            action, length = (IDLE, NONE), rng.uniform(*_IDLE_S)
        else:
            action = previous
            while action == previous:
                action = choices[int(rng.choice(len(choices), p=p))]
            length = rng.uniform(*_ACTION_S)
        if not intervals:  # a recording may begin in the middle of an action
            length *= rng.uniform(0.05, 1.0)
        stop = start + length
        if duration_s - stop < 1.2:
            stop = duration_s
        intervals.append(Interval(start, stop, *action))
        start, previous = stop, action
    return intervals
