# SPDX-License-Identifier: Apache-2.0
"""How each verb moves hand, object and tool, and when it makes a sound.

Every verb is a function of time with its own parameters (rhythm, amplitude), drawn per interval. Pictures and sound are
computed from the same motion, so what is heard is what is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from karmma_ros.tabletop.geometry import Pose, rotation, smoothstep
from karmma_ros.tabletop.hand import free_pose, wrap_pose
from karmma_ros.tabletop.script import Interval
from karmma_ros.tabletop.shapes import ObjectModel
from karmma_ros.tabletop.types import Array
from karmma_ros.tabletop.vocabulary import IDLE

__all__ = ["RELEASE_S", "Act", "Contact", "Moment"]

RELEASE_S = 0.45  # the hand leaves the object this long before the label's end; it reaches the next one at its start
_RAMP_S = 0.25  # from rest to full motion

_UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Moment:
    """The acting hand and what it holds at one instant."""

    object_pose: Pose | None  # None: nothing is acted upon
    hand: Array  # (21, 3) joints in the world
    tool: str | None = None  # "spoon", "cloth" or "stream"
    tool_points: Array | None = None  # world points of the tool


@dataclass(frozen=True)
class Contact:
    """Excitation of the object's material."""

    time_s: float
    strength: float
    sharpness: float  # 1 a hard knock .. 0 a dull thump


def _upright(position: Array, spin: float = 0.0) -> Pose:
    return Pose(position, rotation("z", spin))


