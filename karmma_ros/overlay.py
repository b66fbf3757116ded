# SPDX-License-Identifier: Apache-2.0
"""Draws a prediction into its frame: what the model says, what was true, and which sensors it had to say it with.

Everything scales with the image (320x240 to 1920x1080) and costs under 3 ms at 640x480: it can follow a live camera.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["PredictionView", "draw"]

Image = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

WHITE: Colour = (245, 246, 248)
GREY: Colour = (168, 174, 184)
TRACK: Colour = (104, 110, 120)
BLUE: Colour = (92, 168, 255)
GREEN: Colour = (88, 206, 122)
RED: Colour = (255, 98, 88)
AMBER: Colour = (255, 190, 70)

_STATE_COLOURS: Mapping[str, Colour] = {
    "OK": GREEN,
    "WAITING": GREY,
    "DISABLED": GREY,
    "STALE": RED,
}  # the rest is amber
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PANEL = 0.34  # how much of the picture shows through a panel
_LEAST_TEXT = 8.0  # pixels that a capital letter is high: below this, digits run into one another
_MISSED = 0.40  # brightness of a frame the node never got


@dataclass(frozen=True)
class PredictionView:
    """What `draw` shows. Names are printed as they are; None and empty parts are left out.

    `actions`: (name, finite score) best first, the first three are shown; empty means that there was nothing to say.
    `sensors`: state name by modality, in the order to show. `seen` is False for a frame that was lost on its way.
    """

    actions: Sequence[tuple[str, float]] = ()
    truth: str | None = None
    sensors: Mapping[str, str] = field(default_factory=dict)
    latency_ms: float | None = None
    rate_hz: float | None = None
    phase: str | None = None
    note: str = "no prediction"  # shown where there are no actions
    seen: bool = True


def draw(rgb: Image, view: PredictionView) -> Image:
    """A copy of `rgb` (H, W, 3) with the view drawn into it."""
    image: Image = rgb.copy()
    if not view.seen:
        cv2.convertScaleAbs(image, dst=image, alpha=_MISSED)
    height, width = image.shape[:2]
    pen = _Pen(image, min(height / 480.0, width / 560.0))
    _draw_top(pen, view)
    _draw_bottom(pen, view)
    return image


class _Pen:
    """Drawing in units of a 480-line picture, so that the layout is written down once."""

    def __init__(self, image: npt.NDArray, scale: float) -> None:
        self.image = image
        self.scale = max(scale, 0.45)  # below this nothing can be read
        self.width = image.shape[1] / self.scale
        self.height = image.shape[0] / self.scale

    def px(self, value: float) -> int:
        return math.floor(value * self.scale + 0.5)  # round() goes to even numbers: rows would not be evenly spaced

    def panel(self, top: float, bottom: float) -> None:
        rows = self.image[max(self.px(top), 0) : self.px(bottom)]
        cv2.convertScaleAbs(rows, dst=rows, alpha=_PANEL, beta=6)

    def text(
        self, x: float, y: float, text: str, colour: Colour, size: float = 15, bold: bool = False, right: bool = False
    ) -> float:
        """Writes at baseline `y`, from `x` or up to it; gives the width it took."""
        factor, weight = self._font(size, bold)
        (width, _), _ = cv2.getTextSize(text, _FONT, factor, weight)
        left = self.px(x) - (width if right else 0)
        cv2.putText(self.image, text, (left, self.px(y)), _FONT, factor, colour, weight, cv2.LINE_AA)
        return width / self.scale

    def fitted(self, text: str, room: float, size: float, bold: bool = False) -> str:
        """`text`, shortened with an ellipsis where it does not fit into `room`."""
        factor, weight = self._font(size, bold)

        def fits(candidate: str) -> bool:
            return cv2.getTextSize(candidate, _FONT, factor, weight)[0][0] <= room * self.scale

        if fits(text):
            return text
        while text and not fits(text + "..."):
            text = text[:-1]
        return text.rstrip() + "..."

    def _font(self, size: float, bold: bool) -> tuple[float, int]:
        factor = max(size * self.scale, _LEAST_TEXT) / 22.0  # capital letters are 22 pixels high at scale 1
        return factor, max(1, round(factor * (2.6 if bold else 1.6)))

    def bar(self, x: float, y: float, width: float, height: float, share: float, colour: Colour) -> None:
        """A horizontal bar, `share` (0..1) of it filled, centred on `y`."""
        for length, tint in ((width, TRACK), (width * min(max(share, 0.0), 1.0), colour)):
            corner = (self.px(x), self.px(y - height / 2))
            opposite = (self.px(x + length), max(self.px(y + height / 2) - 1, corner[1]))
            if opposite[0] > corner[0]:
                cv2.rectangle(self.image, corner, opposite, tint, cv2.FILLED)

    def dot(self, x: float, y: float, radius: float, colour: Colour) -> None:
        centre = (round(x * self.scale * 16), round(y * self.scale * 16))  # 4 fractional bits: round at small sizes too
        cv2.circle(self.image, centre, max(round(radius * self.scale * 16), 24), colour, cv2.FILLED, cv2.LINE_AA, 4)

    def stroke(self, points: Sequence[tuple[float, float]], colour: Colour, weight: float) -> None:
        corners = np.round(np.array(points) * self.scale * 16).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(self.image, [corners], False, colour, max(1, self.px(weight)), cv2.LINE_AA, 4)


def _draw_top(pen: _Pen, view: PredictionView) -> None:
    timing = []
    if view.rate_hz is not None:
        timing.append(f"{view.rate_hz:.1f} Hz")
    if view.latency_ms is not None:
        timing.append(f"{view.latency_ms:.1f} ms")
    if not timing and not view.phase:
        return
    pen.panel(0, 34)
    taken = pen.text(pen.width - 14, 22, "   ".join(timing), GREY, right=True) if timing else 0.0
    if view.phase:
        pen.text(14, 22, pen.fitted(view.phase, pen.width - taken - 44, 15), WHITE)


def _draw_bottom(pen: _Pen, view: PredictionView) -> None:
    top = pen.height - 104
    pen.panel(top, pen.height)
    sensors = list(view.sensors.items())
    column = pen.width - 176 if sensors else pen.width
    _draw_actions(pen, view, top, column - 30)
    for row, (name, state) in enumerate(sensors[:4]):
        y = top + 27 + row * (26 if len(sensors) < 4 else 22)
        colour = _STATE_COLOURS.get(state, AMBER)
        pen.dot(column + 6, y - 5, 5.5, colour)
        pen.text(column + 20, y, name, WHITE if state == "OK" else GREY, 14)
        pen.text(pen.width - 14, y, state.lower() if state != "OK" else "ok", colour, 14, right=True)


def _draw_actions(pen: _Pen, view: PredictionView, top: float, right: float) -> None:
    if not view.actions:
        pen.text(14, top + 33, pen.fitted(view.note, right - 14, 22, bold=True), AMBER, 22, bold=True)
    else:
        (name, score), *others = view.actions[:3]
        colour = BLUE if view.truth is None else GREEN if view.truth == name else RED
        percent = f"{score:.0%}"
        taken = pen.text(right, top + 32, percent, WHITE, 17, right=True)
        pen.text(14, top + 33, pen.fitted(name, right - taken - 30, 22, bold=True), WHITE, 22, bold=True)
        pen.bar(14, top + 49, right - 14, 8, score, colour)
        if view.truth is None:
            line = "   ".join(f"{other} {share:.0%}" for other, share in others)
            pen.text(14, top + 80, pen.fitted(line, right - 14, 14), GREY, 14)
    if view.truth is not None:
        correct = bool(view.actions) and view.actions[0][0] == view.truth
        _draw_mark(pen, 14, top + 74, correct)
        pen.text(38, top + 80, pen.fitted(view.truth, right - 38, 16), GREEN if correct else RED, 16)


def _draw_mark(pen: _Pen, x: float, y: float, correct: bool) -> None:
    """A check or a cross, drawn: the built-in fonts have neither."""
    if correct:
        pen.stroke([(x, y), (x + 5, y + 6), (x + 15, y - 7)], GREEN, 2.6)
    else:
        pen.stroke([(x + 1, y - 6), (x + 13, y + 6)], RED, 2.6)
        pen.stroke([(x + 13, y - 6), (x + 1, y + 6)], RED, 2.6)
