# SPDX-License-Identifier: Apache-2.0
"""Everything that varies from one scene to the next: table, light, camera, hand, things on the table, noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from karmma_ros.tabletop.geometry import SmoothNoise
from karmma_ros.tabletop.hand import Skin
from karmma_ros.tabletop.shapes import Mesh, ObjectModel, box_mesh, lathe_mesh, make_object
from karmma_ros.tabletop.types import Array, Image
from karmma_ros.tabletop.vocabulary import NOUNS

__all__ = ["SPLITS", "Placed", "Scene", "make_scene", "scene_rng"]

SPLITS: tuple[str, ...] = ("train", "val", "test")


def scene_rng(split: str, seed: int, purpose: int, take: int = 0) -> np.random.Generator:
    """A random stream that no other (split, seed, purpose, take) shares: splits have no draw in common."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    return np.random.default_rng([0x7AB1E, SPLITS.index(split), seed, purpose, take])


@dataclass(frozen=True)
class Placed:
    """A thing standing on the table."""

    mesh: Mesh
    position: Array  # (3,) metres
    spin: float  # radians


@dataclass(frozen=True)
class Scene:
    """One draw of everything that stays the same during a sequence."""

    table: Image  # (N, N, 3) texture of a square of the table
    backdrop: tuple[Array, Array]  # RGB at the top and at the edge of the table
    table_depth: float  # where the table ends, metres from the middle
    clutter: tuple[Placed, ...]
    objects: tuple[ObjectModel, ...]
    places: Array  # (objects, 3)
    spins: Array  # (objects,)
    camera_position: Array
    camera_target: Array
    focal: float  # image widths
    sway: SmoothNoise  # 6 channels: position and target of the head
    sway_size: float  # metres
    light: Array  # (3,) unit vector towards the light
    ambient: float
    gain: Array  # (3,) per colour channel
    flicker: SmoothNoise  # 1 channel: slow changes of exposure
    vignette: float
    defocus_px: float  # standard deviation at 640 px width
    exposure_lag: float  # share of the previous frame left in this one
    noise: float  # standard deviation in grey levels, at 320x240
    skin: Skin
    elbow: Array
    liquid: Array  # RGB
    cloth: Array  # RGB


_SKIN_TONES = np.array(
    [[236, 188, 160], [224, 172, 138], [198, 140, 104], [160, 105, 72], [112, 72, 50], [84, 54, 40]], dtype=np.float64
)


def _rgb(rng: np.random.Generator, saturation: tuple[int, int], value: tuple[int, int]) -> Array:
    hsv = np.array([[[rng.integers(180), rng.integers(*saturation), rng.integers(*value)]]], dtype=np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float64)


