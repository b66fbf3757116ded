# SPDX-License-Identifier: Apache-2.0
"""An articulated hand: 21 joints posed for each kind of contact, drawn as shaded capsules.

A pose is a (21, 3) array: the wrist, then four joints from knuckle to tip of thumb, index, middle, ring and little
finger. Because every pose is such an array, a change of grip is a blend of two arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from karmma_ros.tabletop.geometry import Camera
from karmma_ros.tabletop.types import Array, Image

__all__ = ["Skin", "draw_forearm", "draw_hand", "free_pose", "wrap_pose"]

_BONES = np.array(
    [[0.034, 0.028, 0.024], [0.042, 0.027, 0.021], [0.046, 0.030, 0.022], [0.042, 0.027, 0.021], [0.034, 0.021, 0.018]]
)
_KNUCKLE = np.array(
    [[0.030, -0.036], [0.088, -0.030], [0.092, -0.009], [0.088, 0.012], [0.078, 0.031]]
)  # forward, right
_RADII = np.array([0.0115, 0.0095, 0.0098, 0.0093, 0.0080])
_SHIFT = 3

Pixel = Sequence[float]  # x, y


@dataclass(frozen=True)
class Skin:
    """How the hand and its sleeve look."""

    skin: Array  # (3,) RGB
    sleeve: Array  # (3,) RGB
    sleeve_start: float  # share of the forearm, from the wrist, that is bare
    scale: float  # hand size relative to the average


def free_pose(
    tip: Array, forward: Array, up: Array, curls: tuple[float, ...], *, anchor: int = 8, spread: float = 0.06
) -> Array:
    """A hand in the air with one joint at a given place.

    :param tip: (3,) where joint `anchor` shall be (8 = tip of the index finger).
    :param forward: (3,) direction from the wrist to the knuckles.
    :param up: (3,) roughly the back of the hand's normal.
    :param curls: how far thumb, index, middle, ring and little finger are bent, 0 straight .. 1 fist.
    :returns: (21, 3) joints.
    """
    f = forward / np.linalg.norm(forward)
    r = np.cross(f, up)
    r /= np.linalg.norm(r)
    u = np.cross(r, f)
    joints = np.zeros((21, 3))
    for finger in range(5):
        knuckle = _KNUCKLE[finger, 0] * f + _KNUCKLE[finger, 1] * r
        joints[1 + 4 * finger] = knuckle
        fan = (finger - 2) * spread
        ahead = f * np.cos(fan) + r * np.sin(fan)
        if finger == 0:  # the thumb points sideways and closes towards the index finger
            ahead = (0.75 * f - (0.65 - 0.5 * curls[0]) * r - 0.35 * curls[0] * u) / 1.05
        angle, point = 0.0, knuckle
        for bone, bend in enumerate((0.9, 1.25, 0.8)):
            angle += curls[finger] * bend * (0.35 if finger == 0 else 1.0)
            point = point + _BONES[finger, bone] * (np.cos(angle) * ahead - np.sin(angle) * u)
            joints[2 + 4 * finger + bone] = point
    return joints + (tip - joints[anchor])


def wrap_pose(radius: float, grip: float, height: float, *, opening: float = 0.0) -> Array:
    """A hand around an upright object at the origin, in the object's frame: palm on the right, fingers round the back.

    :param radius: of the object where it is gripped, metres.
    :param grip: height of the grip, metres.
    :param height: of the object, metres: the fingers spread no further than it allows.
    :param opening: extra distance between hand and object, metres.
    :returns: (21, 3) joints.
    """
    joints = np.zeros((21, 3))
    gap = min(0.0185, height * 0.2)

    def at(angle: float, distance: float, z: float) -> Array:
        return np.array([np.cos(angle) * distance, np.sin(angle) * distance, z])

    joints[0] = at(np.radians(-58), radius + 0.098 + opening, grip - 0.012)
    for finger in range(5):
        skin = radius + _RADII[finger] + opening
        if finger == 0:
            angle, z, turn = np.radians(-62), grip + 0.6 * gap, -1.0
            distance = skin + 0.022
        else:
            angle, z, turn = np.radians(-24), grip + (2.2 - finger) * gap, 1.0
            distance = skin + 0.012
        joints[1 + 4 * finger] = at(angle, distance, z)
        for bone in range(3):
            distance = max(skin, distance - 0.008)
            angle += turn * _BONES[finger, bone] / distance
            joints[2 + 4 * finger + bone] = at(angle, distance, z + (0.004 * bone if finger == 0 else -0.001 * bone))
    return joints


def _capsule(canvas: Image, a: Pixel, b: Pixel, ra: float, rb: float, colour: list[float]) -> None:
    """A filled tapered capsule between two pixels; radii in pixels."""
    # Plain floats: arrays of two numbers cost more than the drawing.
    one = 1 << _SHIFT
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = math.hypot(dx, dy)
    if length > 0.5:
        x, y = -dy / length, dx / length
        polygon = (
            (round((a[0] + x * ra) * one), round((a[1] + y * ra) * one)),
            (round((b[0] + x * rb) * one), round((b[1] + y * rb) * one)),
            (round((b[0] - x * rb) * one), round((b[1] - y * rb) * one)),
            (round((a[0] - x * ra) * one), round((a[1] - y * ra) * one)),
        )
        cv2.fillConvexPoly(canvas, np.array(polygon, np.int32), colour, cv2.LINE_8, _SHIFT)
    for centre, radius in ((a, ra), (b, rb)):
        place = (round(centre[0] * one), round(centre[1] * one))
        cv2.circle(canvas, place, max(1, round(radius * one)), colour, -1, cv2.LINE_8, _SHIFT)


# Darker rim, body, highlight: share of the radius, shift towards the light, brightness.
_LAYERS = ((1.0, 0.0, 0.62), (0.84, 0.13, 0.9), (0.5, 0.3, 1.06))
_GAINS = np.array([[gain] for *_, gain in _LAYERS])


def _limb(canvas: Image, camera: Camera, a: Array, b: Array, ra: float, rb: float, colour: Array, light: Array) -> None:
    pixels, depth = camera.project(np.array([a, b]))
    (ax, ay), (bx, by) = pixels.tolist()
    pa, pb = (r * camera.pixels_per_metre(d) for r, d in zip((ra, rb), depth.tolist(), strict=True))
    toward_x, toward_y = (camera.rotation[:2] @ light).tolist()
    shades = np.clip(colour * _GAINS, 0, 255).tolist()
    for (size, shift, _), shade in zip(_LAYERS, shades, strict=True):
        along = shift * 0.5 * (pa + pb)
        x, y = toward_x * along, toward_y * along
        _capsule(canvas, (ax + x, ay + y), (bx + x, by + y), pa * size, pb * size, shade)


def draw_forearm(canvas: Image, camera: Camera, joints: Array, elbow: Array, skin: Skin, light: Array) -> None:
    """Draw wrist, forearm and sleeve."""
    wrist = joints[0]
    cuff = wrist + (elbow - wrist) * skin.sleeve_start
    _limb(canvas, camera, wrist, cuff, 0.025, 0.029, skin.skin, light)
    _limb(canvas, camera, cuff, elbow, 0.038, 0.05, skin.sleeve, light)


def draw_hand(
    canvas: Image, camera: Camera, joints: Array, skin: Skin, light: Array, *, nearer: float, farther: float
) -> None:
    """Draw the parts of the hand whose depth lies in [nearer, farther), far parts first.

    The palm belongs to the near parts whenever its middle does; this is how fingers go behind an object and the thumb
    in front of it.
    """
    _, depth = camera.project(joints)
    knuckles = joints[[1, 5, 9, 13, 17]]
    parts: list[tuple[float, int, int]] = []
    for finger in range(5):
        for bone in range(3):
            i = 1 + 4 * finger + bone
            parts.append((float(depth[i] + depth[i + 1]) / 2, finger, i))
    palm_depth = float((depth[0] + depth[[1, 5, 9, 13, 17]].mean()) / 2)
    parts.append((palm_depth, -1, 0))
    for mean_depth, finger, i in sorted(parts, reverse=True):
        if not nearer <= mean_depth < farther:
            continue
        if finger >= 0:
            radius = _RADII[finger] * skin.scale
            taper = 1.0 - 0.1 * ((i - 1) % 4)
            tone = skin.skin * (1.03 if (i - 1) % 4 == 2 else 1.0)
            _limb(canvas, camera, joints[i], joints[i + 1], radius * taper, radius * (taper - 0.1), tone, light)
            continue
        for tone, grow, shift in ((skin.skin * 0.62, 0.014, 0.0), (skin.skin * 0.9, 0.0115, 0.003)):
            wrist_side = (knuckles[4] - knuckles[1]) * 0.3
            rim = np.concatenate([knuckles, [joints[0] - wrist_side, joints[0] + wrist_side]])
            rim = rim + shift * light
            middle = rim.mean(axis=0)
            outward = rim - middle
            outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9)
            pixels, _ = camera.project(rim + outward * grow)
            hull = cv2.convexHull(np.rint(pixels * (1 << _SHIFT)).astype(np.int32))
            cv2.fillConvexPoly(canvas, hull, tone.tolist(), cv2.LINE_8, _SHIFT)
        for knuckle in (5, 9, 13, 17):  # knuckles and tendons
            pixels, d = camera.project(joints[[knuckle]])
            radius = 0.0075 * camera.pixels_per_metre(d[0])
            place = pixels[0].tolist()
            _capsule(canvas, place, place, radius, radius, (skin.skin * 1.04).clip(0, 255).tolist())
