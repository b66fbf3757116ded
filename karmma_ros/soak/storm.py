# SPDX-License-Identifier: Apache-2.0
"""Which sensor misbehaves how and when: a seeded script of episodes, the same in every process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karmma_ros.demo.script import number_at

__all__ = ["AUDIO", "FLOW", "RATE", "VIDEO", "Episode", "Storm", "make_storm"]

RATE = 30  # frames a second
# How a sensor behaves in an episode. `well` is what it does about half of the time.
VIDEO = (
    "off",
    "lossy",  # half of the frames are lost
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
FLOW = ("off", "zeros", "noise", "not finite", "garbage", "no stamp", "shuffled")
AUDIO = ("off", "muted", "not finite", "loud", "garbage", "gaps", "overlaps", "other rate", "future")
_EPISODE_S = (1.0, 5.0)  # an episode lasts between these
_WELL = 0.45  # probability that a sensor is well in an episode
_KILLS_S = 20.0  # the process of the sensors is killed about so often


@dataclass(frozen=True)
class Episode:
    """How the sensors behave from `start_s` to `end_s`, and what is done to processes and parameters at its start."""

    start_s: float
    end_s: float
    video: str = "well"
    flow: str = "well"
    audio: str = "well"
    killed: bool = False  # the process of the sensors is killed and started again
    modalities: tuple[str, ...] | None = None  # parameter `modalities` is set to this

    @property
    def name(self) -> str:
        """What is going on, for a person."""
        sensors = {"video": self.video, "flow": self.flow, "audio": self.audio}
        parts = [f"{sensor} {kind}" for sensor, kind in sensors.items() if kind != "well"]
        parts += ["sensors killed"] * self.killed
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


def make_storm(seconds: float, seed: int) -> Storm:
    """A storm of `seconds`: calm for the first five (the node warms up) and the last two.

    Every kind of misbehaviour of every sensor comes before any comes twice, if there is the time.
    """
    rng = np.random.default_rng(seed)
    turns = {name: _turns(kinds, rng) for name, kinds in (("video", VIDEO), ("flow", FLOW), ("audio", AUDIO))}
    episodes = [Episode(0.0, min(5.0, seconds))]
    sensors: tuple[str, ...] = ("video", "flow", "audio")
    chosen: tuple[str, ...] | None
    off: tuple[str, ...] | None = None
    kill_s = 5.0 + rng.uniform(0.3, 1.0) * _KILLS_S
    while episodes[-1].end_s < seconds - 2.0:
        start_s = episodes[-1].end_s
        end_s = min(start_s + rng.uniform(*_EPISODE_S), seconds - 2.0)
        kinds = {name: "well" if rng.random() < _WELL else next(turns[name]) for name in sensors}
        if off is not None:
            chosen, off = sensors, None  # what was switched off comes back in the next episode
        elif rng.random() < 0.1:
            off = chosen = tuple(name for name in sensors if name != rng.choice(sensors))
        else:
            chosen = None
        killed = start_s >= kill_s
        if killed:
            kill_s = start_s + rng.uniform(0.5, 1.5) * _KILLS_S
        episodes.append(Episode(start_s, end_s, **kinds, killed=killed, modalities=chosen))
    episodes.append(Episode(episodes[-1].end_s, seconds, modalities=sensors if off is not None else None))
    return Storm(tuple(episodes), seed)


def _turns(kinds: tuple[str, ...], rng: np.random.Generator):  # type: ignore[no-untyped-def]
    """The kinds in random order, again and again."""
    while True:
        yield from (kinds[i] for i in rng.permutation(len(kinds)))
