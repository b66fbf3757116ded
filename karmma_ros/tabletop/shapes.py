# SPDX-License-Identifier: Apache-2.0
"""Objects as coloured quad meshes, and how a mesh is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from karmma_ros.tabletop.geometry import Camera, Pose
from karmma_ros.tabletop.types import Array, Image

__all__ = ["Mesh", "ObjectModel", "box_mesh", "draw_mesh", "lathe_mesh", "make_object"]

_SHIFT = 3  # fractional bits of the polygon coordinates
_AROUND = 22  # quads around a surface of revolution


@dataclass(frozen=True)
class Mesh:
    """Quads, wound so that the outside is counter-clockwise seen from outside."""

    vertices: Array  # (V, 3) metres
    quads: Array  # (Q, 4) int
    normals: Array  # (Q, 3) unit, outward
    colours: Array  # (Q, 3) RGB 0..255


@dataclass(frozen=True)
class ObjectModel:
    """One thing on the table: its mesh and the sizes that hand and motion need."""

    noun: str
    mesh: Mesh
    radius: float  # metres, where the hand grips
    height: float  # metres
    grip_height: float  # metres above the table


def _finish(vertices: Array, quads: Array, colours: Array) -> Mesh:
    corners = vertices[quads]  # (Q, 4, 3)
    normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return Mesh(vertices, quads, normals, colours)


def _join(meshes: list[Mesh]) -> Mesh:
    offsets = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.quads + o for m, o in zip(meshes, offsets, strict=True)]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.colours for m in meshes]),
    )


def lathe_mesh(profile: Array, colours: Array, *, inside: bool = False) -> Mesh:
    """Surface of revolution about z.

    :param profile: (R, 2) radius and height in metres, from the bottom up.
    :param colours: (R - 1, around, 3) RGB of each quad.
    :param inside: face inwards (the inner wall of a bowl).
    """
    angle = np.linspace(0, 2 * np.pi, _AROUND, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # (A, 2)
    xy = profile[:, None, :1] * ring[None]  # (R, A, 2)
    z = np.broadcast_to(profile[:, None, 1:], (*xy.shape[:2], 1))
    vertices = np.concatenate([xy, z], axis=2).reshape(-1, 3)
    row, col = np.meshgrid(np.arange(len(profile) - 1), np.arange(_AROUND), indexing="ij")
    right = (col + 1) % _AROUND
    quads = np.stack(
        [row * _AROUND + col, row * _AROUND + right, (row + 1) * _AROUND + right, (row + 1) * _AROUND + col], axis=-1
    ).reshape(-1, 4)
    if inside:
        quads = quads[:, ::-1]
    return _finish(vertices, quads, colours.reshape(-1, 3))


def box_mesh(size: tuple[float, float, float], colours: Array) -> Mesh:
    """A closed box standing on the table.

    :param size: width (x), depth (y), height (z) in metres.
    :param colours: (5, n, n, 3) RGB of the n x n quads of front, right, back, left and top.
    """
    w, d, h = size
    n = colours.shape[1]
    corner = {  # origin, direction of u, direction of v: u x v points outwards
        0: ((-w / 2, -d / 2, 0), (w, 0, 0), (0, 0, h)),
        1: ((w / 2, -d / 2, 0), (0, d, 0), (0, 0, h)),
        2: ((w / 2, d / 2, 0), (-w, 0, 0), (0, 0, h)),
        3: ((-w / 2, d / 2, 0), (0, -d, 0), (0, 0, h)),
        4: ((-w / 2, -d / 2, h), (w, 0, 0), (0, d, 0)),
    }
    meshes = []
    step = np.linspace(0, 1, n + 1)
    for face, (origin, u, v) in corner.items():
        grid = np.array(origin) + step[None, :, None] * np.array(u) + step[:, None, None] * np.array(v)  # (n+1, n+1, 3)
        row, col = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
        base = row * (n + 1) + col
        quads = np.stack([base, base + 1, base + n + 2, base + n + 1], axis=-1).reshape(-1, 4)
        meshes.append(_finish(grid.reshape(-1, 3), quads, colours[face].reshape(-1, 3)))
    return _join(meshes)


def draw_mesh(canvas: Image, camera: Camera, mesh: Mesh, pose: Pose, light: Array, ambient: float) -> None:
    """Draw the outside of a mesh into the canvas, far quads first.

    :param light: (3,) unit vector towards the light.
    :param ambient: share of the brightness that does not depend on the light's direction, 0..1.
    """
    pixels, depth = camera.project(pose.apply(mesh.vertices))
    quads = pixels[mesh.quads]  # (Q, 4, 2)
    a, b = quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1]
    # The image's y axis points down, so the outside turns clockwise there.
    visible = np.flatnonzero(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] < 0)
    order = visible[np.argsort(-depth[mesh.quads[visible]].mean(axis=1), kind="stable")]
    lambert = np.clip(mesh.normals[order] @ (pose.rotation.T @ light), 0, 1)
    shade = ambient + (1.0 - ambient) * lambert
    colours = np.clip(mesh.colours[order] * shade[:, None] + 35.0 * lambert[:, None] ** 16, 0, 255).tolist()
    points = np.rint(quads[order] * (1 << _SHIFT)).astype(np.int32)
    for polygon, colour in zip(points, colours, strict=True):
        cv2.fillConvexPoly(canvas, polygon, colour, cv2.LINE_8, _SHIFT)


def _palette(rng: np.random.Generator, hue: float, spread: float) -> tuple[Array, Array]:
    """A body colour near `hue` (0..1) and a second colour that stands out from it, both RGB 0..255."""
    body_hue = (hue + rng.normal(0, spread)) % 1.0
    mark_hue = (body_hue + rng.uniform(0.25, 0.75)) % 1.0
    hsv = np.array(
        [
            [body_hue * 179, rng.uniform(70, 200), rng.uniform(110, 215)],
            [mark_hue * 179, rng.uniform(40, 200), rng.uniform(60, 245)],
        ],
        dtype=np.float64,
    )
    rgb = cv2.cvtColor(hsv[None].astype(np.uint8), cv2.COLOR_HSV2RGB)[0].astype(np.float64)
    return rgb[0], rgb[1]


def _texture(rng: np.random.Generator, rows: int, cols: int, body: Array, mark: Array, kind: str) -> Array:
    """(rows, cols, 3) colours: a body with stripes, rings, a label or dots."""
    out = np.tile(body, (rows, cols, 1))
    row, col = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, cols, endpoint=False), indexing="ij")
    if kind == "label":
        low, wide = rng.uniform(0.2, 0.4), rng.uniform(0.35, 0.6)
        out[(row > low) & (row < low + 0.35) & ((col + rng.uniform()) % 1.0 < wide)] = mark
    elif kind == "rings":
        out[np.sin(row * np.pi * 2 * rng.integers(2, 4)) > 0.3] = mark
    elif kind == "stripes":
        out[np.sin(col * np.pi * 2 * rng.integers(3, 6)) > 0.4] = mark
    elif kind == "dots":
        out[rng.uniform(size=(rows, cols)) > 0.75] = mark
    return np.clip(out + rng.normal(0, 5, (rows, cols, 1)), 0, 255)


def _vessel(rng: np.random.Generator, profile: Array, body: Array, mark: Array, kind: str, *, hollow: bool) -> Mesh:
    parts = [lathe_mesh(profile, _texture(rng, len(profile) - 1, _AROUND, body, mark, kind))]
    if hollow:
        inner = profile * (0.92, 1.0) + (0.0, 0.002)
        parts.append(lathe_mesh(inner, np.tile(body * 0.55, (len(profile) - 1, _AROUND, 1)), inside=True))
        floor = np.stack([np.array([1e-4, inner[1, 0]]), np.full(2, inner[1, 1] * 0.6 + 0.004)], axis=1)[::-1]
        parts.append(lathe_mesh(floor, np.tile(body * 0.7, (1, _AROUND, 1))))
    else:
        cap = np.stack([[profile[-1, 0], 1e-4], np.full(2, profile[-1, 1])], axis=1)
        parts.append(lathe_mesh(cap, np.tile(body * 0.35, (1, _AROUND, 1))))
    return _join(parts)


def _handle(radius: float, height: float, body: Array) -> Mesh:
    """A mug's handle: a ribbon bent into a half ring on the -x side, both faces drawn."""
    bend = np.linspace(-np.pi / 2, np.pi / 2, 7)
    x = -radius * 0.95 - 0.028 * np.cos(bend)
    z = height * 0.5 + height * 0.32 * np.sin(bend)
    vertices = np.concatenate(
        [np.stack([x, np.full(7, y), z], axis=1) for y in (-0.008, 0.008)]
        + [np.stack([x * 0.93 - 0.004, np.full(7, y), z * 0.9 + height * 0.05], axis=1) for y in (-0.008, 0.008)]
    )
    quads = []
    for i in range(6):
        for a, b in ((0, 7), (14, 21), (0, 14), (7, 21)):
            quads += [[a + i, a + i + 1, b + i + 1, b + i], [b + i, b + i + 1, a + i + 1, a + i]]
    return _finish(vertices, np.array(quads), np.tile(body * 0.9, (len(quads), 1)))


