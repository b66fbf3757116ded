# SPDX-License-Identifier: Apache-2.0
"""Light augmentation of a window's samples: one draw per window, geometry shared by video, flow and detections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from karmma_ros.detections import NOTHING
from karmma_training.config import AugmentConfig
from karmma_training.data.recording import Context, Recording

__all__ = ["Look", "draw_look", "plain_look"]


@dataclass(frozen=True)
class Look:
    """One window's appearance."""

    scale: float  # zoom about the centre
    mirrored: bool  # left and right exchanged
    shift: tuple[float, float]  # x, y, share of the image size
    channels: tuple[int, ...]  # which colour channel goes where
    table: npt.NDArray[np.uint8]  # (1, 256, 3) new value of every pixel value and channel
    gain: float  # factor on sound
    noise: float  # standard deviation added to sound

    def _matrix(self, height: int, width: int) -> npt.NDArray[np.float64]:
        down = self.scale
        across = -down if self.mirrored else down
        x = (1 - across) * (width - 1) / 2 + self.shift[0] * width
        y = (1 - down) * (height - 1) / 2 + self.shift[1] * height
        return np.array([[across, 0, x], [0, down, y]])

    def _warped(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        height, width = image.shape[:2]
        matrix = self._matrix(height, width)
        return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def video(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(h, w, 3) -> (h, w, 3)"""
        source = np.ascontiguousarray(image if self.channels == (0, 1, 2) else image[..., self.channels])
        mapped: npt.NDArray[Any] = cv2.LUT(self._warped(source), self.table)
        return mapped

    def flow(self, field: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
        """(h, w, 2) -> (h, w, 2); a zoom also zooms the motion, a mirror turns it round"""
        sign = -1 if self.mirrored else 1
        return self._warped(field.astype(np.float32)) * np.array([sign * self.scale, self.scale], np.float32)

    def sound(self, chunk: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """(n,) -> (n,)"""
        out = chunk * np.float32(self.gain)
        if self.noise:
            out += np.float32(self.noise) * rng.standard_normal(len(out), dtype=np.float32)
        return np.clip(out, -1, 1)

    def detections(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(boxes, 6) -> (boxes, 6); what leaves the image is gone"""
        out = boxes.copy()
        across = -self.scale if self.mirrored else self.scale
        for axis, factor, shift in ((0, across, self.shift[0]), (1, self.scale, self.shift[1])):
            ends = boxes[:, [axis, axis + 2]] * factor + (1 - factor) / 2 + shift
            out[:, [axis, axis + 2]] = np.sort(np.clip(ends, 0, 1), 1)
        gone = (out[:, 2] <= out[:, 0]) | (out[:, 3] <= out[:, 1]) | (boxes[:, 5] == NOTHING)
        out[gone] = (0, 0, 0, 0, 0, NOTHING)
        return out

    def samples(
        self,
        recording: Recording,
        modality: str,
        which: npt.NDArray[np.int64],
        context: Context,
        rng: np.random.Generator,
    ) -> npt.NDArray[Any]:
        """Samples of a recording in the shape of their extractor's graph input.

        :param which: (n,) indexes, at least one; of sound the stamps at which chunks end.
        """
        return self.changed(modality, recording.samples(modality, which, context), rng)

    def changed(self, modality: str, samples: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[Any]:
        """Samples in the shape of their extractor's graph input, at least one, as `Recording.samples` gives them."""
        if modality == "audio":
            return np.stack([self.sound(chunk, rng) for chunk in samples])
        changes: dict[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]]
        changes = {"video": self.video, "flow": self.flow, "detections": self.detections}
        change = changes[modality]
        return np.stack([change(image) for clip in samples for image in clip]).reshape(samples.shape)


def plain_look(scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Look:
    """Samples as they are, or a part of the image: see Look."""
    table = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)[None]
    return Look(scale, mirrored=False, shift=shift, channels=(0, 1, 2), table=table, gain=1.0, noise=0.0)


def draw_look(c: AugmentConfig, rng: np.random.Generator) -> Look:
    """Draw one window's appearance."""
    contrast = 1 + c.contrast * rng.uniform(-1, 1)
    gains = contrast * (1 + c.colour * rng.uniform(-1, 1, 3))
    bias = 255 * c.brightness * rng.uniform(-1, 1)
    values = (np.arange(256.0)[:, None] - 127.5) * gains + 127.5 + bias  # (256, 3)
    return Look(
        scale=1 + c.scale * rng.uniform(-1, 1),
        mirrored=bool(rng.random() < c.mirror_p),
        channels=tuple(rng.permutation(3).tolist()) if rng.random() < c.permute_p else (0, 1, 2),
        shift=(c.shift * rng.uniform(-1, 1), c.shift * rng.uniform(-1, 1)),
        table=np.clip(np.rint(values), 0, 255).astype(np.uint8)[None],
        gain=float(10 ** (c.gain_db * rng.uniform(-1, 1) / 20)),
        noise=float(c.noise_max * rng.random()) if rng.random() < c.noise_p else 0.0,
    )
