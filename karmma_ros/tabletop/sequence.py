# SPDX-License-Identifier: Apache-2.0
"""A rendered sequence: frames, sound and the truth, each a function of split and seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from karmma_ros.tabletop.motion import Act
from karmma_ros.tabletop.render import Renderer
from karmma_ros.tabletop.scene import make_scene, scene_rng
from karmma_ros.tabletop.script import Interval, write_script
from karmma_ros.tabletop.sound import RATE, render_sound
from karmma_ros.tabletop.types import Array, Image

__all__ = ["Interval", "Sequence", "make_sequence"]

SOUND_RATE = RATE


class Sequence:
    """Frame i is stamped i / fps, sound sample j is stamped j / 16000, both in seconds from the start."""

    def __init__(
        self, split: str, seed: int, duration_s: float, size: tuple[int, int], fps: float, take: int = 0
    ) -> None:
        self.split, self.seed, self.duration_s, self.size, self.fps = split, seed, duration_s, size, fps
        self.take = take
        self._scene = make_scene(split, seed)
        script_rng = scene_rng(split, seed, 1, take)
        nouns = tuple(m.noun for m in self._scene.objects)
        self.intervals: list[Interval] = write_script(script_rng, nouns, duration_s)
        self.acts: list[Act] = []
        for interval in self.intervals:
            i = nouns.index(interval.noun) if interval.noun in nouns else -1
            model = self._scene.objects[i] if i >= 0 else None
            place = self._scene.places[i] if i >= 0 else np.zeros(3)
            spin = float(self._scene.spins[i]) if i >= 0 else 0.0
            self.acts.append(Act(interval, model, place, spin, script_rng))
        self._renderer: Renderer | None = None

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return round(self.duration_s * self.fps)

    def frame(self, index: int) -> Image:
        """RGB uint8 (H, W, 3); the same for the same index, whatever was asked for before."""
        if self._renderer is None:
            self._renderer = Renderer(self._scene, self.acts, self.size, self.fps, scene_rng(self.split, self.seed, 2))
        return self._renderer.frame(index)

    def frames(self) -> Iterator[Image]:
        """All frames in order."""
        for index in range(self.n_frames):
            yield self.frame(index)

    def sound(self) -> Array:
        """Mono float32 (n,) in [-1, 1] at 16 kHz; every value is a 16-bit sample."""
        return render_sound(self.acts, self.duration_s, scene_rng(self.split, self.seed, 3, self.take))

    def action_at(self, t_s: float) -> tuple[str, str]:
        """(verb, noun) at a time in seconds; the first or last action outside the sequence."""
        for interval in self.intervals:
            if t_s < interval.stop_s:
                return interval.verb, interval.noun
        return self.intervals[-1].verb, self.intervals[-1].noun


def make_sequence(
    seed: int,
    split: str = "train",
    *,
    duration_s: float = 30.0,
    size: tuple[int, int] = (320, 240),
    fps: float = 30.0,
    take: int = 0,
) -> Sequence:
    """A continuous sequence of actions with idle gaps.

    :param seed: which scene of the split.
    :param split: train, val or test: their scenes share no random draw.
    :param duration_s: length in seconds.
    :param size: (width, height) in pixels.
    :param fps: frames per second.
    :param take: which of the scene's takes: the same things on the same table, other actions.
    """
    if duration_s <= 0 or fps <= 0 or min(size) < 16:
        raise ValueError("a sequence needs a positive duration and frame rate and frames of at least 16x16")
    return Sequence(split, seed, duration_s, size, fps, take)