class Act:
    """One interval's motion: `moment(t)` for the pictures, `contacts()` and `friction(t)` for the sound."""

    def __init__(
        self, interval: Interval, model: ObjectModel | None, place: Array, spin: float, rng: np.random.Generator
    ) -> None:
        """
        :param interval: what is done and when.
        :param model: the object acted upon; None when idle.
        :param place: (3,) where it stands on the table (or where the hand rests), metres.
        :param spin: rotation of the object about its axis, radians.
        """
        self.interval, self._model, self._place, self._spin = interval, model, place, spin
        self._on_s = interval.start_s
        self._off_s = max(interval.stop_s - RELEASE_S, self._on_s + 0.1)
        self._phase = float(rng.uniform(0, 2 * np.pi))
        self._size = float(rng.uniform(0.75, 1.25))
        self._away = bool(rng.uniform() < 0.5)
        self._drift = rng.uniform(-1, 1, 3)
        low, high = {
            IDLE: (0.2, 0.4), "lift": (0.55, 0.85), "pour": (0.25, 0.5), "shake": (3.0, 4.6), "slide": (0.6, 1.1),
            "stir": (1.1, 1.9), "tap": (2.4, 3.6), "turn": (0.6, 1.1), "wipe": (0.9, 1.6),
        }[interval.verb]  # fmt: skip
        self._hz = float(rng.uniform(low, high))
        self._rng_seed = int(rng.integers(2**31))
        self._moment: Callable[[float, float], Moment] = getattr(self, f"_{interval.verb}")

    @property
    def model(self) -> ObjectModel | None:
        """The object acted upon."""
        return self._model

    def moment(self, t_s: float) -> Moment:
        """The state at time t_s; outside the contact phase, the pose at its nearer end."""
        t = min(max(t_s, self._on_s), self._off_s)
        return self._moment(t, self._level(t))

    def _level(self, t: float) -> float:
        return smoothstep((t - self._on_s) / _RAMP_S) * smoothstep((self._off_s - t) / _RAMP_S)

    def _angle(self, t: float) -> float:
        return 2 * np.pi * self._hz * (t - self._on_s) + self._phase

    # -- one method per verb: (time, how far the motion is faded in) -> Moment

    def _grip(self, pose: Pose, tool: str | None = None, points: Array | None = None) -> Moment:
        assert self._model is not None
        # The hand does not follow the object's own spin: it always comes from the right.
        held = Pose(pose.position, pose.rotation @ rotation("z", -self._spin))
        joints = held.apply(wrap_pose(self._model.radius, self._model.grip_height, self._model.height))
        return Moment(pose, joints, tool, points)

    def _idle(self, t: float, level: float) -> Moment:
        breath = 0.004 * np.sin(self._angle(t))
        rest = np.array([0.16, -0.19, 0.012]) + self._drift * (0.05, 0.02, 0.0)
        if self._away:
            rest = np.array([0.36, -0.5, 0.03])
        joints = free_pose(
            rest + np.array([0.0, breath, 0.0]),
            np.array([-0.35, 0.9, 0.05]),
            _UP,
            (0.3, 0.25, 0.3, 0.35, 0.4),
            anchor=12,
        )
        return Moment(None, joints)

    def _lift(self, t: float, level: float) -> Moment:
        height = level * 0.055 * self._size * (1 - np.cos(self._angle(t) - self._phase))
        return self._grip(_upright(self._place + np.array([0.0, -0.1 * height, height]), self._spin))

    def _shake(self, t: float, level: float) -> Moment:
        swing = level * np.sin(self._angle(t))
        lift = np.array([0.02, -0.03, 0.10 * level]) * level
        position = self._place + lift + np.array([0.012, 0.0, 0.03]) * self._size * swing
        tilt = rotation("y", 0.25 * level * swing)
        return self._grip(Pose(position, tilt @ rotation("z", self._spin)))

    def _pour(self, t: float, level: float) -> Moment:
        assert self._model is not None
        wobble = 0.1 * np.sin(self._angle(t))
        tilt = rotation("y", -level * (0.95 + wobble) * (0.9 + 0.1 * self._size))
        position = self._place + np.array([0.05, -0.02, 0.13]) * level + np.array([0.0, 0.0, 0.006 * wobble])
        pose = Pose(position, tilt @ rotation("z", self._spin))
        if level < 0.75:
            return self._grip(pose)
        mouth = pose.apply(np.array([[0.0, 0.0, self._model.height]]))[0]
        fall = np.linspace(0, 1, 7)[:, None]
        bend = np.array([-0.035 - 0.01 * wobble, 0.0, 0.0])
        ground = mouth[2] * fall**1.6
        points = mouth + bend * fall**0.7 - ground * _UP
        return self._grip(pose, "stream", points)

    def _slide(self, t: float, level: float) -> Moment:
        offset = level * 0.055 * self._size * np.sin(self._angle(t) - self._phase)
        direction = np.array([np.cos(self._phase / 3), 0.6 * np.sin(self._phase / 3), 0.0])
        return self._grip(_upright(self._place + direction * offset, self._spin))

    def _turn(self, t: float, level: float) -> Moment:
        assert self._model is not None
        angle = level * 0.75 * self._size * np.sin(self._angle(t) - self._phase)
        pose = _upright(self._place, self._spin + angle)
        held = _upright(self._place, angle)
        return Moment(pose, held.apply(wrap_pose(self._model.radius, self._model.grip_height, self._model.height)))

    def _stir(self, t: float, level: float) -> Moment:
        assert self._model is not None
        circle = self._model.radius * 0.5 * min(self._size, 1.1)
        angle = self._angle(t)
        bowl = self._place + np.array([0.0, 0.0, self._model.height * 0.75])
        dip = bowl + level * circle * np.array([np.cos(angle), np.sin(angle), 0.0])
        pinch = dip + np.array([0.03, -0.025, 0.11]) + 0.25 * (dip - bowl)
        joints = free_pose(
            pinch, np.array([-0.5, 0.75, -0.35]), np.array([0.25, 0.1, 1.0]), (0.75, 0.62, 0.7, 0.8, 0.85)
        )
        return Moment(_upright(self._place, self._spin), joints, "spoon", np.stack([pinch + (pinch - dip) * 0.45, dip]))

    def _tap(self, t: float, level: float) -> Moment:
        assert self._model is not None
        height = level * 0.03 * self._size * abs(np.sin(self._angle(t) / 2 - self._phase / 2))
        r, top = self._model.radius, self._model.height
        if self._model.noun in ("bottle", "flask"):  # on the side: the top is far up
            reach = r + 0.009 + height
            contact = np.array([0.6 * reach, -0.8 * reach, 0.5 * top])
        elif self._model.noun in ("bowl", "mug"):  # on the rim
            contact = np.array([0.95 * r, -0.2 * r, top + 0.009 + height])
        else:  # on the lid
            contact = np.array([0.0, 0.0, top + 0.009 + height])
        tip = self._place + contact
        joints = free_pose(tip, np.array([-0.55, 0.7, -0.35 - 0.8 * height]), _UP, (0.7, 0.12, 0.85, 0.95, 0.95))
        return Moment(_upright(self._place, self._spin), joints)

    def _wipe(self, t: float, level: float) -> Moment:
        assert self._model is not None
        stroke = level * 0.045 * self._size * np.sin(self._angle(t))
        reach = self._model.radius + 0.015
        front = self._place + np.array([stroke, -reach, self._model.height * 0.62 + 0.15 * abs(stroke)])
        joints = free_pose(
            front, np.array([-0.5, 0.72, 0.3]), np.array([0.35, -0.6, 0.7]), (0.25, 0.3, 0.3, 0.32, 0.36), anchor=11
        )
        ragged = 0.012 * np.sin(self._angle(t) + np.arange(6))
        around = np.linspace(0, 2 * np.pi, 6, endpoint=False)
        cloth = front + np.stack(
            [(0.05 + ragged) * np.cos(around), np.full(6, -0.004), (0.038 + ragged) * np.sin(around)], axis=1
        )
        return Moment(_upright(self._place, self._spin), joints, "cloth", cloth)

    # -- sound

    def contacts(self) -> list[Contact]:
        """Knocks on the object, in time order: the moments at which the pictures show a contact."""
        rng = np.random.default_rng(self._rng_seed)
        verb, on, off, period = self.interval.verb, self._on_s, self._off_s, 1.0 / self._hz
        if verb == IDLE:
            return []
        out = []
        if verb == "lift":  # set down once a cycle
            out = [Contact(t, rng.uniform(0.8, 1.2), 0.6) for t in np.arange(on + period, off, period)]
        elif verb == "tap":  # |sin(angle / 2)| touches zero once a period
            out = [Contact(t, rng.uniform(0.4, 0.9), 0.95) for t in np.arange(on + period, off, period)]
        elif verb == "shake":  # the content hits the bottom once a period
            out = [
                Contact(t + rng.uniform(0, 0.03), rng.uniform(0.4, 0.9), 0.95) for t in np.arange(on + 0.1, off, period)
            ]
        elif verb == "stir":  # the spoon meets the wall
            out = [
                Contact(t + rng.normal(0, 0.02), rng.uniform(0.4, 0.9), 0.95)
                for t in np.arange(on + 0.2, off, period / 2)
            ]
        elif verb == "turn":  # stick and slip while it moves
            for t in np.arange(on, off, 0.035):
                speed = abs(np.cos(self._angle(t) - self._phase)) * self._level(t)
                if rng.uniform() < speed * 0.15:
                    out.append(Contact(t + rng.uniform(0, 0.02), 0.10 * speed, 0.5))
        if verb in ("lift", "shake", "pour", "slide", "turn", "wipe"):  # the grip closes
            out.append(Contact(on, rng.uniform(0.3, 0.6), 0.6))
        if verb in ("shake", "pour"):  # and the object is put back
            out.append(Contact(off, rng.uniform(0.5, 1.0), 0.3))
        return sorted((c for c in out if on <= c.time_s <= off), key=lambda c: c.time_s)

    def friction(self, t_s: Array) -> tuple[Array, Array]:
        """Loudness of rubbing (rings in the material) and of liquid or cloth (does not): (n,) each, at (n,) times."""
        verb = self.interval.verb
        inside = (t_s >= self._on_s) & (t_s < self._off_s)
        ramp = np.clip(np.minimum(t_s - self._on_s, self._off_s - t_s) / _RAMP_S, 0, 1) * inside
        angle = 2 * np.pi * self._hz * (t_s - self._on_s)
        rubbing = ramp * np.abs(np.cos(angle))
        nothing = np.zeros_like(t_s)
        if verb == "slide":
            return rubbing * 0.27, rubbing * 0.10
        if verb == "stir":
            return ramp * (0.03 + 0.015 * np.sin(angle)), ramp * 0.015
        if verb == "wipe":
            speed = np.abs(np.cos(angle + self._phase))
            return ramp * speed * 0.25, ramp * speed * 0.12
        if verb == "pour":
            bubbling = 0.6 + 0.4 * np.sin(2 * np.pi * 7.0 * t_s + 2 * np.sin(angle))
            return ramp * bubbling * 0.20, ramp * bubbling * 0.35
        if verb == "turn":
            return rubbing * 0.25, rubbing * 0.09
        return nothing, nothing
