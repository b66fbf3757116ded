# SPDX-License-Identifier: Apache-2.0
"""Draws a sequence's frames: background, shadows, object, hand and tool, then lens and sensor."""

from __future__ import annotations

import cv2
import numpy as np

from karmma_ros.tabletop.geometry import Camera, Pose, rotation, smoothstep
from karmma_ros.tabletop.hand import draw_forearm, draw_hand
from karmma_ros.tabletop.motion import RELEASE_S, Act, Moment
from karmma_ros.tabletop.scene import Scene
from karmma_ros.tabletop.shapes import draw_mesh
from karmma_ros.tabletop.types import Array, Image

__all__ = ["Renderer"]

_CANVAS_WIDTH = 640  # everything is drawn at about this width and then scaled: small outputs get anti-aliasing for free
_MARGIN = 1.3  # the background is painted this much larger than the view, for the camera to move in
_TABLE_M = 1.8  # side of the square that the table's texture covers


class Renderer:
    """Frames of one sequence; a frame is a function of its index alone."""

    def __init__(
        self, scene: Scene, acts: list[Act], size: tuple[int, int], fps: float, noise_rng: np.random.Generator
    ) -> None:
        self._scene, self._acts, self._size, self._fps = scene, acts, size, fps
        width = _CANVAS_WIDTH * max(1, round(size[0] / _CANVAS_WIDTH))
        self._canvas_size = (width, round(width * size[1] / size[0]))
        self._base = self._camera(0.0, still=True, margin=_MARGIN)
        self._plain = self._paint_background()
        self._baked: tuple[int, Image] | None = None
        # Noise is drawn once, larger than the frame, and shifted by a random offset per frame.
        strength = scene.noise * (size[0] / 320) ** 0.5
        h, w = size[1], size[0]
        self._noise = np.clip(noise_rng.normal(0, strength, (h + 61, w + 61, 3)), -127, 127).astype(np.int8)
        self._offsets = noise_rng.integers(0, 61, (4096, 2))
        y, x = np.mgrid[0:h, 0:w]
        falloff = 1 - scene.vignette * (((x / w - 0.5) ** 2 + (y / h - 0.5) ** 2) * 2)
        self._vignette = (np.repeat(falloff[..., None], 3, axis=2) * 255).astype(np.uint8)
        self._sharp: tuple[int, Image] | None = None

    def frame(self, index: int) -> Image:
        """Frame `index` as RGB (H, W, 3); frames in order are cheapest."""
        now = self._exposed(index)
        if index > 0 and self._scene.exposure_lag > 0:
            before = self._exposed(index - 1)
            lag = self._scene.exposure_lag
            out = cv2.addWeighted(now, 1 - lag, before, lag, 0)
        else:
            out = now
        self._sharp = (index, now)
        dy, dx = self._offsets[index % len(self._offsets)]
        h, w = out.shape[:2]
        return cv2.add(out, self._noise[dy : dy + h, dx : dx + w], dtype=cv2.CV_8U)

    def _exposed(self, index: int) -> Image:
        if self._sharp is not None and self._sharp[0] == index:
            return self._sharp[1]
        t = index / self._fps
        out = self._draw(t)
        if self._canvas_size != self._size:
            shrink = self._size[0] <= self._canvas_size[0]
            out = cv2.resize(out, self._size, interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
        sigma = self._scene.defocus_px * self._size[0] / 640  # after the resize: the same blur on fewer pixels
        if sigma > 0.15:
            out = cv2.GaussianBlur(out, (0, 0), sigma)
        exposure = self._scene.gain * (1 + 0.04 * self._scene.flicker(t))
        ramp = np.arange(256)[None, :, None] * exposure
        out = cv2.LUT(out, np.clip(ramp, 0, 255).astype(np.uint8))
        return cv2.multiply(out, self._vignette, scale=1 / 255)

    # -- the scene

    def _camera(self, t: float, *, still: bool = False, margin: float = 1.0) -> Camera:
        scene = self._scene
        sway = np.zeros(6) if still else scene.sway(t) * scene.sway_size
        size = (round(self._canvas_size[0] * margin), round(self._canvas_size[1] * margin))
        position, target = scene.camera_position + sway[:3], scene.camera_target + sway[3:6]
        return Camera.look_at(position, target, float(sway[5]), scene.focal / margin, size)

    def _paint_background(self) -> Image:
        scene, camera = self._scene, self._base
        rows = np.linspace(0, 1, camera.height)[:, None, None]
        top, bottom = scene.backdrop
        canvas = np.ascontiguousarray(
            np.broadcast_to(top + (bottom - top) * rows, (camera.height, camera.width, 3)).astype(np.uint8)
        )
        n = scene.table.shape[0]
        to_metres = np.array([[_TABLE_M / n, 0, -_TABLE_M / 2], [0, -_TABLE_M / n, scene.table_depth], [0, 0, 1]])
        corners = np.array(
            [[-0.9, -0.45, 0], [0.9, -0.45, 0], [0.9, scene.table_depth, 0], [-0.9, scene.table_depth, 0]]
        )
        pixels, _ = camera.project(corners)
        mask = np.zeros(canvas.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, np.rint(pixels).astype(np.int32), 255)
        view = camera.table_homography() @ to_metres
        wood = cv2.warpPerspective(
            scene.table, view, (camera.width, camera.height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        shade = 0.55 + 0.45 * scene.light[2]
        canvas[mask > 0] = (wood[mask > 0] * shade).astype(np.uint8)
        edge, _ = camera.project(np.array([[-0.9, scene.table_depth, 0.0], [0.9, scene.table_depth, 0.0]]))
        cv2.line(
            canvas,
            tuple(np.rint(edge[0]).astype(int).tolist()),
            tuple(np.rint(edge[1]).astype(int).tolist()),
            (40, 34, 30),
            3,
        )
        for thing in sorted(scene.clutter, key=lambda p: -float(p.position[1])):
            self._shadow(canvas, camera, thing.position, 0.05, 0.0)
            draw_mesh(
                canvas, camera, thing.mesh, Pose(thing.position, rotation("z", thing.spin)), scene.light, scene.ambient
            )
        return canvas

    def _background(self, acting: int) -> Image:
        """The background with every object but the acting one standing on the table, RGBA.

        Four channels, because OpenCV warps them more than twice as fast as three, to the same values.
        """
        if self._baked is not None and self._baked[0] == acting:
            return self._baked[1]
        canvas = self._plain.copy()
        for i in np.argsort(-self._scene.places[:, 1]):
            if i != acting:
                self._stand(canvas, self._base, int(i))
        self._baked = (acting, cv2.cvtColor(canvas, cv2.COLOR_RGB2RGBA))
        return self._baked[1]

    def _stand(self, canvas: Image, camera: Camera, i: int) -> None:
        scene = self._scene
        self._shadow(canvas, camera, scene.places[i], scene.objects[i].radius, 0.0)
        pose = Pose(scene.places[i], rotation("z", float(scene.spins[i])))
        draw_mesh(canvas, camera, scene.objects[i].mesh, pose, scene.light, scene.ambient)

    def _shadow(self, canvas: Image, camera: Camera, position: Array, radius: float, height: float) -> None:
        """A soft dark ellipse on the table, away from the light, fainter and wider the higher the thing is."""
        cast = position[:2] - self._scene.light[:2] * (0.03 + 0.6 * height)
        ring = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        size = radius * 1.25 + 0.2 * height
        points = np.stack([cast[0] + size * np.cos(ring), cast[1] + size * np.sin(ring), np.zeros(20)], axis=1)
        pixels, _ = camera.project(points)
        low = np.maximum(np.floor(pixels.min(axis=0)).astype(int) - 12, 0)
        high = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + 12, (camera.width, camera.height))
        if (high <= low).any():
            return
        patch = canvas[low[1] : high[1], low[0] : high[0]]
        mask = np.full(patch.shape[:2], 255, np.uint8)
        depth = int(255 * (1 - 0.5 * (1 - self._scene.ambient) / (1 + 8 * height) - 0.1))
        cv2.fillConvexPoly(mask, np.rint(pixels - low).astype(np.int32), depth)
        cv2.blur(mask, (15, 15), dst=mask)
        cv2.multiply(patch, cv2.cvtColor(mask, cv2.COLOR_GRAY2RGB), dst=patch, scale=1 / 255)

    # -- the action

    def _acting(self, t: float) -> tuple[Act, Moment]:
        """Who acts at t, the hand on its way between two contacts included."""
        starts = [a.interval.start_s for a in self._acts]
        k = max(int(np.searchsorted(starts, t, side="right")) - 1, 0)
        act = self._acts[k]
        moment = act.moment(t)
        if k + 1 < len(self._acts) and t > act.interval.stop_s - RELEASE_S:
            before, after, progress = act, self._acts[k + 1], t - (act.interval.stop_s - RELEASE_S)
        else:
            return act, moment
        share = smoothstep(progress / RELEASE_S)
        a, b = before.moment(t), after.moment(t)
        hand = a.hand + (b.hand - a.hand) * share
        hand[:, 2] += 0.05 * np.sin(np.pi * share)  # the way between two contacts is an arc
        nearer = after if share > 0.5 else before
        return nearer, Moment((b if share > 0.5 else a).object_pose, hand)

    def _draw(self, t: float) -> Image:
        scene, camera = self._scene, self._camera(t)
        act, moment = self._acting(t)
        acting = next((i for i, m in enumerate(scene.objects) if m is act.model), -1)
        view = camera.table_homography() @ np.linalg.inv(self._base.table_homography())
        canvas = cv2.warpPerspective(
            self._background(acting), view, self._canvas_size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        canvas = cv2.cvtColor(canvas, cv2.COLOR_RGBA2RGB)
        wrist = moment.hand[0]
        self._shadow(
            canvas,
            camera,
            np.array([moment.hand[9, 0], moment.hand[9, 1], 0.0]),
            0.035,
            max(float(wrist[2]) - 0.02, 0.0),
        )
        split = np.inf  # without an object the whole hand is in front
        if moment.object_pose is not None and acting >= 0:
            model, pose = scene.objects[acting], moment.object_pose
            self._shadow(canvas, camera, pose.position, model.radius, max(float(pose.position[2]), 0.0))
            axis = pose.apply(np.array([[0.0, 0.0, model.grip_height]]))
            split = float(camera.project(axis)[1][0])
            draw_hand(canvas, camera, moment.hand, scene.skin, scene.light, nearer=split, farther=np.inf)
            draw_mesh(canvas, camera, model.mesh, pose, scene.light, scene.ambient)
            for i in np.argsort(-scene.places[:, 1]):  # things that stand in front of it
                if (
                    i != acting
                    and scene.places[i, 1] < pose.position[1] - 0.04
                    and abs(scene.places[i, 0] - pose.position[0]) < 0.16
                ):
                    self._stand(canvas, camera, int(i))
        self._draw_tool(canvas, camera, moment)
        draw_forearm(canvas, camera, moment.hand, scene.elbow, scene.skin, scene.light)
        draw_hand(canvas, camera, moment.hand, scene.skin, scene.light, nearer=-np.inf, farther=split)
        return canvas

    def _draw_tool(self, canvas: Image, camera: Camera, moment: Moment) -> None:
        if moment.tool is None or moment.tool_points is None:
            return
        pixels, depth = camera.project(moment.tool_points)
        points = np.rint(pixels * 8).astype(np.int32)
        thick = camera.pixels_per_metre(float(depth.mean()))
        if moment.tool == "spoon":
            cv2.polylines(canvas, [points], False, (70, 66, 64), max(2, round(0.010 * thick)), cv2.LINE_8, 3)
            cv2.polylines(canvas, [points], False, (190, 188, 184), max(1, round(0.006 * thick)), cv2.LINE_8, 3)
            return
        if moment.tool == "stream":
            cv2.polylines(
                canvas, [points], False, self._scene.liquid.tolist(), max(2, round(0.011 * thick)), cv2.LINE_8, 3
            )
            cv2.polylines(
                canvas,
                [points],
                False,
                np.clip(self._scene.liquid + 45, 0, 255).tolist(),
                max(1, round(0.004 * thick)),
                cv2.LINE_8,
                3,
            )
            puddle = (round(float(pixels[-1, 0])), round(float(pixels[-1, 1])))
            cv2.ellipse(
                canvas, puddle, (round(0.035 * thick), round(0.02 * thick)), 0, 0, 360, self._scene.liquid.tolist(), -1
            )
            return
        cv2.fillPoly(canvas, [points], (self._scene.cloth * 0.8).tolist(), cv2.LINE_8, 3)
        inner = np.rint((pixels.mean(axis=0) + (pixels - pixels.mean(axis=0)) * 0.85) * 8).astype(np.int32)
        cv2.fillPoly(canvas, [inner], self._scene.cloth.tolist(), cv2.LINE_8, 3)
