# SPDX-License-Identifier: Apache-2.0
"""What broken sensors send: covered lenses with the sensor's own noise, silences, flow that is none.

For tests, for the choice of thresholds and for measuring what the gates of content.py are worth.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["COVERS", "FLOWS", "SILENCES", "cover", "garbage_flow", "silence"]

Rgb = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

_Plane = npt.NDArray[np.float64]

# (rows, columns) in 0..1 -> brightness (H, W, 3) before noise, and the noise's standard deviation, in grey levels
COVERS: dict[str, Callable[[_Plane, _Plane], tuple[_Plane, float]]] = {
    "black": lambda y, x: (_flat(x, 0, 0, 0), 0.0),  # no signal, or an exposure of nothing
    "dark": lambda y, x: (_flat(x, 2, 2, 2), 3.0),  # a lens cap
    "card": lambda y, x: (_flat(x, 120, 118, 110), 5.0),  # paper close to the lens, lit through
    "hand": lambda y, x: (_glow(y, x, 0.1, 0.9, 0.35, (30, 8, 6), (120, 40, 25)), 4.0),  # skin, light from one side
    "gap": lambda y, x: (_glow(y, x, 0.0, 1.0, 0.12, (5, 5, 5), (200, 200, 195)), 3.0),  # light in one corner
    "cloth": lambda y, x: (_flat(x, 60, 50, 45) * (1 + 0.15 * np.sin(210 * x) * np.sin(160 * y))[..., None], 4.0),
}


def cover(kind: str, size: tuple[int, int], rng: np.random.Generator) -> Rgb:
    """A frame of a camera with something before its lens.

    :param kind: one of COVERS.
    :param size: (width, height).
    :return: (height, width, 3) uint8 RGB.
    """
    width, height = size
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    picture, sigma = COVERS[kind](y, x)
    return np.clip(picture + rng.normal(0, 1, picture.shape) * sigma, 0, 255).astype(np.uint8)


def _flat(x: _Plane, *rgb: float) -> _Plane:
    return np.broadcast_to(np.array(rgb, dtype=np.float64), (*x.shape, 3))


def _glow(
    y: _Plane, x: _Plane, row: float, column: float, radius: float, base: tuple[float, ...], peak: tuple[float, ...]
) -> _Plane:
    """Light that falls off smoothly around a point."""
    glow = np.exp(-((x - column) ** 2 + (0.75 * (y - row)) ** 2) / (2 * radius**2))
    return np.array(base) + glow[..., None] * np.array(peak)


# count -> samples at full scale 1
SILENCES: dict[str, Callable[[int, np.random.Generator], npt.NDArray[np.float64]]] = {
    "digital silence": lambda n, rng: np.zeros(n),
    "a constant": lambda n, rng: np.full(n, 0.02),
    "the last bit": lambda n, rng: rng.integers(-1, 2, n) / 32768,
    "an open input": lambda n, rng: rng.normal(0, 2e-5, n),  # -94 dB of thermal noise
}


def silence(kind: str, count: int, rng: np.random.Generator) -> Float32Array:
    """(count,) float32: a muted or unplugged microphone; one of SILENCES."""
    return SILENCES[kind](count, rng).astype(np.float32)


# size (width, height) -> (height, width, 2) in image widths per second
FLOWS: dict[str, Callable[[tuple[int, int], np.random.Generator], npt.NDArray[np.float64]]] = {
    "zeros": lambda size, rng: np.zeros((size[1], size[0], 2)),
    "noise": lambda size, rng: rng.normal(0, 0.5, (size[1], size[0], 2)),
    "blocky noise": lambda size, rng: _blocky(size, rng),
    "pixels taken for widths": lambda size, rng: np.full((size[1], size[0], 2), 60.0) + rng.normal(0, 5),
}


def _blocky(size: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Noise of a block matcher that finds nothing: one vector for 2 x 2 pixels."""
    width, height = size
    field = rng.uniform(-1, 1, (-(-height // 2), -(-width // 2), 2))
    return np.asarray(cv2.resize(field, (width, height), interpolation=cv2.INTER_NEAREST))


def garbage_flow(kind: str, size: tuple[int, int], rng: np.random.Generator) -> Float32Array:
    """(height, width, 2) float32 that no motion makes; one of FLOWS."""
    return FLOWS[kind](size, rng).astype(np.float32)
