# SPDX-License-Identifier: Apache-2.0
"""Which sensor misbehaves how and when: a seeded script of episodes, the same in every process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from karmma_ros.demo.script import number_at

__all__ = ["AUDIO", "FLOW", "RATE", "SENSORS", "SLOW", "VIDEO", "Episode", "Storm", "make_storm"]

SENSORS = ("video", "flow", "audio")  # each a process of its own
RATE = 30  # frames a second
SLOW = 2  # every so many frames of a camera that has become slow
# How a sensor behaves in an episode. `well` is what it does about half of the time.
VIDEO = (
    "off",
    "lossy",  # half of the frames are lost
    "slow",  # another rate: every other frame
    "late",  # stamps that lag by a constant, as those of `flow` and `audio` may
    "drifting",  # stamps of a clock that is slow, as those of `flow` and `audio` may be
    "covered",
    "black",
    "frozen",
    "garbage",  # messages whose fields contradict each other
    "huge",  # dimensions that nobody could allocate
    "future",  # stamps an hour ahead
    "no stamp",
    "repeated",  # every frame with the stamp of the first
    "shuffled",  # pairs of frames in the wrong order
    "flood",  # every frame ten times
)
FLOW = ("off", "zeros", "noise", "not finite", "garbage", "no stamp", "late", "drifting", "shuffled")
AUDIO = (
    "off",
    "muted",
    "not finite",
    "loud",
    "garbage",
    "gaps",
    "overlaps",
    "other rate",
    "future",
    "late",
    "drifting",
)
# A camera of which the node gets half of the frames: one that has become slow, and one whose frames come in pairs, the
# newer first, of which the second may take the first one's place in the queue.
_HALF = ("slow", "shuffled")
_EPISODE_S = (1.0, 5.0)  # an episode lasts between these
_WELL = 0.45  # probability that a sensor is well in an episode
_KILLS_S = 20.0  # the processes of all sensors, or that of one, are killed about so often

T = TypeVar("T")


@dataclass(frozen=True)
class Episode:
    """How the sensors behave from `start_s` to `end_s`, and what is done to processes and parameters at its start."""

    start_s: float
    end_s: float
    video: str = "well"
    flow: str = "well"
    audio: str = "well"
    killed: tuple[str, ...] = ()  # the processes of these sensors are killed and started again
    modalities: tuple[str, ...] | None = None  # parameter `modalities` is set to this

    @property
    def name(self) -> str:
        """What is going on, for a person."""
        sensors = {"video": self.video, "flow": self.flow, "audio": self.audio}
        parts = [f"{sensor} {kind}" for sensor, kind in sensors.items() if kind != "well"]
        if self.killed:
            parts.append(f"{', '.join(self.killed)} killed")
        if self.modalities is not None:
            parts.append(f"modalities set to {', '.join(self.modalities)}")
        return "; ".join(parts) or "all well"


@dataclass(frozen=True)
class Storm:
    """Episodes without gaps."""

    episodes: tuple[Episode, ...]
    seed: int

    def number_at(self, t_s: float) -> int:
        """Number of the episode at `t_s` from the start; the last one holds on."""
        return number_at([episode.end_s for episode in self.episodes], t_s)

    def due(self) -> tuple[int, int]:
        """Predictions due in all, at least and at most: a camera that gives half of its frames is followed once that is
        learned, and until then the usual rate is right."""
        usual = half = 0.0
        for episode in self.episodes:
            seconds = episode.end_s - episode.start_s
            usual += seconds
            half += seconds if episode.video in _HALF else 0.0
        return round((usual - half + half / SLOW) * RATE), round(usual * RATE)


def make_storm(seconds: float, seed: int) -> Storm:
    """A storm of `seconds`: calm for the first five (the node warms up) and the last two.

    Every kind of misbehaviour of every sensor comes before any comes twice, if there is the time. A camera that gave
    half of its frames is well afterwards: were it silent, whoever has learned its rate would go on at it, and what is
    due would be anybody's guess.
    """
    rng = np.random.default_rng(seed)
    turns = {name: _turns(kinds, rng) for name, kinds in (("video", VIDEO), ("flow", FLOW), ("audio", AUDIO))}
    victims = _turns((SENSORS, *((name,) for name in SENSORS)), rng)
    episodes = [Episode(0.0, min(5.0, seconds))]
    chosen: tuple[str, ...] | None
    off: tuple[str, ...] | None = None
    kill_s = 5.0 + rng.uniform(0.3, 1.0) * _KILLS_S
    while episodes[-1].end_s < seconds - 2.0:
        start_s, relearning = episodes[-1].end_s, episodes[-1].video in _HALF
        end_s = min(start_s + rng.uniform(*_EPISODE_S), seconds - 2.0)
        kinds = {
            name: "well" if rng.random() < _WELL or (relearning and name == "video") else next(turns[name])
            for name in SENSORS
        }
        if off is not None:
            chosen, off = SENSORS, None  # what was switched off comes back in the next episode
        elif rng.random() < 0.1 and not relearning:
            out = str(rng.choice(SENSORS))
            off = chosen = tuple(name for name in SENSORS if name != out)
        else:
            chosen = None
        killed: tuple[str, ...] = ()
        if start_s >= kill_s and not relearning:
            kill_s = start_s + rng.uniform(0.5, 1.5) * _KILLS_S
            killed = next(victims)
        episodes.append(Episode(start_s, end_s, **kinds, killed=killed, modalities=chosen))
    episodes.append(Episode(episodes[-1].end_s, seconds, modalities=SENSORS if off is not None else None))
    return Storm(tuple(episodes), seed)


def _turns(kinds: Sequence[T], rng: np.random.Generator) -> Iterator[T]:
    """The kinds in random order, again and again."""
    while True:
        yield from (kinds[i] for i in rng.permutation(len(kinds)))