def _table_texture(rng: np.random.Generator, n: int = 512) -> Image:
    kind = rng.choice(["wood", "plain", "cloth", "tiles"])
    naturals = np.array(
        [[176, 134, 92], [132, 96, 66], [206, 184, 150], [196, 194, 190], [120, 122, 126], [226, 222, 214]],
        dtype=np.float64,
    )
    natural = naturals[int(rng.integers(len(naturals)))] * rng.uniform(0.8, 1.08) + rng.normal(0, 6, 3)
    base = np.clip(natural, 0, 255) if rng.uniform() < 0.7 else _rgb(rng, (20, 90), (100, 225))
    grain = rng.normal(0, 1, (n, n // 32)).astype(np.float32)
    if kind == "wood":
        stretched = cv2.GaussianBlur(cv2.resize(grain, (n, n), interpolation=cv2.INTER_CUBIC), (0, 0), 1.0)
        texture = base + stretched[..., None] * np.array([16.0, 13.0, 9.0])
        texture[np.arange(0, n, n // 5)] *= 0.75
    elif kind == "cloth":
        other = np.clip(base * rng.uniform(0.6, 1.25), 0, 255)
        period = int(rng.integers(24, 64))
        row, col = np.indices((n, n)) // period % 2
        texture = base + (other - base) * ((row + col) / 2.0)[..., None]
    elif kind == "tiles":
        texture = np.tile(base, (n, n, 1)) * (
            1 + 0.05 * rng.normal(0, 1, (n // 64, n // 64)).repeat(64, 0).repeat(64, 1)[..., None]
        )
        texture[::64], texture[:, ::64] = base * 0.7, base * 0.7
    else:
        texture = np.tile(base, (n, n, 1))
    speckle = cv2.GaussianBlur(rng.normal(0, 1, (n, n, 1)).astype(np.float32), (0, 0), 0.8)[..., None]
    return np.clip(texture + speckle * rng.uniform(2, 14), 0, 255).astype(np.uint8)


def _clutter(rng: np.random.Generator, taken: list[Array], table_depth: float) -> tuple[Placed, ...]:
    out = []
    for _ in range(int(rng.integers(2, 6))):
        place = np.array([rng.uniform(-0.42, 0.42), rng.uniform(-0.1, min(0.42, table_depth - 0.1)), 0.0])
        if min(np.linalg.norm(place - t) for t in taken) < 0.13:
            continue
        taken.append(place)
        colour = _rgb(rng, (10, 200), (60, 235))
        kind = rng.choice(["plate", "book", "can", "stick"])
        if kind == "plate":
            r = rng.uniform(0.06, 0.1)
            profile = np.array([[r * 0.6, 0.002], [r, 0.012], [r * 0.97, 0.013], [r * 0.6, 0.005], [1e-4, 0.005]])
            mesh = lathe_mesh(profile, np.tile(colour, (4, 22, 1)))
        elif kind == "can":
            r, h = rng.uniform(0.02, 0.045), rng.uniform(0.04, 0.1)
            profile = np.array([[r, 0.0], [r, h], [1e-4, h]])
            mesh = lathe_mesh(profile, np.tile(colour, (2, 22, 1)))
        else:
            size = (
                (rng.uniform(0.1, 0.16), rng.uniform(0.08, 0.2), rng.uniform(0.01, 0.03))
                if kind == "book"
                else (0.15, 0.012, 0.012)
            )
            mesh = box_mesh(size, np.tile(colour, (5, 3, 3, 1)))
        out.append(Placed(mesh, place, rng.uniform(0, np.pi)))
    return tuple(out)


def make_scene(split: str, seed: int) -> Scene:
    """Draw scene `seed` of a split."""
    rng = scene_rng(split, seed, 0)
    nouns = rng.permutation(NOUNS[1:])[:3]
    objects = tuple(make_object(str(noun), rng) for noun in nouns)
    places = np.array([[x + rng.uniform(-0.02, 0.02), rng.uniform(-0.05, 0.08), 0.0] for x in (-0.155, -0.015, 0.125)])
    spins = np.array([rng.uniform(-0.5, 0.5) for _ in objects])
    table_depth = float(rng.uniform(0.3, 0.7))
    clutter = _clutter(rng, list(places), table_depth)
    azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(0.6, 1.3)
    light = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    tone = _SKIN_TONES[int(rng.integers(len(_SKIN_TONES)))] * rng.uniform(0.9, 1.08) + rng.normal(0, 5, 3)
    skin = Skin(
        np.clip(tone, 20, 250),
        _rgb(rng, (0, 220), (40, 230)),
        float(rng.uniform(0.25, 0.95)),
        float(rng.uniform(0.9, 1.12)),
    )
    temperature = rng.normal(0, 0.07)
    return Scene(
        table=_table_texture(rng),
        backdrop=(_rgb(rng, (5, 70), (60, 210)), _rgb(rng, (5, 70), (50, 180))),
        table_depth=table_depth,
        clutter=clutter,
        objects=objects,
        places=places,
        spins=spins,
        camera_position=np.array([rng.uniform(-0.05, 0.05), rng.uniform(-0.5, -0.4), rng.uniform(0.44, 0.58)]),
        camera_target=np.array([rng.uniform(-0.02, 0.03), rng.uniform(0.02, 0.06), 0.06]),
        focal=float(rng.uniform(1.1, 1.25)),
        sway=SmoothNoise(rng, 6, 0.9),
        sway_size=float(rng.uniform(0.003, 0.016)),
        light=light,
        ambient=float(rng.uniform(0.35, 0.65)),
        gain=rng.uniform(0.8, 1.25) * np.array([1 + temperature, 1.0, 1 - temperature]),
        flicker=SmoothNoise(rng, 1, 0.5),
        vignette=float(rng.uniform(0.0, 0.3)),
        defocus_px=float(rng.uniform(0.0, 1.4)),
        exposure_lag=float(rng.uniform(0.0, 0.3)),
        noise=float(rng.uniform(1.0, 6.0)),
        skin=skin,
        elbow=np.array([rng.uniform(0.2, 0.34), rng.uniform(-0.62, -0.52), rng.uniform(0.06, 0.16)]),
        liquid=_rgb(rng, (20, 160), (120, 250)),
        cloth=_rgb(rng, (0, 200), (120, 250)),
    )
