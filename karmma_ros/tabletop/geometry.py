# SPDX-License-Identifier: Apache-2.0
"""Pinhole camera, rigid poses and smooth random motion.

Metres; x to the right, y away from the viewer, z up; the table is z = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karmma_ros.tabletop.types import Array

__all__ = ["Camera", "Pose", "SmoothNoise", "rotation", "smoothstep"]


def smoothstep(x: float) -> float:
    """0 below 0, 1 above 1, with zero slope at both ends."""
    x = min(max(x, 0.0), 1.0)
    return x * x * (3.0 - 2.0 * x)


def rotation(axis: str, angle: float) -> Array:
    """(3, 3) right-handed rotation about a coordinate axis, `angle` in radians."""
    c, s = np.cos(angle), np.sin(angle)
    if axis == "x":
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    if axis == "y":
        return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@dataclass(frozen=True)
class Pose:
    """A rigid pose: world = rotation @ local + position."""

    position: Array  # (3,) metres
    rotation: Array  # (3, 3)

    def apply(self, points: Array) -> Array:
        """(N, 3) local points -> (N, 3) world points."""
        return points @ self.rotation.T + self.position


class SmoothNoise:
    """Band-limited random signal: a sum of a few sinusoids with random phases, about unit amplitude in each channel."""

    def __init__(self, rng: np.random.Generator, channels: int, max_hz: float) -> None:
        self._frequency = rng.uniform(0.15, 1.0, (4, channels)) * max_hz * 2 * np.pi
        self._phase = rng.uniform(0, 2 * np.pi, (4, channels))

    def __call__(self, t_s: float) -> Array:
        """(channels,) values at time t_s in seconds."""
        return np.sin(self._frequency * t_s + self._phase).sum(axis=0) / 2.0


@dataclass(frozen=True)
class Camera:
    """A pinhole camera looking at a point of the table, x right, y down, z forward in its own frame."""

    position: Array  # (3,)
    rotation: Array  # (3, 3) world -> camera
    focal: float  # in image widths
    width: int
    height: int

    @staticmethod
    def look_at(position: Array, target: Array, roll: float, focal: float, size: tuple[int, int]) -> Camera:
        """A camera at `position` looking at `target`, rolled by `roll` radians; `size` is (width, height) in pixels."""
        forward = (target - position) / np.linalg.norm(target - position)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        return Camera(position, rotation("z", roll) @ np.stack([right, down, forward]), focal, *size)

    def project(self, points: Array) -> tuple[Array, Array]:
        """(N, 3) world points -> (N, 2) pixels and (N,) depths in metres, clipped to at least 5 cm."""
        local = (points - self.position) @ self.rotation.T
        depth = np.maximum(local[:, 2], 0.05)
        scale = self.focal * self.width / depth
        pixels = local[:, :2] * scale[:, None] + (self.width / 2, self.height / 2)
        return pixels, depth

    def pixels_per_metre(self, depth: float) -> float:
        """Size on the image of one metre at `depth` metres."""
        return self.focal * self.width / max(depth, 0.05)

    def table_homography(self) -> Array:
        """(3, 3) map from table coordinates (x, y, 1) in metres to pixels."""
        intrinsics = np.array(
            [[self.focal * self.width, 0, self.width / 2], [0, self.focal * self.width, self.height / 2], [0, 0, 1]]
        )
        columns = np.stack([self.rotation[:, 0], self.rotation[:, 1], -self.rotation @ self.position], axis=1)
        return intrinsics @ columns