def _flask_profile(rng: np.random.Generator) -> Array:
    r, h = rng.uniform(0.034, 0.041), rng.uniform(0.17, 0.215)
    neck, shoulder = rng.uniform(0.35, 0.5), rng.uniform(0.55, 0.68)
    levels = [0, 0.03, 0.15, 0.3, 0.45, shoulder, shoulder + 0.1, shoulder + 0.18, 0.95, 1.0]
    widths = [0.9, 1, 1, 1, 1, 1, 0.8, neck, neck, neck * 1.15]
    return np.stack([np.array(widths) * r, np.array(levels) * h], axis=1)


def _bowl_profile(rng: np.random.Generator) -> Array:
    r, h = rng.uniform(0.066, 0.08), rng.uniform(0.055, 0.07)
    level = np.array([0, 0.08, 0.25, 0.5, 0.75, 1.0])
    return np.stack([r * (0.5 + 0.5 * level**0.55), h * level], axis=1)


def _mug_profile(rng: np.random.Generator) -> Array:
    r, h = rng.uniform(0.038, 0.045), rng.uniform(0.085, 0.105)
    taper = rng.uniform(0.85, 1.0)
    level = np.linspace(0, 1, 8)
    return np.stack([r * (taper + (1 - taper) * level), h * level], axis=1)


