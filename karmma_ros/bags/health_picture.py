# SPDX-License-Identifier: Apache-2.0
"""health.png: what was predicted and how each sensor did, over a recording's time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from karmma_ros.errors import KarmmaError
from karmma_ros.files import whole_file
from karmma_ros.records import PredictionRecord

__all__ = ["health_picture", "write_health_picture"]

Image = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

_WIDTH = 1400
_LEFT, _RIGHT = 170, 40  # of the chart
_TOP, _BOTTOM = 62, 74
_ACTIONS, _SENSOR = 44, 92  # heights of a lane of actions and of a sensor
_STRIP = 16  # height of a sensor's states
_PAPER: Colour = (24, 27, 33)
_LANE: Colour = (34, 38, 46)
_LINE: Colour = (62, 68, 78)
_INK: Colour = (235, 238, 242)
_DIM: Colour = (150, 156, 166)
_CURVE: Colour = (92, 168, 255)
_STATES: Mapping[str, Colour] = {  # from good to bad: of several in one column the last is shown
    "OK": (88, 206, 122),
    "DISABLED": (84, 88, 96),
    "WAITING": (150, 156, 166),
    "MUTED": (178, 140, 255),
    "FROZEN": (110, 214, 230),
    "OCCLUDED": (255, 190, 70),
    "CORRUPT": (255, 120, 200),
    "STALE": (255, 98, 88),
}
_GOLDEN = 0.618034
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def health_picture(title: str, records: Sequence[PredictionRecord], truth: Mapping[int, str] | None = None) -> Image:
    """The picture, RGB (H, W, 3): a lane of actions, then for each sensor its states and its coverage.

    :param records: at least one, in order of time.
    :param truth: stamp_ns -> true action; given, the actions are green where right and red where wrong.
    """
    sensors = list(records[-1].sensors)
    lanes = 2 if truth is not None else 1
    height = _TOP + lanes * _ACTIONS + len(sensors) * _SENSOR + _BOTTOM
    chart = _Chart(height, records)
    chart.text(_LEFT, 34, title, _INK, 0.62)
    y = _TOP
    if truth is not None:
        chart.actions(y, "truth", [truth.get(record.stamp_ns, "") for record in records], None)
        y += _ACTIONS
    said = [record.actions[0].name if record.actions else "" for record in records]
    right = None if truth is None else [truth.get(r.stamp_ns) == s for r, s in zip(records, said, strict=True)]
    chart.actions(y, "predicted", said, right)
    y += _ACTIONS
    shown: set[str] = set()
    for name in sensors:
        shown |= chart.sensor(y, name)
        y += _SENSOR
    chart.time_axis(y)
    chart.legend(height - 18, [state for state in _STATES if state in shown])
    return chart.image


def write_health_picture(
    path: Path, title: str, records: Sequence[PredictionRecord], truth: Mapping[int, str] | None = None
) -> None:
    """Writes the picture as PNG.

    :raises OSError: it cannot be written.
    """
    encoded, data = cv2.imencode(".png", cv2.cvtColor(health_picture(title, records, truth), cv2.COLOR_RGB2BGR))
    if not encoded:
        raise KarmmaError(f"{path}: OpenCV cannot encode it")
    with whole_file(path) as temporary:
        temporary.write_bytes(data.tobytes())


class _Chart:
    """The canvas, and where the records lie on it: each spans from its own column to the next one's."""

    def __init__(self, height: int, records: Sequence[PredictionRecord]) -> None:
        self.image: Image = np.full((height, _WIDTH, 3), _PAPER, np.uint8)
        self._records = records
        times = np.array([record.t_s for record in records])
        self._begin_s = float(times.min())
        steps = np.diff(times)
        period_s = float(np.median(steps)) if len(steps) else 1 / 30
        self._span_s = max(float(times.max()) + max(period_s, 1e-3) - self._begin_s, 1e-3)
        self._ticks = _ticks(self._begin_s, self._begin_s + self._span_s)
        self._tints: dict[str, Colour] = {}
        ends = np.append(times[1:], times[-1] + period_s)
        self._columns = [(self._x(t), max(self._x(end), self._x(t) + 1)) for t, end in zip(times, ends, strict=True)]

    def _x(self, t_s: float) -> int:
        return _LEFT + round((t_s - self._begin_s) / self._span_s * (_WIDTH - _LEFT - _RIGHT))

    def text(self, x: int, y: int, text: str, colour: Colour, size: float = 0.46, right: bool = False) -> int:
        """Writes at baseline `y`, from `x` or up to it; gives the width it took."""
        (width, _), _ = cv2.getTextSize(text, _FONT, size, 1)
        cv2.putText(self.image, text, (x - width if right else x, y), _FONT, size, colour, 1, cv2.LINE_AA)
        return int(width)

    def _lane(self, top: int, height: int) -> None:
        self.image[top : top + height, _LEFT : _WIDTH - _RIGHT] = _LANE
        for t_s in self._ticks:
            self.image[top : top + height, self._x(t_s)] = _LINE

    def actions(self, top: int, label: str, names: Sequence[str], right: Sequence[bool] | None) -> None:
        """A lane with a block for each stretch of one action, named where there is room."""
        self._lane(top, _ACTIONS - 8)
        self.text(_LEFT - 14, top + 23, label, _INK, right=True)
        for first, last in _runs(names):
            name = names[first]
            begin, end = self._columns[first][0], self._columns[last][1]
            if not name:
                continue
            self.image[top : top + _ACTIONS - 8, begin:end] = self._tint(name)
            if right is not None:
                for column, good in zip(self._columns[first : last + 1], right[first : last + 1], strict=True):
                    colour = _STATES["OK"] if good else _STATES["STALE"]
                    self.image[top + _ACTIONS - 13 : top + _ACTIONS - 8, column[0] : column[1]] = colour
            if cv2.getTextSize(name, _FONT, 0.42, 1)[0][0] < end - begin - 8:
                self.text(begin + 5, top + 20, name, _INK, 0.42)

    def _tint(self, name: str) -> Colour:
        """A dark colour for each action; neighbours on the list are far apart on the circle of colours."""
        if name not in self._tints:
            hue = round(len(self._tints) * 180 * _GOLDEN) % 180
            rgb = cv2.cvtColor(np.array([[[hue, 120, 105]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0]
            self._tints[name] = (int(rgb[0]), int(rgb[1]), int(rgb[2]))
        return self._tints[name]

    def sensor(self, top: int, name: str) -> set[str]:
        """A sensor's states and coverage; the states that occur."""
        lane = _SENSOR - 14
        self._lane(top, lane)
        floor, room = top + lane, lane - _STRIP - 4
        worst = list(_STATES)
        columns: dict[int, str] = {}
        points = []
        for record, (begin, end) in zip(self._records, self._columns, strict=True):
            if name not in record.sensors:
                continue
            sensor = record.sensors[name]
            for x in range(begin, end):
                columns[x] = max(columns.get(x, sensor.state), sensor.state, key=worst.index)
            points += [(begin, floor - 1 - round(sensor.coverage * (room - 1)))]
        for x, state in columns.items():
            self.image[top : top + _STRIP, x] = _STATES[state]
        if points:
            shape = np.array([(points[0][0], floor), *points, (points[-1][0], floor)], np.int32)
            layer = self.image.copy()
            cv2.fillPoly(layer, [shape], _CURVE)
            cv2.addWeighted(layer, 0.25, self.image, 0.75, 0, dst=self.image)
            cv2.polylines(self.image, [shape[1:-1]], False, _CURVE, 1, cv2.LINE_AA)
        states = [record.sensors[name].state for record in self._records if name in record.sensors]
        well = states.count("OK") / max(len(states), 1)
        self.text(_LEFT - 14, top + 14, name, _INK, right=True)
        self.text(_LEFT - 14, top + 36, f"{well:.0%} ok", _DIM, 0.42, right=True)
        rates = [r.sensors[name].rate_hz or 0.0 for r in self._records if name in r.sensors]
        rate_hz = float(np.median([rate for rate in rates if rate > 0] or [0.0]))
        self.text(_LEFT - 14, top + 54, f"{rate_hz:.1f}/s" if rate_hz else "nothing", _DIM, 0.42, right=True)
        self.text(_WIDTH - _RIGHT + 6, top + _STRIP + 12, "1", _DIM, 0.4)
        self.text(_WIDTH - _RIGHT + 6, floor - 2, "0", _DIM, 0.4)
        return set(states)

    def time_axis(self, top: int) -> None:
        """Seconds, below the lanes."""
        for t_s in self._ticks:
            x = self._x(t_s)
            label = f"{t_s:g} s"
            width = cv2.getTextSize(label, _FONT, 0.42, 1)[0][0]
            self.text(min(x - width // 2, _WIDTH - width - 4), top + 16, label, _DIM, 0.42)

    def legend(self, y: int, states: Sequence[str]) -> None:
        """What the colours mean."""
        x = _LEFT
        for state in states:
            cv2.rectangle(self.image, (x, y - 10), (x + 12, y + 1), _STATES[state], cv2.FILLED)
            x += 18 + self.text(x + 18, y, state.lower(), _DIM, 0.42) + 22
        cv2.line(self.image, (x, y - 4), (x + 14, y - 4), _CURVE, 2)
        self.text(x + 20, y, "coverage: share of the window's slots that are filled", _DIM, 0.42)


def _runs(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """(first, last) of each stretch of equal names."""
    first = 0
    for place in range(1, len(names) + 1):
        if place == len(names) or names[place] != names[first]:
            yield first, place - 1
            first = place


def _ticks(begin_s: float, end_s: float) -> list[float]:
    """Five to ten round times."""
    raw = (end_s - begin_s) / 8
    scale = 10.0 ** np.floor(np.log10(raw))
    step = next(s * scale for s in (1, 2, 5, 10) if s * scale >= raw)
    return [float(t) for t in np.arange(np.ceil(begin_s / step) * step, end_s, step).round(6)]