def make_object(noun: str, rng: np.random.Generator) -> ObjectModel:
    """Draw one instance of a noun: sizes, colours and texture vary; look-alike nouns share every distribution."""
    hue = {"bottle": 0.38, "flask": 0.38, "bowl": 0.05, "mug": 0.6, "box": 0.1, "tin": 0.1}[noun]
    # Hue hints at the noun but does not give it away: shape has to be learned.
    body, mark = _palette(rng, hue if rng.uniform() < 0.5 else rng.uniform(), 0.1)
    if noun in ("bottle", "flask"):
        profile = _flask_profile(rng)
        kind = str(rng.choice(["label", "rings", "stripes"]))
        mesh = _vessel(rng, profile, body, mark, kind, hollow=False)
        return ObjectModel(noun, mesh, float(profile[3, 0]), float(profile[-1, 1]), float(profile[-1, 1]) * 0.36)
    if noun == "bowl":
        profile = _bowl_profile(rng)
        mesh = _vessel(rng, profile, body, mark, str(rng.choice(["rings", "dots", "stripes"])), hollow=True)
        return ObjectModel(noun, mesh, float(profile[3, 0]), float(profile[-1, 1]), float(profile[-1, 1]) * 0.55)
    if noun == "mug":
        profile = _mug_profile(rng)
        height = float(profile[-1, 1])
        mesh = _vessel(rng, profile, body, mark, str(rng.choice(["label", "rings", "dots"])), hollow=True)
        mesh = _join([mesh, _handle(float(profile[0, 0]), height, body)])
        return ObjectModel(noun, mesh, float(profile[-1, 0]), height, height * 0.5)
    if noun in ("box", "tin"):
        size = (rng.uniform(0.075, 0.1), rng.uniform(0.055, 0.075), rng.uniform(0.1, 0.14))
        n = 7
        kind = str(rng.choice(["label", "rings", "stripes"]))
        faces = np.stack([_texture(rng, n, n, body, mark, kind) for _ in range(4)] + [np.tile(body * 0.95, (n, n, 1))])
        mesh = box_mesh(size, faces)
        return ObjectModel(noun, mesh, 0.5 * float(np.hypot(size[0], size[1])) * 0.9, size[2], size[2] * 0.5)
    raise ValueError(f"no such noun: {noun}")
